"""The venue `dydx`: one subaccount's access to the chain and its indexer."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from tradegw import (
    AccountName,
    CommandKind,
    ConfigError,
    ExecType,
    ExecutionReport,
    NotSent,
    OrdType,
    OutcomeUnknown,
    RateLimited,
    TimeInForce,
    VenueError,
    VenueRejected,
)
from tradegw.venue import (
    BudgetPool,
    BudgetScope,
    Capabilities,
    ClientIdCodec,
    Command,
    ExpiryKind,
    Operation,
    Page,
    Query,
    ReplaceKind,
    Runtime,
    SendOrder,
    StreamItem,
    TranslateContext,
    Venue,
    VenueRequest,
)
from tradegw_dydx.chain import fetch_account
from tradegw_dydx.config import DydxConfig, Network
from tradegw_dydx.feed import Feed
from tradegw_dydx.indexer import Indexer, open_indexer
from tradegw_dydx.nodes import Node, Nodes, open_nodes
from tradegw_dydx.orders import Owner
from tradegw_dydx.queries import Queries
from tradegw_dydx.reports import Names, order_uuid
from tradegw_dydx.sender import Sender
from tradegw_dydx.signing import Signer
from tradegw_dydx.stream import Heights
from tradegw_dydx.tracking import TRACKED_MAX, ShortTermOrder, Tracker
from tradegw_dydx.translate import ChainRequest, Facts, translate
from tradegw_dydx.wallet import Wallet, WalletError, check_address

__all__ = ["CAPABILITIES", "DydxVenue", "open_dydx"]

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
MARKETS_EVERY_S: Final = 10.0
SENT_OVERLAP_BLOCKS: Final = 10
INDEXER_TIMEOUT_S: Final = 8.0

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
WATCH_S: Final = 45.0
"""Until after the end of a nonce's validity."""
_REFUSALS: Final = {
    CommandKind.NEW: ExecType.REJECTED,
    CommandKind.CANCEL: ExecType.CANCEL_REJECTED,
    CommandKind.REPLACE: ExecType.REPLACE_REJECTED,
}
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
        self._chain_id = config.read_network().chain_id
        self._is_numbered_by_time = config.sequences == "timestamp"
        self._runtime = runtime
        self._nodes = nodes
        self._sender = sender
        self._group = group
        self._names = Names(owner.metadata)
        self._tracker = Tracker()
        self._are_markets_old = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        heights = Heights()
        self.queries = Queries(
            account=runtime.account,
            owner=owner,
            nodes=nodes,
            indexer=indexer,
            names=self._names,
            tracker=self._tracker,
            heights=heights,
        )
        self._feed = Feed(
            url=config.read_network().indexer_ws,
            owner=owner,
            runtime=runtime,
            nodes=nodes,
            indexer=indexer,
            queries=self.queries,
            names=self._names,
            tracker=self._tracker,
            heights=heights,
            rng=rng,
            run=self._run,
        )

    @property
    def capabilities(self) -> Capabilities:
        """What the chain can do."""
        return CAPABILITIES

    @property
    def environment(self) -> str:
        """The chain. Its nodes are one venue, whichever answers: each checks that it is of this chain."""
        return self._chain_id

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

    def stream(self, since: int) -> AsyncIterator[StreamItem]:
        """Yield what the indexer says, and the end of short-term orders once it is certain."""
        return self._feed.items(since)

    # --- sending ----------------------------------------------------------------------------------

    async def execute(self, request: VenueRequest) -> Sequence[ExecutionReport]:
        """Sign and send; a stateful request is answered when it is in a block."""
        payload = request.payload
        assert isinstance(payload, ChainRequest), "a request that `translate` did not make"
        self._remember(payload)
        try:
            await self._sender.send(payload)
        except (VenueRejected, RateLimited, NotSent) as e:
            if e.reason in _MARKET_PARAMETERS:
                self._are_markets_old.set()
            if payload.command is CommandKind.NEW:
                for member in payload.members:
                    self._tracker.forget(order_uuid(member.order_id))
            raise
        except (OutcomeUnknown, asyncio.CancelledError):
            if payload.is_stateful and payload.signed is not None:
                self._run(self._watch(payload))
            raise
        now_ns = self._runtime.time_ns()
        return [
            _answer(payload, index, transact_time_ns=self._nodes.head.time_ns or now_ns)
            for index in range(len(payload.members))
        ]

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside the calls, until it ends or the venue is closed."""
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def close(self) -> None:
        """End what runs beside the calls."""
        for task in self._tasks:
            task.cancel()

    async def _watch(self, payload: ChainRequest) -> None:
        """Tell what a block says of a stateful transaction that nobody answered for in time."""
        try:
            await self._sender.await_block(payload, wait_s=WATCH_S)
        except VenueRejected as e:
            for member in payload.members:
                await self._feed.tell(
                    ExecutionReport(
                        exec_type=_REFUSALS[payload.command],
                        command=payload.command,
                        venue_client_order_id=member.name,
                        symbol=member.symbol,
                        reason=e.reason,
                        text=str(e),
                    )
                )
        except OutcomeUnknown:
            # In no block, and no block takes it any more: the engine finds that it is absent.
            return
        else:
            for index in range(len(payload.members)):
                await self._feed.tell(
                    _answer(payload, index, transact_time_ns=self._nodes.head.time_ns)
                )

    def _remember(self, payload: ChainRequest) -> None:
        """Note what is about to be sent: whatever the answer, the indexer may speak of it."""
        placed = payload.placed
        if payload.command is CommandKind.NEW and len(self._tracker) >= TRACKED_MAX:
            raise NotSent(f"{TRACKED_MAX} orders wait for the indexer to pass their blocks")
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
                        since_height=max(0, self._nodes.head.height - SENT_OVERLAP_BLOCKS),
                        is_immediate=placed.time_in_force == 1,
                    )
                )

    # --- upkeep -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin the upkeep; it ends with `close`."""
        for node in self._nodes.nodes:
            self._run(self._keep_looking(node))
        self._run(self._keep_markets())
        self._run(self._feed.keep_settling())

    async def _keep_looking(self, node: Node) -> None:
        """Ask a node for its newest block, without end. One that is silent delays no other."""
        while True:
            await self._nodes.look_at(node)
            await self._runtime.sleep(LOOK_EVERY_S)

    async def _keep_markets(self) -> None:
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
        with _alone(network, owner, runtime):
            async with _open(config, runtime, network, owner, signer, rng) as venue:
                yield venue
    finally:
        signer.close()


