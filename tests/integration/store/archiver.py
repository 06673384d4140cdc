"""`tradegw store archive`, killed at a step of it. Run by a test.

Arguments: the step, then the words of the command.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tradegw._generated.queries import PostgresQueries, SqliteQueries
from tradegw.gateway import archive as archiving
from tradegw.store import archive
from tradegw.store.archive_file import ArchiveWriter
from tradegw.transports.cli import main


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killing(call: Callable[..., Any], *, at: int = 1) -> Callable[..., Any]:
    """Return what dies at the n-th call, before it does anything."""
    left = at

    def called(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if not left:
            die()
        return call(*args, **kwargs)

    return called


def drafting() -> None:
    """Half of the draft is on the disk."""
    add, events = ArchiveWriter.add, 0

    def dying(writer: ArchiveWriter, **event: Any) -> None:
        nonlocal events
        add(writer, **event)
        events += 1
        if events == 5:
            writer._out.flush()
            writer._raw.flush()
            die()

    ArchiveWriter.add = dying  # type: ignore[method-assign, assignment]


def drafted() -> None:
    """The draft is whole, and has not its name yet."""
    Path.replace = killing(Path.replace)  # type: ignore[method-assign]


def written() -> None:
    """The file is there, and nothing is deleted."""
    archiving.delete_prefix = killing(archiving.delete_prefix)  # type: ignore[attr-defined]


def deleting() -> None:
    """The second batch is deleted, and not committed."""
    for queries in (PostgresQueries, SqliteQueries):
        kind: Any = queries
        kind.delete_archived_events = _dying_after(kind.delete_archived_events)


def _dying_after(call: Callable[..., Any]) -> Callable[..., Any]:
    calls = 0

    async def called(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        done = await call(*args, **kwargs)
        calls += 1
        if calls == 2:
            die()
        return done

    return called


def deleted() -> None:
    """One batch is committed, and the next not begun."""
    for queries in (PostgresQueries, SqliteQueries):
        kind: Any = queries
        kind.put_checkpoint = killing(kind.put_checkpoint, at=2)


STEPS = {step.__name__: step for step in (drafting, drafted, written, deleting, deleted)}

if __name__ == "__main__":
    archive.BATCH = 2
    STEPS[sys.argv.pop(1)]()
    main()
