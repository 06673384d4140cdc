"""`tradegw watch`, in a terminal and in a pipe."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.cli.conftest import Run, place
from tests.e2e.processes import TRADEGW, environment, wait_until

pytestmark = pytest.mark.usefixtures("served")


class Terminal:
    """A command in a terminal of its own, and all that it wrote there."""

    def __init__(self, process: subprocess.Popen[bytes], end: int, peer: int) -> None:
        self.process, self._end, self.peer = process, end, peer
        self.written = b""

    def read(self) -> bytes:
        while select.select([self._end], [], [], 0)[0]:
            self.written += os.read(self._end, 65_536)
        return self.written

    def press(self, keys: bytes) -> None:
        os.write(self._end, keys)

    def wait(self, timeout_s: float = 15) -> int:
        # Read on, or the command would block on a full terminal.
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read()
        self.read()
        return self.process.wait(1)


@contextmanager
def in_a_terminal(cwd: Path, *words: str, columns: int) -> Iterator[Terminal]:
    end, peer = pty.openpty()
    fcntl.ioctl(peer, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [*TRADEGW, *words],
        cwd=cwd,
        env=environment(TERM="xterm-256color", COLUMNS=str(columns), LINES="40"),
        stdin=peer,
        stdout=peer,
        stderr=peer,
    )
    try:
        yield Terminal(process, end, peer)
    finally:
        process.kill()
        process.wait()
        os.close(end)
        os.close(peer)


@pytest.mark.parametrize(("how", "columns"), [("q", 140), ("ctrl-c", 80)])
def test_the_blotter_is_live_and_leaves_the_terminal_as_it_was(
    run: Run, home: Path, how: str, columns: int
) -> None:
    with in_a_terminal(home, "watch", columns=columns) as terminal:
        before = termios.tcgetattr(terminal.peer)
        wait_until(lambda: b"READY" in terminal.read(), 60, "the first picture")
        assert termios.tcgetattr(terminal.peer)[3] != before[3]  # No echo, key by key.
        name = f"by-{how[0]}"
        place(run, "--client-order-id", name, "--price", "10000", ord_type="limit")
        wait_until(lambda: name.encode() in terminal.read(), 60, "the order appears")
        if how == "q":
            terminal.press(b"q")
        else:
            terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait() == 0
        assert termios.tcgetattr(terminal.peer) == before
        # The picture was on the other screen; the cursor is shown again.
        assert terminal.written.index(b"\x1b[?1049h") < terminal.written.rindex(b"\x1b[?1049l")
        assert terminal.written.rindex(b"\x1b[?25l") < terminal.written.rindex(b"\x1b[?25h")
        assert b"Traceback" not in terminal.written


@pytest.mark.parametrize("form", ["--json", "text"])
def test_in_a_pipe_it_prints_a_line_for_each_event(
    run: Run, home: Path, tmp_path: Path, form: str
) -> None:
    out = tmp_path / "out"
    words = ["watch", "--json"] if form == "--json" else ["watch"]
    with out.open("wb") as stdout:
        process = subprocess.Popen(
            [*TRADEGW, *words], cwd=home, env=environment(), stdout=stdout, stderr=subprocess.PIPE
        )
    try:

        def is_heard() -> bool:
            # It says nothing until something happens: orders are placed until one is heard of.
            return place(run)["order_id"].encode() in out.read_bytes()

        wait_until(is_heard, 60, "an event")
        # It may have begun in the middle of that order. The next one it hears from the first event on.
        placed = place(run)["order_id"].encode()

        def is_filled() -> bool:
            return any(
                placed in line and b"TRADE" in line for line in out.read_bytes().splitlines()
            )

        wait_until(is_filled, 60, "the last event of an order")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, errors) == (0, b"")
    lines = out.read_text("utf-8").splitlines()
    if form == "--json":
        events = [json.loads(line) for line in lines]
        numbers = [event["seq"] for event in events]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert {"INTENT", "NEW", "TRADE"} <= {event["event_type"] for event in events}
    else:
        assert any("TRADE: filled 0.01 at" in line for line in lines)
        assert "\x1b" not in out.read_text("utf-8")


def test_a_reader_that_goes_away_ends_it_quietly(run: Run, home: Path) -> None:
    process = subprocess.Popen(
        [*TRADEGW, "watch"],
        cwd=home,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        process.stdout.close()

        def is_over() -> bool:
            place(run)
            return process.poll() is not None

        wait_until(is_over, 60, "it ends")
        assert process.stderr is not None
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
