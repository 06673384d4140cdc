"""Binance's limits on the native door: kept, shared with its other doors, and declared to the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from tradegw_mock.binance.limits import Limits, LimitSettings
from tradegw_mock.host import HostSettings, open_host
from tradegw_mock.native.limits import NativeLimits
from tradegw_mock.native.server import open_door
from tradegw_mock.requests import Batch, CancelAll, GetBalances, Place
from tradegw_mock.testing import MockProcess

from tradegw import OutcomeUnknown, RateLimited
from tradegw.venue import BudgetScope, FetchBalances, Operation, SubmitBatch

from .native_helpers import World, a_wire, remote
from .test_admin import a_request
from .venue_helpers import Runtime, an_order


class Limited:
    """An exchange behind a native door with limits."""

    def __init__(self, world: World, limits: Limits) -> None:
        self.world = world
        self.limits = limits


@pytest.fixture
async def limited(request: pytest.FixtureRequest) -> AsyncIterator[Limited]:
    settings = LimitSettings(
        **{"orders_per_10_seconds": 3, "request_weight_per_minute": 200, **_more(request)}
    )
    limits, runtime = Limits(settings), Runtime()
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(
            open_host(HostSettings(liquidity="none"), clock=runtime.time_ns, sleep=runtime.sleep)
        )
        door = await stack.enter_async_context(
            open_door(host, "127.0.0.1", 0, limits=NativeLimits(limits))
        )
        yield Limited(World(host, door, runtime), limits)


def _more(request: pytest.FixtureRequest) -> dict[str, Any]:
    more: dict[str, Any] = getattr(request, "param", {})
    return more


async def test_orders_are_counted_and_told_when_to_come_back(limited: Limited) -> None:
    async with remote(limited.world.url) as account:
        for number in range(3):
            await account.place(an_order(f"c{number}"))
        with pytest.raises(RateLimited) as e:
            await account.place(an_order("c3"))
        assert e.value.reason == "TOO_MANY_REQUESTS"
        assert e.value.retry_after_s is not None
        assert 0 < e.value.retry_after_s <= 10
        assert await account.status("c3") is None
        # A batch counts by its members, and is refused as a whole.
        await limited.world.runtime.advance(10)
        account.runtime.now_ns = limited.world.now_ns
        with pytest.raises(RateLimited):
            await account.hooks.execute(
                account.request(
                    SubmitBatch(orders=tuple(an_order(f"b{n}") for n in range(4))),
                    *(f"b{n}" for n in range(4)),
                )
            )
        assert await account.status("b0") is None


async def test_weights_are_counted_with_those_of_the_other_doors(limited: Limited) -> None:
    async with remote(limited.world.url) as account:
        used = limited.limits.used_weight("127.0.0.1", limited.world.now_ns)
        await account.hooks.fetch(FetchBalances())
        assert limited.limits.used_weight("127.0.0.1", limited.world.now_ns) == used + 20
        limited.limits.charge("127.0.0.1", 200 - used - 20, limited.world.now_ns)
        with pytest.raises(RateLimited):
            await account.place(an_order("c1"))
        await limited.world.runtime.advance(60)
        account.runtime.now_ns = limited.world.now_ns
        await account.place(an_order("c1"))


@pytest.mark.parametrize("limited", [{"request_weight_per_minute": 21}], indirect=True)
async def test_who_does_not_slow_down_is_banned(limited: Limited) -> None:
    async with a_wire(limited.world) as wire:
        last: Any = None
        for number in range(1, 120):
            last = await wire.ask(GetBalances(id=number, account="a"))
        assert last["error"]["code"] == "TOO_MANY_REQUESTS"
        assert "banned" in last["error"]["text"]
        assert last["error"]["retry_after_s"] > 60
        # The operator's witness is never kept out.
        answer = await wire.ask(GetBalances(id=999, account="a", witness=True))
        assert answer["error"]["code"] == "UNKNOWN_ACCOUNT"


async def test_the_gateway_is_told_what_it_may(limited: Limited) -> None:
    async with remote(limited.world.url) as account:
        weight, *orders = account.venue.capabilities.budgets
        assert (weight.scope, weight.limit, weight.window_s) == (BudgetScope.IP, 200, 60)
        assert weight.cost_of(Operation.NEW) == 1
        assert weight.cost_of(Operation.OPEN_ORDERS) == 80
        assert [(pool.scope, pool.limit, pool.window_s) for pool in orders] == [
            (BudgetScope.ACCOUNT, 3, 10),
            (BudgetScope.ACCOUNT, 200_000, 86_400),
        ]
        assert [pool.cost_of(Operation.NEW) for pool in orders] == [1, 1]
        assert [pool.cost_of(Operation.CANCEL) for pool in orders] == [0, 0]
        batch = account.request(SubmitBatch(orders=(an_order("a"), an_order("b"))), "a", "b")
        assert {batch.cost[pool.name] for pool in orders} == {2}


async def test_without_limits_none_are_declared() -> None:
    from .native_helpers import a_world

    async with a_world() as world, remote(world.url) as account:
        assert account.venue.capabilities.budgets == ()


def test_what_a_request_costs() -> None:
    limits = Limits(LimitSettings())
    native = NativeLimits(limits)
    members = tuple(Place(account="a", order=a_request()) for _ in range(5))
    native.charge("x", Batch(account="a", items=members), 1)
    assert limits.order_counts("a", 1) == (5, 5)
    native.charge("x", CancelAll(account="a"), 1)
    assert limits.used_weight("x", 1) == 2


async def test_they_are_served_where_the_settings_say_so() -> None:
    from .test_serve import WallRuntime

    config = {"limits": {"native": True, "orders_per_10_seconds": 1, "orders_per_day": 1}}
    with MockProcess(accounts=["paper"], config=config) as process:
        from tradegw_mock.config import MockConfig
        from tradegw_mock.native.remote import open_remote

        from .venue_helpers import Account

        runtime = WallRuntime(account="paper")
        async with open_remote(MockConfig(url=process.url), runtime) as venue:
            account = Account(venue, runtime)
            assert len(venue.capabilities.budgets) == 3
            await account.place(an_order("c1"))
            with pytest.raises((RateLimited, OutcomeUnknown)) as e:
                await account.place(an_order("c2"))
            assert isinstance(e.value, RateLimited)
