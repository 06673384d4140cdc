"""The indexer's REST door: paths, parameters, errors."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tradegw_dydx.localnet.faults import FaultKind, Faults
from tradegw_dydx.localnet.genesis import Settings
from tradegw_dydx.localnet.indexer import Indexer, State, fill_json, levels, trade_json
from tradegw_dydx.localnet.ledger import Ledger, Pair
from tradegw_dydx.localnet.terms import OrderId, SubaccountId, order_uuid
from tradegw_dydx.localnet.views import (
    Json,
    OrderRow,
    asset_json,
    dollars,
    iso,
    market_json,
    order_json,
    plain,
    position_json,
    price_of,
    size_of,
)

__all__ = ["Rest"]

_LIMIT_MAX: Final = 1000
_WINDOW_S: Final = 10.0
_LEVELS_MAX: Final = 100
_CLIENTS_MAX: Final = 10_000
_STATUSES: Final = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    429: "Too many requests",
}
_RECENT_BLOCKS: Final = 20


class _Problem(Exception):
    def __init__(self, status: int, text: str, param: str | None = None) -> None:
        super().__init__(text)
        self.status = status
        error: Json = {"msg": text}
        if param is not None:
            error |= {"param": param, "location": "query"}
        self.body = {"errors": [error]}


class Rest:
    """Answers from the indexer's state, or from an older copy of it."""

    def __init__(self, indexer: Indexer, faults: Faults, settings: Settings) -> None:
        self._indexer = indexer
        self._faults = faults
        self._settings = settings
        self._stale: State | None = None
        self._requests: OrderedDict[str, deque[float]] = OrderedDict()
        faults.listen(self._keep_stale)

    def routes(self) -> list[Route]:
        """Return what is served."""
        paths: dict[str, Callable[[Request], Json | list[Json]]] = {
            "/v4/height": self._height,
            "/v4/time": self._time,
            "/v4/perpetualMarkets": self._markets,
            "/v4/addresses/{address}": self._address,
            "/v4/addresses/{address}/subaccountNumber/{number:int}": self._subaccount,
            "/v4/perpetualPositions": self._positions,
            "/v4/assetPositions": self._assets,
            "/v4/orders": self._orders,
            "/v4/orders/{uuid}": self._order,
            "/v4/fills": self._fills,
            "/v4/transfers": self._transfers,
            "/v4/trades/perpetualMarket/{ticker}": self._trades,
            "/v4/orderbooks/perpetualMarket/{ticker}": self._orderbook,
        }
        return [Route(path, self._guarded(answer)) for path, answer in paths.items()]

    def _guarded(
        self, answer: Callable[[Request], Json | list[Json]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            path = request.url.path
            slow = self._faults.take(FaultKind.REST_SLOW, method=path)
            if slow is not None:
                await asyncio.sleep(slow.delay_s)
            error = self._faults.take(FaultKind.REST_ERROR, method=path)
            if error is not None and error.status != 429:
                text = _STATUSES.get(error.status, "Internal Server Error")
                return JSONResponse({"errors": [{"msg": text}]}, error.status)
            headers = self._count(request, is_over=error is not None)
            if "Retry-After" in headers:
                return JSONResponse({"errors": [{"msg": "Too many requests"}]}, 429, headers)
            try:
                return JSONResponse(answer(request), headers=headers)
            except _Problem as e:
                return JSONResponse(e.body, e.status, headers)
            except ValueError:
                text = f"a parameter cannot be read: {str(request.query_params)[:200]}"
                return JSONResponse({"errors": [{"msg": text}]}, 400, headers)

        return serve

    def _count(self, request: Request, *, is_over: bool) -> dict[str, str]:
        """Count a request of its address; say so in the venue's headers, whose times are milliseconds."""
        host = request.client.host if request.client else ""
        times = self._requests.setdefault(host, deque())
        self._requests.move_to_end(host)
        if len(self._requests) > _CLIENTS_MAX:
            self._requests.popitem(last=False)
        now = time.monotonic()
        while times and times[0] <= now - _WINDOW_S:
            times.popleft()
        limit = self._settings.requests_per_window
        is_over = is_over or len(times) >= limit
        if not is_over:
            times.append(now)
        left_s = _WINDOW_S - (now - times[0]) if times else _WINDOW_S
        headers = {
            "RateLimit-Limit": str(limit),
            "RateLimit-Remaining": str(0 if is_over else limit - len(times)),
            "RateLimit-Reset": str(int((time.time() + left_s) * 1000)),
        }
        if is_over:
            headers["Retry-After"] = str(int(left_s * 1000))
        return headers

    def _keep_stale(self) -> None:
        is_stale = self._faults.standing(FaultKind.REST_STALE) is not None
        if not is_stale:
            self._stale = None
        elif self._stale is None:
            self._stale = self._indexer.snapshot()

    @property
    def state(self) -> State:
        """What REST shows."""
        return self._stale or self._indexer.state

    # Paths

    def _height(self, request: Request) -> Json:
        return {"height": str(self.state.height), "time": iso(self.state.time_ns)}

    def _time(self, request: Request) -> Json:
        now_ns = time.time_ns()
        return {"iso": iso(now_ns), "epoch": now_ns / 1e9}

    def _markets(self, request: Request) -> Json:
        query = request.query_params
        if "ticker" in query and "market" in query:
            raise _Problem(400, "ticker and market cannot both be given", "ticker")
        ticker = query.get("ticker") or query.get("market")
        pairs = list(self.state.pairs.values())
        if ticker is not None:
            pairs = [self._pair(ticker)]
        return {"markets": {pair.ticker: market_json(pair) for pair in pairs[: _limit(request)]}}

    def _pair(self, ticker: str) -> Pair:
        for pair in self.state.pairs.values():
            if pair.ticker == ticker:
                return pair
        raise _Problem(404, f"Unable to find a market with ticker: {ticker}")

    def _address(self, request: Request) -> Json:
        address = str(request.path_params["address"])
        found = [key for key in self.state.subaccounts if key.owner == address]
        if not found:
            raise _Problem(404, f"No subaccounts found for address {address}")
        return {
            "subaccounts": [subaccount_json(self.state, key) for key in found],
            "totalTradingRewards": "0",
        }

    def _subaccount(self, request: Request) -> Json:
        key = SubaccountId(str(request.path_params["address"]), int(request.path_params["number"]))
        try:
            return {"subaccount": subaccount_json(self.state, key)}
        except LookupError as e:
            raise _Problem(404, str(e.args[0])) from None

    def _positions(self, request: Request) -> Json:
        key = self._key(request)
        positions = [p for (owner, _), p in self.state.positions.items() if owner == key]
        positions += [p for p in reversed(self.state.closed) if p.subaccount == key]
        shown = [position_json(p, self.state.pairs[p.clob_pair_id]) for p in positions]
        wanted = request.query_params.get("status")
        if wanted:
            shown = [item for item in shown if item["status"] in wanted.split(",")]
        return {"positions": shown[: _limit(request)]}

    def _assets(self, request: Request) -> Json:
        key = self._key(request)
        item = self.state.subaccounts.get(key)
        return {"positions": [] if item is None else [asset_json(key, item.usdc)]}

    def _orders(self, request: Request) -> list[Json]:
        query = request.query_params
        latest = query.get("returnLatestOrders")
        if latest is not None and latest not in ("true", "false", "1", "0"):
            raise _Problem(400, "returnLatestOrders must be a boolean", "returnLatestOrders")
        key = self._key(request)
        shown = orders_of(self.state, key)
        shown = [order for order in shown if _fits(order, query.multi_items())]
        shown.sort(key=_end_of, reverse=latest not in ("false", "0"))
        return shown[: _limit(request)]

    def _order(self, request: Request) -> Json:
        uuid = str(request.path_params["uuid"])
        for known in (self.state.rows, self.state.live):
            for order_id, row in known.items():
                if order_uuid(order_id) == uuid:
                    return order_json(row, self.state.pairs[order_id.clob_pair_id])
        raise _Problem(404, f"Unable to find order id {uuid}")

    def _fills(self, request: Request) -> Json:
        query = request.query_params
        if ("market" in query) != ("marketType" in query):
            raise _Problem(400, "market and marketType must both be given, or neither", "market")
        key = self._key(request)
        rows = [
            row
            for row in self.state.fills
            if row.subaccount == key
            and (
                "market" not in query
                or self.state.pairs[row.fill.order.order_id.clob_pair_id].ticker == query["market"]
            )
            and row.height <= _whole(request, "createdBeforeOrAtHeight", row.height)
        ]
        limit = _limit(request)
        if "page" not in query:
            page = rows[::-1][:limit]
            extra: Json = {}
        else:
            start = (max(1, _whole(request, "page", 1)) - 1) * limit
            page = rows[start : start + limit]
            extra = {"pageSize": limit, "totalResults": len(rows), "offset": start}
        fills = [
            fill_json(row, self.state.pairs[_market_of(row.fill.order.order_id)]) for row in page
        ]
        return {"fills": fills, **extra}

    def _transfers(self, request: Request) -> Json:
        key = self._key(request)
        mine = [
            transfer
            for transfer in self.state.transfers
            if any(
                end.get("address") == key.owner and end.get("subaccountNumber", 0) == key.number
                for end in (transfer["sender"], transfer["recipient"])
            )
        ]
        return {"transfers": mine[::-1][: _limit(request)]}

    def _trades(self, request: Request) -> Json:
        pair = self._pair(str(request.path_params["ticker"]))
        found = [
            trade_json(trade, pair)
            for trade in reversed(self.state.trades)
            if trade.clob_pair_id == pair.clob_pair_id
        ]
        return {"trades": found[: _limit(request)]}

    def _orderbook(self, request: Request) -> Json:
        return orderbook_json(self.state, self._pair(str(request.path_params["ticker"])))

    def _key(self, request: Request) -> SubaccountId:
        address = request.query_params.get("address")
        if not address:
            raise _Problem(400, "address must be a valid dydx address", "address")
        return SubaccountId(address, _whole(request, "subaccountNumber", 0))

    # First contents of the streams

    def initial(self, channel: str, subject: str) -> Json:
        """Return what a channel begins with.

        Raises:
            LookupError: There is no such thing.
        """
        state = self.state
        match channel:
            case "v4_subaccounts":
                return self._initial_subaccount(subject)
            case "v4_markets":
                return {"markets": {p.ticker: market_json(p) for p in state.pairs.values()}}
            case "v4_block_height":
                return {"height": str(state.height), "time": iso(state.time_ns)}
            case "v4_orderbook" | "v4_trades":
                try:
                    pair = self._pair(subject)
                except _Problem:
                    raise LookupError(f"Invalid id: {subject}") from None
                if channel == "v4_orderbook":
                    return orderbook_json(state, pair)
                trades = [t for t in state.trades if t.clob_pair_id == pair.clob_pair_id]
                return {"trades": [trade_json(t, pair) for t in trades[: -_LEVELS_MAX - 1 : -1]]}
            case _:
                raise LookupError(f"the local indexer has no channel {channel}")

    def _initial_subaccount(self, subject: str) -> Json:
        owner, slash, number = subject.rpartition("/")
        if not slash or not number.isascii() or not number.isdigit():
            raise LookupError(f"Invalid id: {subject}")
        key = SubaccountId(owner, int(number))
        state = self.state
        if key not in state.subaccounts:
            return {}
        shown = [
            order
            for order in orders_of(state, key)
            if order["status"] in ("OPEN", "UNTRIGGERED", "BEST_EFFORT_OPENED")
            or (
                order["status"] == "BEST_EFFORT_CANCELED"
                and int(order.get("goodTilBlock", 0)) > state.height - _RECENT_BLOCKS
            )
        ]
        return {
            "subaccount": subaccount_json(state, key),
            "orders": shown,
            "blockHeight": str(state.height),
        }


def _market_of(order_id: OrderId) -> int:
    return order_id.clob_pair_id


def _limit(request: Request) -> int:
    limit = _whole(request, "limit", _LIMIT_MAX)
    if not 1 <= limit <= _LIMIT_MAX:
        raise _Problem(
            400, f"limit must be a positive integer that is not greater than {_LIMIT_MAX}", "limit"
        )
    return limit


def _whole(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise _Problem(400, f"{name} must be a non-negative integer", name)
    return int(text)


def _fits(order: Json, query: Sequence[tuple[str, str]]) -> bool:
    for name, value in query:
        match name:
            case "status" if order["status"] not in value.split(","):
                return False
            case "ticker" | "side" | "type" if order[name] != value:
                return False
            case "includeTypes" if order["type"] not in value.split(","):
                return False
            case "excludeTypes" if order["type"] in value.split(","):
                return False
            case "goodTilBlockBeforeOrAt" if int(order.get("goodTilBlock", 0)) > int(value):
                return False
            case "goodTilBlockAfter" if int(order.get("goodTilBlock", 2**32)) <= int(value):
                return False
            case _:
                continue
    return True


def _end_of(order: Json) -> tuple[int, str]:
    # What has no block to end at leads.
    return int(order.get("goodTilBlock", 2**40)), str(order.get("goodTilBlockTime", ""))


def orders_of(state: State, key: SubaccountId) -> list[Json]:
    """List the orders of a subaccount, remembered and stored."""
    found: dict[OrderId, OrderRow] = {}
    for known in (state.live, state.rows):
        found.update(
            (order_id, row) for order_id, row in known.items() if order_id.subaccount == key
        )
    return [order_json(row, state.pairs[order_id.clob_pair_id]) for order_id, row in found.items()]


def subaccount_json(state: State, key: SubaccountId) -> Json:
    """Show a subaccount.

    Raises:
        LookupError: It was never funded.
    """
    item = state.subaccounts.get(key)
    if item is None:
        raise LookupError(
            f"No subaccount found with address {key.owner} and subaccountNumber {key.number}"
        )
    ledger = Ledger(state.pairs, taker_fee_ppm=0, maker_fee_ppm=0)
    positions = {
        state.pairs[pair].ticker: position_json(position, state.pairs[pair])
        for (owner, pair), position in state.positions.items()
        if owner == key
    }
    return {
        "address": key.owner,
        "subaccountNumber": key.number,
        "equity": plain(dollars(ledger.equity(item))),
        "freeCollateral": plain(dollars(ledger.free_collateral(item))),
        "openPerpetualPositions": positions,
        "assetPositions": {"USDC": asset_json(key, item.usdc)},
        "marginEnabled": True,
        "updatedAtHeight": str(state.updated.get(key, 0)),
        "latestProcessedBlockHeight": str(state.height),
    }


def orderbook_json(state: State, pair: Pair) -> Json:
    """Show a market's book."""

    def side(*, is_buy: bool) -> list[Json]:
        found = list(levels(state, pair.clob_pair_id, is_buy=is_buy).items())[:_LEVELS_MAX]
        return [
            {"price": plain(price_of(pair, subticks)), "size": plain(size_of(pair, left))}
            for subticks, left in found
        ]

    return {"bids": side(is_buy=True), "asks": side(is_buy=False)}
