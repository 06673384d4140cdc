"""Which process this is, and whether another one is gone, as far as this machine can prove it."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from uuid import uuid4

from tradegw.ports import LeaseHolder

__all__ = ["is_gone", "this_process"]

_PROC = Path("/proc")


def this_process(address: str = "") -> LeaseHolder:
    """Return this run of the program, as a holder of leases.

    Args:
        address: Where its gRPC door listens.
    """
    return LeaseHolder(
        holder=uuid4().hex,
        address=address,
        host=_host(),
        pid=os.getpid(),
        process_start=_start_of(os.getpid()) or 0,
    )


def is_gone(by: LeaseHolder, *, seen_by: LeaseHolder) -> bool:
    """Whether a process has ended for certain. Of another machine, boot or container nothing is certain."""
    if by.host != seen_by.host or not by.process_start or not by.pid:
        return False
    try:
        os.kill(by.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # Somebody else's, so there is one.
    start = _start_of(by.pid)
    # Unreadable: it may be hidden from us. A zombie has ended, and another start is another process.
    return start is not None and start != by.process_start


def _host() -> str:
    """Name the machine with its boot and the space of its pids; where nobody tells them, this run alone."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
        pids = (_PROC / "self/ns/pid").readlink().name
    except OSError:
        boot, pids = uuid4().hex, ""
    return f"{socket.gethostname()} {boot} {pids}".strip()


def _start_of(pid: int) -> int | None:
    """Return when a process began, in ticks since the boot; 0 when it has ended, None when nobody tells."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text("ascii", "replace")
    except OSError:
        return None
    # The name in parentheses may hold anything.
    fields = stat.rpartition(")")[2].split()
    return 0 if fields[0] in ("Z", "X") else int(fields[19])
