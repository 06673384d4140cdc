"""The venue `dydx`: one subaccount's access to the chain and its indexer."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Final

from tradegw import (
    CommandKind,
    ConfigError,
    Evidence,
    EvidenceKind,
    ExecType,
    ExecutionReport,
    OrdType,
    TimeInForce,
    TranslationError,
    VenueError,
    VenueRejected,
)
from tradegw.venue import (
    BalanceUpdate,
    BudgetPool,
    BudgetScope,
    Capabilities,
    ClientIdCodec,
    Command,
    ExpiryKind,
    Operation,
    Page,
    PositionUpdate,
    Query,
    ReplaceKind,
    Runtime,
    SendOrder,
    StreamGap,
    StreamItem,
    StreamReady,
    TranslateContext,
    Venue,
    VenueRequest,
)
from tradegw_dydx.chain import fetch_account
from tradegw_dydx.config import DydxConfig
from tradegw_dydx.indexer import Indexer, open_indexer
from tradegw_dydx.nodes import Node, Nodes, open_nodes
from tradegw_dydx.orders import Owner
from tradegw_dydx.queries import Queries
from tradegw_dydx.reports import Names, order_uuid, to_balances, to_fill, to_order, to_positions
from tradegw_dydx.sender import Sender
from tradegw_dydx.signing import Signer
from tradegw_dydx.stream import Contents, Heights, subscribe
from tradegw_dydx.tracking import ShortTermOrder, Tracker
from tradegw_dydx.translate import ChainRequest, Facts, translate
from tradegw_dydx.wallet import Wallet, WalletError, check_address

__all__ = ["CAPABILITIES", "DydxVenue", "open_dydx"]

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
MARKETS_EVERY_S: Final = 10.0
SETTLE_EVERY_S: Final = 0.5
QUEUED_MAX: Final = 10_000
"""Stream items that nobody has read yet; the stream waits for its reader then."""
OVERLAP_HEIGHT: Final = 10
INDEXER_TIMEOUT_S: Final = 8.0
_OVERLAP_NS: Final = 60 * 1_000_000_000

_WITHOUT_INDEXER: Final = (
    Operation.NEW,
    Operation.CANCEL,
    Operation.CANCEL_BATCH,
    Operation.REPLACE,
    Operation.SERVER_TIME,
)

CAPABILITIES: Final = Capabilities(
    ord_types=frozenset(
        {
            OrdType.MARKET,
            OrdType.LIMIT,
            OrdType.STOP,
            OrdType.STOP_LIMIT,
            OrdType.TAKE_PROFIT,
            OrdType.TAKE_PROFIT_LIMIT,
        }
    ),
    time_in_force=frozenset({TimeInForce.GTC, TimeInForce.IOC, TimeInForce.GTD, TimeInForce.DAY}),
    post_only=True,
    reduce_only=True,
    max_slippage=True,
    replace=ReplaceKind.SAME_ID,
    expiry=ExpiryKind.HEIGHT,
    # Of a nonce; a height is 24 s away at most.
    expiry_s=30.0,
    visibility_lag_s=10.0,
    forgets_unfilled=True,
    idempotent_resend=True,
    timestamp_nonces=True,
    client_id_codec=ClientIdCodec.UINT32,
    send_order=SendOrder(),
    positions=True,
    budgets=(
        BudgetPool(
            name="indexer",
            scope=BudgetScope.IP,
            # 100 in ten seconds for one address; the rest is for the plugin's own upkeep.
            limit=60,
            window_s=10.0,
            costs={
                **dict.fromkeys(_WITHOUT_INDEXER, 0),
                # The kind of an order is part of its name there, and may have to be guessed.
                Operation.ORDER: 3,
            },
        ),
    ),
)
_ZERO: Final = Decimal(0)
_MARKET_PARAMETERS: Final = frozenset({"clob/12", "clob/34", "clob/36"})
"""Refusals that say that a market is not as we know it."""


class DydxVenue(Venue):
    """One subaccount's access to the chain. Made by `open_dydx`, which also runs its upkeep."""

    def __init__(
        self,
        *,
        config: DydxConfig,
        runtime: Runtime,
        owner: Owner,
        nodes: Nodes,
        indexer: Indexer,
        sender: Sender,
        group: asyncio.TaskGroup,
        rng: random.Random,
    ) -> None:
        self.owner = owner
        self._policy = config.read_policy()
        self._is_numbered_by_time = config.sequences == "timestamp"
        self._stream_url = config.read_network().indexer_ws
        self._runtime = runtime
        self._nodes = nodes
        self._indexer = indexer
        self._sender = sender
        self._group = group
        self._rng = rng
        self._names = Names(owner.metadata)
        self._tracker = Tracker()
        self._heights = Heights()
        self._queue: asyncio.Queue[StreamItem] = asyncio.Queue(QUEUED_MAX)
        self._are_balances_old = False
        self._are_markets_old = asyncio.Event()
        self._last_fill_height = 0
        self.queries = Queries(
            account=runtime.account,
            owner=owner,
            nodes=nodes,
            indexer=indexer,
            names=self._names,
            tracker=self._tracker,
            heights=self._heights,
            now_ns=runtime.time_ns,
        )

    @property
    def capabilities(self) -> Capabilities:
        """What the chain can do."""
        return CAPABILITIES

    @property
    def height(self) -> int | None:
        """The chain's height as the nodes last told it."""
        return self._nodes.head.height or None

    def translate(self, command: Command, context: TranslateContext) -> VenueRequest:
        """Turn a command into one unsigned transaction."""
        facts = Facts(
            owner=self.owner,
            policy=self._policy,
            markets=self.queries.markets,
            is_numbered_by_time=self._is_numbered_by_time,
        )
        return translate(command, context, facts)

    async def fetch(self, query: Query) -> Page[Any]:
        """Answer a question, dated by what a node and the indexer both know."""
        return await self.queries.fetch(query)

    # --- sending ----------------------------------------------------------------------------------

    async def execute(self, request: VenueRequest) -> Sequence[ExecutionReport]:
        """Sign and send; a stateful request is answered when it is in a block."""
        payload = request.payload
        assert isinstance(payload, ChainRequest), "a request that `translate` did not make"
        self._remember(payload)
        try:
            await self._sender.send(payload)
        except VenueRejected as e:
            if e.reason in _MARKET_PARAMETERS:
                self._are_markets_old.set()
            if payload.command is CommandKind.NEW:
                for member in payload.members:
                    self._tracker.forget(order_uuid(member.order_id))
            raise
        now_ns = self._runtime.time_ns()
        return [
            _answer(payload, index, transact_time_ns=self._nodes.head.time_ns or now_ns)
            for index in range(len(payload.members))
        ]

    def _remember(self, payload: ChainRequest) -> None:
        """Note what is about to be sent: whatever the answer, the indexer may speak of it."""
        placed = payload.placed
        for member in payload.members:
            uuid = order_uuid(member.order_id)
            self._names.learn(uuid, member.name)
            if payload.command is CommandKind.CANCEL:
                self._tracker.cancelled(uuid)
            elif placed is not None and placed.good_til_block is not None:
                self._tracker.note(
                    ShortTermOrder(
                        uuid=uuid,
                        name=member.name,
                        symbol=member.symbol,
                        good_til_block=placed.good_til_block,
                        since_height=max(0, self._nodes.head.height - OVERLAP_HEIGHT),
                        is_immediate=placed.time_in_force == 1,
                    )
                )

    # --- the stream -------------------------------------------------------------------------------

    async def stream(self, since: int) -> AsyncIterator[StreamItem]:
        """Yield what the indexer says, and the end of short-term orders once it is certain."""
        self._forget_state()
        pump = self._group.create_task(self._pump(since))
        try:
            while True:
                item = asyncio.ensure_future(self._queue.get())
                await asyncio.wait({item, pump}, return_when=asyncio.FIRST_COMPLETED)
                if not item.done():
                    item.cancel()
                    pump.result()
                    raise VenueError("the stream ended")
                yield item.result()
        finally:
            pump.cancel()

    def _forget_state(self) -> None:
        """Drop what an earlier stream said of itself; what it said of orders is still to be read."""
        kept: list[StreamItem] = []
        while not self._queue.empty():
            item = self._queue.get_nowait()
            if not isinstance(item, (StreamReady, StreamGap)):
                kept.append(item)
        for item in kept:
            self._queue.put_nowait(item)

    async def _pump(self, since: int) -> None:
        """Read the indexer's stream into the queue. Ends by an error alone, which the reader raises."""
        try:
            async for item in subscribe(
                self._stream_url,
                self.owner.address,
                self.owner.subaccount,
                self._heights,
                self._runtime,
                self._rng,
            ):
                if isinstance(item, StreamReady):
                    await self._queue.put(item)
                    await self._put_missed_fills(since)
                elif isinstance(item, StreamGap):
                    await self._queue.put(item)
                else:
                    for report in self._read(item):
                        await self._queue.put(report)
        except (VenueError, TranslationError) as e:
            # Not as an error of this task, which would take the whole venue with it.
            await self._queue.put(StreamGap(why=str(e)))

    async def _put_missed_fills(self, since_ns: int) -> None:
        """Hand on the fills of the time in which nobody listened: a snapshot has none."""
        if not self._last_fill_height and not since_ns:
            return
        height = max(0, self._last_fill_height - 1)
        told = await self.queries.fills_since(
            since_ns=0 if self._last_fill_height else since_ns - _OVERLAP_NS, since_height=height
        )
        for fill in told:
            self._note_fill(fill)
            await self._queue.put(to_fill(fill, self._names))

    def _read(self, contents: Contents) -> list[StreamItem]:
        items: list[StreamItem] = []
        orders = contents.get("orders") or ()
        for order in orders:
            # Before the fills, which do not tell the name.
            self._names.read(order)
        for fill in contents.get("fills") or ():
            self._note_fill(fill)
            items.append(to_fill(fill, self._names))
        for order in orders:
            report = to_order(order, self._names)
            if report is not None:
                items.append(report)
        positions = contents.get("perpetualPositions")
        if positions:
            items.append(PositionUpdate(positions=to_positions(positions, self._runtime.account)))
        if contents.get("fills") or contents.get("assetPositions") or contents.get("transfers"):
            self._are_balances_old = True
        return items

    def _note_fill(self, fill: Contents) -> None:
        self._last_fill_height = max(
            self._last_fill_height, int(str(fill.get("createdAtHeight") or 0))
        )

    # --- upkeep -----------------------------------------------------------------------------------

    async def keep_looking(self, node: Node) -> None:
        """Ask a node for its newest block, without end. One that is silent delays no other."""
        while True:
            await self._nodes.look_at(node)
            await self._runtime.sleep(LOOK_EVERY_S)

    async def keep_markets(self) -> None:
        """Read the markets now and then, and when an order shows that they have changed."""
        while True:
            self._are_markets_old.clear()
            waiters = {
                asyncio.ensure_future(self._runtime.sleep(MARKETS_EVERY_S)),
                asyncio.ensure_future(self._are_markets_old.wait()),
            }
            try:
                await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for waiter in waiters:
                    waiter.cancel()
            try:
                await self.queries.refresh_markets()
            except VenueError as e:
                log.info("account %s: no markets: %s", self._runtime.account, e)

    async def keep_settling(self) -> None:
        """Tell the end of short-term orders, and new balances, without end."""
        while True:
            await self._runtime.sleep(SETTLE_EVERY_S)
            try:
                await self._settle()
                if self._are_balances_old:
                    self._are_balances_old = False
                    told = await self._indexer.subaccount()
                    balances = to_balances(told, self._runtime.account)
                    await self._queue.put(BalanceUpdate(balances=balances))
            except VenueError as e:
                log.info("account %s: the indexer does not answer: %s", self._runtime.account, e)
            except TranslationError as e:
                log.error("ALARM account %s: %s", self._runtime.account, e)

    async def _settle(self) -> None:
        if not len(self._tracker):
            return
        height = await self.queries.known_height()
        ended = self._tracker.ended(height)
        if not ended:
            return
        told = await self.queries.fills_since(
            since_ns=0, since_height=min(order.since_height for order in ended)
        )
        fills = [to_fill(fill, self._names) for fill in told]
        for order in ended:
            own = [fill for fill in fills if fill.venue_order_id == order.uuid]
            for fill in own:
                await self._queue.put(fill)
            await self._queue.put(_end(order, own, height))
            self._tracker.forget(order.uuid)


