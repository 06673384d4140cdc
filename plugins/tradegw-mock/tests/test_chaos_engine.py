"""The fault engine alone: what it meets, how often, by which chance, and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tradegw_mock.chaos import (
    Chaos,
    FaultKind,
    FaultSpec,
    LateFill,
    Mark,
    Restart,
    ScenarioError,
    StreamFaults,
    Target,
    UnknownFault,
    read_scenario,
)
from tradegw_mock.exchange import Change, Event, Order, OrderEvent

from .helpers import Clock, World

S = 1_000_000_000
PLACE = Target(operation="place", account="alice", symbol="BTC/USDT", client_order_id="c1")


class Bench:
    """A fault engine on a clock that stands still until turned, and its marks."""

    def __init__(self, *specs: FaultSpec, seed: int = 1) -> None:
        self.clock = Clock()
        self.marks: list[Mark] = []
        self.chaos = Chaos(clock=self.clock, seed=seed, record=self.marks.append)
        self.faults = [self.chaos.inject(spec) for spec in specs]

    def hits(self, target: Target = PLACE, times: int = 1) -> list[bool]:
        """Let a target come by before acceptance, and say when a fault met it."""
        found: list[bool] = []
        for _ in range(times):
            marked = len(self.marks)
            self.chaos.before(target)
            found.append(len(self.marks) > marked)
        return found


def lost(**more: Any) -> FaultSpec:
    return FaultSpec(kind=FaultKind.REQUEST_LOST, **more)


# --- whom it meets, and how often -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "target", "is_hit"),
    [
        pytest.param({}, {}, True, id="no match given, an order"),
        pytest.param({}, {"operation": "open_orders"}, False, id="no route, a query"),
        pytest.param({"route": "*"}, {"operation": "open_orders"}, True, id="any route, a query"),
        pytest.param({"account": "alice"}, {}, True, id="the account"),
        pytest.param({"account": "bob"}, {}, False, id="another account"),
        pytest.param({"symbol": "BTC/USDT"}, {}, True, id="the symbol"),
        pytest.param({"symbol": "ETH/USDT"}, {}, False, id="another symbol"),
        pytest.param({"route": "place"}, {}, True, id="the operation"),
        pytest.param({"route": "cancel"}, {}, False, id="another operation"),
        pytest.param({"route": "POST /api/v3/*"}, {"route": "POST /api/v3/order"}, True, id="path"),
        pytest.param({"route": "GET /api/v3/*"}, {"route": "POST /api/v3/order"}, False, id="verb"),
    ],
)
def test_a_fault_meets_what_it_names(
    spec: dict[str, Any], target: dict[str, Any], is_hit: bool
) -> None:
    bench = Bench(lost(**spec))
    assert bench.hits(msgspec.structs.replace(PLACE, **target)) == [is_hit]


def test_by_itself_a_fault_acts_once() -> None:
    bench = Bench(lost())
    assert bench.hits(times=3) == [True, False, False]
    assert bench.chaos.active() == []


def test_a_counted_fault_acts_so_often() -> None:
    bench = Bench(lost(times=2))
    assert bench.hits(times=4) == [True, True, False, False]
    assert [mark.fault_id for mark in bench.marks] == [1, 1]
    assert bench.marks[0].target == PLACE


def test_a_fault_lasts_for_its_time() -> None:
    bench = Bench(lost(start_s=10, for_s=5))
    for at_s, is_hit in ((0, False), (9, False), (10, True), (14, True), (15, False), (60, False)):
        bench.clock.now_ns = Clock().now_ns + at_s * S
        assert bench.hits() == [is_hit], f"at {at_s} s"
    assert bench.chaos.active() == []


def test_chance_comes_from_the_seed_and_from_nothing_else() -> None:
    """The same seed draws the same, another one differently, and a further fault changes nothing."""
    specs = [lost(probability=0.3), FaultSpec(kind=FaultKind.ANSWER_LOST, probability=0.5)]
    first = Bench(specs[0], seed=7).hits(times=500)
    assert first == Bench(*specs, seed=7).hits(times=500)
    assert first != Bench(specs[0], seed=8).hits(times=500)
    assert 100 < sum(first) < 200


def test_a_count_bounds_chance() -> None:
    assert sum(Bench(lost(probability=0.5, times=3)).hits(times=100)) == 3


def test_a_fault_can_be_taken_back() -> None:
    bench = Bench(lost(times=0))
    assert bench.hits(times=2) == [True, True]
    assert bench.chaos.remove(1).hits == 2
    assert bench.hits() == [False]
    with pytest.raises(UnknownFault):
        bench.chaos.remove(1)


def test_faults_that_are_active_are_bounded() -> None:
    bench = Bench()
    with pytest.raises(ValueError, match="at most 1000"):
        for _ in range(1001):
            bench.chaos.inject(lost())
    assert len(bench.chaos.clear()) == 1000
    bench.chaos.inject(lost())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"delay_s": 1}, "delay_s is not for REQUEST_LOST; it takes no parameter"),
        ({"kind": "ERROR_AFTER", "code": 404}, "code is 500 to 599"),
        ({"kind": "ANSWER_DELAYED", "delay_s": -1}, "delay_s is at least 0"),
        ({"kind": "ANSWER_DELAYED", "delay_s": float("nan")}, "delay_s is at least 0"),
        ({"kind": "CLOCK_SKEW", "offset_s": 1e9}, "offset_s is at most a day"),
        ({"times": -1}, "times is at least 0"),
        ({"probability": 0}, "probability is above 0"),
        ({"for_s": 0}, "for_s is above 0"),
        ({"start_s": -1}, "start_s is at least 0"),
        ({"kind": "GREMLINS"}, "Invalid enum value 'GREMLINS'"),
        ({"colour": "red"}, "unknown field `colour`"),
    ],
)
def test_what_there_is_not_is_refused(fields: dict[str, Any], expected: str) -> None:
    asked = {"kind": "REQUEST_LOST", **fields}
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(asked, FaultSpec)
    assert expected in str(caught.value)


def test_a_scenario_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "bad-night.toml"
    path.write_text(
        'name = "A bad night"\n[[fault]]\nkind = "ANSWER_LOST"\naccount = "a"\ntimes = 2\n'
        '[[fault]]\nkind = "CLOCK_SKEW"\noffset_s = -3\nfor_s = 60\nstart_s = 1.5\n'
    )
    scenario = read_scenario(path)
    assert scenario.name == "A bad night"
    assert scenario.fault == (
        FaultSpec(kind=FaultKind.ANSWER_LOST, account="a", times=2),
        FaultSpec(kind=FaultKind.CLOCK_SKEW, offset_s=-3, for_s=60, start_s=1.5),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[fault]]\nkind = 'ANSWER_LOST'\n[[fault]]\nkind = 'X'", "fault[1].kind"),
        ("[[fault]]\nkind = 'MAINTENANCE'\nlag_s = 1", "lag_s is not for MAINTENANCE"),
        ("fault =", "Invalid value"),
        (None, "No such file"),
    ],
)
def test_a_bad_scenario_says_what_is_wrong(tmp_path: Path, text: str | None, expected: str) -> None:
    path = tmp_path / "scenario.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ScenarioError) as caught:
        read_scenario(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


# --- requests -------------------------------------------------------------------------------------


def test_before_acceptance() -> None:
    bench = Bench(
        FaultSpec(kind=FaultKind.REQUEST_DELAYED, delay_s=3),
        FaultSpec(kind=FaultKind.REQUEST_DELAYED, delay_s=4),
        lost(),
        FaultSpec(kind=FaultKind.TOO_MANY_REQUESTS, retry_after_s=7),
        FaultSpec(kind=FaultKind.BANNED),
        FaultSpec(kind=FaultKind.MAINTENANCE),
    )
    first, *others = [bench.chaos.before(PLACE) for _ in range(5)]
    assert (first.delay_s, first.is_lost, first.error) == (7, True, None)
    errors = [(o.error.status, o.error.code, o.error.retry_after_s) for o in others[:3] if o.error]
    assert errors == [(429, -1003, 7), (418, -1003, 120), (503, None, None)]
    assert others[3].error is None
    assert not others[3].is_lost
    assert len(bench.marks) == 6


def test_after_acceptance() -> None:
    bench = Bench(
        FaultSpec(kind=FaultKind.ANSWER_DELAYED, delay_s=3),
        FaultSpec(kind=FaultKind.ERROR_AFTER),
        FaultSpec(kind=FaultKind.ERROR_AFTER, code=502),
        FaultSpec(kind=FaultKind.ANSWER_LOST),
    )
    assert bench.hits() == [False], "these act on answers"
    outcomes = [bench.chaos.after(PLACE) for _ in range(4)]
    assert outcomes[0].delay_s == 3
    errors = [outcome.error for outcome in outcomes[:2]]
    assert [(e.status, e.code) for e in errors if e] == [(503, -1007), (502, None)]
    assert [outcome.is_lost for outcome in outcomes] == [False, False, True, False]


def test_a_skewed_clock() -> None:
    bench = Bench(
        FaultSpec(kind=FaultKind.CLOCK_SKEW, offset_s=-2.5, for_s=10),
        FaultSpec(kind=FaultKind.CLOCK_SKEW, offset_s=1, account="bob"),
    )
    assert bench.chaos.skew_ns(PLACE) == -2.5 * S
    assert bench.chaos.skew_ns(Target(operation="time", account="bob")) == -1.5 * S
    bench.clock.advance(10 * S)
    assert bench.chaos.skew_ns(PLACE) == 0


# --- streams --------------------------------------------------------------------------------------


class Streaming(Bench):
    """A stream of alice's, and her first events: NEW and balances of one order, then of the next."""

    def __init__(self, *specs: FaultSpec) -> None:
        super().__init__(*specs)
        self.cuts = 0
        self.stream = self.open()
        world = World()
        self.events: list[Event] = []
        for number in range(3):
            world.place("alice", "BUY", "1", "10", client_order_id=f"c{number}")
        for change in world.heard:
            self.events += change.events

    def open(self) -> StreamFaults:
        def cut() -> None:
            self.cuts += 1

        return self.chaos.open_stream("alice", cut, route="user-data")

    def seen(self) -> list[int]:
        passed, _ = self.stream.pass_on(self.events)
        # Number 1 told of the first funds.
        return [event.seq - 1 for event in passed]