@contextmanager
def _alone(network: Network, owner: Owner, runtime: Runtime) -> Generator[None]:
    """Hold a subaccount: two accounts on one would take each other's orders for their own."""
    key = (asyncio.get_running_loop(), network, owner.address, owner.subaccount)
    if key in _HELD:
        raise ConfigError(
            f"accounts {_HELD[key]} and {runtime.account} are both subaccount {owner.subaccount} of "
            f"{owner.address}; give each its own"
        )
    _HELD[key] = runtime.account
    try:
        yield
    finally:
        del _HELD[key]


_HELD: dict[tuple[asyncio.AbstractEventLoop, Network, str, int], AccountName] = {}


@asynccontextmanager
async def _open(
    config: DydxConfig,
    runtime: Runtime,
    network: Network,
    owner: Owner,
    signer: Signer,
    rng: random.Random | None,
) -> AsyncGenerator[DydxVenue]:
    async with (
        open_nodes(
            network.nodes, timeout_s=config.node_timeout_s, chain_id=network.chain_id
        ) as nodes,
        open_indexer(
            network.indexer_rest, owner.address, owner.subaccount, timeout_s=INDEXER_TIMEOUT_S
        ) as indexer,
    ):
        await nodes.look()
        if not nodes.head.height:
            others = {node.chain_id for node in nodes.nodes if node.chain_id}
            if others:
                raise ConfigError(
                    f"chain_id is {network.chain_id!r}; the nodes are of {', '.join(others)}"
                )
            raise VenueError(
                f"no node answers: {', '.join(network.nodes)}", reason="VENUE_UNAVAILABLE"
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
            venue.start()
            try:
                yield venue
            finally:
                venue.close()


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
