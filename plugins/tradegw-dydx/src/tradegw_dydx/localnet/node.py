"""One node: what it answers to a transaction, what it holds back for blocks, what it knows. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from tradegw_dydx.localnet.accounts import Account, check_permission, check_signature
from tradegw_dydx.localnet.chain import (
    NS_PER_MS,
    Block,
    Chain,
    check_cancel_end,
    check_funds,
    take_fee,
)
from tradegw_dydx.localnet.decode import (
    AddAuthenticator,
    MoveFunds,
    RemoveAuthenticator,
    Tx,
    check_basics,
    decode,
    hash_of,
)
from tradegw_dydx.localnet.memclob import Listener, Memclob, Reason
from tradegw_dydx.localnet.terms import (
    ACCEPTED,
    BatchCancel,
    Cancel,
    Order,
    OrderId,
    Refused,
    Verdict,
    refuse,
)

__all__ = ["Node"]

_SEEN_MAX: Final = 100_000
_MEMPOOL_MAX: Final = 5_000
Gossip = Callable[["Node", bytes], None]


class Node:
    """A validator with a memory of its own.

    Attributes:
        lag_blocks: How far its view of height and time is behind; set by faults.
        block_window: Its own, which differs from the chain's when it runs old software.
        is_syncing: It catches up, and proposes nothing.
    """

    def __init__(
        self, chain: Chain, number: int, gossip: Gossip, listener: Listener | None = None
    ) -> None:
        self.chain = chain
        self.number = number
        self.lag_blocks = 0
        self.block_window = chain.settings.block_window
        self.is_syncing = False
        self.memclob = Memclob(chain.ledger.copy(), listener)
        self.mempool: OrderedDict[str, tuple[bytes, Tx]] = OrderedDict()
        self._gossip = gossip
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._pending: dict[str, Account] = {}
        self._uncommitted: dict[OrderId, Order] = {}
        self._cancelling: set[OrderId] = set()
        self._attempts: dict[tuple[str, str], dict[int, int]] = {}
        self._times: OrderedDict[int, int] = OrderedDict({chain.height: chain.time_ns})

    # What it knows of the chain

    @property
    def height(self) -> int:
        """The last block that it knows."""
        return max(1, self.chain.height - self.lag_blocks)

    @property
    def time_ns(self) -> int:
        """That block's time."""
        return self._times.get(self.height, self.chain.time_ns)

    def account(self, address: str) -> Account:
        """Return an account with what this node's own pending transactions did to it."""
        pending = self._pending.get(address)
        return self.chain.find_account(address) if pending is None else pending

    # Transactions

    def check_tx(self, tx_bytes: bytes, *, is_gossip: bool = False) -> Verdict:
        """Answer a transaction that someone sends: accepted into memory, or why not.

        The same bytes again are turned away with code 19, whatever was said the first time.
        """
        tx_hash = hash_of(tx_bytes)
        if tx_hash in self._seen:
            return Verdict("sdk", 19, "")
        self._seen[tx_hash] = None
        if len(self._seen) > _SEEN_MAX:
            self._seen.popitem(last=False)
        try:
            tx = decode(tx_bytes)
            self._check(tx, tx_bytes)
        except Refused as e:
            return e.verdict
        if not is_gossip:
            self._gossip(self, tx_bytes)
        return ACCEPTED

    def simulate(self, tx: Tx) -> None:
        """Check what a simulation checks: that the sequence fits.

        Raises:
            Refused: It does not.
        """
        account = self.account(tx.signer).copy()
        if not tx.is_short_term:
            account.use_sequence(tx.sequence, self.time_ns // NS_PER_MS)

    def _check(self, tx: Tx, tx_bytes: bytes) -> None:
        check_basics(tx)
        known = self.account(tx.signer)
        # Worked on as a copy: whatever refuses the transaction drops it.
        account = known.copy()
        if not tx.is_short_term:
            account.use_sequence(tx.sequence, self.time_ns // NS_PER_MS)
        if tx.authenticators:
            check_permission(tx, account, self.chain.settings.chain_id)
        else:
            check_signature(tx, account, self.chain.settings.chain_id)
        if not tx.is_clob:
            take_fee(account, tx)
        if not tx.is_short_term and len(self.mempool) >= _MEMPOOL_MAX:
            raise refuse("sdk", 20, "mempool is full")
        for _, message in tx.messages:
            self._check_rate(message)
        for _, message in tx.messages:
            self._take(message, account)
        if not tx.is_short_term:
            self._pending[tx.signer] = account
            self.mempool[tx.hash] = (tx_bytes, tx)

    def _check_rate(self, message: object) -> None:
        match message:
            case Order() if message.order_id.is_short_term:
                self._check_block(message.good_til_block)
                self._count("MaxShortTermOrdersAndCancelsPerNBlocks", message.order_id, 1)
            case Order():
                self.chain.check_end(message.good_til_block_time)
                self._count("MaxStatefulOrdersPerNBlocks", message.order_id, 1)
            case Cancel() if message.order_id.is_short_term:
                self._check_block(message.good_til_block)
                self._count("MaxShortTermOrdersAndCancelsPerNBlocks", message.order_id, 1)
            case BatchCancel():
                self._check_block(message.good_til_block)
                first = OrderId(message.subaccount, 0, 0, 0)
                self._count("MaxShortTermOrdersAndCancelsPerNBlocks", first, 2)
            case _:
                pass

    def _count(self, name: str, order_id: OrderId, weight: int) -> None:
        settings = self.chain.settings
        limits = (
            settings.stateful_limits
            if name.startswith("MaxStateful")
            else settings.short_term_limits
        )
        owner = order_id.subaccount.owner
        next_height = self.chain.height + 1
        counts = self._attempts.setdefault((name, owner), {})
        counts[next_height] = counts.get(next_height, 0) + weight
        longest = max((blocks for blocks, _ in limits), default=0)
        for height in [h for h in counts if h <= next_height - longest]:
            del counts[height]
        for blocks, limit in limits:
            rate = sum(n for height, n in counts.items() if height > next_height - blocks)
            if rate > limit:
                raise refuse(
                    "clob",
                    5001,
                    f"Rate of {rate} exceeds configured block rate limit of "
                    f"{{NumBlocks:{blocks} Limit:{limit}}} for {name} and {owner}: "
                    "Block rate limit exceeded",
                )

    def _check_block(self, good_til_block: int) -> None:
        next_height = self.height + 1
        if good_til_block < next_height:
            raise refuse(
                "clob",
                10,
                f"GoodTilBlock {good_til_block} is less than the current blockHeight {next_height}: "
                "The height of the block exceeds the GoodTilBlock",
            )
        if good_til_block > next_height + self.block_window:
            raise refuse(
                "clob",
                11,
                f"The GoodTilBlock {good_til_block} exceeds the current blockHeight {next_height} plus "
                f"ShortBlockWindow {self.block_window}: The GoodTilBlock is too far in the future",
            )

    def _take(self, message: object, account: Account) -> None:
        match message:
            case Order() if message.order_id.is_short_term:
                self.chain.check_market(message)
                self.memclob.place(message)
            case Order():
                if message.order_id in self._uncommitted:
                    raise refuse("clob", 3005, "Stateful order already exists")
                self.chain.check_stateful(message)
                self.chain.check_collateral(message)
                self._uncommitted[message.order_id] = message
            case Cancel() if message.order_id.is_short_term:
                self._check_pair(message.order_id)
                self.memclob.cancel(message.order_id, message.good_til_block)
            case Cancel():
                self._take_stateful_cancel(message)
            case BatchCancel():
                self._take_batch(message)
            case MoveFunds():
                check_funds(self.chain.ledger, account, message)
            case AddAuthenticator() | RemoveAuthenticator():
                pass
            case _:
                raise AssertionError(message)

    def _check_pair(self, order_id: OrderId) -> None:
        if order_id.clob_pair_id not in self.chain.pairs:
            raise refuse("clob", 8, f"Clob pair {order_id.clob_pair_id} is not a valid clob pair")

    def _take_stateful_cancel(self, cancel: Cancel) -> None:
        self._check_pair(cancel.order_id)
        self.chain.check_stateful_cancel(cancel)
        if cancel.order_id not in self.chain.stateful:
            pending = self._uncommitted.get(cancel.order_id)
            if pending is None:
                raise refuse("clob", 3006, "Stateful order does not exist")
            check_cancel_end(cancel, pending)
        if cancel.order_id in self._cancelling:
            raise refuse("clob", 32, "An uncommitted stateful order cancellation already exists")
        self._cancelling.add(cancel.order_id)

    def _take_batch(self, batch: BatchCancel) -> None:
        # The chain swallows what goes wrong with single orders: code 0 says that it was read.
        for order_id in batch.order_ids():
            if order_id.clob_pair_id in self.chain.pairs:
                try:
                    self.memclob.cancel(order_id, batch.good_til_block)
                except Refused:
                    continue

    # Blocks

    def apply(self, block: Block) -> None:
        """Take over a block, whoever made it."""
        chain = self.chain
        memclob = self.memclob
        self._times[block.height] = chain.time_ns
        while len(self._times) > 1000:
            self._times.popitem(last=False)
        for order_id in block.gone:
            memclob.drop(order_id)
        ledger = chain.ledger.copy()
        if tuple(memclob.operations) == block.operations:
            memclob.settle(ledger)
        else:
            memclob.rebuild(ledger, lambda order: self._lives(order, block.height))
        for order in memclob.resting():
            order_id = order.order_id
            if order_id.is_short_term and order.good_til_block <= block.height:
                memclob.remove(order_id, Reason.EXPIRED, is_final=True)
        for order_id, end in list(memclob.cancels.items()):
            if end <= block.height:
                del memclob.cancels[order_id]
        self._recheck(block)
        for order in block.ready:
            # A long-term order that may not rest is let go by the chain, one block later.
            memclob.admit(order)

    def _lives(self, order: Order, height: int) -> bool:
        order_id = order.order_id
        if not order_id.is_short_term:
            item = self.chain.stateful.get(order_id)
            return item is not None and item.triggered
        if order.good_til_block <= height:
            return False
        return self.memclob.cancels.get(order_id, 0) < order.good_til_block

    def _recheck(self, block: Block) -> None:
        left = [entry for tx_hash, entry in self.mempool.items() if tx_hash not in block.tx_hashes]
        self.mempool.clear()
        self._pending.clear()
        self._uncommitted.clear()
        self._cancelling.clear()
        for tx_bytes, tx in left:
            try:
                account = self.account(tx.signer).copy()
                account.use_sequence(tx.sequence, self.time_ns // NS_PER_MS)
                for _, message in tx.messages:
                    self._take(message, account)
            except Refused:
                # The chain drops it without a word to whoever sent it.
                continue
            self._pending[tx.signer] = account
            self.mempool[tx.hash] = (tx_bytes, tx)

    def forget(self, tx_hash: str) -> None:
        """Lose a transaction from the mempool, as an overfull one does."""
        self.mempool.pop(tx_hash, None)
