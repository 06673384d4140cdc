"""For tests: a mock exchange in a process of its own, that can be killed and started again."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

import msgspec

from tradegw_mock.config import Liquidity
from tradegw_mock.ledger import Ledger, LedgerClient
from tradegw_mock.serve import Serving

__all__ = ["Ledger", "LedgerClient", "MockProcess"]

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 120.0


class MockProcess:
    """A `tradegw mock serve` as a subprocess.

    ```python
    with MockProcess(store=tmp_path / "exchange.db", accounts=["paper"]) as exchange:
        config = {"plugin": "mock", "url": exchange.url}
        exchange.kill()
        exchange.start()  # on the same port
        with exchange.ledger() as ledger:
            orders = list(ledger.orders("paper"))
    ```

    Args:
        store: File that it keeps everything in; None for an exchange that forgets.
        accounts: Accounts to open; the native door opens others when they are first used.
        config: What else stands in the file that `--config` names.
        options: Further words of the command line, such as `--clock virtual`.
    """

    def __init__(
        self,
        *,
        store: Path | None = None,
        liquidity: Liquidity = "maker",
        seed: int = 1,
        accounts: Sequence[str] = ("account-1",),
        config: Mapping[str, object] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self._options = tuple(options)
        self._store = store
        self._seed = seed
        self._config: dict[str, object] = {
            "liquidity": liquidity,
            "accounts": [{"name": name} for name in accounts],
            **(config or {}),
        }
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._serving: Serving | None = None

    @property
    def url(self) -> str:
        """`HOST:PORT` of the native door; stays the same when it is started again."""
        assert self._serving is not None, "it was never started"
        return self._serving.native

    @property
    def serving(self) -> Serving:
        """What it says that it serves: all its addresses, and the keys of its accounts."""
        assert self._serving is not None, "it was never started"
        return self._serving

    @property
    def pid(self) -> int:
        """Process id of the one that runs."""
        assert self._process is not None, "it is not running"
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it serves.

        Raises:
            RuntimeError: It did not; the text has what it printed.
        """
        assert self._process is None, "it is running already"
        with tempfile.TemporaryDirectory() as directory:
            config = Path(directory, "mock.toml")
            config.write_text(
                "".join(f"{name} = {_toml(value)}\n" for name, value in self._config.items()),
                "utf-8",
            )
            command = [sys.executable, "-m", "tradegw_mock", "serve", "--json"]
            command += ["--port", str(self._port), "--seed", str(self._seed)]
            command += ["--config", str(config), *self._options]
            if self._store is not None:
                command += ["--store", str(self._store)]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603  Our own words.
            assert self._process.stdout is not None
            line = _read_line(self._process.stdout, START_TIMEOUT_S)
        try:
            self._serving = msgspec.json.decode(line, type=Serving)
        except msgspec.DecodeError as e:
            self._process.kill()
            code = self._forget()
            text = f"the mock exchange did not serve: exit {code}, first line {line!r}"
            raise RuntimeError(text) from e
        self._port = int(self._serving.rest.rpartition(":")[2])
        self._config["native_port"] = int(self._serving.native.rpartition(":")[2])

    def kill(self) -> None:
        """Kill it where it stands (SIGKILL), and wait until it is dead."""
        assert self._process is not None, "it is not running"
        self._process.kill()
        self._forget()

    def stop(self) -> int:
        """Ask it to stop (SIGTERM); returns its exit code."""
        assert self._process is not None, "it is not running"
        self._process.send_signal(signal.SIGTERM)
        return self._forget()

    def ledger(self) -> LedgerClient:
        """Open its books."""
        return LedgerClient(self.url)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self.kill()

    def _forget(self) -> int:
        process, self._process = self._process, None
        assert process is not None
        try:
            return process.wait(STOP_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _toml(value: object) -> str:
    """Write a value as TOML, tables inline."""
    match value:
        case Mapping():
            items = cast("Mapping[str, object]", value).items()
            return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in items) + "}"
        case list() | tuple():
            return "[" + ", ".join(_toml(v) for v in cast("Sequence[object]", value)) + "]"
        case _:
            # Texts, numbers and truth are written alike.
            return json.dumps(value)


def _read_line(stream: IO[bytes], timeout_s: float) -> bytes:
    """Read one line, or what there is of it when the time or the stream ends."""
    deadline = time.monotonic() + timeout_s
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not line.endswith(b"\n") and selector.select(deadline - time.monotonic()):
            chunk = os.read(stream.fileno(), 4096)
            if not chunk:
                break
            line += chunk
    return line
