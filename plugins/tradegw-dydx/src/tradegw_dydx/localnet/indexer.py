"""What the world is told: orders, fills, positions, books, some blocks late. Pure.

Two memories, as the real one has: short-term orders that live are remembered and forgotten (`live`); what
was filled, or stands in the chain's state, has a row for good (`rows`). A short-term order that ends unfilled
leaves no trace.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from tradegw_dydx.localnet.chain import Facts
from tradegw_dydx.localnet.ledger import Fill, Pair, Subaccount
from tradegw_dydx.localnet.memclob import Matched, Opened, Reason, Removed
from tradegw_dydx.localnet.network import Told
from tradegw_dydx.localnet.terms import (
    Flags,
    Order,
    OrderId,
    SubaccountId,
    order_uuid,
    subaccount_uuid,
)
from tradegw_dydx.localnet.views import (
    Json,
    OrderRow,
    Position,
    asset_json,
    dollars,
    iso,
    market_json,
    order_json,
    plain,
    position_stream_json,
    price_of,
    size_of,
    unknown_order_json,
)

__all__ = [
    "FillRow",
    "Indexer",
    "Publish",
    "State",
    "TradeRow",
    "fill_json",
    "levels",
    "trade_json",
]

Publish = Callable[[str, str, Json], None]
_HISTORY_MAX: Final = 100_000
_ROWS_MAX: Final = 200_000
_WINDOW: Final = 40
_NAMESPACE: Final = uuid.UUID("0f9da948-a6fb-4c45-9edc-4685c3f3317d")


@dataclass(frozen=True, slots=True, kw_only=True)
class FillRow:
    """One side of a trade."""

    fill_id: str
    event_id: str
    fill: Fill
    height: int
    time_ns: int

    @property
    def subaccount(self) -> SubaccountId:
        """Whose it is."""
        return self.fill.order.order_id.subaccount


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeRow:
    """A trade as everybody sees it."""

    trade_id: str
    clob_pair_id: int
    is_buy: bool
    quantums: int
    subticks: int
    height: int
    time_ns: int


@dataclass(slots=True)
class State:
    """All that REST shows. A copy of it is REST's view when that is stale."""

    height: int = 0
    time_ns: int = 0
    live: dict[OrderId, OrderRow] = field(default_factory=dict[OrderId, OrderRow])
    rows: dict[OrderId, OrderRow] = field(default_factory=dict[OrderId, OrderRow])
    cancelled: dict[OrderId, tuple[str, int]] = field(
        default_factory=dict[OrderId, tuple[str, int]]
    )
    fills: list[FillRow] = field(default_factory=list[FillRow])
    trades: list[TradeRow] = field(default_factory=list[TradeRow])
    positions: dict[tuple[SubaccountId, int], Position] = field(
        default_factory=dict[tuple[SubaccountId, int], Position]
    )
    closed: list[Position] = field(default_factory=list[Position])
    subaccounts: dict[SubaccountId, Subaccount] = field(
        default_factory=dict[SubaccountId, Subaccount]
    )
    updated: dict[SubaccountId, int] = field(default_factory=dict[SubaccountId, int])
    pairs: dict[int, Pair] = field(default_factory=dict[int, Pair])
    transfers: list[Json] = field(default_factory=list[Json])


