"""Archiving: what leaves, what stays, and that nothing counts twice or is lost because of it."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import tradegw
from tests.integration.store.conftest import (
    START_NS,
    AnyStore,
    Desk,
    a_claim,
    a_trade,
    an_order,
    tamper,
)
from tradegw.errors import (
    ConfigError,
    DuplicateClientOrderId,
    InvalidOrder,
    StoreCorrupt,
    StoreError,
    UsageError,
)
from tradegw.model import (
    EventType,
    ExecType,
    ExecutionReport,
    Fill,
    Order,
    OrderEvent,
    OrderId,
    OrdStatus,
    TradeId,
    VenueOrderId,
)
from tradegw.model.lifecycle import apply
from tradegw.model.strangers import attach
from tradegw.ports import Entry, EventFilter, KeyTaken, Problem, ProblemKind, Replayed
from tradegw.store import archive as archiving
from tradegw.store.archive import ArchivePlan, delete_prefix, plan, write_prefix
from tradegw.store.archive_file import open_archive
from tradegw.store.verify_archived import ArchivedChain

LATER_NS = START_NS + 10**18


async def trade(desk: Desk, *names: str) -> list[Order]:
    """Orders that are placed, acknowledged and filled: four events each."""
    return [
        await desk.report(await desk.place(name), a_trade(an_order(name), f"t-{name}"))
        for name in names
    ]


async def cancel(desk: Desk, order: Order) -> Order:
    """The venue says that it is canceled."""
    report = ExecutionReport(
        exec_type=ExecType.CANCELED, venue_order_id=VenueOrderId(f"x-{order.client_order_id}")
    )
    return await desk.report(order, report)


async def look(desk: Desk, before_ns: int = LATER_NS, **sinks: bool) -> ArchivePlan:
    return await plan(desk.store.access, desk.record, before_ns=before_ns, sinks=sinks)


async def archive(desk: Desk, to: Path, before_ns: int = LATER_NS) -> Path:
    what = await look(desk, before_ns)
    path = await write_prefix(desk.store.access, what, to)
    await delete_prefix(desk.store.access, what, path.name, time_ns=LATER_NS)
    return path


async def problems(store: AnyStore, *files: Path) -> list[Problem]:
    return [problem async for problem in store.verify(files)]


async def test_a_prefix_leaves_and_the_record_stays_sound(
    store: AnyStore, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiving, "BATCH", 2)
    orders = await trade(desk, "c1", "c2", "c3")
    head = await store.get_head(desk.account)
    path = await archive(desk, tmp_path)
    assert await store.get_head(desk.account) == head
    assert (await store.get_checkpoint(desk.account)).seq == head.seq - 1
    # Orders are what they were, fills and what they tell included.
    for order in orders:
        known = await store.find_known(desk.account_id, order_id=order.order_id)
        assert known is not None
        assert replace(known.order, trade_ids=order.trade_ids) == order
        assert known.order.trade_ids == {f"t-{order.client_order_id}"}
    assert await problems(store) == []
    assert await problems(store, path) == []
    # And what comes next follows.
    await trade(desk, "c4")
    second = await archive(desk, tmp_path)
    assert await problems(store) == []
    assert await problems(store, second, path) == []
    (gap,) = await problems(store, second)
    assert (gap.kind, gap.seq) == (ProblemKind.GAP, 1)


async def test_late_duplicates_get_the_first_answer(
    store: AnyStore, desk: Desk, tmp_path: Path
) -> None:
    (order, _) = await trade(desk, "c1", "c2")
    await archive(desk, tmp_path)
    entry = desk.intent(an_order("c1"))
    taken = await store.append(entry)
    assert isinstance(taken, KeyTaken)
    assert taken.claim.order_id == order.order_id
    assert taken.claim.fingerprint == "v1:f00d"
    found = await store.find_order(order.order_id)
    assert found is not None
    assert (found.ord_status, found.cum_qty) == (OrdStatus.FILLED, Decimal("0.01"))
    with pytest.raises(DuplicateClientOrderId):
        await store.append(
            replace(
                entry,
                claim=a_claim("another"),
                events=desk.intent(
                    an_order("c1", order_id=OrderId(an_order("other").order_id))
                ).events,
                ref=None,
            )
        )
    assert await problems(store) == []


async def test_a_late_fill_counts_once(store: AnyStore, desk: Desk, tmp_path: Path) -> None:
    order = await desk.report(await desk.place("c1"), a_trade(an_order("c1"), "t1", "0.004"))
    order = await cancel(desk, order)
    await trade(desk, "c2")
    path = await archive(desk, tmp_path)
    known = await store.find_known(desk.account_id, order_id=order.order_id)
    assert known is not None
    # The engine sees that it knows it; and if it did not, the store would.
    _, events = apply(known.order, a_trade(order, "t1", "0.004"))
    assert events == ()
    _, events = apply(replace(known.order, trade_ids=frozenset()), a_trade(order, "t1", "0.004"))
    assert isinstance(
        await store.append(Entry(account_id=desk.account_id, events=events)), Replayed
    )
    # One that is new is recorded, and moves the order.
    late = await desk.report(order, a_trade(order, "t2", "0.006"))
    assert (late.ord_status, late.cum_qty) == (OrdStatus.FILLED, Decimal("0.01"))
    assert await problems(store) == []
    assert await problems(store, path) == []
    second = await archive(desk, tmp_path)
    assert await problems(store, path, second) == []


async def test_a_fill_that_finds_its_order_after_its_event_was_archived(
    store: AnyStore, desk: Desk, tmp_path: Path
) -> None:
    order = await cancel(desk, await desk.place("c1"))
    fill = Fill(
        trade_id=TradeId("t9"),
        account=desk.account,
        venue="mock",
        symbol=order.symbol,
        side=order.side,
        last_qty=Decimal("0.002"),
        last_px=Decimal(64000),
        venue_order_id=order.venue_order_id,
    )
    came = OrderEvent(
        event_type=EventType.UNMATCHED_FILL, account=desk.account, time_ns=START_NS, fill=fill
    )
    await desk.append(Entry(account_id=desk.account_id, events=(came,)))
    await trade(desk, "c2")
    path = await archive(desk, tmp_path)
    (waiting,) = await store.list_unmatched_fills(desk.account_id, after_seq=0, limit=10)
    _, events = attach(order, waiting, time_ns=START_NS)
    await desk.append(Entry(account_id=desk.account_id, events=events))
    assert await problems(store) == []
    assert await problems(store, path) == []
    await trade(desk, "c3")
    second = await archive(desk, tmp_path)
    assert await store.list_unmatched_fills(desk.account_id, after_seq=0, limit=10) == []
    assert await problems(store) == []
    assert await problems(store, path, second) == []


async def test_what_holds_an_event(store: AnyStore, desk: Desk) -> None:
    await trade(desk, "c1")
    open_order = await desk.place("open", at=5)
    await trade(desk, "c2", "c3")
    head = (await store.get_head(desk.account)).seq
    first = open_order.seq

    async def held(**options: bool | int) -> tuple[int, str]:
        found = await look(desk, **options)  # type: ignore[arg-type]
        return found.up_to_seq, found.held_by

    assert await held() == (first - 1, f"order {open_order.order_id} is open")
    await cancel(desk, open_order)
    assert await held() == (head, "it is the last event")
    assert await held(before_ns=START_NS) == (0, "it is too recent")
    await store.put_outbox_cursor("broker", desk.account_id, seq=3)
    assert await held() == (3, "sink broker has not confirmed it")
    assert await held(broker=False) == (head, "it is the last event")
    assert await held(broker=False, other=True) == (0, "sink other has not confirmed it")


async def test_a_stream_does_not_resume_below_the_cut(
    store: AnyStore, desk: Desk, tmp_path: Path
) -> None:
    await trade(desk, "c1", "c2")
    await archive(desk, tmp_path)
    cut = (await store.get_checkpoint(desk.account)).seq
    for after in (0, cut - 1):
        with pytest.raises(InvalidOrder, match=f"oldest here is {cut + 1}") as refused:
            await store.list_events(EventFilter(account=desk.account, after_seq=after), limit=10)
        assert refused.value.reason == "OUT_OF_RANGE"
        with pytest.raises(InvalidOrder, match=f"oldest here is {cut + 1}"):
            await store.list_stream_fills(desk.account, after_seq=after, limit=10)
    (event,) = await store.list_events(EventFilter(account=desk.account, after_seq=cut), limit=10)
    assert event.seq == cut + 1
    (fill,) = await store.list_stream_fills(desk.account, after_seq=cut, limit=10)
    assert fill.seq == cut + 1


async def test_a_crash_after_any_step_leaves_a_sound_record(
    store: AnyStore, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever archiving stops: verify finds nothing, with the files and without, and a repeat ends it."""
    monkeypatch.setattr(archiving, "BATCH", 2)
    await trade(desk, "c1", "c2", "c3", "c4")
    files: list[Path] = []

    class Stopped(Exception):
        pass

    async def run(writes: int) -> None:
        what = await look(desk)
        files.append(await write_prefix(desk.store.access, what, tmp_path))
        left = writes

        class Failing:
            read = staticmethod(desk.store.access.read)

            @staticmethod
            async def write(work: object) -> object:
                nonlocal left
                if not left:
                    raise Stopped
                left -= 1
                return await desk.store.access.write(work)  # type: ignore[arg-type]

        with pytest.raises(Stopped):
            await delete_prefix(Failing(), what, files[-1].name, time_ns=0)  # type: ignore[arg-type]

    for writes in (0, 0, 1, 1):
        await run(writes)
        assert await problems(store) == []
        assert await problems(store, *files) == []
    files.append(await archive(desk, tmp_path))
    assert await problems(store, *files) == []
    assert (await look(desk)).events == 0


