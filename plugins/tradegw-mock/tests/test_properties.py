"""Random trading, step by step against the plain reference, and what must always hold."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from tradegw_mock.exchange import (
    Exchange,
    Instrument,
    Liquidity,
    OrderRequest,
    OrdType,
    Refusal,
    SelfTradePrevention,
    Side,
    TimeInForce,
)

from .helpers import Clock, D
from .reference import No, Reference, Row

COARSE = Instrument(
    symbol="BTC/USDT",
    base="BTC",
    quote="USDT",
    tick_size=D(1),
    lot_step=D(1),
    min_qty=D(1),
    max_qty=D(1000),
    min_notional=D(1),
    max_price=D(1000),
)
"""Few prices and sizes, so that orders meet often."""

ACCOUNTS = ("alice", "bob", "carol")
FUNDS = {"BTC": D(40), "USDT": D(400)}

prices = st.integers(8, 12)
sizes = st.integers(1, 12)
accounts = st.sampled_from(ACCOUNTS)
places = st.fixed_dictionaries(
    {
        "account": accounts,
        "side": st.sampled_from(Side),
        "kind": st.sampled_from([OrdType.LIMIT] * 6 + [OrdType.MARKET] * 2 + list(OrdType)),
        "price": prices,
        "trigger": prices,
        "size": sizes,
        "by_quote": st.booleans(),
        "tif": st.sampled_from([TimeInForce.GTC] * 4 + list(TimeInForce)),
        "post_only": st.sampled_from([False] * 4 + [True]),
        "lasts": st.integers(1, 20),
        "stp": st.sampled_from([SelfTradePrevention.EXPIRE_TAKER] * 2 + list(SelfTradePrevention)),
    }
)
steps = st.one_of(
    st.tuples(st.just("place"), places),
    st.tuples(st.just("place"), places),
    st.tuples(st.just("place"), places),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("replace"), st.tuples(st.integers(0, 30), sizes, prices)),
    st.tuples(st.just("advance"), st.integers(1, 10)),
)


class Pair:
    """The exchange and the reference, fed the same requests."""

    def __init__(self) -> None:
        self.clock = Clock(1000)
        self.exchange = Exchange([COARSE], clock=self.clock)
        self.events: list[Any] = []
        self.exchange.listen(lambda change: self.events.extend(change.events))
        for name in ACCOUNTS:
            self.exchange.create_account(
                name, balances=FUNDS, maker_fee=D("0.0005"), taker_fee=D("0.001")
            )
        self.reference = Reference({name: (Fraction(40), Fraction(400)) for name in ACCOUNTS})

    def do(self, what: str, arguments: Any) -> None:
        self.reference.expire(self.clock.now_ns)
        getattr(self, what)(arguments)

    def both(self, real: Any, plain: Any) -> None:
        refused: list[object] = []
        for call in (real, plain):
            try:
                call()
            except (Refusal, No) as e:
                note(f"refused: {e}")
                refused.append(call)
        assert len(refused) in (0, 2), "one refused and the other did not"

    def place(self, a: Any) -> None:
        kind, tif = a["kind"], a["tif"]
        has_price = kind in (OrdType.LIMIT, OrdType.STOP_LIMIT, OrdType.TAKE_PROFIT_LIMIT)
        has_trigger = kind not in (OrdType.LIMIT, OrdType.MARKET)
        if kind is OrdType.MARKET and tif is TimeInForce.GTD:
            tif = TimeInForce.GTC
        by_quote = a["by_quote"] and not has_price
        post_only = (
            a["post_only"] and kind is OrdType.LIMIT and tif in (TimeInForce.GTC, TimeInForce.GTD)
        )
        ends = self.clock.now_ns + a["lasts"] if tif is TimeInForce.GTD else None
        size, price, trigger = a["size"], a["price"], a["trigger"]
        request = OrderRequest(
            symbol=COARSE.symbol,
            side=a["side"],
            ord_type=kind,
            order_qty=None if by_quote else D(size),
            quote_qty=D(size * 10) if by_quote else None,
            price=D(price) if has_price else None,
            trigger_price=D(trigger) if has_trigger else None,
            time_in_force=tif,
            post_only=post_only,
            expire_time_ns=ends,
            self_trade_prevention=a["stp"],
        )
        row = Row(
            number=0,
            account=a["account"],
            side=str(a["side"]),
            kind=str(kind),
            qty=None if by_quote else Fraction(size),
            quote=Fraction(size * 10) if by_quote else None,
            price=Fraction(price) if has_price else None,
            trigger=Fraction(trigger) if has_trigger else None,
            tif=str(tif),
            post_only=post_only,
            ends=ends,
            stp=str(a["stp"]),
        )
        self.both(
            lambda: self.exchange.place(a["account"], request),
            lambda: self.reference.place(row),
        )

    def cancel(self, index: int) -> None:
        if row := self.row(index):
            self.both(
                lambda: self.exchange.cancel(row.account, order_id=row.number),
                lambda: self.reference.cancel(row),
            )

    def replace(self, arguments: tuple[int, int, int]) -> None:
        index, size, price = arguments
        if row := self.row(index):
            self.both(
                lambda: self.exchange.replace(
                    row.account, order_id=row.number, order_qty=D(size), price=D(price)
                ),
                lambda: self.reference.replace(row, Fraction(size), Fraction(price)),
            )

    def advance(self, ns: int) -> None:
        self.clock.advance(ns)
        self.exchange.expire_due()
        self.reference.expire(self.clock.now_ns)

    def row(self, index: int) -> Row | None:
        """Pick an order, the latest ones first."""
        rows = self.reference.rows
        return rows[-1 - index] if index < len(rows) else None

    def compare(self) -> None:
        reference = self.reference
        orders = self.exchange.order_history(None, limit=10_000).orders
        assert [
            (o.order_id, str(o.ord_status), Fraction(o.cum_qty), Fraction(o.held)) for o in orders
        ] == [(row.number, row.status, row.cum, row.held) for row in reference.rows]
        fills = self.exchange.fills(None, limit=100_000)
        makers = [fill for fill in fills if fill.liquidity is Liquidity.MAKER]
        takers = [fill for fill in fills if fill.liquidity is Liquidity.TAKER]
        assert [
            (maker.order_id, taker.order_id, Fraction(taker.price), Fraction(taker.qty))
            for maker, taker in zip(makers, takers, strict=True)
        ] == reference.fills
        for name in (*ACCOUNTS, "house"):
            balances = self.exchange.balances(name)
            held_base, held_quote = reference.held(name)
            for asset, total, held in (
                ("BTC", reference.base[name], held_base),
                ("USDT", reference.quote[name], held_quote),
            ):
                if total or asset in balances:
                    found = balances[asset]
                    assert Fraction(found.held) == held
                    assert Fraction(found.free) == total - held

    def check_events(self) -> None:
        """Each account's numbers rise by one, and its last events tell how things stand."""
        for name in ACCOUNTS:
            mine = [event for event in self.events if event.account == name]
            assert [event.seq for event in mine] == list(range(1, len(mine) + 1))
            told: dict[int, Any] = {}
            filled: dict[int, Decimal] = {}
            balances: dict[str, tuple[Decimal, Decimal]] = {}
            for event in mine:
                if hasattr(event, "order"):
                    told[event.order.order_id] = event.order
                    if event.fill is not None:
                        so_far = filled.get(event.order.order_id, D(0)) + event.fill.qty
                        filled[event.order.order_id] = so_far
                        assert so_far == event.order.cum_qty
                else:
                    balances |= {item.asset: (item.free, item.held) for item in event.balances}
            for order in self.exchange.order_history(name, limit=10_000).orders:
                last = told[order.order_id]
                assert (last.ord_status, last.cum_qty, last.order_qty, last.price) == (
                    order.ord_status,
                    order.cum_qty,
                    order.order_qty,
                    order.price,
                )
            now = self.exchange.balances(name)
            assert balances == {asset: (item.free, item.held) for asset, item in now.items()}


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
@given(st.lists(steps, min_size=15, max_size=80))
def test_the_exchange_trades_like_the_reference(script: list[tuple[str, Any]]) -> None:
    """Same refusals, same trades in the same order, same funds to the last digit."""
    pair = Pair()
    for what, arguments in script:
        note(f"{what} {arguments}")
        pair.do(what, arguments)
        assert pair.exchange.check_invariants() == []
        pair.compare()
    pair.check_events()
    numbers = [line.number for line in pair.exchange.audit()]
    assert numbers == list(range(1, len(numbers) + 1))