class Indexer:
    """Follows the chain, and says what changes to whoever subscribed.

    Attributes:
        state: What it knows now.
    """

    def __init__(self, publish: Publish) -> None:
        self.state = State()
        self._publish = publish
        self._event = 0

    # Following

    def hear(self, told: Told) -> None:
        """Take one piece of news."""
        match told.what:
            case Facts():
                self._hear_block(told.what)
            case Opened():
                self._hear_opened(told.what)
            case Matched():
                known = self.state.live if told.what.order_id.is_short_term else self.state.rows
                row = known.get(told.what.order_id)
                if row is not None:
                    row.matched = told.what.total_filled
            case Removed():
                self._hear_removed(told.what)

    def forget_live(self) -> None:
        """Start again: which short-term orders live is not stored anywhere."""
        self.state.live.clear()
        self.state.cancelled.clear()

    def snapshot(self) -> State:
        """Copy what it knows, as of now."""
        state = self.state
        return State(
            height=state.height,
            time_ns=state.time_ns,
            live={key: copy(row) for key, row in state.live.items()},
            rows={key: copy(row) for key, row in state.rows.items()},
            cancelled=dict(state.cancelled),
            fills=list(state.fills),
            trades=list(state.trades),
            positions={key: copy(item) for key, item in state.positions.items()},
            closed=list(state.closed),
            subaccounts={key: item.copy() for key, item in state.subaccounts.items()},
            updated=dict(state.updated),
            pairs=dict(state.pairs),
            transfers=list(state.transfers),
        )

    def _hear_opened(self, opened: Opened) -> None:
        order = opened.order
        state = self.state
        state.cancelled.pop(order.order_id, None)
        row = OrderRow(order=order, status="BEST_EFFORT_OPENED")
        known = state.rows.get(order.order_id)
        if known is not None:
            row.total_filled = known.total_filled
            known.order = order
            if known.status != "FILLED":
                known.status = "OPEN"
        state.live[order.order_id] = row
        self._publish_orders(order.order_id.subaccount, row)

    def _hear_removed(self, removed: Removed) -> None:
        state = self.state
        order_id = removed.order_id
        status = "CANCELED" if removed.is_final else "BEST_EFFORT_CANCELED"
        live = state.live.pop(order_id, None)
        row = state.rows.get(order_id)
        if row is not None and row.status == "FILLED":
            return
        if removed.reason != Reason.REPLACED:
            end = state.height + _WINDOW if removed.order is None else removed.order.good_til_block
            state.cancelled[order_id] = (status, end)
        if row is not None:
            row.status = status
            row.removal_reason = removed.reason
        if live is None and row is None:
            pair = state.pairs.get(order_id.clob_pair_id)
            if pair is not None:
                shown = unknown_order_json(order_id, pair, status, removed.reason)
                self._publish_subaccount(order_id.subaccount, {"orders": [shown]})
            return
        told = copy(row or live)
        assert told is not None
        told.status, told.removal_reason = status, removed.reason
        self._publish_orders(order_id.subaccount, told)

    def _hear_block(self, facts: Facts) -> None:
        state = self.state
        state.height, state.time_ns = facts.height, facts.time_ns
        self._hear_pairs(facts)
        self._hear_transfers(facts)
        self._hear_fills(facts)
        for subaccount, item in facts.subaccounts.items():
            state.subaccounts[subaccount] = item
            state.updated[subaccount] = facts.height
            self._publish_subaccount(
                subaccount, {"assetPositions": [self._asset_update(subaccount, item)]}
            )
        for order in facts.placed:
            status = "UNTRIGGERED" if order.order_id.flags == Flags.CONDITIONAL else "OPEN"
            self._store(order, status, facts)
        for order in facts.triggered:
            self._store(order, "OPEN", facts)
        for order, reason in facts.removed:
            self._store(order, "CANCELED", facts, reason)
        for order_id in [key for key, (_, end) in state.cancelled.items() if end < facts.height]:
            del state.cancelled[order_id]
        while len(state.rows) > _ROWS_MAX:
            del state.rows[next(iter(state.rows))]
        self._publish(
            "v4_block_height",
            "v4_block_height",
            {"blockHeight": str(facts.height), "time": iso(facts.time_ns)},
        )

    def _hear_pairs(self, facts: Facts) -> None:
        state = self.state
        prices: Json = {}
        trading: Json = {}
        for number, pair in facts.pairs.items():
            before = state.pairs.get(number)
            if before is not None and before.oracle_price != pair.oracle_price:
                prices[pair.ticker] = {
                    "oraclePrice": plain(Decimal(pair.oracle_price).scaleb(pair.price_exponent)),
                    "effectiveAt": iso(facts.time_ns),
                    "effectiveAtHeight": str(facts.height),
                    "marketId": number,
                }
            if before is not None and _terms(before) != _terms(pair):
                trading[pair.ticker] = _terms(pair)
        state.pairs = facts.pairs
        if prices:
            self._publish("v4_markets", "v4_markets", {"oraclePrices": prices})
        if trading:
            self._publish("v4_markets", "v4_markets", {"trading": trading})

    def _hear_transfers(self, facts: Facts) -> None:
        for move in facts.transfers:
            kind = "TRANSFER_IN"
            if move.sender is None:
                kind = "DEPOSIT"
            elif isinstance(move.recipient, str):
                kind = "WITHDRAWAL"
            shown: Json = {
                "sender": _end(move.owner if move.sender is None else move.sender),
                "recipient": _end(move.recipient),
                "symbol": "USDC",
                "size": plain(dollars(move.quantums)),
                "type": kind,
                "createdAt": iso(facts.time_ns),
                "createdAtHeight": str(facts.height),
                "transactionHash": "",
            }
            self.state.transfers.append(shown)
            del self.state.transfers[:-_HISTORY_MAX]
            ends = {end for end in (move.sender, move.recipient) if isinstance(end, SubaccountId)}
            for end in ends:
                sent = kind == "TRANSFER_IN" and end == move.sender
                own = {**shown, "type": "TRANSFER_OUT"} if sent else shown
                self._publish_subaccount(end, {"transfers": own})

    # Fills

    def _hear_fills(self, facts: Facts) -> None:
        by_order: dict[OrderId, list[FillRow]] = {}
        for match in facts.fills:
            self._event += 1
            event_id = f"{facts.height:08x}{self._event:016x}"
            for fill in match:
                row = FillRow(
                    fill_id=str(uuid.uuid5(_NAMESPACE, f"{event_id}-{fill.is_taker}")),
                    event_id=event_id,
                    fill=fill,
                    height=facts.height,
                    time_ns=facts.time_ns,
                )
                self.state.fills.append(row)
                by_order.setdefault(fill.order.order_id, []).append(row)
                self._move_position(row)
            self._trade(match[1], event_id, facts)
        for order_id, rows in by_order.items():
            self._tell_fills(order_id, rows, facts)
        del self.state.fills[:-_HISTORY_MAX]
        del self.state.trades[:-_HISTORY_MAX]

    def _trade(self, taker: Fill, event_id: str, facts: Facts) -> None:
        trade = TradeRow(
            trade_id=event_id,
            clob_pair_id=taker.order.order_id.clob_pair_id,
            is_buy=taker.order.is_buy,
            quantums=taker.quantums,
            subticks=taker.subticks,
            height=facts.height,
            time_ns=facts.time_ns,
        )
        self.state.trades.append(trade)
        pair = self.state.pairs[trade.clob_pair_id]
        self._publish("v4_trades", pair.ticker, {"trades": [trade_json(trade, pair)]})

    def _tell_fills(self, order_id: OrderId, fills: list[FillRow], facts: Facts) -> None:
        state = self.state
        order = fills[-1].fill.order
        pair = state.pairs[order_id.clob_pair_id]
        row = state.rows.get(order_id)
        if row is None:
            row = state.rows[order_id] = OrderRow(order=order, status="OPEN", is_stored=True)
        live = state.live.get(order_id)
        row.order = order if live is None else live.order
        row.total_filled = fills[-1].fill.total_filled
        row.updated_height, row.updated_ns = facts.height, facts.time_ns
        if row.total_filled >= row.order.quantums:
            row.status, row.removal_reason = "FILLED", None
            state.live.pop(order_id, None)
        elif not order_id.is_short_term:
            row.status = "OPEN"
        elif row.order.is_immediate:
            row.status = "CANCELED"
        else:
            row.status, _ = state.cancelled.get(order_id, ("OPEN", 0))
        if live is not None:
            live.total_filled = max(live.total_filled, row.total_filled)
        contents: Json = {
            "orders": [order_json(row, pair, is_stream=True)],
            "fills": [fill_stream_json(item, pair) for item in fills],
        }
        position = state.positions.get((order_id.subaccount, order_id.clob_pair_id))
        closed = [] if position else [p for p in state.closed[-50:] if _is_of(p, order_id)][-1:]
        shown = [position] if position else closed
        contents["perpetualPositions"] = [position_stream_json(item, pair) for item in shown]
        self._publish_subaccount(order_id.subaccount, contents)

    def _move_position(self, row: FillRow) -> None:
        fill = row.fill
        pair = self.state.pairs[fill.order.order_id.clob_pair_id]
        key = (row.subaccount, pair.clob_pair_id)
        change = size_of(pair, fill.quantums if fill.order.is_buy else -fill.quantums)
        price = price_of(pair, fill.subticks)
        position = self.state.positions.get(key)
        if position is not None and (position.size > 0) != (change > 0):
            closing = min(abs(change), abs(position.size))
            sign = 1 if change > 0 else -1
            position.sum_close += closing
            position.closed_value += closing * price
            position.size += sign * closing
            change -= sign * closing
            if not position.size:
                position.closed_height, position.closed_ns = row.height, row.time_ns
                self.state.closed.append(position)
                del self.state.closed[:-_HISTORY_MAX]
                del self.state.positions[key]
                position = None
        if not change:
            return
        if position is None:
            position = self.state.positions[key] = Position(
                subaccount=row.subaccount,
                clob_pair_id=pair.clob_pair_id,
                opened_height=row.height,
                opened_ns=row.time_ns,
            )
        position.sum_open += abs(change)
        position.opened_value += abs(change) * price
        position.size += change
        if abs(position.size) > abs(position.max_size):
            position.max_size = position.size

    # Rows and messages

    def _store(self, order: Order, status: str, facts: Facts, reason: str | None = None) -> None:
        row = self.state.rows.get(order.order_id)
        if row is None or status == "UNTRIGGERED" or (status == "OPEN" and not row.is_stored):
            row = OrderRow(order=order, status=status, created_height=facts.height)
            self.state.rows[order.order_id] = row
        elif order in facts.placed:
            # The id of an order that has left the state, used again.
            row.order, row.total_filled, row.created_height = order, 0, facts.height
        row.is_stored = True
        row.status, row.removal_reason = status, reason
        row.updated_height, row.updated_ns = facts.height, facts.time_ns
        self._publish_orders(order.order_id.subaccount, row)

    def _publish_orders(self, subaccount: SubaccountId, row: OrderRow) -> None:
        pair = self.state.pairs.get(row.order.order_id.clob_pair_id)
        if pair is not None:
            shown = order_json(row, pair, is_stream=True)
            if row.removal_reason is not None and not row.is_stored:
                shown["totalOptimisticFilled"] = shown.pop("totalFilled")
            self._publish_subaccount(subaccount, {"orders": [shown]})

    def _publish_subaccount(self, subaccount: SubaccountId, contents: Json) -> None:
        contents["blockHeight"] = str(self.state.height)
        self._publish("v4_subaccounts", f"{subaccount.owner}/{subaccount.number}", contents)

    def _asset_update(self, subaccount: SubaccountId, item: Subaccount) -> Json:
        shown = asset_json(subaccount, item.usdc)
        return {
            "address": subaccount.owner,
            "subaccountNumber": subaccount.number,
            "positionId": subaccount_uuid(subaccount),
            "assetId": shown["assetId"],
            "symbol": shown["symbol"],
            "side": shown["side"],
            "size": shown["size"],
        }


