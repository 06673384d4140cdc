"""The four hooks are the only way to a venue: wrappers see every call, and nothing goes past them."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.engine.bench import Bench
from tradegw.errors import NotSent, OutcomeUnknown
from tradegw.markers import hookimpl
from tradegw.model import CommandKind, EvidenceKind, ExecutionReport, OrdStatus
from tradegw.plugins import VENUE_HOOKS
from tradegw.testing import ScriptedExchange, ScriptedPlugin
from tradegw.venue import (
    StreamItem,
    VenueAccount,
    VenueRequest,
    around,
    around_stream,
)

CORE = Path(__file__).parents[3] / "src" / "tradegw"


class Wraps:
    """Offers one wrapper to every account."""

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make

    @hookimpl
    def tradegw_register_wrappers(self) -> Sequence[object]:
        return [self._make()]


# --- nothing goes past them -------------------------------------------------------------------------


class Counting:
    """Counts every call of every hook, by account."""

    def __init__(self, calls: Counter[tuple[str, str]]) -> None:
        self._calls = calls

    @hookimpl(wrapper=True)
    def tradegw_translate(self, account: VenueAccount) -> Generator[None, Any, Any]:
        self._calls["tradegw_translate", account.account] += 1
        return (yield)

    @hookimpl(wrapper=True)
    def tradegw_execute(self, account: VenueAccount) -> Generator[None, Any, Any]:
        self._calls["tradegw_execute", account.account] += 1
        return (yield)

    @hookimpl(wrapper=True)
    def tradegw_stream(self, account: VenueAccount) -> Generator[None, Any, Any]:
        self._calls["tradegw_stream", account.account] += 1
        return (yield)

    @hookimpl(wrapper=True)
    def tradegw_fetch(self, account: VenueAccount) -> Generator[None, Any, Any]:
        self._calls["tradegw_fetch", account.account] += 1
        return (yield)


async def test_every_call_of_a_venue_passes_its_accounts_plugin_manager(bench: Bench) -> None:
    calls: Counter[tuple[str, str]] = Counter()
    bench.extra_plugins.append(Wraps(lambda: Counting(calls)))
    reached: Counter[tuple[str, str]] = Counter()
    bench.accounts["other"] = ScriptedPlugin(ScriptedExchange(bench.clock), name="elsewhere")
    for name, plugin in bench.accounts.items():
        plugin._make_venue = _counted(name, reached)
    await bench.start()
    for account in ("paper", "other"):
        order = await bench.place(account=account)
        await bench.gateway.replace_order(order.order_id, price="99")
        bench.accounts[account].exchange.gap()
        await bench.turn(1)
        await bench.gateway.cancel_order(order.order_id)
    assert set(calls) == {(hook, a) for hook in VENUE_HOOKS for a in ("paper", "other")}
    assert calls == reached, "the venue was reached as often as the hooks were called"


def _counted(name: str, reached: Counter[tuple[str, str]]) -> Any:
    from tradegw.testing import ScriptedVenue

    class Counted(ScriptedVenue):
        def translate(self, command: Any, context: Any) -> Any:
            reached["tradegw_translate", name] += 1
            return super().translate(command, context)

        async def execute(self, request: Any) -> Any:
            reached["tradegw_execute", name] += 1
            return await super().execute(request)

        async def fetch(self, query: Any) -> Any:
            reached["tradegw_fetch", name] += 1
            return await super().fetch(query)

        def stream(self, since: int) -> Any:
            reached["tradegw_stream", name] += 1
            return super().stream(since)

    return lambda exchange, can: Counted(exchange, capabilities=can)


def test_the_core_has_no_door_of_its_own_to_any_venue() -> None:
    """No module of the core names a plugin's package, not even as text to import by."""
    for path in sorted(CORE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = [node.value]
            for name in names:
                assert not name.startswith("tradegw_mock"), f"{path}: {ast.unparse(node)}"


def test_the_engine_calls_venues_by_their_hooks_alone() -> None:
    """The venue that a factory opens goes to `AccountPlugins`; what it is is read, no method called."""
    feed = ast.parse((CORE / "engine" / "feed.py").read_text("utf-8"))
    uses = {
        ast.unparse(node)
        for node in ast.walk(feed)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "venue"
    }
    assert uses == {"venue.capabilities", "venue.environment"}
    plugins = ast.parse((CORE / "plugins.py").read_text("utf-8"))
    hooks = {
        node.attr
        for node in ast.walk(plugins)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self._hook"
    }
    assert hooks == set(VENUE_HOOKS)


# --- wrappers ----------------------------------------------------------------------------------------


class Before:
    """Refuses to send, before the venue is asked."""

    @hookimpl(wrapper=True)
    def tradegw_execute(
        self, account: VenueAccount, request: VenueRequest
    ) -> Generator[None, Awaitable[Any], Awaitable[Any]]:
        async def refuse() -> None:
            raise NotSent("the desk is closed")

        inner = yield
        return around(inner, before=refuse)


async def test_a_wrapper_can_hold_a_request_back(bench: Bench) -> None:
    bench.extra_plugins.append(Wraps(Before))
    await bench.start()
    order = await bench.place()
    assert (order.ord_status, order.reason) == (OrdStatus.REJECTED, "NEVER_REACHED_VENUE")
    assert order.closed_by is EvidenceKind.NOT_SENT
    assert not bench.exchange.requests


class After:
    """Loses the answers of the first requests, after the venue has acted."""

    def __init__(self) -> None:
        self.left = 1

    @hookimpl(wrapper=True)
    def tradegw_execute(
        self, account: VenueAccount, request: VenueRequest
    ) -> Generator[None, Awaitable[Any], Awaitable[Any]]:
        async def lose(reports: Sequence[ExecutionReport]) -> Sequence[ExecutionReport]:
            if self.left:
                self.left -= 1
                raise OutcomeUnknown("chaos")
            return reports

        inner = yield
        return around(inner, after=lose)


async def test_a_wrapper_can_lose_an_answer_and_the_order_is_found(bench: Bench) -> None:
    bench.extra_plugins.append(Wraps(After))
    await bench.start()
    bench.exchange.drops = True
    order = await bench.place()
    assert [d.command for d in order.in_doubt] == [CommandKind.NEW]
    found = await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert found.ord_status is OrdStatus.NEW
    assert (await bench.place()).ord_status is OrdStatus.NEW
    await bench.check_ledger()


class Doubling:
    """Tells everything twice."""

    @hookimpl(wrapper=True)
    def tradegw_stream(
        self, account: VenueAccount, since: int
    ) -> Generator[None, AsyncIterator[StreamItem], AsyncIterator[StreamItem]]:
        async def twice(item: StreamItem) -> AsyncIterator[StreamItem]:
            yield item
            yield item

        inner = yield
        return around_stream(inner, twice)


async def test_a_wrapper_can_change_a_stream(bench: Bench) -> None:
    bench.extra_plugins.append(Wraps(Doubling))
    await bench.start()
    order = await bench.place()
    bench.exchange.fill(bench.exchange.orders[0], "0.5")
    await bench.order_when(order.order_id, lambda o: o.cum_qty == Decimal("0.5"))
    await bench.check_ledger()
    await bench.stop()
    assert not bench.exchange.is_listened_to, "closing the outer stream closes the inner"


class Swallows:
    """Hands on nothing where an awaitable, a stream or a request was to be."""

    def __init__(self, *hooks: str) -> None:
        self.hooks = hooks

    @hookimpl(wrapper=True)
    def tradegw_execute(self) -> Generator[None, Any, Any]:
        inner = yield
        if "execute" not in self.hooks:
            return inner
        inner.close()
        return None


async def test_a_wrapper_that_swallows_an_answer_leaves_a_doubt(bench: Bench) -> None:
    bench.extra_plugins.append(Wraps(lambda: Swallows("execute")))
    await bench.start()
    order = await bench.place()
    assert [d.command for d in order.in_doubt] == [CommandKind.NEW]


async def test_a_plain_hook_in_a_wrapper_keeps_the_account_closed(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    class Answers:
        @hookimpl
        def tradegw_fetch(self, account: VenueAccount, query: Any) -> None: ...

    bench.extra_plugins.append(Wraps(Answers))
    await bench.start(is_ready=False)
    await bench.clock.until(lambda: "use wrapper=True" in bench.account().why)
    assert bench.state() != "READY"


# --- what a plugin does wrong later ---------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["execute", "fetch", "stream"])
async def test_a_hook_that_raises_at_once_takes_nobody_with_it(bench: Bench, hook: str) -> None:
    """Not in the awaitable but before there is one."""
    from tradegw.testing import ScriptedVenue

    class Raises(ScriptedVenue):
        armed = False

        def execute(self, request: Any) -> Any:
            if hook == "execute" and Raises.armed:
                raise KeyError("a mistake")
            return super().execute(request)

        def fetch(self, query: Any) -> Any:
            if hook == "fetch" and Raises.armed:
                raise KeyError("a mistake")
            return super().fetch(query)

        def stream(self, since: int) -> Any:
            if hook == "stream" and Raises.armed:
                raise KeyError("a mistake")
            return super().stream(since)

    bench.plugin._make_venue = lambda exchange, can: Raises(exchange, capabilities=can)
    await bench.start()
    Raises.armed = True
    order = await bench.place()
    assert order.is_open
    bench.exchange.break_stream(OSError("reconnect"))
    await bench.turn(2)
    Raises.armed = False
    await bench.ready()
    await bench.order_when(
        order.order_id, lambda o: not o.in_doubt and o.ord_status is not OrdStatus.PENDING_NEW
    )
    await bench.check_ledger()


async def test_a_plugin_that_cancels_its_own_call_leaves_a_doubt(bench: Bench) -> None:
    import asyncio

    from tradegw.testing import ScriptedVenue

    class Cancels(ScriptedVenue):
        async def execute(self, request: Any) -> Any:
            await super().execute(request)
            raise asyncio.CancelledError

    bench.exchange.hold()
    bench.plugin._make_venue = lambda exchange, can: Cancels(exchange, capabilities=can)
    await bench.start()
    order = await bench.place()
    assert [d.command for d in order.in_doubt] == [CommandKind.NEW]
    bench.exchange.held = None
    found = await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert found.ord_status is OrdStatus.NEW
