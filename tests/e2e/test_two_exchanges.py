"""One gateway routes by tag to two exchanges, each in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from tradegw_mock.testing import Ledger, MockProcess

import tradegw
from tests.e2e.ledgers import all_fills, all_orders, check_claim, exchange_trades, told_trades
from tests.e2e.orders import an_order, is_settled
from tests.e2e.processes import serving, until, verify, write_config
from tradegw import AccountName, FillFilter, Order, OrderFilter

ORDERS = 1000
CALLERS = 32
DESKS = ("arb", "hedge")


@pytest.fixture
def exchanges(tmp_path: Path) -> Iterator[Mapping[str, MockProcess]]:
    with (
        MockProcess(store=tmp_path / "arb.db", accounts=["paper"], seed=1) as arb,
        MockProcess(store=tmp_path / "hedge.db", accounts=["paper"], seed=2) as hedge,
    ):
        yield {"arb": arb, "hedge": hedge}


async def test_each_exchange_holds_exactly_its_own(
    exchanges: Mapping[str, MockProcess], tmp_path: Path, tell: Callable[[str], None]
) -> None:
    # Both accounts have the same name at their exchange: nothing but the route keeps them apart.
    config = write_config(
        tmp_path,
        {f"mock-{desk}": exchange.url for desk, exchange in exchanges.items()},
        {
            f"account-{desk}": {
                "venue": f"mock-{desk}",
                "exchange_account": "paper",
                "tags": {"desk": desk},
            }
            for desk in DESKS
        },
    )
    answers: dict[str, list[Order]] = {desk: [] for desk in DESKS}
    with serving(tmp_path, config=config) as served:
        async with tradegw.connect(served.grpc) as gateway:
            left = iter(range(ORDERS))

            async def caller() -> None:
                for number in left:
                    desk = DESKS[number // 3 % 2]
                    fields = an_order(f"k0-c{number}-o0")
                    del fields["account"]
                    order = await gateway.place_order(**fields, tags={"desk": desk})
                    assert order.account == f"account-{desk}"
                    assert not order.in_doubt
                    answers[desk].append(order)

            async with asyncio.TaskGroup() as group:
                for _ in range(CALLERS):
                    group.create_task(caller())
            with pytest.raises(tradegw.InvalidOrder) as nowhere:
                await gateway.place_order(
                    symbol="BTC/USDT",
                    side="buy",
                    ord_type="market",
                    order_qty="0.01",
                    tags={"desk": "none"},
                )
            assert nowhere.value.reason == "NO_ROUTE"
            await until(lambda: is_settled(gateway), 60, "nothing is in doubt")
            told = {
                desk: (
                    await all_orders(gateway, OrderFilter(accounts=(_name(desk),))),
                    await all_fills(gateway, FillFilter(accounts=(_name(desk),))),
                )
                for desk in DESKS
            }
        assert await asyncio.to_thread(served.stop) == 0
    ledgers: dict[str, Ledger] = {}
    for desk, (orders, fills) in told.items():
        with exchanges[desk].ledger() as client:
            ledger = ledgers[desk] = client.read()
        assert {order.order_id for order in orders} == {o.order_id for o in answers[desk]}
        claim = check_claim(orders, ledger)
        assert claim.at_exchange == claim.orders == len(answers[desk])
        assert told_trades(fills) == exchange_trades(ledger)
    assert sum(len(ledger.orders) for ledger in ledgers.values()) == ORDERS
    assert ledgers["arb"].instance_id != ledgers["hedge"].instance_id
    verify(config)
    counts = ", ".join(
        f"{desk} {len(ledger.orders)} orders and {len(ledger.fills)} fills"
        for desk, ledger in ledgers.items()
    )
    tell(f"two exchanges, {ORDERS} orders by tag: {counts}; each holds exactly its own")


def _name(desk: str) -> AccountName:
    return AccountName(f"account-{desk}")
