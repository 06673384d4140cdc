"""The lock of a store's one writer process: `<file>.lock`, held for the life of the process.

The operating system lets go of it when the process ends, however it ends. The file tells who holds it: its
pid, and the addresses of its doors once they listen.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tradegw.errors import ConfigError, StoreInUse

__all__ = ["LockHolder", "WriterLock", "read_lock"]

# Whoever only asks for the holder takes the lock for an instant.
_ATTEMPTS = 20
_ATTEMPT_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class LockHolder:
    """The process that writes a store.

    Attributes:
        addresses: Where its doors listen, such as `{"grpc": "127.0.0.1:50051"}`; empty until they do, and
            where there are none.
    """

    pid: int
    addresses: Mapping[str, str] = field(default_factory=dict[str, str])


class WriterLock:
    """Held from construction to `release`.

    Args:
        path: The database.

    Raises:
        StoreInUse: Another process writes it; the text names its pid and addresses.
        ConfigError: The lock file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lock_path = _lock_path(path)
        try:
            self._file = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as e:
            raise ConfigError(f"store {path}: {lock_path} cannot be written: {e.strerror}") from e
        try:
            self._lock()
            self._write(LockHolder(pid=os.getpid()))
        except BaseException:
            os.close(self._file)
            raise

    def publish(self, addresses: Mapping[str, str]) -> None:
        """Tell other processes where this one listens."""
        self._write(LockHolder(pid=os.getpid(), addresses=addresses))

    def release(self) -> None:
        """Let go. The file stays: removing it could take it from under somebody who waits."""
        os.ftruncate(self._file, 0)
        os.close(self._file)

    def _lock(self) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if attempt == _ATTEMPTS:
                    break
            time.sleep(_ATTEMPT_S)
        holder = _parse(_read(self._file))
        who = "another process"
        if holder is not None:
            who = f"process {holder.pid}"
            if holder.addresses:
                who += " at " + ", ".join(f"{k} {v}" for k, v in holder.addresses.items())
        raise StoreInUse(f"store {self._path}: {who} writes it; a store has one writer")

    def _write(self, holder: LockHolder) -> None:
        text = json.dumps({"pid": holder.pid, "addresses": dict(holder.addresses)}).encode()
        # Longer text first, so that a reader never finds the end of an older one behind it.
        os.pwrite(self._file, text, 0)
        os.ftruncate(self._file, len(text))


def read_lock(path: Path) -> LockHolder | None:
    """Return the process that writes a store now, or None when none does."""
    try:
        file = os.open(_lock_path(path), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _parse(_read(file))
        return None
    finally:
        os.close(file)


def _lock_path(path: Path) -> Path:
    # Through links, so that two names of one file have one lock.
    real = path.resolve()
    return real.with_name(f"{real.name}.lock")


def _read(file: int) -> bytes:
    return os.pread(file, 65_536, 0)


def _parse(text: bytes) -> LockHolder | None:
    """Read what a holder wrote; None while it has not written yet."""
    try:
        found: Any = json.loads(text)
        return LockHolder(
            pid=int(found["pid"]),
            addresses={str(k): str(v) for k, v in found["addresses"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
