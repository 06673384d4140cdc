"""`tradegw serve --workers N`: several gateways on one machine, which share their ports and the store.

Each worker is a `tradegw serve` of its own, and holds the leases of some accounts. This process holds none,
serves nobody, and starts a worker anew that has ended. A worker whose starter is gone shuts down in good
order.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from tradegw.errors import ConfigError
from tradegw.transports.cli.exits import ExitCode

__all__ = ["is_worker", "reserved", "run_workers", "when_starter_ends"]

log = logging.getLogger(__name__)

_MARK: Final = "TRADEGW_WORKER"
_AGAIN_FIRST_S: Final = 0.1
_AGAIN_MAX_S: Final = 5.0
_SHOWN_MAX: Final = 200


def is_worker() -> bool:
    """Whether this process was started as a worker."""
    return os.environ.get(_MARK) == "1"


def when_starter_ends(call: Callable[[], None]) -> None:
    """Have `call` called when the process that started this worker has ended: our stdin ends with it."""
    loop = asyncio.get_running_loop()
    stdin = sys.stdin.fileno()

    def look() -> None:
        if not os.read(stdin, 1024):
            loop.remove_reader(stdin)
            call()

    loop.add_reader(stdin, look)


@contextmanager
def reserved(host: str, port: int, door: str) -> Generator[int]:
    """Yield a port that workers may share and nobody else takes meanwhile.

    Args:
        port: 0 takes a free one.

    Raises:
        ConfigError: It is somebody else's; reason `ADDRESS_UNUSABLE`.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # Alone first: those who share a port would share it with a stranger as well.
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
            found: int = alone.getsockname()[1]
        # Bound and not listening, it gets no callers.
        held = socket.socket(family, socket.SOCK_STREAM)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((address[0], found, *address[2:]))
    except OSError as e:
        raise ConfigError(
            f"{door} cannot listen on {host}:{port}: {e}", reason="ADDRESS_UNUSABLE"
        ) from e
    with held:
        yield found


@dataclass(slots=True, eq=False)
class _Worker:
    """One place among the workers, and the process that fills it now."""

    number: int
    process: asyncio.subprocess.Process | None = None
    told: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class _Failed(Exception):
    """A worker ended before it ever served; it has said why."""

    def __init__(self, code: int) -> None:
        super().__init__(f"a worker ended with {code} at its start")
        self.code = code


async def run_workers(
    words: Sequence[str],
    count: int,
    *,
    stop: asyncio.Event,
    announce: Callable[[Sequence[int]], None],
) -> int:
    """Run workers until `stop` is set, then have all of them shut down in good order.

    Args:
        words: The command line of each, without the program.
        announce: Told their pids once all of them serve.

    Returns:
        The exit code: that of a worker that could not even start, if there is one.
    """
    workers = [_Worker(number) for number in range(1, count + 1)]
    code: int = ExitCode.OK
    try:
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(_keep(worker, words, stop))
            group.create_task(_announce(workers, stop, announce))
            group.create_task(_end(workers, stop))
    except* _Failed as failed:
        first: BaseException = failed
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        assert isinstance(first, _Failed)
        code = first.code if first.code > 0 else ExitCode.DEFECT
    return code


async def _announce(
    workers: Sequence[_Worker], stop: asyncio.Event, announce: Callable[[Sequence[int]], None]
) -> None:
    stopped = asyncio.ensure_future(stop.wait())
    try:
        for worker in workers:
            first: set[asyncio.Future[Any]] = {worker.told, stopped}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not worker.told.done():
                return
        announce([worker.process.pid for worker in workers if worker.process is not None])
    finally:
        stopped.cancel()


async def _end(workers: Sequence[_Worker], stop: asyncio.Event) -> None:
    await stop.wait()
    for worker in workers:
        _tell(worker.process, signal.SIGTERM)


async def _keep(worker: _Worker, words: Sequence[str], stop: asyncio.Event) -> None:
    """Keep one worker alive until it is to stop."""
    wait_s = _AGAIN_FIRST_S
    while not stop.is_set():
        try:
            process = worker.process = await _start(words)
        except OSError as e:
            # No process, no memory or no file is left now. The other workers serve on.
            log.error("worker %d cannot be started: %s; it is tried again", worker.number, e)
        else:
            try:
                if stop.is_set():
                    _tell(process, signal.SIGTERM)
                assert process.stdout is not None
                if await _serves(worker, process.stdout):
                    wait_s = _AGAIN_FIRST_S
                    if not worker.told.done():
                        worker.told.set_result(None)
                while await process.stdout.read(65_536):
                    pass
                code = await process.wait()
            except BaseException:
                # Another worker could not start, or we have a defect.
                _tell(process, signal.SIGTERM)
                raise
            if stop.is_set():
                return
            if not worker.told.done():
                raise _Failed(code)
            log.error("worker %d, process %d, ended with %d", worker.number, process.pid, code)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await stop.wait()
        wait_s = min(2 * wait_s, _AGAIN_MAX_S)


async def _start(words: Sequence[str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tradegw.transports.cli",
        *words,
        # Its end tells the worker of ours; nothing is ever written.
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, _MARK: "1", "TRADEGW__REPLICAS__ENABLED": "true"},
        # Ctrl-C at a terminal is for us alone: we pass it on, once.
        start_new_session=True,
    )


async def _serves(worker: _Worker, stdout: asyncio.StreamReader) -> bool:
    """Wait until a worker has said that it serves. False: it ended before.

    A plugin, or a library of one, may print whatever it likes before.
    """
    while True:
        try:
            line = await stdout.readline()
        except ValueError:
            continue  # Longer than the reader takes, which has dropped it.
        if not line:
            return False
        with suppress(ValueError, RecursionError):
            told: Any = json.loads(line)
            if isinstance(told, dict) and "pid" in told:
                return True
        log.warning("worker %d says before it serves: %r", worker.number, line[:_SHOWN_MAX])


def _tell(process: asyncio.subprocess.Process | None, number: signal.Signals) -> None:
    if process is not None and process.returncode is None:
        process.send_signal(number)
