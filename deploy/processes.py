"""Processes that outlive the command that starts them, each known by a file with its pid."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["Processes", "StackError"]

STOP_S = 40.0
_EVERY_S = 0.05


class StackError(Exception):
    """The stack cannot be started; the text says which part, and why."""


class Processes:
    """What was started, in the order of its start. Nothing else is ever stopped.

    A file holds the pid and when that process began: the number alone may be another's by now.
    """

    def __init__(self, folder: Path) -> None:
        self._pids = folder / "pids"
        self._logs = folder / "logs"

    def start(
        self,
        name: str,
        words: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stop_by: signal.Signals = signal.SIGTERM,
        **identity: Any,
    ) -> None:
        """Start a process in a session of its own; its output goes to a log.

        Args:
            identity: `user`, `group` and `extra_groups`, as `Popen` takes them.
        """
        self._pids.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                words,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **identity,
            )
        # It outlives us: nobody here waits for it, and Python need not warn of that.
        process.returncode = 0
        began = _began(process.pid)
        number = len(list(self._pids.iterdir()))
        file = self._pids / f"{number:02d}-{name}"
        file.write_text(f"{process.pid} {int(stop_by)} {began or '-'}\n", "utf-8")

    def log(self, name: str) -> Path:
        """Return the file with a process's output."""
        return self._logs / f"{name}.log"

    def running(self) -> Sequence[str]:
        """Return the names of those that still run."""
        return [file.name.partition("-")[2] for file in self._files() if _read(file)]

    def wait(self, name: str, is_ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait until a part answers.

        Raises:
            StackError: It ended instead, or does not answer in time.
        """
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            over = time.monotonic() > deadline
            if over or name not in self.running():
                why = f"does not answer within {timeout_s:g} s" if over else "ended"
                tail = self.log(name).read_text("utf-8", "replace")[-2000:]
                raise StackError(f"{name} {why}; {self.log(name)} ends:\n{tail}")
            time.sleep(_EVERY_S)

    def stop(self) -> Sequence[str]:
        """Stop them, the last that was started first; returns their names."""
        stopped: list[str] = []
        for file in reversed(self._files()):
            known = _read(file)
            if known is not None:
                pid, stop_by, began = known
                os.kill(pid, stop_by)
                if not _ends(pid, began):
                    # Its session is its own: with it goes what it started, and nobody else.
                    os.killpg(pid, signal.SIGKILL)
                    _ends(pid, began)
                stopped.append(file.name.partition("-")[2])
            file.unlink()
        return stopped

    def _files(self) -> Sequence[Path]:
        return sorted(self._pids.iterdir()) if self._pids.is_dir() else ()


def _read(file: Path) -> tuple[int, int, str] | None:
    """Return pid, signal and beginning of a process that still runs."""
    pid, number, began = file.read_text("utf-8").split(maxsplit=2)
    found = _began(int(pid))
    return (int(pid), int(number), found) if found and found == began.strip() else None


def _ends(pid: int, began: str) -> bool:
    deadline = time.monotonic() + STOP_S
    while _began(pid) == began:
        if time.monotonic() > deadline:
            return False
        time.sleep(_EVERY_S)
    return True


def _began(pid: int) -> str | None:
    """Return when a process began, in whatever words the system has; None when it has ended."""
    with suppress(ChildProcessError):
        # One of ours that ended stays as a name without a process until somebody asks.
        os.waitpid(pid, os.WNOHANG)
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # The name in parentheses may hold anything; the state and the rest stand after it.
            after = stat.read_text("utf-8", "replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if after[0] == "Z" else after[19]
    done = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None