async def test_what_is_archived_while_the_record_is_checked_is_not_missing_from_the_files(
    store: AnyStore, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trade(desk, "c1")
    first = await archive(desk, tmp_path)
    await trade(desk, "c2", "c3")
    check = ArchivedChain.check

    async def and_more_leaves(chain: ArchivedChain, read: Any) -> AsyncIterator[Problem]:
        async for problem in check(chain, read):
            yield problem
        await archive(desk, tmp_path)

    with monkeypatch.context() as patched:
        patched.setattr(ArchivedChain, "check", and_more_leaves)
        assert await problems(store, first) == []
    assert (await store.get_checkpoint(desk.account)).seq > 4
    # What should be in the files that were given, and is not, is found still.
    with monkeypatch.context() as patched:
        patched.setattr(ArchivedChain, "_check_order", _see_nothing)
        found = await problems(store, *sorted(tmp_path.glob("*.gz")))  # noqa: ASYNC240
    assert {problem.kind for problem in found} == {ProblemKind.UNEXPECTED_ROW}


async def _see_nothing(*_: object) -> None:
    pass


@pytest.mark.parametrize("given", [(), ("paper",), ("second",), ("paper", "second")])
async def test_verify_names_the_accounts_of_which_it_was_given_no_file(
    file_store: AnyStore, path: Path, tmp_path: Path, given: Sequence[str]
) -> None:
    files: dict[str, Path] = {}
    for name in ("paper", "second"):
        desk = await Desk.open(file_store, name)
        order = await desk.place("c1")
        await desk.report(order, a_trade(order, "t-1"))
        files[name] = await archive(desk, tmp_path)
    words = ["--archive", *(str(files[name]) for name in given)] if given else []
    done = await asyncio.to_thread(
        tradegw,
        *("verify", "--json", *words),
        cwd=tmp_path,
        TRADEGW__STORE__URL=f"sqlite:///{path}",
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["archived"]) == {"paper", "second"} - set(given)


async def test_only_what_is_archived_can_be_deleted(store: AnyStore, desk: Desk) -> None:
    await trade(desk, "c1")
    write = desk.store.access.write
    with pytest.raises((StoreError, UsageError), match="append-only"):
        await write(lambda q: q.delete_archived_events(account_id=desk.account_id, up_to_seq=1))
    with pytest.raises((StoreError, UsageError), match="append-only"):
        await write(lambda q: q.delete_archived_fills(account_id=desk.account_id, up_to_seq=100))
    assert await problems(store) == []


def rewrite(path: Path, change: Sequence[bytes]) -> None:
    """Change an archive as somebody with a shell would."""
    old, new = change
    text = gzip.decompress(path.read_bytes())
    assert old in text
    path.write_bytes(gzip.compress(text.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param((b"64999.5", b"64998.5"), "altered", id="a payload"),
        pytest.param((b'{"end"', b'{"seq"'), "damaged", id="no end"),
        pytest.param(
            (b'"after_seq":0', b'"after_seq":1'), "none of the files", id="another beginning"
        ),
    ],
)
async def test_an_altered_file_is_found(
    file_store: AnyStore, tmp_path: Path, change: Sequence[bytes], says: str
) -> None:
    desk = await Desk.open(file_store)
    await trade(desk, "c1", "c2")
    path = await archive(desk, tmp_path)
    rewrite(path, change)
    found = await problems(file_store, path)
    assert any(says in problem.detail for problem in found), found


async def test_a_file_that_was_cut_off_is_found(file_store: AnyStore, tmp_path: Path) -> None:
    desk = await Desk.open(file_store)
    await trade(desk, "c1", "c2")
    path = await archive(desk, tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with open_archive(path) as opened, pytest.raises(StoreCorrupt):
        list(opened.events())


async def test_a_chain_that_does_not_hold_is_not_archived(
    file_store: AnyStore, path: Path, tmp_path: Path
) -> None:
    desk = await Desk.open(file_store)
    await trade(desk, "c1", "c2")
    what = await look(desk)
    tamper(path, "UPDATE order_event SET payload = x'7b7d' WHERE seq = 2")
    with pytest.raises(StoreCorrupt, match="event 2"):
        await write_prefix(file_store.access, what, tmp_path / "out.jsonl.gz")
    assert "out.jsonl.gz" not in " ".join(os.listdir(tmp_path))  # noqa: PTH208  No path is followed.


async def test_a_draft_that_a_killed_run_left_is_in_nobodys_way(
    file_store: AnyStore, tmp_path: Path
) -> None:
    """In a container every run may have the same process number."""
    desk = await Desk.open(file_store)
    await trade(desk, "c1", "c2")
    left = tmp_path / f".out.jsonl.gz.{os.getpid()}.new"
    left.write_bytes(b"half of an archive" * 1000)
    path = await archive(desk, tmp_path / "out.jsonl.gz")
    assert not left.exists()
    assert await problems(file_store, path) == []


async def test_another_file_is_never_overwritten(file_store: AnyStore, tmp_path: Path) -> None:
    desk = await Desk.open(file_store)
    await trade(desk, "c1", "c2")
    to = tmp_path / "one.jsonl.gz"
    await archive(desk, to)
    before = to.read_bytes()
    await trade(desk, "c3")
    with pytest.raises(ConfigError, match="stays as it is"):
        await archive(desk, to)
    assert to.read_bytes() == before