@pytest.mark.parametrize(
    ("spec", "seen"),
    [
        ({"kind": "EVENT_DROPPED"}, [2, 3, 4, 5, 6]),
        ({"kind": "EVENT_DROPPED", "symbol": "BTC/USDT", "times": 0}, [2, 4, 6]),
        ({"kind": "EVENT_DROPPED", "account": "bob"}, [1, 2, 3, 4, 5, 6]),
        ({"kind": "EVENT_DROPPED", "route": "user-data", "times": 5}, [6]),
        ({"kind": "EVENT_DUPLICATED"}, [1, 1, 2, 3, 4, 5, 6]),
        ({"kind": "EVENT_REORDERED"}, [2, 1, 3, 4, 5, 6]),
        ({"kind": "EVENT_REORDERED", "times": 0}, [2, 1, 4, 3, 6, 5]),
        ({"kind": "STREAM_SILENT"}, []),
        ({"kind": "DISCONNECT"}, []),
    ],
)
def test_what_a_stream_carries(spec: dict[str, Any], seen: list[int]) -> None:
    assert Streaming(msgspec.convert(spec, FaultSpec)).seen() == seen


def test_silence_lasts_until_the_stream_is_opened_anew() -> None:
    bench = Streaming(FaultSpec(kind=FaultKind.STREAM_SILENT))
    assert bench.seen() == []
    assert [fault.fault_id for fault in bench.chaos.active()] == [1], "it still holds"
    assert bench.seen() == []
    bench.stream.close()
    bench.stream = bench.open()
    assert bench.seen() == [1, 2, 3, 4, 5, 6]
    assert bench.chaos.active() == []