def _is_of(position: Position, order_id: OrderId) -> bool:
    return (position.subaccount, position.clob_pair_id) == (
        order_id.subaccount,
        order_id.clob_pair_id,
    )


def _end(end: SubaccountId | str) -> Json:
    if isinstance(end, str):
        return {"address": end}
    return {"address": end.owner, "subaccountNumber": end.number}


def _terms(pair: Pair) -> Json:
    shown = market_json(pair)
    del shown["oraclePrice"]
    return shown


def trade_json(trade: TradeRow, pair: Pair) -> Json:
    """Show a trade."""
    return {
        "id": trade.trade_id,
        "side": "BUY" if trade.is_buy else "SELL",
        "size": plain(size_of(pair, trade.quantums)),
        "price": plain(price_of(pair, trade.subticks)),
        "type": "LIMIT",
        "createdAt": iso(trade.time_ns),
        "createdAtHeight": str(trade.height),
    }


def fill_json(row: FillRow, pair: Pair) -> Json:
    """Show a fill, as REST does."""
    fill = row.fill
    before = fill.position_before
    shown: Json = {
        "id": row.fill_id,
        "side": "BUY" if fill.order.is_buy else "SELL",
        "liquidity": "TAKER" if fill.is_taker else "MAKER",
        "type": "LIMIT",
        "market": pair.ticker,
        "marketType": "PERPETUAL",
        "price": plain(price_of(pair, fill.subticks)),
        "size": plain(size_of(pair, fill.quantums)),
        "fee": plain(dollars(fill.fee)),
        "affiliateRevShare": "0",
        "createdAt": iso(row.time_ns),
        "createdAtHeight": str(row.height),
        "orderId": order_uuid(fill.order.order_id),
        "clientMetadata": str(fill.order.client_metadata),
        "subaccountNumber": row.subaccount.number,
        "positionSizeBefore": plain(size_of(pair, before)),
    }
    if before:
        shown["positionSideBefore"] = "LONG" if before > 0 else "SHORT"
    return shown


