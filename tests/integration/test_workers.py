"""Who starts workers goes on, whatever becomes of one of them: they stand here for `tradegw serve`."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from tradegw.transports.cli import workers
from tradegw.transports.cli.workers import run_workers

STRAY = r"""
import json, os, sys
print("Welcome to a library!")
print("[1, 2]")
print('{"level": "info"}')
print("x" * 200_000)
sys.stdout.buffer.write(b"\xff\n")
print("[" * 50_000)
"""
SERVE = r"""
import json, os, sys
print(json.dumps({"grpc": "127.0.0.1:1", "pid": os.getpid()}), flush=True)
sys.stdin.read()
"""


async def test_a_worker_that_cannot_be_started_again_takes_nobody_with_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = asyncio.create_subprocess_exec
    pids: asyncio.Queue[int] = asyncio.Queue()
    failing = 0

    async def started(*_: Any, **options: Any) -> asyncio.subprocess.Process:
        nonlocal failing
        if failing:
            failing -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        process = await start(sys.executable, "-c", SERVE, **options)
        pids.put_nowait(process.pid)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", started)
    monkeypatch.setattr(workers, "_AGAIN_MAX_S", 0.1)
    stop = asyncio.Event()
    announced: asyncio.Future[Sequence[int]] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(run_workers([], 2, stop=stop, announce=announced.set_result))
    first = {await pids.get(), await pids.get()}
    assert set(await announced) == first
    failing = 3
    doomed, other = first
    os.kill(doomed, signal.SIGKILL)
    again = await pids.get()
    assert caplog.text.count("cannot be started: [Errno 24] Too many open files") == 3
    os.kill(other, 0)
    os.kill(again, 0)
    stop.set()
    assert await running == 0


async def test_what_a_worker_prints_before_it_serves_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = asyncio.create_subprocess_exec

    async def started(*_: Any, **options: Any) -> asyncio.subprocess.Process:
        return await start(sys.executable, "-c", STRAY + SERVE, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", started)
    stop = asyncio.Event()
    announced: asyncio.Future[Sequence[int]] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(run_workers([], 2, stop=stop, announce=announced.set_result))
    assert len(await announced) == 2
    assert "says before it serves: b'Welcome to a library!" in caplog.text
    stop.set()
    assert await running == 0
