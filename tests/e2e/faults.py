"""Orders under one kind of fault after the other, and what became of them: gateway, exchange, trail.

A *cell* is a kind of fault and a command. Each has an account of its own, so that its orders, its faults and
its doubts can be told from all others. What a fault has hit is counted from the exchange's audit trail alone.
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import urlencode

from tradegw_mock.chaos import FaultKind
from tradegw_mock.testing import MockProcess

import tradegw
from tradegw import CommandKind, Gateway, Order

NEW, CANCEL, REPLACE = CommandKind.NEW, CommandKind.CANCEL, CommandKind.REPLACE
COMMANDS = (NEW, CANCEL, REPLACE)
ROUTES = {NEW: "place", CANCEL: "cancel", REPLACE: "replace"}
BATCH = 200
AT_ONCE = 40
PATIENCE_S = 120.0
NS = 1_000_000_000


class Counts(Enum):
    """How the trail tells which orders a fault has hit."""

    NAMED = "the hit names the order"
    IN_FLIGHT = "its command was on its way when everything was cut"
    UNTOLD = "its command was answered while the stream told nothing"
    LISTED = "it had changed within `lag_s` when a stale list was read"


@dataclass(frozen=True)
class Plan:
    """How a kind of fault is played.

    Attributes:
        of_command: Whether it meets the command's own request; else whatever it is about.
        more: What goes wrong beside it, so that it comes to act: a query needs a reason to be asked.
        midway: Whether it acts once, in the middle of a batch.
        lingers: Whether it goes on until the account was reconciled after a cut of its stream.
    """

    counts: Counts = Counts.NAMED
    keys: Mapping[str, object] = field(default_factory=dict[str, object])
    of_command: bool = True
    more: Mapping[CommandKind, Mapping[str, object]] = field(
        default_factory=dict[CommandKind, Mapping[str, object]]
    )
    midway: bool = False
    lingers: bool = False
    commands: tuple[CommandKind, ...] = COMMANDS
    trades: bool = False
    batch: int = BATCH


LOST_ANSWERS = {"kind": "ANSWER_LOST", "probability": 0.5}
LATE_FILLS = {"kind": "FILL_AFTER_CANCEL", "times": 0, "delay_s": 0.01}
LATE_S = 1.0
"""Later than `TIMEOUT_S`: the gateway has given up by then."""
TIMEOUT_S = 0.5
LAG_S = 5.0
"""Longer than a reconciliation takes to come to what lags, with some hundred open orders."""

PLANS: Mapping[FaultKind, Plan] = {
    FaultKind.REQUEST_LOST: Plan(),
    FaultKind.REQUEST_DELAYED: Plan(keys={"delay_s": LATE_S}),
    FaultKind.ANSWER_LOST: Plan(),
    FaultKind.ANSWER_DELAYED: Plan(keys={"delay_s": LATE_S}),
    FaultKind.ERROR_AFTER: Plan(),
    FaultKind.TOO_MANY_REQUESTS: Plan(keys={"retry_after_s": 0.05}),
    FaultKind.BANNED: Plan(keys={"retry_after_s": 0.05}),
    FaultKind.MAINTENANCE: Plan(),
    FaultKind.CLOCK_SKEW: Plan(),
    # Events are numbered at this door: each hit is noticed, and ends in a cut and a new stream.
    **dict.fromkeys(
        (FaultKind.EVENT_DROPPED, FaultKind.EVENT_DUPLICATED, FaultKind.EVENT_REORDERED),
        Plan(keys={"probability": 0.3}, of_command=False, trades=True, batch=AT_ONCE),
    ),
    FaultKind.STREAM_SILENT: Plan(Counts.UNTOLD, of_command=False, trades=True),
    FaultKind.DISCONNECT: Plan(Counts.IN_FLIGHT, of_command=False, trades=True, midway=True),
    FaultKind.RESTART: Plan(Counts.IN_FLIGHT, of_command=False, trades=True, midway=True),
    # A cancel alone can come too late.
    FaultKind.FILL_AFTER_CANCEL: Plan(commands=(CANCEL,)),
    FaultKind.CANCEL_FILLED: Plan(commands=(CANCEL,)),
    FaultKind.STALE_OPEN_ORDERS: Plan(
        Counts.LISTED, {"lag_s": LAG_S, "times": 0}, of_command=False, lingers=True
    ),
    FaultKind.HISTORY_LAGS: Plan(
        keys={"lag_s": LAG_S},
        of_command=False,
        more={CANCEL: LATE_FILLS},
        trades=True,
        lingers=True,
    ),
    FaultKind.NOT_FOUND: Plan(
        keys={"lag_s": LAG_S},
        of_command=False,
        more=dict.fromkeys(COMMANDS, LOST_ANSWERS),
        lingers=True,
    ),
}
"""Every kind that the exchange has; a new one without a plan fails the test."""


@dataclass(frozen=True)
class Sent:
    """A command of the cell: the order, and when it was sent and answered."""

    order: Order
    begin_ns: int
    end_ns: int


class Trail:
    """The exchange's audit trail, and the desk that gives its faults, over its admin API."""

    def __init__(self, exchange: MockProcess) -> None:
        self._admin = exchange.serving.admin

    async def hits(self, account: str, kind: FaultKind, after: int) -> tuple[list[Any], int]:
        """Return what the trail says of hits after a line, and the last line read."""
        found: list[Any] = []
        # Hits of everybody at once, such as a restart's, name no account.
        asked = {"operation": "FAULT_HIT", "limit": 1000}
        if kind is not FaultKind.RESTART:
            asked["account"] = account
        while True:
            page = await self._ask(f"/audit?{urlencode({**asked, 'after': after})}")
            for record in page["records"]:
                after = record["number"]
                if record["detail"]["arguments"]["kind"] == kind:
                    found.append(record)
            if page["next_after"] is None:
                return found, after
            after = page["next_after"]

    async def give(self, account: str, spec: Mapping[str, object]) -> int:
        """Let something go wrong from now on; returns its number."""
        said = spec if spec["kind"] == "RESTART" else {**spec, "account": account}
        number: int = (await self._ask("/faults", said))["fault_id"]
        return number

    async def take_back(self, number: int) -> None:
        """End a fault, unless it has ended by itself."""
        await self._ask(f"/faults/{number}", method="DELETE", or_gone=True)

    async def _ask(
        self, path: str, body: object = None, *, method: str | None = None, or_gone: bool = False
    ) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._admin + path, data, {"content-type": "application/json"}, method=method
        )

        def send() -> Any:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as e:
                with e:
                    if or_gone and e.code == 404:
                        return None
                    raise AssertionError(f"{path}: {e.code} {e.read()[:500]!r}") from e

        return await asyncio.to_thread(send)


