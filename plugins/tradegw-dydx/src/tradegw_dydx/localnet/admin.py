"""The admin door, under `/admin` on the indexer's port: blocks by command, faults, prices, the truth."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tradegw_dydx.localnet.faults import Fault, FaultSpec
from tradegw_dydx.localnet.ledger import STATUS_NAMES, Pair
from tradegw_dydx.localnet.network import Network
from tradegw_dydx.localnet.terms import OrderId, Side, order_uuid
from tradegw_dydx.localnet.views import EXACT, Json, dollars, plain, size_of

if TYPE_CHECKING:
    from tradegw_dydx.localnet.localnet import Localnet

__all__ = ["admin_routes", "ledger_json"]

_BLOCKS_MAX = 10_000
StructT = TypeVar("StructT", bound=Struct)


class _Step(Struct, forbid_unknown_fields=True):
    blocks: int = 1


class _BlockTime(Struct, forbid_unknown_fields=True):
    block_time_s: float


class _Oracle(Struct, forbid_unknown_fields=True):
    ticker: str
    price: Decimal


class _Market(Struct, forbid_unknown_fields=True):
    ticker: str
    status: str | None = None
    subticks_per_tick: int | None = None
    step_base_quantums: int | None = None


class _Trade(Struct, forbid_unknown_fields=True):
    ticker: str
    side: str
    size: Decimal
    price: Decimal


class _Bad(Exception):
    pass


def admin_routes(localnet: Localnet) -> list[Route]:
    """Return what is served."""

    def route(
        path: str, answer: Callable[[Request], Awaitable[Json | list[Json]]], method: str
    ) -> Route:
        async def serve(request: Request) -> Response:
            try:
                return JSONResponse(await answer(request))
            except (_Bad, ValueError, msgspec.DecodeError) as e:
                return JSONResponse({"errors": [{"msg": str(e)}]}, 400)
            except LookupError as e:
                return JSONResponse({"errors": [{"msg": str(e.args[0])}]}, 404)

        return Route(f"/admin{path}", serve, methods=[method])

    async def status(request: Request) -> Json:
        return _status(localnet)

    async def step(request: Request) -> Json:
        told = await _read(request, _Step)
        if not 1 <= told.blocks <= _BLOCKS_MAX:
            raise _Bad(f"blocks is 1 to {_BLOCKS_MAX}; found {told.blocks}")
        await localnet.step(told.blocks)
        return _status(localnet)

    async def block_time(request: Request) -> Json:
        localnet.set_block_time((await _read(request, _BlockTime)).block_time_s)
        return _status(localnet)

    async def oracle(request: Request) -> Json:
        told = await _read(request, _Oracle)
        localnet.set_oracle(told.ticker, told.price)
        return _status(localnet)

    async def market(request: Request) -> Json:
        _change_market(localnet.network, await _read(request, _Market))
        return _status(localnet)

    async def trade(request: Request) -> Json:
        told = await _read(request, _Trade)
        localnet.trade(told.ticker, told.side, told.size, told.price)
        return _status(localnet)

    async def add_fault(request: Request) -> Json:
        fault = localnet.faults.add(await _read(request, FaultSpec))
        await localnet.settle()
        return _fault(fault)

    async def list_faults(request: Request) -> list[Json]:
        return [_fault(fault) for fault in localnet.faults.list_faults()]

    async def remove_fault(request: Request) -> Json:
        number = int(request.path_params["number"])
        fault = localnet.faults.remove(number)
        if fault is None:
            raise LookupError(f"there is no fault {number}")
        await localnet.settle()
        return _fault(fault)

    async def clear_faults(request: Request) -> Json:
        localnet.faults.clear()
        await localnet.settle()
        return {}

    async def ledger(request: Request) -> Json:
        return ledger_json(localnet.network)

    return [
        route("", status, "GET"),
        route("/step", step, "POST"),
        route("/block-time", block_time, "POST"),
        route("/oracle", oracle, "POST"),
        route("/market", market, "POST"),
        route("/trade", trade, "POST"),
        route("/faults", add_fault, "POST"),
        route("/faults", list_faults, "GET"),
        route("/faults", clear_faults, "DELETE"),
        route("/faults/{number:int}", remove_fault, "DELETE"),
        route("/ledger", ledger, "GET"),
    ]


async def _read(request: Request, kind: type[StructT]) -> StructT:
    return msgspec.json.decode(await request.body() or b"{}", type=kind, strict=False)


def _status(localnet: Localnet) -> Json:
    network = localnet.network
    return {
        "height": network.chain.height,
        "time_ns": network.chain.time_ns,
        "indexer_height": localnet.indexer.state.height,
        "block_time_s": localnet.block_time_s,
        "nodes": [
            {
                "grpc": address,
                "height": node.height,
                "mempool": len(node.mempool),
                "resting": len(node.memclob.resting()),
            }
            for address, node in zip(localnet.grpc_addresses, network.nodes, strict=True)
        ],
    }


def _fault(fault: Fault) -> Json:
    shown: Json = msgspec.to_builtins(fault)
    return shown


def _change_market(network: Network, told: _Market) -> None:
    pair = find_pair(network, told.ticker)
    if told.status is not None:
        known = {name: number for number, name in STATUS_NAMES.items()}
        if told.status not in known:
            raise _Bad(f"status is one of {', '.join(known)}; found {told.status[:40]!r}")
        pair.status = known[told.status]
    for name in ("subticks_per_tick", "step_base_quantums"):
        value = getattr(told, name)
        if value is not None:
            if value < 1:
                raise _Bad(f"{name} is at least 1; found {value}")
            setattr(pair, name, value)


def find_pair(network: Network, ticker: str) -> Pair:
    """Return a market.

    Raises:
        LookupError: There is none of that name.
    """
    for pair in network.chain.pairs.values():
        if pair.ticker == ticker:
            return pair
    raise LookupError(f"there is no market {ticker[:40]!r}")


def finite(value: Decimal) -> Decimal:
    """Return a number that is one.

    Raises:
        ValueError: It is infinite, no number at all, or has too many places.
    """
    if not value.is_finite() or not -30 < value.adjusted() < 30:
        raise ValueError(f"expected a number; found {str(value)[:40]}")
    return value


def quantums_of(pair: Pair, size: Decimal) -> int:
    """Return a size in the market's units.

    Raises:
        ValueError: It is off the grid.
    """
    quantums = finite(size).scaleb(-pair.atomic_resolution, EXACT)
    if quantums <= 0 or quantums % pair.step_base_quantums:
        raise ValueError(f"size {size} is off the grid of {pair.ticker}")
    return int(quantums)


def subticks_of(pair: Pair, price: Decimal) -> int:
    """Return a price in the market's units.

    Raises:
        ValueError: It is off the grid.
    """
    exponent = pair.atomic_resolution - pair.quantum_conversion_exponent + 6
    subticks = finite(price).scaleb(exponent, EXACT)
    if subticks <= 0 or subticks % pair.subticks_per_tick:
        raise ValueError(f"price {price} is off the grid of {pair.ticker}")
    return int(subticks)


def side_of(text: str) -> Side:
    """Return a side by its name.

    Raises:
        ValueError: It is neither.
    """
    if text not in ("BUY", "SELL"):
        raise ValueError(f"side is BUY or SELL; found {text[:40]!r}")
    return Side[text]


def ledger_json(network: Network) -> Json:
    """Show the chain's truth: what was accepted, what was filled, what everybody holds."""
    chain = network.chain
    house = network.house.subaccount
    return {
        "height": chain.height,
        "orders": [
            {
                **_name(order_id),
                "versions": seen.versions,
                "side": Side(seen.order.side).name,
                "size": plain(size_of(chain.pairs[order_id.clob_pair_id], seen.order.quantums)),
                "filled": plain(size_of(chain.pairs[order_id.clob_pair_id], seen.filled)),
                "in_state": order_id in chain.stateful,
            }
            for order_id, seen in network.placed.items()
        ],
        "subaccounts": [
            {
                "owner": key.owner,
                "subaccount": key.number,
                "usdc": plain(dollars(item.usdc)),
                "equity": plain(dollars(chain.ledger.equity(item))),
                "positions": {
                    chain.pairs[pair].ticker: plain(size_of(chain.pairs[pair], held))
                    for pair, held in sorted(item.positions.items())
                },
            }
            for key, item in chain.ledger.subaccounts.items()
            if key != house
        ],
    }


def _name(order_id: OrderId) -> Json:
    shown: dict[str, Any] = {
        name: value for name, value in asdict(order_id).items() if name != "subaccount"
    }
    return {
        "id": order_uuid(order_id),
        "owner": order_id.subaccount.owner,
        "subaccount": order_id.subaccount.number,
        **shown,
    }