@pytest.mark.parametrize("how", ["time", "removal"])
def test_silence_ends_with_its_fault(how: str) -> None:
    bench = Streaming(FaultSpec(kind=FaultKind.STREAM_SILENT, for_s=5))
    assert bench.seen() == []
    if how == "time":
        bench.clock.advance(5 * S)
    else:
        bench.chaos.remove(1)
    assert bench.seen() == [1, 2, 3, 4, 5, 6]


def test_a_cut_comes_at_once_where_a_stream_is_open() -> None:
    bench = Streaming(FaultSpec(kind=FaultKind.DISCONNECT, start_s=5))
    assert bench.chaos.next_due_ns() == bench.clock.now_ns + 5 * S
    assert bench.chaos.due() == []
    assert bench.cuts == 0
    bench.clock.advance(5 * S)
    assert bench.chaos.due() == []
    assert bench.cuts == 1
    assert bench.chaos.next_due_ns() is None
    assert bench.seen() == [1, 2, 3, 4, 5, 6]


def test_a_cut_comes_with_the_next_event_where_none_is_open() -> None:
    bench = Streaming()
    bench.stream.close()
    bench.chaos.inject(FaultSpec(kind=FaultKind.DISCONNECT))
    bench.chaos.due()
    bench.stream = bench.open()
    assert bench.stream.pass_on(bench.events) == ([], True)
    assert bench.cuts == 0
    assert bench.stream.pass_on(bench.events) == (bench.events, False)


