"""What all nodes agree on: accounts, collateral, stateful orders, fills, blocks. Pure.

A block takes the matches of the node whose turn it is, then the transactions of its mempool, then lets time
pass: orders end, triggers fire. What happened is told to the indexer as a list of facts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from tradegw_dydx.localnet.accounts import Account, Authenticator, check_authenticator
from tradegw_dydx.localnet.decode import (
    AddAuthenticator,
    ChainMessage,
    MoveFunds,
    RemoveAuthenticator,
    Tx,
)
from tradegw_dydx.localnet.genesis import GAS_DENOM, USDC_DENOM, Settings, pairs
from tradegw_dydx.localnet.ledger import Fill, Ledger, Match, Pair, Status, Subaccount
from tradegw_dydx.localnet.memclob import Operation, Reason, Removal
from tradegw_dydx.localnet.terms import (
    ACCEPTED,
    BatchCancel,
    Cancel,
    Flags,
    Order,
    OrderId,
    Refused,
    SubaccountId,
    Verdict,
    refuse,
)

__all__ = ["Block", "Chain", "Facts", "StatefulOrder", "TxResult", "check_funds"]

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
RESULTS_MAX: Final = 100_000
STATEFUL_WINDOW_S: Final = 95 * 86_400
_GAS_PRICE: Final = {USDC_DENOM: (25, 1000), GAS_DENOM: (25_000_000_000, 1)}
_STOP_LOSS: Final = 1


@dataclass(slots=True, kw_only=True)
class StatefulOrder:
    """An order in the chain's state. A conditional one waits until it is triggered."""

    order: Order
    triggered: bool
    placed_height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TxResult:
    """What became of a transaction in a block."""

    tx_bytes: bytes
    tx: Tx
    height: int
    time_ns: int
    verdict: Verdict
    gas_used: int


