"""The conformance kit on the scripted venue; and the kit itself, on venues that break the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tradegw.errors import VenueRejected
from tradegw.model import ExecType, Order, TradeId
from tradegw.testing import ScriptedExchange, ScriptedVenue, TurnedClock
from tradegw.testing.kit import VenueConformance
from tradegw.testing.venue import CAPABILITIES
from tradegw.venue import Capabilities, ExpiryKind, ReplaceKind, Venue, VenueTime


class Scripted(VenueConformance):
    capabilities = CAPABILITIES
    patience_s = 60.0

    def make(self, exchange: ScriptedExchange) -> Venue:
        return ScriptedVenue(exchange, capabilities=self.capabilities)

    @asynccontextmanager
    async def open_venue(self) -> AsyncGenerator[Venue]:
        self.clock = TurnedClock()
        self.exchange = ScriptedExchange(self.clock)
        if self.capabilities.expiry is ExpiryKind.NONE:
            self.exchange.request_validity_s = None
        self.exchange.visibility_lag_s = self.capabilities.visibility_lag_s
        yield self.make(self.exchange)

    async def make_fill(self, venue: Venue, order: Order) -> None:
        placed = self.exchange.placed(order.venue_client_order_id)
        self.exchange.fill(placed, "0.25")
        self.exchange.fill(placed, "0.5")

    async def let_pass(self, seconds: float) -> None:
        self.clock.turn(seconds)


class TestScripted(Scripted):
    """All that it can do."""


class TestScriptedWithLess(Scripted):
    """What is declared absent is skipped or refused."""

    capabilities = replace(
        CAPABILITIES, replace=ReplaceKind.NONE, expiry=ExpiryKind.NONE, visibility_lag_s=0.0
    )

    def make(self, exchange: ScriptedExchange) -> Venue:
        class CannotReplace(ScriptedVenue):
            def translate(self, command: Any, context: Any) -> Any:
                from tradegw.errors import UnsupportedOrder
                from tradegw.venue import Replace

                if isinstance(command, Replace):
                    raise UnsupportedOrder("no replaces here")
                return super().translate(command, context)

        return CannotReplace(exchange, capabilities=self.capabilities)


# --- the kit finds what breaks the contract ---------------------------------------------------------


class _Broken(ScriptedVenue):
    """Breaks the contract in one way."""

    def __init__(self, exchange: ScriptedExchange, capabilities: Capabilities, how: str) -> None:
        super().__init__(exchange, capabilities=capabilities)
        self.how = how
        self._count = 0

    def translate(self, command: Any, context: Any) -> Any:
        self._count += 1
        request = super().translate(command, context)
        match self.how:
            case "impure":
                return replace(request, payload=(request.payload, self._count))
            case "no validity":
                return replace(request, valid_until=None)
            case "valid for ever":
                # Says an end, and lets the exchange take it for ever.
                payload: Any = request.payload
                payload = replace(payload, valid_until_ns=None)
                return replace(request, payload=payload)
            case "shouts":
                return replace(request, digest="x" * 500)
            case _:
                return request

    async def execute(self, request: Any) -> Any:
        if self.how == "impure":
            request = replace(request, payload=request.payload[0])
        try:
            reports = await super().execute(request)
        except VenueRejected as e:
            if self.how == "surprises":
                raise KeyError("what a plugin must not let out") from e
            if self.how == "yes to all":
                return ()
            raise
        return () if self.how == "says nothing" else reports

    async def fetch(self, query: Any) -> Any:
        from tradegw.venue import FetchFills, FetchOpenOrders, FetchOrder

        page = await super().fetch(query)
        match self.how, query:
            case "errors for not found", FetchOrder() if not page.items:
                raise VenueRejected("no such order")
            case "undated", _:
                return replace(page, as_of=VenueTime(time_ns=page.as_of.time_ns // 10**6))
            case "forgets", FetchOrder():
                return replace(page, items=())
            case "goes round", FetchOpenOrders():
                return replace(page, next_cursor="0")
            case "all fills", FetchFills():
                return replace(page, items=tuple(self.exchange.trades) or page.items)
            case "other ids", FetchFills():
                return replace(
                    page,
                    items=tuple(replace(t, trade_id=TradeId(f"x{t.trade_id}")) for t in page.items),
                )
            case _:
                return page

    async def stream(self, since: int) -> Any:
        item: Any
        async for item in super().stream(since):
            match self.how:
                case "late ready" if not self._count:
                    self._count = 1
                    yield replace(_A_REPORT)
                    yield item
                case "same ids" if getattr(item, "exec_type", None) is ExecType.TRADE:
                    yield replace(item, trade_id=TradeId("t"))
                case "deaf" if getattr(item, "exec_type", None) is not None:
                    await asyncio.sleep(0)
                case _:
                    yield item


def _report() -> Any:
    from tradegw.testing import a_report

    return a_report(ExecType.NEW)


_A_REPORT = _report()

BREAKS: dict[str, str] = {
    "impure": "test_vc20_translation_is_pure",
    "no validity": "test_vc21_requests_say_until_when_they_are_valid",
    "valid for ever": "test_vc40_a_request_is_not_taken_after_its_validity",
    "shouts": "test_vc24_requests_hold_no_secret_in_their_digest",
    "surprises": "test_vc37_a_cancel_of_an_unknown_order_does_not_succeed",
    "yes to all": "test_vc37_a_cancel_of_an_unknown_order_does_not_succeed",
    "says nothing": "test_vc30_an_order_is_placed_and_acknowledged",
    "errors for not found": "test_vc34_an_unknown_order_is_not_found",
    "undated": "test_vc02_tells_its_own_time",
    "forgets": "test_vc32_an_order_is_found_by_our_name",
    "goes round": "test_vc35_open_orders_are_listed",
    "all fills": "test_vc51_fills_can_be_asked_for",
    "other ids": "test_vc51_fills_can_be_asked_for",
    "late ready": "test_vc10_the_stream_says_ready_first",
    "same ids": "test_vc50_fills_have_ids_and_add_up",
    "deaf": "test_vc50_fills_have_ids_and_add_up",
}


@pytest.mark.parametrize("how", BREAKS)
async def test_the_kit_fails_a_venue_that_breaks_the_contract(how: str) -> None:
    class Case(Scripted):
        patience_s = 0.05

        def make(self, exchange: ScriptedExchange) -> Venue:
            return _Broken(exchange, self.capabilities, how)

    case: Callable[[], Any] = getattr(Case(), BREAKS[how])
    with pytest.raises((AssertionError, VenueRejected, KeyError, pytest.fail.Exception)):
        await case()


async def test_the_kit_fails_a_venue_that_takes_what_it_declares_absent() -> None:
    class Lying(Scripted):
        capabilities = replace(CAPABILITIES, ord_types=frozenset())

        def make(self, exchange: ScriptedExchange) -> Venue:
            class TakesAll(ScriptedVenue):
                def translate(self, command: Any, context: Any) -> Any:
                    self._capabilities = CAPABILITIES
                    return super().translate(command, context)

            return TakesAll(exchange, capabilities=self.capabilities)

    with pytest.raises(pytest.fail.Exception, match="declared absent"):
        await Lying().test_vc22_what_is_declared_absent_is_refused()


async def test_the_kit_fails_a_venue_that_doubles_a_resend() -> None:
    class Doubles(Scripted):
        capabilities = replace(CAPABILITIES, idempotent_resend=True)

    with pytest.raises(AssertionError):
        await Doubles().test_vc71_an_idempotent_resend_places_one_order()


def test_every_case_has_an_id_and_says_what_it_is_about() -> None:
    cases = [name for name in dir(VenueConformance) if name.startswith("test_")]
    assert len(cases) > 25
    ids = [name.split("_")[1] for name in cases]
    assert all(i.startswith("vc") and i[2:].isdigit() for i in ids)
    assert len(set(ids)) == len(ids)
    assert all(getattr(VenueConformance, name).__doc__ for name in cases)
    assert Decimal(1) == VenueConformance.order_qty