def _answer(payload: ChainRequest, index: int, *, transact_time_ns: int) -> ExecutionReport:
    """Return what an accepted request means for one of its orders."""
    member, placed = payload.members[index], payload.placed
    match payload.command:
        case CommandKind.NEW:
            exec_type, final = ExecType.NEW, True
        case CommandKind.REPLACE:
            exec_type, final = ExecType.REPLACED, True
        case CommandKind.CANCEL:
            # It may have filled before, and a short-term one may yet: the indexer says how it ended.
            exec_type, final = ExecType.CANCELED, False
    return ExecutionReport(
        exec_type=exec_type,
        command=payload.command,
        venue_order_id=order_uuid(member.order_id),
        venue_client_order_id=member.name,
        symbol=member.symbol,
        order_qty=None if placed is None else placed.order_qty,
        price=None if placed is None else placed.price,
        final=final,
        transact_time_ns=transact_time_ns,
    )


def _end(order: ShortTermOrder, fills: Sequence[ExecutionReport], height: int) -> ExecutionReport:
    was_asked = order.is_cancelled or order.is_immediate
    return ExecutionReport(
        exec_type=ExecType.CANCELED if was_asked else ExecType.EXPIRED,
        venue_order_id=order.uuid,
        venue_client_order_id=order.name,
        symbol=order.symbol,
        cum_qty=sum((f.last_qty for f in fills if f.last_qty is not None), start=_ZERO),
        reason="GOOD_TIL_BLOCK_PASSED",
        evidence=Evidence(
            kind=EvidenceKind.EXPIRY_PASSED,
            detail=f"good until block {order.good_til_block}; a node and the indexer are at {height}, "
            f"and its {len(fills)} fills are read",
        ),
    )


