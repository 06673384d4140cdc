"""All nodes over one chain: gossip, whose turn it is, the house, and the faults within. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from tradegw_dydx.localnet.accounts import TIMESTAMP_NONCE_MIN
from tradegw_dydx.localnet.chain import Block, Chain, Facts
from tradegw_dydx.localnet.decode import Tx, decode, hash_of
from tradegw_dydx.localnet.faults import FaultKind, Faults
from tradegw_dydx.localnet.genesis import Settings
from tradegw_dydx.localnet.house import House
from tradegw_dydx.localnet.ledger import Match
from tradegw_dydx.localnet.memclob import Operation, Update
from tradegw_dydx.localnet.node import Node
from tradegw_dydx.localnet.terms import (
    ACCEPTED,
    BatchCancel,
    Cancel,
    Order,
    OrderId,
    Refused,
    Side,
    Verdict,
)

__all__ = ["Network", "Seen", "Told"]

NS_PER_S: Final = 1_000_000_000
_OLD_WINDOW: Final = 20
_SEEN_MAX: Final = 200_000
_TRANSIT_MAX: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the indexer is told, and when: what a node's book did, or a block."""

    height: int
    time_ns: int
    what: Update | Facts


@dataclass(slots=True)
class Seen:
    """What the nodes took in under one order's name.

    Attributes:
        order: The last message that was accepted.
        versions: How many different messages were: more than one means a replacement, or a double.
        filled: What blocks have booked, in the market's units.
    """

    order: Order
    versions: int = 1
    filled: int = 0


