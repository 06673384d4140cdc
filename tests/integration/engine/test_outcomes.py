"""The table: which command, what the venue did with it, what was heard of that, and where it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from tests.integration.engine.bench import Bench, capabilities
from tradegw.errors import UnsupportedOrder
from tradegw.model import CommandKind, EvidenceKind, Order, OrdStatus
from tradegw.testing import Fault, ScriptedPlugin
from tradegw.venue import ExpiryKind, ReplaceKind

NEW, CANCEL, REPLACE = CommandKind.NEW, CommandKind.CANCEL, CommandKind.REPLACE
ABSENT, NOT_SENT = EvidenceKind.ABSENT_AFTER_EXPIRY, EvidenceKind.NOT_SENT
TOLD = EvidenceKind.VENUE_REPORT

HEARD = {
    "the answer": None,
    "a slow answer": Fault.SLOW,
    "nothing": Fault.LOSE_ANSWER,
    "nothing, for ever": Fault.HANG,
    "nonsense": Fault.GARBAGE,
    "an answer without a word": Fault.EMPTY,
    "a mistake of the plugin": Fault.CRASH,
}
"""What may be heard of a command that the venue carried out."""
UNHEARD = {
    "nothing": Fault.LOSE_REQUEST,
    "a refusal": Fault.REFUSE,
    "too fast": Fault.THROTTLE,
    "not sent": Fault.NOT_SENT,
}
"""What may be heard of a command that never got there, or that the venue did not take."""
ENDS: dict[CommandKind, dict[str, str]] = {
    NEW: {
        "nothing": "REJECTED ABSENT_AFTER_EXPIRY",
        "a refusal": "REJECTED VENUE_REPORT",
        "too fast": "REJECTED VENUE_REPORT",
        "not sent": "REJECTED NOT_SENT",
    },
    CANCEL: {
        "nothing": "NEW at 100",
        "a refusal": "NEW at 100",
        # It waits here, and is sent again.
        "too fast": "CANCELED VENUE_REPORT",
        "not sent": "CANCELED VENUE_REPORT",
    },
    REPLACE: dict.fromkeys(UNHEARD, "NEW at 100"),
}
CARRIED_OUT = {NEW: "NEW at 100", CANCEL: "CANCELED VENUE_REPORT", REPLACE: "NEW at 101"}
CELLS = [
    *(
        (kind, "did it", heard, fault, CARRIED_OUT[kind])
        for kind in CommandKind
        for heard, fault in HEARD.items()
    ),
    *(
        (kind, "did not", heard, fault, ENDS[kind][heard])
        for kind in CommandKind
        for heard, fault in UNHEARD.items()
    ),
    *(
        (kind, "had filled it", heard, fault, "FILLED FILL")
        for kind in (CANCEL, REPLACE)
        for heard, fault in UNHEARD.items()
    ),
    *((kind, "had filled it", "it is unknown", None, "FILLED FILL") for kind in (CANCEL, REPLACE)),
    *((NEW, "did and filled it", heard, fault, "FILLED FILL") for heard, fault in HEARD.items()),
]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench("memory://")
    yield bench
    await bench.close()


def ends(order: Order) -> str:
    if order.is_open:
        return f"{order.ord_status} at {order.price}"
    return f"{order.ord_status} {order.closed_by}"


async def ask(bench: Bench, kind: CommandKind, order: Order | None) -> Order:
    match kind:
        case CommandKind.NEW:
            return await bench.place()
        case CommandKind.CANCEL:
            assert order is not None
            return await bench.gateway.cancel_order(order.order_id)
        case CommandKind.REPLACE:
            assert order is not None
            return await bench.gateway.replace_order(order.order_id, price="101")


@pytest.mark.parametrize("is_told", [True, False], ids=["the stream tells", "the stream is mute"])
@pytest.mark.parametrize(
    ("kind", "did", "heard", "fault", "end"),
    [pytest.param(*cell, id=f"{cell[0]}: {cell[1]}, heard {cell[2]}") for cell in CELLS],
)
async def test_a_command_ends(
    bench: Bench,
    kind: CommandKind,
    did: str,
    heard: str,
    fault: Fault | None,
    end: str,
    *,
    is_told: bool,
) -> None:
    await bench.start()
    exchange = bench.exchange
    order = None if kind is NEW else await bench.place()
    exchange.drops = not is_told
    if did == "did and filled it":
        exchange.fill_on_arrival = Decimal(1)
    elif did == "had filled it":
        exchange.drops = True
        exchange.fill(exchange.orders[0])
        exchange.drops = not is_told
    exchange.script(kind, fault)
    order = await ask(bench, kind, order)
    await bench.order_when(
        order.order_id,
        lambda o: not o.in_doubt and o.pending is None and ends(o) == end,
        step_s=0.2,
    )
    # And there it stays.
    await bench.turn(20, step_s=1.0)
    assert ends(await bench.stored(order)) == end
    placed = [o for o in exchange.orders if o.client_id == order.venue_client_order_id]
    assert len(placed) <= 1
    if kind is not NEW or did != "did not":
        assert placed[0].is_open == (await bench.stored(order)).is_open
    await bench.check_ledger()


def test_the_table_has_a_cell_for_everything_that_can_be_heard() -> None:
    faults = {cell[3] for cell in CELLS}
    # Late arrivals and refusals that the stream contradicts are stories of their own, in `test_doubt`.
    assert faults == {*Fault, None} - {Fault.DELAY, Fault.REFUSE_AFTER}


# --- replaces under the same name ---------------------------------------------------------------------


def use_same_id(bench: Bench) -> None:
    bench.exchange.block_s = 1.0
    bench.accounts["paper"] = bench.plugin = ScriptedPlugin(
        bench.exchange,
        capabilities=capabilities(
            expiry=ExpiryKind.HEIGHT, forgets_unfilled=True, replace=ReplaceKind.SAME_ID
        ),
    )


async def generations(bench: Bench, order: Order) -> list[tuple[int, str, int | None]]:
    known = await bench.store.find_known(bench.account().record.account_id, order_id=order.order_id)
    assert known is not None
    return [(r.generation, r.venue_client_order_id, r.valid_until_height) for r in known.refs]


@pytest.mark.parametrize(
    ("fault", "price"), [(None, 101), (Fault.LOSE_ANSWER, 101), (Fault.LOSE_REQUEST, 100)]
)
async def test_a_replace_under_the_same_name_is_another_generation(
    bench: Bench, fault: Fault | None, price: int
) -> None:
    use_same_id(bench)
    await bench.start()
    order = await bench.place()
    ((_, name, height),) = await generations(bench, order)
    await bench.turn(3)
    bench.exchange.drops = True
    bench.exchange.script(REPLACE, fault)
    await bench.gateway.replace_order(order.order_id, price="101")
    assert height is not None
    first, second = await generations(bench, order)
    assert first == (0, name, height)
    assert second[:2] == (1, name)
    assert second[2] is not None
    assert second[2] >= height + 3
    if fault is not Fault.LOSE_REQUEST:
        replaced = await bench.order_when(order.order_id, lambda o: not o.in_doubt)
        assert replaced.price == Decimal(101)
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert (closed.ord_status, closed.closed_by) == (OrdStatus.EXPIRED, EvidenceKind.EXPIRY_PASSED)
    assert closed.closed_time_ns is not None
    # Not before the later of the two is over.
    assert bench.exchange.height is not None
    assert closed.closed_time_ns // 1_000_000_000 > second[2]
    assert closed.price == Decimal(price)


async def test_a_venue_without_replaces_is_not_asked(bench: Bench) -> None:
    bench.accounts["paper"] = bench.plugin = ScriptedPlugin(
        bench.exchange, capabilities=capabilities(replace=ReplaceKind.CANCEL_THEN_NEW)
    )
    await bench.start()
    order = await bench.place()
    with pytest.raises(UnsupportedOrder):
        await bench.gateway.replace_order(order.order_id, price="101")