class Cell:
    """One kind of fault times one command."""

    _gateway: Gateway

    def __init__(self, kind: FaultKind, command: CommandKind, trail: Trail) -> None:
        self.kind = kind
        self.command = command
        self.plan = PLANS[kind]
        self.account = f"{kind.value.lower().replace('_', '-')}-{command.value.lower()}"
        self.sent = 0
        self.hit: set[str] = set()
        self._trail = trail
        self._after = 0

    async def play(self, gateway: Gateway, wanted: int) -> None:
        """Send commands until so many orders were hit, or it is clear that they will not be."""
        self._gateway = gateway
        most = 20 * wanted + 10 * BATCH
        while len(self.hit) < wanted:
            assert self.sent < most, f"{self.account}: {len(self.hit)} hit of {self.sent} sent"
            missing = wanted - len(self.hit)
            await self._batch(min(self.plan.batch, max(AT_ONCE, missing * 5 // 4)))

    async def _batch(self, size: int) -> None:
        gateway, plan = self._gateway, self.plan
        resting: list[Order] = []
        if self.command is not NEW:
            resting = await self._each([self._place(i) for i in range(size)])
        given = [] if plan.midway else [await self._give(spec) for spec in self._specs()]
        started = 0

        async def run(number: int) -> Sent:
            nonlocal started
            started += 1
            if plan.midway and started == size // 2:
                given.extend([await self._give(spec) for spec in self._specs()])
            begin_ns = time.time_ns()
            order = await self._command(number, resting)
            return Sent(order, begin_ns, time.time_ns())

        sent = await self._each([run(i) for i in range(size)])
        self.sent += size
        if plan.lingers:
            await self._cut()
        await self._count(sent)
        for number in given:
            await self._trail.take_back(number)
        if plan.counts is Counts.UNTOLD:
            # It tells nothing until it is opened anew.
            await self._cut()
        await self._count(sent)
        # What rests would be asked about at each cut.
        await self._until(self._is_ready)
        await gateway.cancel_all_orders(account=self.account)

    def _specs(self) -> list[Mapping[str, object]]:
        plan = self.plan
        # Without a chance or a number it would act once, as it does midway.
        chance = {} if plan.midway or "times" in plan.keys else {"probability": 0.8}
        spec: dict[str, object] = {"kind": self.kind.value, **chance, **plan.keys}
        if plan.of_command:
            spec["route"] = ROUTES[self.command]
        more = plan.more.get(self.command)
        return [spec] if more is None else [spec, {**more, "route": ROUTES[self.command]}]

    async def _give(self, spec: Mapping[str, object]) -> int:
        return await self._trail.give(self.account, spec)

    async def _cut(self) -> None:
        """Cut the stream, and wait until the gateway has read what it missed."""
        number = await self._give({"kind": "DISCONNECT", "times": 1})

        async def is_cut() -> bool:
            return not await self._is_ready()

        await self._until(is_cut)
        await self._until(self._is_ready)
        await self._trail.take_back(number)

    async def _is_ready(self) -> bool:
        for venue in await self._gateway.list_venues():
            for account in venue.accounts:
                if account.account == self.account:
                    return account.state == "READY"
        raise AssertionError(self.account)

    async def _until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not await holds():
            assert time.monotonic() < deadline, f"{self.account}: not within {PATIENCE_S:g} s"
            await asyncio.sleep(0.01)

    async def _each(self, works: Collection[Awaitable[Any]]) -> list[Any]:
        places = asyncio.Semaphore(AT_ONCE)

        async def one(work: Awaitable[Any]) -> Any:
            async with places:
                return await work

        return await asyncio.gather(*(one(work) for work in works))

    async def _place(self, number: int, *, crosses: bool = False) -> Order:
        """Place an order that rests, or one that trades at once."""
        side = "buy" if number % 2 else "sell"
        price = (
            {"buy": "130000", "sell": "30000"} if crosses else {"buy": "30000", "sell": "130000"}
        )
        key = f"{self.account}-{self.sent + number}"

        async def place() -> Order:
            return await self._gateway.place_order(
                account=self.account,
                symbol="BTC/USDT",
                side=side,
                ord_type="limit",
                time_in_force="IOC" if crosses else "GTC",
                order_qty="0.001",
                price=price[side],
                idempotency_key=key,
            )

        return await self._again(place)

    async def _command(self, number: int, resting: Sequence[Order]) -> Order:
        if self.command is NEW:
            return await self._place(number, crosses=self.plan.trades)
        order = resting[number]
        key = f"{self.account}-{self.sent + number}-{self.command}"

        async def ask() -> Order:
            try:
                if self.command is CANCEL:
                    return await self._gateway.cancel_order(order.order_id, idempotency_key=key)
                # To where it trades at once, or rests on.
                price = "66000" if order.side == "BUY" else "64000"
                if not self.plan.trades:
                    price = "30001" if order.side == "BUY" else "129999"
                return await self._gateway.replace_order(
                    order.order_id, price=price, idempotency_key=key
                )
            except tradegw.Conflict:
                # Closed meanwhile, or its placement is still unknown.
                return await self._gateway.get_order(order.order_id)

        return await self._again(ask)

    async def _again(self, ask: Callable[[], Awaitable[Order]]) -> Order:
        """Ask as clients do: while nothing was taken, again with the same key."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await ask()
            except tradegw.Unavailable:
                assert time.monotonic() < deadline, f"{self.account} is never available"
                await asyncio.sleep(0.02)

    async def _count(self, sent: Sequence[Sent]) -> None:
        hits, self._after = await self._trail.hits(self.account, self.kind, self._after)
        plan = self.plan
        lag_ns = int(LAG_S * NS)
        for hit in hits:
            at_ns = hit["time_ns"]
            for one in sent:
                name = one.order.venue_client_order_id
                assert name is not None
                match plan.counts:
                    case Counts.NAMED:
                        is_hit = False
                    case Counts.IN_FLIGHT:
                        is_hit = one.begin_ns <= at_ns <= one.end_ns
                    case Counts.UNTOLD:
                        is_hit = one.end_ns >= at_ns
                    case Counts.LISTED:
                        is_hit = at_ns - lag_ns <= one.begin_ns and one.end_ns <= at_ns
                if is_hit:
                    self.hit.add(name)
            if plan.counts is Counts.NAMED and hit["detail"]["client_order_id"] is not None:
                self.hit.add(hit["detail"]["client_order_id"])


@dataclass
class Doubts:
    """How long commands of one account were in doubt, in seconds, from the stream of its orders."""

    seconds: dict[CommandKind, list[float]] = field(
        default_factory=lambda: defaultdict[CommandKind, list[float]](list)
    )

    @classmethod
    async def read(cls, gateway: Gateway, account: str) -> Doubts:
        """Read the stream from its start to its head; every doubt has an end."""
        doubts = cls()
        since: dict[tuple[Any, CommandKind], int] = {}
        async for batch in gateway.stream_orders(accounts=[account]):
            for item in batch.orders:
                event = item.event
                if event.order is None:
                    continue
                open_now = {doubt.command for doubt in event.order.in_doubt}
                for command in open_now:
                    since.setdefault((event.order.order_id, command), event.time_ns)
                for command in set(COMMANDS) - open_now:
                    begun_ns = since.pop((event.order.order_id, command), None)
                    if begun_ns is not None:
                        doubts.seconds[command].append((event.time_ns - begun_ns) / NS)
            if batch.caught_up:
                break
        assert not since, f"{account}: in doubt to the end: {list(since)[:5]}"
        return doubts


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of all lies; nan of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