# --- the exchange's own ---------------------------------------------------------------------------


class Books(Bench):
    """An exchange whose past the engine watches."""

    def __init__(self, *specs: FaultSpec) -> None:
        super().__init__(*specs)
        self.world = World()
        self.world.clock = self.clock
        self.world.exchange._clock = self.clock
        self.world.exchange.listen(self.chaos.past.note)

    def order(self, client_order_id: str = "c1") -> Order:
        return self.world.place("alice", "BUY", "1", "10", client_order_id=client_order_id)

    def shown(self, operation: str, **more: Any) -> list[tuple[int, str]]:
        exchange = self.world.exchange
        target = Target(operation=operation, account="alice", **more)
        orders: Any = exchange.open_orders("alice")
        if operation == "orders":
            orders = exchange.order_history("alice").orders
        shown = self.chaos.shown_orders(target, orders)
        return [(order.order_id, str(order.ord_status)) for order in shown]


def test_open_orders_as_they_were() -> None:
    bench = Books(FaultSpec(kind=FaultKind.STALE_OPEN_ORDERS, lag_s=5, times=0))
    first = bench.order("c1")
    bench.clock.advance(10 * S)
    assert bench.shown("open_orders") == [(1, "NEW")]
    assert bench.marks == [], "nothing is hidden yet, so nothing was hit"
    bench.order("c2")
    bench.world.place("bob", "SELL", "0.4", "10")
    bench.clock.advance(3 * S)
    bench.world.exchange.cancel("alice", order_id=first.order_id)
    assert bench.shown("open_orders") == [(1, "NEW")], "neither fill, nor cancel, nor the second"
    bench.clock.advance(3 * S)
    assert bench.shown("open_orders") == [(1, "PARTIALLY_FILLED"), (2, "NEW")]
    assert bench.shown("open_orders", symbol="ETH/USDT") == []
    bench.clock.advance(3 * S)
    marked = len(bench.marks)
    assert bench.shown("open_orders") == [(2, "NEW")]
    assert len(bench.marks) == marked
    assert bench.shown("orders") == [(1, "CANCELED"), (2, "NEW")]


def test_an_order_is_not_found_at_first() -> None:
    bench = Books(FaultSpec(kind=FaultKind.NOT_FOUND, lag_s=2))
    first, second = bench.order("c1"), bench.order("c2")
    asked = Target(operation="order", account="alice")
    for _ in range(3):
        assert bench.chaos.shown_order(asked, first) is None
        assert bench.chaos.shown_order(asked, second) == second, "it acts on one order"
    assert bench.shown("open_orders") == [(2, "NEW")]
    assert [mark.target.client_order_id for mark in bench.marks] == ["c1"]
    assert bench.chaos.active() != [], "it still holds"
    bench.clock.advance(2 * S)
    assert bench.chaos.shown_order(asked, first) == first
    assert bench.chaos.active() == []