class Network:
    """The chain and its nodes, on which everything else stands.

    Attributes:
        placed: By order, what was accepted: a witness for whoever counts doubles.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], int],
        faults: Faults | None = None,
        sink: Callable[[Told], None],
    ) -> None:
        self.settings = settings
        self.faults = faults or Faults()
        self._clock = clock
        self._sink = sink
        self.chain = Chain(settings, time_ns=clock())
        self.house = House(self.chain)
        self.placed: dict[OrderId, Seen] = {}
        self._rng = Random(settings.seed)
        self._transit: list[tuple[int, int, bytes]] = []
        self._held: list[tuple[int, bytes]] = []
        self._failing: dict[str, Verdict] = {}
        self._late: list[Order] = []
        self._turn = 0
        self.chain.delivery = lambda tx: self._failing.pop(tx.hash, ACCEPTED)
        # The first node is the one that the indexer listens to.
        self.nodes = [
            Node(self.chain, number, self._spread, self._tell if number == 0 else None)
            for number in range(settings.nodes)
        ]
        self.faults.listen(self._apply_conditions)
        self.house.quote([node.memclob for node in self.nodes])
        self._tell_block(Facts(height=self.chain.height, time_ns=self.chain.time_ns))

    # Transactions

    def broadcast(self, node_number: int, tx_bytes: bytes) -> Verdict:
        """Hand a transaction to a node, and return what it says."""
        node = self.nodes[node_number]
        try:
            tx = decode(tx_bytes)
        except Refused:
            return node.check_tx(tx_bytes)
        self._steal(node, tx)
        ids = client_ids(tx)
        cancelled = [
            order
            for _, message in tx.messages
            if isinstance(message, Cancel)
            and (order := node.memclob.find(message.order_id)) is not None
        ]
        batch = tx.messages[0][1]
        if isinstance(batch, BatchCancel) and self.faults.take(
            FaultKind.BATCH_IGNORED, node=node_number, client_ids=ids
        ):
            return ACCEPTED
        verdict = node.check_tx(tx_bytes)
        if verdict.code != 0:
            return verdict
        for _, message in tx.messages:
            if isinstance(message, Order):
                self._note(message)
        self._spoil(node_number, tx, ids)
        for order in cancelled:
            if self.faults.take(FaultKind.FILL_AFTER_CANCEL, node=node_number, client_ids=ids):
                self._late.append(order)
        return verdict

    def _note(self, order: Order) -> None:
        seen = self.placed.get(order.order_id)
        if seen is None:
            if len(self.placed) >= _SEEN_MAX:
                self.placed.pop(next(iter(self.placed)))
            self.placed[order.order_id] = Seen(order)
        elif seen.order.digest != order.digest:
            seen.order, seen.versions = order, seen.versions + 1

    def _steal(self, node: Node, tx: Tx) -> None:
        if tx.is_short_term or tx.signer not in self.chain.accounts:
            return
        ids = client_ids(tx)
        is_nonce = tx.sequence >= TIMESTAMP_NONCE_MIN
        kind = FaultKind.NONCE_TAKEN if is_nonce else FaultKind.SEQUENCE_TAKEN
        if self.faults.take(kind, node=node.number, client_ids=ids) is not None:
            account = self.chain.accounts[tx.signer]
            if is_nonce:
                account.nonces = sorted({*account.nonces, tx.sequence})[-20:]
            else:
                account.sequence += 1

    def _spoil(self, node_number: int, tx: Tx, ids: frozenset[int]) -> None:
        take = self.faults.take
        if not tx.is_short_term:
            if take(FaultKind.TX_DROPPED, node=node_number, client_ids=ids):
                for node in self.nodes:
                    node.forget(tx.hash)
                self._transit = [item for item in self._transit if hash_of(item[2]) != tx.hash]
            failing = take(FaultKind.DELIVERY_FAILS, node=node_number, client_ids=ids)
            if failing is not None:
                log = "failed on purpose"
                self._failing[tx.hash] = Verdict(failing.codespace, failing.code, log)
            return
        for _, message in tx.messages:
            if isinstance(message, Order) and self.nodes[0].memclob.find(message.order_id):
                spec = take(FaultKind.ORDER_REMOVED, node=node_number, client_ids=ids)
                if spec is not None:
                    for node in self.nodes:
                        if node.memclob.find(message.order_id):
                            node.memclob.remove(message.order_id, spec.reason)

    def _spread(self, sender: Node, tx_bytes: bytes) -> None:
        if self.faults.standing(FaultKind.ISOLATED, node=sender.number) is not None:
            self._held.append((sender.number, tx_bytes))
            del self._held[:-_TRANSIT_MAX]
            return
        due = self.chain.height + self.settings.gossip_blocks
        for node in self.nodes:
            if node is not sender:
                self._transit.append((due, node.number, tx_bytes))
        self._arrive()

    def _arrive(self) -> None:
        waiting, self._transit = self._transit, []
        for due, number, tx_bytes in waiting:
            isolated = self.faults.standing(FaultKind.ISOLATED, node=number) is not None
            if due > self.chain.height or isolated:
                self._transit.append((due, number, tx_bytes))
                # What nobody can deliver for so long is lost, as gossip is.
                del self._transit[:-_TRANSIT_MAX]
            else:
                self.nodes[number].check_tx(tx_bytes, is_gossip=True)

    def _apply_conditions(self) -> None:
        for node in self.nodes:
            lagging = self.faults.standing(FaultKind.LAGGING, node=node.number)
            node.lag_blocks = 0 if lagging is None else lagging.blocks
            node.is_syncing = self.faults.standing(FaultKind.SYNCING, node=node.number) is not None
            old = self.faults.standing(FaultKind.OLD_WINDOW, node=node.number)
            node.block_window = self.settings.block_window if old is None else _OLD_WINDOW
        held, self._held = self._held, []
        for number, tx_bytes in held:
            self._spread(self.nodes[number], tx_bytes)
        self._arrive()

    # Blocks

    def step(self) -> Block | None:
        """Make a block; None while the chain stands still."""
        if self.faults.standing(FaultKind.HALT) is not None:
            self.faults.pass_block()
            return None
        self._walk()
        proposer = self._next_proposer()
        operations = [*proposer.memclob.operations, *self._late_matches()]
        txs = list(proposer.mempool.values())
        skew = self.faults.standing(FaultKind.CLOCK_SKEW)
        now_ns = self._clock()
        if skew is not None:
            now_ns += int(skew.offset_s * NS_PER_S)
            # A real chain's time never goes back; here it must, to be behind everyone else's.
            self.chain.time_ns = min(self.chain.time_ns, now_ns - 1)
        block = self.chain.commit(operations, txs, now_ns)
        for match in block.facts.fills:
            for fill in match:
                seen = self.placed.get(fill.order.order_id)
                if seen is not None:
                    seen.filled += fill.quantums
        self._tell_block(block.facts)
        for node in self.nodes:
            node.apply(block)
        self._arrive()
        self.house.quote([node.memclob for node in self.nodes])
        self.faults.pass_block()
        return block

    def trade(self, pair_id: int, side: Side, quantums: int, subticks: int) -> None:
        """Let the house take what rests at a price or better."""
        order = self.house.immediate(pair_id, side, quantums, subticks)
        for node in self.nodes:
            node.memclob.place(order)

    def _next_proposer(self) -> Node:
        for _ in self.nodes:
            node = self.nodes[self._turn % len(self.nodes)]
            self._turn += 1
            down = self.faults.standing(FaultKind.DOWN, node=node.number) is not None
            isolated = self.faults.standing(FaultKind.ISOLATED, node=node.number) is not None
            if not (node.is_syncing or node.lag_blocks or down or isolated):
                return node
        # Somebody always makes the blocks: validators that nobody can talk to.
        return self.nodes[0]

    def _walk(self) -> None:
        if self.settings.walk_ppm:
            for pair in self.chain.pairs.values():
                ppm = self._rng.randint(-self.settings.walk_ppm, self.settings.walk_ppm)
                pair.oracle_price += pair.oracle_price * ppm // 1_000_000

    def _late_matches(self) -> list[Operation]:
        """Matches of a validator that had not heard of a cancel."""
        late, self._late = self._late, []
        made: list[Operation] = []
        for order in late:
            left = self.chain.ledger.remaining(order)
            if left:
                taker = self.house.immediate(
                    order.order_id.clob_pair_id,
                    Side.SELL if order.is_buy else Side.BUY,
                    left,
                    order.subticks,
                )
                made.append(Match(taker=taker, maker=order, quantums=left))
        return made

    # The indexer

    def _tell(self, update: Update) -> None:
        self._sink(Told(height=self.chain.height, time_ns=self._clock(), what=update))

    def _tell_block(self, facts: Facts) -> None:
        if not facts.pairs:
            facts.pairs = {number: replace(pair) for number, pair in self.chain.pairs.items()}
            facts.subaccounts = {
                key: item.copy() for key, item in self.chain.ledger.subaccounts.items()
            }
        self._sink(Told(height=facts.height, time_ns=facts.time_ns, what=facts))


def client_ids(tx: Tx) -> frozenset[int]:
    """Return the client ids of the orders that a transaction is about."""
    found: set[int] = set()
    for _, message in tx.messages:
        match message:
            case Order() | Cancel():
                found.add(message.order_id.client_id)
            case BatchCancel():
                found.update(order_id.client_id for order_id in message.order_ids())
            case _:
                pass
    return frozenset(found)