def fill_stream_json(row: FillRow, pair: Pair) -> Json:
    """Show a fill, as a stream does: the market's name goes by another key."""
    shown = fill_json(row, pair)
    for name in ("market", "marketType", "subaccountNumber", "positionSizeBefore"):
        del shown[name]
    shown.pop("positionSideBefore", None)
    order_id = row.fill.order.order_id
    shown.update(
        subaccountId=subaccount_uuid(order_id.subaccount),
        clobPairId=str(order_id.clob_pair_id),
        quoteAmount=plain(dollars(row.fill.quote_quantums)),
        eventId=row.event_id,
        transactionHash="",
        ticker=pair.ticker,
    )
    return shown


def levels(state: State, clob_pair_id: int, *, is_buy: bool) -> dict[int, int]:
    """Add up what rests at each price, best first."""
    found: dict[int, int] = {}
    stateful: Iterable[OrderRow] = (
        row
        for key, row in state.rows.items()
        if not key.is_short_term and row.status == "OPEN" and not row.order.is_immediate
    )
    for row in (*state.live.values(), *stateful):
        order = row.order
        if order.order_id.clob_pair_id == clob_pair_id and order.is_buy == is_buy:
            left = order.quantums - max(row.total_filled, row.matched)
            if left > 0 and not order.is_immediate:
                found[order.subticks] = found.get(order.subticks, 0) + left
    return dict(sorted(found.items(), reverse=is_buy))