def test_fills_lag_in_lists() -> None:
    bench = Books(FaultSpec(kind=FaultKind.HISTORY_LAGS, lag_s=4, times=0, account="alice"))
    order = bench.order()
    bench.world.place("bob", "SELL", "0.4", "10")
    bench.clock.advance(3 * S)
    bench.world.place("bob", "SELL", "0.6", "10")
    asked = Target(operation="fills", account="alice")

    def trades() -> list[int]:
        shown = bench.chaos.shown_fills(asked, bench.world.fills(order))
        return [fill.trade_id for fill in shown]

    assert trades() == []
    bench.clock.advance(1 * S)
    assert trades() == [1]
    bench.clock.advance(3 * S)
    assert trades() == [1, 2]
    assert len(bench.marks) == 1, "counted once for the order"


def test_cancels() -> None:
    bench = Bench(
        FaultSpec(kind=FaultKind.CANCEL_FILLED, symbol="BTC/USDT"),
        FaultSpec(kind=FaultKind.FILL_AFTER_CANCEL, delay_s=2),
    )
    cancel = Target(operation="cancel", account="alice", symbol="BTC/USDT", order_id=7)
    assert [bench.chaos.on_cancel(cancel) for _ in range(2)] == [True, False]
    bench.chaos.canceled(cancel)
    bench.chaos.canceled(cancel)
    assert bench.chaos.due() == []
    assert bench.chaos.next_due_ns() == bench.clock.now_ns + 2 * S
    bench.clock.advance(2 * S)
    assert bench.chaos.due() == [LateFill(fault_id=2, account="alice", order_id=7)]
    assert bench.chaos.due() == []
    assert [mark.kind for mark in bench.marks] == ["CANCEL_FILLED", "FILL_AFTER_CANCEL"]


def test_a_restart_happens_at_its_time_and_once() -> None:
    bench = Bench(FaultSpec(kind=FaultKind.RESTART, keep_streams=False, start_s=1, for_s=60))
    assert bench.chaos.due() == []
    bench.clock.advance(1 * S)
    assert bench.chaos.due() == [Restart(fault_id=1, keep_streams=False)]
    assert bench.chaos.due() == []
    assert bench.chaos.active() == []


def test_every_kind_is_found_where_it_acts() -> None:
    """Each kind, given without any further word, acts at exactly one of the points."""
    points: dict[str, Callable[[Bench], Any]] = {
        "before": lambda b: b.chaos.before(PLACE),
        "after": lambda b: b.chaos.after(PLACE),
        "clock": lambda b: b.chaos.skew_ns(PLACE),
        "event": lambda b: b.chaos.open_stream("alice", lambda: None).pass_on([an_event()]),
        "cancel": lambda b: b.chaos.on_cancel(CANCEL),
        "canceled": lambda b: b.chaos.canceled(CANCEL),
        "due": lambda b: b.chaos.due(),
        "order": lambda b: b.chaos.shown_order(Target(operation="order"), an_order()),
        "open orders": lambda b: b.chaos.shown_orders(
            Target(operation="open_orders", account="bob"), (an_order(),)
        ),
        "fills": lambda b: b.chaos.shown_fills(Target(operation="fills"), a_change().fills),
    }
    found: dict[FaultKind, list[str]] = {}
    for kind in FaultKind:
        for point, ask in points.items():
            bench = Bench(FaultSpec(kind=kind))
            ask(bench)
            if bench.marks:
                assert bench.marks[0].kind is kind
                found.setdefault(kind, []).append(point)
    expected = {
        FaultKind.NOT_FOUND: ["order", "open orders"],
        FaultKind.HISTORY_LAGS: ["fills"],
        FaultKind.STALE_OPEN_ORDERS: [],
    }
    for kind in FaultKind:
        if kind in expected:
            assert found.get(kind, []) == expected[kind]
        else:
            assert len(found[kind]) == 1, (kind, found[kind])


CANCEL = Target(operation="cancel", account="alice", symbol="BTC/USDT", order_id=7)


def a_change() -> Change:
    world = World()
    world.place("alice", "BUY", "1", "10")
    world.place("bob", "SELL", "1", "10")
    return world.heard[-1]


def an_event() -> Event:
    return next(event for event in a_change().events if isinstance(event, OrderEvent))


def an_order() -> Order:
    return a_change().orders[0]
