"""`tradegw store archive` killed at each of its steps: nothing is lost, and it may be started again."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg
import pytest

from tests.e2e.processes import run, tradegw
from tests.integration.store.archiver import STEPS
from tests.integration.store.conftest import Desk, StillClock, all_events
from tests.integration.store.test_archive import problems, trade
from tests.postgres_servers import NAMES
from tradegw.model import OrderEvent
from tradegw.ports import EventFilter
from tradegw.store import is_postgres, open_store
from tradegw.store.archive_file import open_archive
from tradegw.store.codec import decode_event


@pytest.fixture(params=["sqlite", *NAMES])
def url(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_store: Callable[[str], str]
) -> str:
    """An empty store of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'tradegw.db'}"
    return postgres_store(request.param)


@pytest.mark.parametrize("step", STEPS)
async def test_a_kill_loses_nothing(url: str, tmp_path: Path, step: str) -> None:
    to = tmp_path / "archive"
    to.mkdir()
    before = await _fill(url)
    words = ("store", "archive", "--to", str(to), "--json")
    killed = run(
        [sys.executable, "-m", "tests.integration.store.archiver", step, *words],
        cwd=Path.cwd(),
        TRADEGW__STORE__URL=url,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    _see_it_gone(url)
    await _check(url, _files(to), before)
    # What it left beside is nobody's, and in nobody's way.
    assert (step in {"drafting", "drafted"}) == _has_draft(to)
    again = tradegw(*words, cwd=tmp_path, TRADEGW__STORE__URL=url)
    assert again.returncode == 0, again.stderr
    assert len(await _check(url, _files(to), before)) == 1


def _has_draft(to: Path) -> bool:
    return any(to.glob(".*.new"))


def _files(to: Path) -> Sequence[Path]:
    return sorted(to.glob("*.jsonl.gz"))


async def _fill(url: str) -> list[OrderEvent]:
    store = await open_store(url, clock=StillClock())
    desk = await Desk.open(store)
    await trade(desk, "c1", "c2", "c3", "c4")
    events = await all_events(desk)
    await store.close()
    return events


def _see_it_gone(url: str) -> None:
    """The server needs a moment to see that a process has died."""
    if is_postgres(url):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


async def _check(
    url: str, files: Sequence[Path], before: Sequence[OrderEvent]
) -> Sequence[OrderEvent]:
    """Every event is in the store or in a file, as it was. Returns those that are in the store."""
    store = await open_store(url, clock=StillClock(), read_only=True)
    try:
        assert await problems(store) == []
        assert await problems(store, *files) == []
        (account,) = [record.account for record in await store.list_accounts()]
        cut = await store.get_checkpoint(account)
        stayed = await store.list_events(
            EventFilter(account=account, after_seq=cut.seq), limit=10_000
        )
    finally:
        await store.close()
    found = {event.seq: event for event in stayed}
    for file in files:
        with open_archive(file) as opened:
            for line in opened.events():
                event = decode_event(line.payload.encode())
                assert found.setdefault(event.seq, event) == event
    assert [found[seq] for seq in sorted(found)] == before
    return stayed