@asynccontextmanager
async def open_dydx(
    config: DydxConfig, runtime: Runtime, *, rng: random.Random | None = None
) -> AsyncGenerator[DydxVenue]:
    """Open one subaccount.

    Raises:
        ConfigError: The key, the address or the chain is not what the configuration says.
        VenueError: No node or no indexer answers, or the account does not exist there.
    """
    network = config.read_network()
    signer = await Signer.open(lambda: _wallet(config))
    try:
        owner = _owner(config, signer.wallet, runtime.tag)
        async with (
            open_nodes(network.nodes, timeout_s=config.node_timeout_s) as nodes,
            open_indexer(
                network.indexer_rest, owner.address, owner.subaccount, timeout_s=INDEXER_TIMEOUT_S
            ) as indexer,
        ):
            await nodes.look()
            if not nodes.head.height:
                raise VenueError(
                    f"no node answers: {', '.join(network.nodes)}", reason="VENUE_UNAVAILABLE"
                )
            if nodes.head.chain_id != network.chain_id:
                raise ConfigError(
                    f"chain_id is {network.chain_id!r}; the nodes are of {nodes.head.chain_id!r}"
                )
            sender = Sender(
                nodes=nodes,
                signer=signer,
                chain_id=network.chain_id,
                address=owner.address,
                account=await fetch_account(nodes, owner.address),
                authenticators=config.authenticators,
                is_numbered_by_time=config.sequences == "timestamp",
                inclusion_wait_s=config.inclusion_wait_s,
            )
            async with asyncio.TaskGroup() as group:
                venue = DydxVenue(
                    config=config,
                    runtime=runtime,
                    owner=owner,
                    nodes=nodes,
                    indexer=indexer,
                    sender=sender,
                    group=group,
                    rng=rng or random.Random(),
                )
                await venue.queries.refresh_markets()
                upkeep = [
                    *(group.create_task(venue.keep_looking(node)) for node in nodes.nodes),
                    group.create_task(venue.keep_markets()),
                    group.create_task(venue.keep_settling()),
                ]
                try:
                    yield venue
                finally:
                    for task in upkeep:
                        task.cancel()
    finally:
        signer.close()


def _wallet(config: DydxConfig) -> Wallet:
    if config.mnemonic is not None:
        return Wallet.from_mnemonic(config.mnemonic.reveal())
    assert config.private_key is not None
    return Wallet.from_hex(config.private_key.reveal())


def _owner(config: DydxConfig, wallet: Wallet, tag: str) -> Owner:
    address = config.address or wallet.address
    try:
        check_address(address)
    except WalletError as e:
        raise ConfigError(f"address: {e}") from e
    if address != wallet.address and not config.authenticators:
        raise ConfigError(
            f"the key is that of {wallet.address}, and address is {address}: give the authenticators that "
            "let it sign, or the right key"
        )
    return Owner(address=address, subaccount=config.subaccount, metadata=int(tag, 16))