@dataclass(slots=True, kw_only=True)
class Facts:
    """What a block did, for whoever tells the world.

    Attributes:
        pairs: All markets as they stand; `subaccounts` are those that changed, as they stand.
    """

    height: int
    time_ns: int
    fills: list[tuple[Fill, Fill]] = field(default_factory=list[tuple[Fill, Fill]])
    placed: list[Order] = field(default_factory=list[Order])
    triggered: list[Order] = field(default_factory=list[Order])
    removed: list[tuple[Order, str]] = field(default_factory=list[tuple[Order, str]])
    transfers: list[MoveFunds] = field(default_factory=list[MoveFunds])
    pairs: dict[int, Pair] = field(default_factory=dict[int, Pair])
    subaccounts: dict[SubaccountId, Subaccount] = field(
        default_factory=dict[SubaccountId, Subaccount]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What a node needs to know of a block that is in.

    Attributes:
        expired: Stateful orders whose time ended, or that were canceled or removed.
        ready: Stateful orders that may match from now on.
    """

    height: int
    operations: tuple[Operation, ...]
    tx_hashes: frozenset[str]
    gone: frozenset[OrderId]
    ready: tuple[Order, ...]
    facts: Facts


class Chain:
    """The state after the last block.

    Attributes:
        delivery: Decides beforehand that a transaction fails in its block; faults use it.
    """

    def __init__(self, settings: Settings, *, time_ns: int) -> None:
        self.settings = settings
        self.height = 1
        self.time_ns = time_ns
        self.pairs: dict[int, Pair] = pairs()
        self.ledger = Ledger(
            self.pairs,
            taker_fee_ppm=settings.taker_fee_ppm,
            maker_fee_ppm=settings.maker_fee_ppm,
        )
        self.accounts: dict[str, Account] = {}
        self.stateful: dict[OrderId, StatefulOrder] = {}
        self.results: dict[str, TxResult] = {}
        self.delivery: Callable[[Tx], Verdict] = _delivers
        self._prunable: dict[int, list[OrderId]] = {}
        self._authenticator_id = 0
        for item in settings.accounts:
            self.add_account(item.address, settings.usdc)

    def add_account(self, address: str, usdc: int) -> Account:
        """Create an account with collateral in subaccount 0, and coins for fees."""
        account = Account(address=address, number=len(self.accounts) + 1)
        account.bank = {USDC_DENOM: 1000 * 10**6, GAS_DENOM: 10**21}
        self.accounts[address] = account
        self.ledger.subaccounts[SubaccountId(address, 0)] = Subaccount(usdc)
        return account

    @property
    def time_s(self) -> int:
        """The last block's time in whole seconds, by which stateful orders end."""
        return self.time_ns // NS_PER_S

    def find_account(self, address: str) -> Account:
        """Return an account.

        Raises:
            Refused: It was never funded.
        """
        account = self.accounts.get(address)
        if account is None:
            raise refuse("sdk", 9, f"account {address} not found: unknown address")
        return account

    # Blocks

    def commit(
        self, operations: list[Operation], txs: list[tuple[bytes, Tx]], now_ns: int
    ) -> Block:
        """Make the next block of a node's matches and transactions.

        Args:
            now_ns: The block's time, if it is later than the last one's.
        """
        self.height += 1
        self.time_ns = max(now_ns, self.time_ns + NS_PER_MS)
        facts = Facts(height=self.height, time_ns=self.time_ns)
        gone: set[OrderId] = set()
        for operation in operations:
            if isinstance(operation, Removal):
                self._remove(operation.order_id, operation.reason, facts, gone)
            else:
                self._fill(operation, facts, gone)
        for order_id, item in list(self.stateful.items()):
            if item.order.good_til_block_time <= self.time_s:
                self._remove(order_id, Reason.EXPIRED, facts, gone)
        ready: list[Order] = []
        for tx_bytes, tx in txs:
            self._deliver(tx_bytes, tx, facts, gone, ready)
        for item in self.stateful.values():
            if not item.triggered and self._fires(item.order):
                item.triggered = True
                facts.triggered.append(item.order)
                ready.append(item.order)
        for order_id in self._prunable.pop(self.height, ()):
            self.ledger.filled.pop(order_id, None)
        facts.pairs = {number: replace(pair) for number, pair in self.pairs.items()}
        facts.subaccounts = {
            subaccount: self.ledger.subaccount(subaccount).copy() for subaccount in _touched(facts)
        }
        return Block(
            height=self.height,
            operations=tuple(operations),
            tx_hashes=frozenset(tx.hash for _, tx in txs),
            gone=frozenset(gone),
            ready=tuple(order for order in ready if order.order_id in self.stateful),
            facts=facts,
        )

    def _fill(self, match: Match, facts: Facts, gone: set[OrderId]) -> None:
        facts.fills.append(self.ledger.book(match))
        for order in (match.maker, match.taker):
            order_id = order.order_id
            if order_id.is_short_term:
                # Remembered for a while, so that a late copy of the order cannot fill again.
                end = order.good_til_block + self.settings.block_window
                self._prunable.setdefault(end, []).append(order_id)
            elif not self.ledger.remaining(order):
                self.stateful.pop(order_id, None)
                self.ledger.filled.pop(order_id, None)
                gone.add(order_id)

    def _remove(self, order_id: OrderId, reason: str, facts: Facts, gone: set[OrderId]) -> None:
        item = self.stateful.pop(order_id, None)
        if item is not None:
            gone.add(order_id)
            facts.removed.append((item.order, reason))
            self.ledger.filled.pop(order_id, None)

    def _fires(self, order: Order) -> bool:
        oracle = self.pairs[order.order_id.clob_pair_id].oracle_subticks
        # A stop that buys and a profit that sells wait for a rise, the others for a fall.
        if order.is_buy == (order.condition_type == _STOP_LOSS):
            return oracle >= order.trigger_subticks
        return oracle <= order.trigger_subticks

    # Transactions in a block

    def _deliver(
        self,
        tx_bytes: bytes,
        tx: Tx,
        facts: Facts,
        gone: set[OrderId],
        ready: list[Order],
    ) -> None:
        verdict = ACCEPTED
        gas_used = 0 if tx.is_clob else simulated_gas(tx.size)
        try:
            self.pass_ante(tx)
            # What fails from here on has used its sequence up.
            verdict = self.delivery(tx)
            if verdict.code == 0:
                for _, message in tx.messages:
                    self._carry_out(message, facts, gone, ready)
        except Refused as e:
            verdict = e.verdict
        self.results[tx.hash] = TxResult(
            tx_bytes=tx_bytes,
            tx=tx,
            height=self.height,
            time_ns=self.time_ns,
            verdict=verdict,
            gas_used=gas_used,
        )
        while len(self.results) > RESULTS_MAX:
            # As a node that prunes.
            del self.results[next(iter(self.results))]

    def pass_ante(self, tx: Tx) -> None:
        """Take a transaction's sequence and fee, before its messages."""
        account = self.find_account(tx.signer)
        if not tx.is_clob:
            take_fee(account, tx)
        account.use_sequence(tx.sequence, self.time_ns // NS_PER_MS)
        if not tx.authenticators:
            account.public_key = tx.public_key

    def _carry_out(
        self, message: ChainMessage, facts: Facts, gone: set[OrderId], ready: list[Order]
    ) -> None:
        match message:
            case Order():
                self.check_stateful(message)
                self.check_collateral(message)
                triggered = message.order_id.flags == Flags.LONG_TERM
                self.stateful[message.order_id] = StatefulOrder(
                    order=message, triggered=triggered, placed_height=self.height
                )
                facts.placed.append(message)
                if triggered:
                    ready.append(message)
            case Cancel():
                if message.order_id not in self.stateful:
                    raise refuse(
                        "clob",
                        3010,
                        "Stateful order cancellation failed: already removed from state",
                    )
                self.check_stateful_cancel(message)
                self._remove(message.order_id, Reason.USER_CANCELED, facts, gone)
            case MoveFunds():
                self._move(message, facts)
            case AddAuthenticator():
                check_authenticator(message.kind, message.data)
                self._authenticator_id += 1
                self.find_account(message.owner).authenticators[self._authenticator_id - 1] = (
                    Authenticator(
                        authenticator_id=self._authenticator_id - 1,
                        kind=message.kind,
                        config=message.data,
                    )
                )
            case RemoveAuthenticator():
                account = self.find_account(message.owner)
                if account.authenticators.pop(message.authenticator_id, None) is None:
                    raise refuse(
                        "dydxaccountplus", 1, f"authenticator {message.authenticator_id} not found"
                    )
            case BatchCancel():
                raise AssertionError("a batch cancel never reaches a block")

    def _move(self, move: MoveFunds, facts: Facts) -> None:
        check_funds(self.ledger, self.find_account(move.owner), move)
        if move.sender is None:
            self.find_account(move.owner).bank[USDC_DENOM] -= move.quantums
        else:
            self.ledger.subaccounts[move.sender].usdc -= move.quantums
        if isinstance(move.recipient, str):
            bank = self.find_account(move.recipient).bank
            bank[USDC_DENOM] = bank.get(USDC_DENOM, 0) + move.quantums
        else:
            self.ledger.subaccounts.setdefault(move.recipient, Subaccount()).usdc += move.quantums
        facts.transfers.append(move)

    # Rules that blocks and nodes share

    def check_market(self, order: Order) -> Pair:
        """Check an order against its market's grid and status.

        Raises:
            Refused: Unknown market, off the grid, or not open for such orders.
        """
        pair = self.pairs.get(order.order_id.clob_pair_id)
        if pair is None:
            raise refuse(
                "clob", 8, f"Clob pair {order.order_id.clob_pair_id} is not a valid clob pair"
            )
        if order.quantums % pair.step_base_quantums:
            raise refuse(
                "clob",
                12,
                f"Order Quantums {order.quantums} must be a multiple of the ClobPair's "
                f"StepBaseQuantums {pair.step_base_quantums}: MsgPlaceOrder is invalid",
            )
        if order.subticks % pair.subticks_per_tick:
            raise refuse(
                "clob",
                12,
                f"Order subticks {order.subticks} must be a multiple of the ClobPair's "
                f"SubticksPerTick {pair.subticks_per_tick}: MsgPlaceOrder is invalid",
            )
        if order.trigger_subticks % pair.subticks_per_tick:
            raise refuse(
                "clob",
                12,
                f"Conditional order trigger subticks {order.trigger_subticks} must be a multiple of "
                f"the ClobPair's SubticksPerTick {pair.subticks_per_tick}: MsgPlaceOrder is invalid",
            )
        _check_status(order, pair)
        return pair

    def check_end(self, good_til_block_time: int) -> None:
        """Check when a stateful order, or its cancel, ends.

        Raises:
            Refused: In the past, or more than 95 days ahead.
        """
        if good_til_block_time <= self.time_s:
            raise refuse(
                "clob",
                3003,
                f"GoodTilBlockTime {good_til_block_time} is less than or equal to previous "
                f"blockTime {self.time_s}",
            )
        if good_til_block_time > self.time_s + STATEFUL_WINDOW_S:
            raise refuse(
                "clob",
                3004,
                f"GoodTilBlockTime {good_til_block_time} exceeds the previous blockTime plus 95 days",
            )

    def check_stateful(self, order: Order) -> None:
        """Check a stateful order against the state.

        Raises:
            Refused: Off its market's terms, ended, there already, or one too many.
        """
        self.check_market(order)
        self.check_end(order.good_til_block_time)
        if order.order_id in self.stateful:
            raise refuse("clob", 3005, "Stateful order already exists")
        subaccount = self.ledger.subaccount(order.order_id.subaccount)
        equity = self.ledger.equity(subaccount)
        allowed = max((n for least, n in self.settings.equity_tiers if equity >= least), default=0)
        count = sum(1 for o in self.stateful if o.subaccount == order.order_id.subaccount)
        if count >= allowed:
            raise refuse(
                "clob",
                10001,
                f"Opening order would exceed equity tier limit of {allowed}. Order count: {count}, "
                f"total net collateral: {equity}, order id: {order.order_id.client_id}",
            )

    def check_collateral(self, order: Order) -> None:
        """Check that the owner could bear a stateful order's fill.

        Raises:
            Refused: It could not.
        """
        if order.order_id.flags == Flags.CONDITIONAL:
            return
        if not self.ledger.bears_resting(order, order.quantums):
            raise refuse("clob", 3007, "Stateful order collateralization check failed")

    def check_stateful_cancel(self, cancel: Cancel) -> None:
        """Check a cancel of an order in the state.

        Raises:
            Refused: It ends before the order, or at a time that no cancel may have.
        """
        self.check_end(cancel.good_til_block_time)
        item = self.stateful.get(cancel.order_id)
        if item is not None:
            check_cancel_end(cancel, item.order)


def _touched(facts: Facts) -> set[SubaccountId]:
    touched = {fill.order.order_id.subaccount for match in facts.fills for fill in match}
    for move in facts.transfers:
        touched |= {end for end in (move.sender, move.recipient) if isinstance(end, SubaccountId)}
    return touched


def _delivers(tx: Tx) -> Verdict:
    return ACCEPTED


def check_cancel_end(cancel: Cancel, order: Order) -> None:
    """Check that a stateful cancel holds as long as its order.

    Raises:
        Refused: It does not.
    """
    if cancel.good_til_block_time < order.good_til_block_time:
        raise refuse(
            "clob",
            29,
            f"Stateful cancel goodTilBlockTime {cancel.good_til_block_time} is less than the order's "
            f"{order.good_til_block_time}",
        )


def _check_status(order: Order, pair: Pair) -> None:
    if pair.status == Status.ACTIVE:
        return
    is_post_only = order.time_in_force == 2
    if pair.status == Status.POST_ONLY and is_post_only:
        return
    if pair.status == Status.INITIALIZING and is_post_only and order.order_id.is_short_term:
        right_side = (
            order.subticks <= pair.oracle_subticks
            if order.is_buy
            else order.subticks >= pair.oracle_subticks
        )
        if right_side:
            return
    raise refuse("clob", 34, f"Order conflicts with ClobPair status {pair.status}")


def check_funds(ledger: Ledger, account: Account, move: MoveFunds) -> None:
    """Check that funds can be moved.

    Raises:
        Refused: They are not there, or are needed as margin.
    """
    if move.asset_id != 0:
        raise refuse("sending", 2, "only asset 0 moves: non-USDC asset transfer is not implemented")
    if move.quantums == 0:
        raise refuse("sending", 3, "invalid transfer amount")
    if move.sender is not None and move.sender == move.recipient:
        raise refuse("sending", 1, "sender is the same as recipient")
    if move.sender is None:
        held = account.bank.get(USDC_DENOM, 0)
        if held < move.quantums:
            raise refuse("sdk", 5, f"{held} is smaller than {move.quantums}: insufficient funds")
        return
    after = ledger.subaccount(move.sender).copy()
    after.usdc -= move.quantums
    if ledger.free_collateral(after) < 0:
        raise refuse(
            "subaccounts",
            102,
            "Subaccount with id failed with UpdateResult: NewlyUndercollateralized: failed to apply "
            "subaccount updates",
        )


def simulated_gas(size: int) -> int:
    """Return the gas that a transaction of such a size uses."""
    return 100_000 + 20 * size


def take_fee(account: Account, tx: Tx) -> None:
    """Take the fee of a transaction that pays one.

    Raises:
        Refused: It offers too little, or has not got it.
    """
    if tx.gas_limit < simulated_gas(tx.size):
        raise refuse("sdk", 11, f"out of gas in location: gasWanted: {tx.gas_limit}: out of gas")
    for denom, amount in tx.fee:
        if denom in _GAS_PRICE:
            price, per = _GAS_PRICE[denom]
            if amount * per >= tx.gas_limit * price:
                if account.bank.get(denom, 0) < amount:
                    raise refuse("sdk", 5, f"the account holds less than {amount}{denom}")
                account.bank[denom] -= amount
                return
    raise refuse("sdk", 13, f"insufficient fees; got: {tx.fee}: insufficient fee")
