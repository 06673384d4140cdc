"""The gateway is killed at every named point, with its exchange in another process.

The claim: at most one venue order for each order and generation; exactly one where the record holds a
venue's acknowledgement or fill; none where it closed without. The exchange's own books are the witness.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tradegw_mock.testing import Ledger, MockProcess

import tradegw
from tests.e2e.ledgers import (
    Claim,
    Folded,
    all_fills,
    all_orders,
    check_claim,
    exchange_trades,
    recorded_fills,
    recorded_orders,
    told_trades,
)
from tests.e2e.orders import an_order, is_settled
from tests.e2e.processes import REPOSITORY, run, serving, until, verify, write_config
from tradegw import Gateway, Order, OrdStatus

Tell = Callable[[str], None]

POINTS = ["JOURNALED_UNSENT", "SENT_UNANSWERED", "ANSWERED_UNJOURNALED"]
CALLERS = 48
SETTLE_S = 120.0
BOT = Path(__file__).with_name("bot.py")


@dataclass
class Standing:
    """Counts the orders that stood at a point whenever the process died there.

    What stands in the record without any answer stood somewhere between the intent and the answer's commit.
    If the exchange does not hold it, that was before the sending. If it does, the point at which the process
    was to die is told by how often it was reached: all who passed, less all whose answer is stored.

    Attributes:
        bare: Venue client ids of the orders that were stored, and nothing more, when the process died.
    """

    point: str
    kills: int = 0
    bare: set[str | None] = field(default_factory=set[str | None])
    _reached: int = 0
    _known: set[tradegw.OrderId] = field(default_factory=set[tradegw.OrderId])

    def count(self, recorded: Sequence[Order], reached: int) -> None:
        """Look at the record that a process left, which died when the point was reached so often."""
        self.kills += 1
        new = [order for order in recorded if order.order_id not in self._known]
        self._known = {order.order_id for order in recorded}
        bare = {
            order.venue_client_order_id
            for order in new
            if order.ord_status is OrdStatus.PENDING_NEW and not order.acknowledged
        }
        self.bare |= bare
        self._reached += max(0, reached - (len(new) - len(bare)))

    def stood(self, ledger: Ledger) -> int:
        """Return how many certainly stood at the point, by what the exchange holds."""
        arrived = self.bare & {order.client_order_id for order in ledger.orders}
        if self.point == "JOURNALED_UNSENT":
            return len(self.bare - arrived)
        return min(self._reached, len(arrived))

    def report(self, claim: Claim, ledger: Ledger, *, who: str) -> str:
        return (
            f"{who}, {self.point}: {self.kills} kills, {len(self.bare)} orders stored without an answer; "
            f"{self.stood(ledger)} stood at the point. In the end {claim.orders} orders, "
            f"{claim.at_exchange} at the exchange once, {claim.never_arrived} never there, "
            f"{claim.fills} fills: all agree"
        )


def read(exchange: MockProcess) -> Ledger:
    with exchange.ledger() as client:
        return client.read("paper")


class Story:
    """Orders of many callers, while their served gateway is killed again and again."""

    def __init__(
        self, exchange: MockProcess, directory: Path, point: str, store: str | None = None
    ) -> None:
        self.exchange = exchange
        self.config = write_config(
            directory, {"mock": exchange.url}, {"paper": {"venue": "mock"}}, store=store
        )
        self.standing = Standing(point)
        self.folded = Folded()
        self.keys: list[str] = []

    async def kill_once(self, reach: int) -> None:
        """Have callers place orders until the gateway dies as the point is reached for the n-th time."""
        crash_at = f"{self.standing.point}:{reach}"
        with serving(self.config.parent, config=self.config, crash_at=crash_at) as served:
            async with tradegw.connect(served.grpc) as gateway:
                tasks = [asyncio.create_task(self.folded.read(gateway))]
                tasks += [asyncio.create_task(self._call(gateway, i)) for i in range(CALLERS)]
                try:
                    code = await served.ended(SETTLE_S)
                finally:
                    for task in tasks:
                        task.cancel()
                    ends = await asyncio.gather(*tasks, return_exceptions=True)
        log = served.log.read_text("utf-8")
        assert code == -signal.SIGKILL, log
        assert f"crash point {self.standing.point} reached" in log
        assert all(isinstance(e, asyncio.CancelledError) for e in ends), ends
        self.standing.count(await recorded_orders(self.config), reach)

    async def _call(self, gateway: Gateway, caller: int) -> None:
        number = 0
        while True:
            key = f"k{self.standing.kills}-c{caller}-o{number}"
            self.keys.append(key)
            await self.turn(gateway, key)
            number += 1

    async def turn(self, gateway: Gateway, key: str) -> Order:
        """Do what a key stands for; the same whenever it is done again. Returns what placing answered."""
        return await gateway.place_order(**an_order(key))

    async def settle(self) -> tuple[Claim, Ledger]:
        """Restart, send the same keys again until each is answered, and hold the end to the claim."""
        with serving(self.config.parent, config=self.config) as served:
            async with tradegw.connect(served.grpc) as gateway:
                answers = await self._ask_again(gateway)
                await until(lambda: is_settled(gateway), SETTLE_S, "nothing is in doubt")
                await self.folded.read(gateway, to_head=True)
                orders, listed = await all_orders(gateway), await all_fills(gateway)
            assert await asyncio.to_thread(served.stop) == 0
        by_key = {str(order.idempotency_key): order.order_id for order in orders}
        assert len(by_key) == len(orders)
        assert by_key == {key: answers[key].order_id for key in self.keys}
        ledger = read(self.exchange)
        claim = check_claim(orders, ledger)
        assert told_trades(self.folded.fills) == exchange_trades(ledger)
        assert told_trades(listed) == exchange_trades(ledger)
        verify(self.config)
        return claim, ledger

    async def _ask_again(self, gateway: Gateway) -> Mapping[str, Order]:
        answers: dict[str, Order] = {}
        left = iter(self.keys)

        async def caller() -> None:
            for key in left:
                answers[key] = await self.turn(gateway, key)

        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(caller())
        return answers


class Restless(Story):
    """Every order rests, is moved, and cancelled: each of the three under a key of its own."""

    async def turn(self, gateway: Gateway, key: str) -> Order:
        order = await gateway.place_order(
            account="paper",
            symbol="ETH/USDT",
            side="buy",
            ord_type="limit",
            order_qty="0.01",
            price="1000",
            idempotency_key=key,
        )
        with suppress(tradegw.Conflict):
            # Closed already, or what was asked before is still unknown.
            await gateway.replace_order(
                order.order_id, order_qty="0.02", price="1001", idempotency_key=f"{key}-replace"
            )
        with suppress(tradegw.Conflict):
            await gateway.cancel_order(order.order_id, idempotency_key=f"{key}-cancel")
        return order


async def kill_until(story: Story, wanted: int, tell: Tell) -> None:
    """Kill at the point until so many orders stood there; then hold the end to the claim."""
    standing = story.standing
    for _ in range(10):
        while standing.stood(read(story.exchange)) < wanted:
            # What was answered before, and what came behind, differ each time. An intent has most company
            # when the first of its commit is the one that dies.
            many = 1 if standing.point == "JOURNALED_UNSENT" else CALLERS // 2
            await story.kill_once(many + standing.kills % 8)
            assert standing.kills < wanted, f"{standing.stood(read(story.exchange))} stood there"
        claim, ledger = await story.settle()
        # A request that was on its way may have arrived after the count.
        if standing.stood(ledger) >= wanted:
            break
    tell(standing.report(claim, ledger, who="served"))
    assert standing.stood(ledger) >= wanted


@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", POINTS)
async def test_a_killed_gateway_loses_and_doubles_nothing(
    exchange: MockProcess, tmp_path: Path, point: str, tell: Tell
) -> None:
    await kill_until(Story(exchange, tmp_path, point), 50, tell)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", POINTS)
async def test_killed_amid_replaces_and_cancels(
    exchange: MockProcess, tmp_path: Path, point: str, tell: Tell
) -> None:
    """What became of each replace and cancel is found out as well: both sides hold the same terms."""
    story = Restless(exchange, tmp_path, point)
    for number in range(3):
        # Far enough for callers to be at different steps.
        await story.kill_once(CALLERS * 2 + number * CALLERS // 2)
    claim, ledger = await story.settle()
    ends = Counter((o.ord_status.value, str(o.order_qty)) for o in ledger.orders)
    assert claim.orders > CALLERS
    tell(
        f"amid replaces and cancels, {point}: 3 kills, {claim.orders} orders, agreed: {dict(ends)}"
    )


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("point", POINTS)
async def test_a_killed_gateway_loses_and_doubles_nothing_in_500_orders(
    exchange: MockProcess, tmp_path: Path, point: str, tell: Tell
) -> None:
    await kill_until(Story(exchange, tmp_path, point), 500, tell)


async def kill_bot_until(
    exchange: MockProcess, directory: Path, point: str, wanted: int, tell: Tell
) -> None:
    """The same with a bot that has the gateway in its own process, and dies with it."""
    callers = 16
    config = write_config(directory, {"mock": exchange.url}, {"paper": {"venue": "mock"}})
    standing = Standing(point)

    async def run_bot(orders: int, **variables: str) -> tuple[int, str, str]:
        words = [sys.executable, str(BOT), str(config), str(callers), str(orders)]
        paths = [str(REPOSITORY), *sys.path]
        variables["PYTHONPATH"] = ":".join(path for path in paths if path)
        done = await asyncio.to_thread(run, words, cwd=directory, timeout_s=120, **variables)
        return done.returncode, done.stdout, done.stderr

    orders = 0
    while standing.stood(read(exchange)) < wanted:
        # What an earlier run placed is answered from the record, so each run needs more.
        orders += 4
        many = 1 if point == "JOURNALED_UNSENT" else callers // 2
        reach = many + standing.kills % 4
        code, _, text = await run_bot(orders, TRADEGW_CRASH_AT=f"{point}:{reach}")
        assert code == -signal.SIGKILL, text
        assert f"crash point {point} reached" in text
        standing.count(await recorded_orders(config), reach)
        assert standing.kills < 60
    code, answers, text = await run_bot(orders)
    assert code == 0, text
    recorded, ledger = await recorded_orders(config), read(exchange)
    claim = check_claim(recorded, ledger)
    assert json.loads(answers) == {str(o.idempotency_key): str(o.order_id) for o in recorded}
    assert len(recorded) == callers * orders
    assert not any(order.in_doubt for order in recorded)
    assert told_trades(await recorded_fills(config)) == exchange_trades(ledger)
    verify(config)
    tell(standing.report(claim, ledger, who="embedded"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", POINTS)
async def test_a_killed_bot_loses_and_doubles_nothing(
    exchange: MockProcess, tmp_path: Path, point: str, tell: Tell
) -> None:
    await kill_bot_until(exchange, tmp_path, point, 10, tell)


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("point", POINTS)
async def test_a_killed_bot_loses_and_doubles_nothing_in_100_orders(
    exchange: MockProcess, tmp_path: Path, point: str, tell: Tell
) -> None:
    await kill_bot_until(exchange, tmp_path, point, 100, tell)
