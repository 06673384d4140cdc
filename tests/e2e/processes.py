"""Real processes for the tests: gateways that are served, and commands.

Whoever starts a process here ends it, by its pid, however the test goes.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 120.0
COMMAND_TIMEOUT_S = 120.0
EXIT_TIMEOUT_S = 120.0
TRADEGW = (sys.executable, "-m", "tradegw.transports.cli")


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment, without what would configure a gateway."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("TRADEGW")}
    return {**kept, **more}


def write_config(
    directory: Path,
    exchanges: Mapping[str, str],
    accounts: Mapping[str, Mapping[str, object]],
    *,
    drain_s: float = 10.0,
    store: str | None = None,
    plugin: str = "mock",
) -> Path:
    """Write a `tradegw.toml`: venues of one plugin at these addresses, and these accounts.

    Args:
        store: URL of the store; a file in the directory by default.
    """
    lines = [
        "[gateway]",
        f"drain_s = {drain_s}",
        "[store]",
        f'url = "{store or f"sqlite:///{directory}/tradegw.db"}"',
        "[log]",
        'format = "json"',
    ]
    for name, url in exchanges.items():
        lines += [f"[venues.{name}]", f'plugin = "{plugin}"', f'url = "{url}"']
    for name, keys in accounts.items():
        lines.append(f"[accounts.{name}]")
        lines += [f"{key} = {_toml(value)}" for key, value in keys.items()]
    file = directory / "tradegw.toml"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


@dataclass
class Served:
    """A `tradegw serve` that runs.

    Attributes:
        announced: What its first line said.
        log: File with its stderr.
    """

    process: subprocess.Popen[bytes]
    announced: Mapping[str, Any]
    log: Path

    @property
    def grpc(self) -> str:
        return str(self.announced["grpc"])

    @property
    def http(self) -> str:
        return str(self.announced["http"])

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = EXIT_TIMEOUT_S) -> int:
        """Wait for its end; returns the exit code."""
        return self.process.wait(timeout_s)

    async def ended(self, timeout_s: float = EXIT_TIMEOUT_S) -> int:
        """The same without blocking the loop."""
        return await asyncio.to_thread(self.process.wait, timeout_s)

    def stop(self) -> int:
        """Ask it to end (SIGTERM); returns the exit code."""
        self.tell(signal.SIGTERM)
        return self.wait()


@contextmanager
def serving(
    directory: Path,
    *args: str,
    config: Path | None = None,
    crash_at: str | None = None,
    through: Sequence[str] = (),
    locked: bool = False,
    **variables: str,
) -> Iterator[Served]:
    """Run `tradegw serve --json --port 0` in a directory, until the block ends.

    Args:
        through: Words before the command's own: a program that runs it.
        locked: Take the right to write from the directory, once its output has a place there.

    Raises:
        AssertionError: It did not serve; the text has what it logged.
    """
    if crash_at is not None:
        variables["TRADEGW_CRASH_AT"] = crash_at
    number = len(list(directory.glob("serve-*.out")))
    out, log = directory / f"serve-{number}.out", directory / f"serve-{number}.log"
    words = [*through, *TRADEGW, "serve", "--json", "--port", "0", *args]
    if config is not None:
        words += ["--config", str(config)]
    with out.open("wb") as stdout, log.open("wb") as stderr:
        if locked:
            directory.chmod(0o555)
        process = subprocess.Popen(
            words, cwd=directory, stdout=stdout, stderr=stderr, env=environment(**variables)
        )
    try:
        wait_until(
            lambda: b"\n" in out.read_bytes() or process.poll() is not None,
            START_TIMEOUT_S,
            "the gateway serves",
        )
        line = out.read_bytes().partition(b"\n")[0]
        assert line, f"it ended with {process.poll()} and said:\n{log.read_text('utf-8')}"
        yield Served(process, json.loads(line), log)
    finally:
        process.kill()
        process.wait()
        if locked:
            directory.chmod(0o755)


def readiness(address: str) -> tuple[int, Mapping[str, Any]]:
    """Ask an HTTP door for `/readyz`; returns the status and what it says."""
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as e:
        with e:
            return e.code, json.load(e)


def tradegw(
    *args: str,
    cwd: Path,
    timeout_s: float = COMMAND_TIMEOUT_S,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """Run a command of `tradegw` to its end."""
    return run([*TRADEGW, *args], cwd=cwd, timeout_s=timeout_s, **variables)


def run(
    words: Sequence[str], *, cwd: Path, timeout_s: float = COMMAND_TIMEOUT_S, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        words,
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def verify(config: Path) -> Mapping[str, Any]:
    """Run `tradegw verify`, which must find nothing; returns the heads of the accounts."""
    done = tradegw("verify", "--json", "--config", str(config), cwd=config.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["ok"], said["problems"]
    assert said["problems"] == []
    accounts: Mapping[str, Any] = said["accounts"]
    return accounts


def wait_until(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Wait until a condition holds; it fails when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.01)


async def until(
    condition: Callable[[], Awaitable[object]], timeout_s: float, what: str, *, every_s: float = 0.1
) -> None:
    """Wait until an asynchronous condition holds; it fails when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        await asyncio.sleep(every_s)
