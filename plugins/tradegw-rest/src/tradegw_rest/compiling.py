"""From a definition's text to a `Definition`: every part is checked, and compiled, as it is read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from tradegw import Instrument, OrdType, TimeInForce
from tradegw.venue import (
    BudgetPool,
    BudgetScope,
    BudgetStrategy,
    Capabilities,
    ExpiryKind,
    FillReporting,
    ReplaceKind,
    SendOrder,
)
from tradegw.venue import Operation as EngineOperation
from tradegw_rest.definition import Checked, Definition, Host, Usage
from tradegw_rest.failures import ErrorTable
from tradegw_rest.inputs import Inputs
from tradegw_rest.markets import Listed, Markets
from tradegw_rest.operations import OPERATIONS, Operation, compile_operation
from tradegw_rest.signers import NONCES, SIGNERS
from tradegw_rest.source import Spot, read_source
from tradegw_rest.streams import StreamRecipe
from tradegw_rest.values import Compiler

__all__ = ["CAPABILITY_KEYS", "TOP_KEYS", "compile_definition", "compile_source", "read_instrument"]

TOP_KEYS: Final[Mapping[str, str]] = {
    "definition": "Its name, such as `binance-spot`.",
    "title": "The exchange's name, for people.",
    "checked": "`version`, `date` and `source` of the documentation that it was checked against.",
    "hosts": "Environments: `live`, `test` ..., each with `rest`, and `stream` and `headers` where needed.",
    "signer": "`name`; `nonce` for another source of nonces than the signer's; `key_header` where a clone of "
    "Binance names the header of the key.",
    "client_id": "`pattern` that client order ids must match.",
    "capabilities": "What the exchange can do.",
    "budgets": "Rate limits: list of `name`, `scope` (`IP KEY ACCOUNT ACCOUNT_SYMBOL OWNER`), `strategy` "
    "(`FIXED_WINDOW SLIDING_WINDOW TOKEN_BUCKET DECAY_COUNTER`), `limit`, `window_s`.",
    "usage": "Headers that tell what is used of a budget: list of `pool`, `header`, `left_of` where the "
    "header tells what is left, and `operations` where it tells so in the answers to these alone.",
    "tables": "Named tables for `map`.",
    "reports": "Named reports, for `report`.",
    "operations": "How each operation is asked and its answer read.",
    "errors": "What an answer that is no acceptance means.",
    "stream": "The private stream.",
    "samples": "Markets to try the definition with: list of instruments.",
    "cases": "Offline cases, run by `tradegw rest check`.",
}
CAPABILITY_KEYS: Final[Mapping[str, str]] = {
    "ord_types": "List of `MARKET LIMIT STOP STOP_LIMIT TAKE_PROFIT TAKE_PROFIT_LIMIT TRAILING_STOP`.",
    "time_in_force": "List of `GTC IOC FOK GTD DAY`.",
    "post_only": "`true` or `false`.",
    "quote_qty": "`true` when market orders can be sized in quote units.",
    "replace": "`IN_PLACE SAME_ID CANCEL_THEN_NEW NONE`.",
    "expiry": "`TIME` when the venue refuses requests that come late, else `NONE`.",
    "expiry_s": "How long a request is valid.",
    "visibility_lag_s": "How long after acceptance a query may still not show an order.",
    "closed_order_retention_s": "How long closed orders can be queried; without it for ever.",
    "idempotent_resend": "`true` when the same request sent again never makes a second order.",
    "query_by_client_id": "`false` when an order cannot be asked about by our name.",
    "fills": "`EACH`, or `CUMULATIVE` where only totals are reported.",
    "in_flight_max": "Requests that may be on their way at once; without it any number.",
    "cancel_all": "`true` when there is a native cancel of everything.",
}
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,40}", re.ASCII)


def compile_source(text: str, file: str) -> Definition:
    """Compile a definition's text.

    Args:
        file: Its name, for messages.

    Raises:
        DefinitionError: Something in it is wrong. The text names file, line and path.
    """
    return compile_definition(read_source(text, file))


def compile_definition(top: Spot) -> Definition:
    """Compile a definition.

    Raises:
        DefinitionError: Something in it is wrong.
    """
    needed = (
        "definition",
        "title",
        "checked",
        "hosts",
        "signer",
        "client_id",
        "capabilities",
        "operations",
        "errors",
    )
    items = top.keys(needed, [key for key in TOP_KEYS if key not in needed])
    name = items["definition"].text()
    if not _NAME.fullmatch(name):
        items["definition"].fail("expected lower-case letters, digits and dashes")
    tables: dict[str, Mapping[str, str]] = {}
    if "tables" in items:
        for key, spot in items["tables"].items().items():
            tables[key] = {one: part.text() for one, part in spot.items().items()}
    requests = Compiler(reads_answer=False, tables=tables)
    reports = items["reports"].items() if "reports" in items else {}
    answers = Compiler(reads_answer=True, tables=tables, reports=reports)
    unpriced = [_budget(spot) for spot in items["budgets"].list()] if "budgets" in items else []
    pools = [budget.name for budget in unpriced]
    operations: dict[str, tuple[Operation, ...]] = {}
    for key, spot in items["operations"].items().items():
        if key not in OPERATIONS:
            spot.fail(f"unknown operation; expected one of {', '.join(OPERATIONS)}")
        operations[key] = compile_operation(key, spot, requests, answers, pools)
    budgets = tuple(_with_costs(budget, operations) for budget in unpriced)
    signer, nonce, key_header = _signer(items["signer"])
    stream = StreamRecipe(items["stream"], requests, answers) if "stream" in items else None
    if stream is not None and stream.needs_token and "stream_token" not in operations:
        items["stream"].fail("needs_token wants the operation stream_token")
    return Definition(
        name=name,
        title=items["title"].text(),
        checked=_checked(items["checked"]),
        hosts=_hosts(items["hosts"]),
        capabilities=_capabilities(items["capabilities"], budgets, operations),
        client_id=_client_id(items["client_id"]),
        signer_name=signer,
        nonce=nonce,
        key_header=key_header,
        operations=operations,
        errors=ErrorTable(items["errors"], tuple(OPERATIONS), answers),
        usage=tuple(_usage(spot, pools) for spot in items["usage"].list())
        if "usage" in items
        else (),
        stream=stream,
        samples=Markets(_samples(items["samples"])) if "samples" in items else Markets(),
    )


def _checked(spot: Spot) -> Checked:
    items = spot.keys(("version", "date"), ("source",))
    date = items["date"].text()
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", date, re.ASCII):
        items["date"].fail(f"expected a date such as 2026-07-21, found {date[:20]!r}")
    return Checked(
        version=items["version"].text(),
        date=date,
        source=items["source"].text() if "source" in items else "",
    )


def _hosts(spot: Spot) -> dict[str, Host]:
    found: dict[str, Host] = {}
    for name, part in spot.items().items():
        items = part.keys(("rest",), ("stream", "headers"))
        headers = items["headers"].items() if "headers" in items else {}
        found[name] = Host(
            rest=_url(items["rest"], "https"),
            stream=_url(items["stream"], "wss") if "stream" in items else "",
            headers=tuple((key, value.text()) for key, value in headers.items()),
        )
    if "live" not in found:
        spot.fail("live is missing")
    return found


def _url(spot: Spot, scheme: str) -> str:
    text = spot.text()
    try:
        parts = urlsplit(text)
        is_fit = parts.scheme == scheme and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        is_fit = False
    if not is_fit:
        spot.fail(f"expected a URL of {scheme}, found {text[:80]!r}")
    return text.rstrip("/")


def _signer(spot: Spot) -> tuple[str, str, str]:
    items = spot.keys(("name",), ("nonce", "key_header"))
    name = items["name"].one_of(SIGNERS)
    nonce = items["nonce"].one_of(NONCES) if "nonce" in items else SIGNERS[name].nonce
    header = ""
    if "key_header" in items:
        header = items["key_header"].text()
        if not SIGNERS[name].key_header:
            items["key_header"].fail(f"the signer {name} has headers of its own")
        if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", header, re.ASCII):
            items["key_header"].fail("expected the name of a header")
    return name, nonce, header


def _client_id(spot: Spot) -> re.Pattern[str]:
    pattern = spot.keys(("pattern",))["pattern"]
    try:
        return re.compile(pattern.text(), re.ASCII)
    except re.error as e:
        pattern.fail(f"not a regular expression: {e}")


def _capabilities(
    spot: Spot, budgets: tuple[BudgetPool, ...], operations: Mapping[str, Any]
) -> Capabilities:
    needed = ("ord_types", "time_in_force", "expiry", "visibility_lag_s")
    items = spot.keys(needed, [key for key in CAPABILITY_KEYS if key not in needed])
    expiry = ExpiryKind(items["expiry"].one_of(("TIME", "NONE")))
    if (expiry is ExpiryKind.TIME) != ("expiry_s" in items):
        spot.fail("expiry_s belongs to expiry TIME")
    replace = (
        ReplaceKind(items["replace"].one_of(ReplaceKind))
        if "replace" in items
        else ReplaceKind.NONE
    )
    if (replace is ReplaceKind.IN_PLACE) != ("replace" in operations):
        spot.fail("the operation replace belongs to replace IN_PLACE")
    cancel_all = "cancel_all" in items and items["cancel_all"].flag()
    if cancel_all != ("cancel_all" in operations):
        spot.fail("the operation cancel_all belongs to cancel_all true")
    retention = items.get("closed_order_retention_s")
    in_flight = items.get("in_flight_max")

    def flag(name: str, default: bool = False) -> bool:
        return items[name].flag() if name in items else default

    return Capabilities(
        ord_types=frozenset(OrdType(one.one_of(OrdType)) for one in items["ord_types"].list()),
        time_in_force=frozenset(
            TimeInForce(one.one_of(TimeInForce)) for one in items["time_in_force"].list()
        ),
        post_only=flag("post_only"),
        quote_qty=flag("quote_qty"),
        replace=replace,
        expiry=expiry,
        expiry_s=items["expiry_s"].seconds() if "expiry_s" in items else 0.0,
        visibility_lag_s=items["visibility_lag_s"].seconds(),
        closed_order_retention_s=None if retention is None else retention.seconds(),
        idempotent_resend=flag("idempotent_resend"),
        query_by_client_id=flag("query_by_client_id", default=True),
        fills=FillReporting(items["fills"].one_of(FillReporting))
        if "fills" in items
        else FillReporting.EACH,
        send_order=SendOrder(in_flight_max=None if in_flight is None else in_flight.whole()),
        cancel_all=cancel_all,
        budgets=budgets,
    )


def _budget(spot: Spot) -> BudgetPool:
    items = spot.keys(("name", "scope", "strategy", "limit", "window_s"))
    return BudgetPool(
        name=items["name"].text(),
        scope=BudgetScope(items["scope"].one_of(BudgetScope)),
        strategy=BudgetStrategy(items["strategy"].one_of(BudgetStrategy)),
        limit=items["limit"].whole(),
        window_s=items["window_s"].seconds(),
        cost=0,
    )


_COMMANDS: Final = {
    EngineOperation.NEW: "place",
    EngineOperation.CANCEL: "cancel",
    EngineOperation.CANCEL_ALL: "cancel_all",
    EngineOperation.REPLACE: "replace",
}
_LISTINGS: Final = {
    EngineOperation.OPEN_ORDERS: "open_orders",
    EngineOperation.HISTORY: "history",
    EngineOperation.BALANCES: "balances",
    EngineOperation.INSTRUMENTS: "instruments",
    EngineOperation.REFERENCE_PRICE: "reference_price",
    EngineOperation.SERVER_TIME: "server_time",
}


def _with_costs(budget: BudgetPool, operations: Mapping[str, tuple[Operation, ...]]) -> BudgetPool:
    """Say what the engine's operations draw at most. What one really drew, its request or page says."""

    def each(name: str) -> list[int]:
        costs = (dict(operation.costs) for operation in operations.get(name, ()))
        return [cost[budget.name].most for cost in costs if budget.name in cost]

    found = {
        operation: max(each(name), default=0) for operation, name in (_COMMANDS | _LISTINGS).items()
    }
    # An order is looked for in each place that is meant for the name it is asked by; by the venue's id once
    # more when it is in none. Fills may need that id first. What is taken for dearer than it is waits for
    # room that other questions use up.
    by_id, by_name = _looks(budget.name, operations.get("order", ()))
    time = found[EngineOperation.SERVER_TIME]
    found[EngineOperation.ORDER] = time + max(2 * by_id, by_name)
    found[EngineOperation.FILLS] = max(each("fills"), default=0) + time + by_name
    return replace(budget, costs=found)


def _looks(budget: str, places: Sequence[Operation]) -> tuple[int, int]:
    """Return what one look for an order draws: by the venue's id, and by our name alone."""
    ways = (
        Inputs(now_ns=0, venue_client_order_id="name", venue_order_id="id"),
        Inputs(now_ns=0, venue_client_order_id="name"),
    )
    totals = [0, 0]
    for place in places:
        cost = dict(place.costs).get(budget)
        meant = [place.test is None or place.test(None, way) for way in ways]
        for index, is_meant in enumerate(meant):
            # Whatever else its condition hangs on may hold.
            if cost is not None and (is_meant or not any(meant)):
                totals[index] += cost.most
    return totals[0], totals[1]


def _usage(spot: Spot, pools: list[str]) -> Usage:
    items = spot.keys(("pool", "header"), ("left_of", "operations"))
    return Usage(
        pool=items["pool"].one_of(pools),
        header=items["header"].text().lower(),
        left_of=items["left_of"].whole() if "left_of" in items else None,
        operations=frozenset(one.one_of(OPERATIONS) for one in items["operations"].each())
        if "operations" in items
        else None,
    )


def _samples(spot: Spot) -> list[Listed]:
    found: list[Listed] = []
    for part in spot.list():
        aliases = (
            [one.text() for one in part.items()["aliases"].list()]
            if "aliases" in part.items()
            else []
        )
        bare = Spot(
            {key: value for key, value in part.items().items() if key != "aliases"},
            part.file,
            part.line,
            part.path,
        )
        found.append(Listed(instrument=read_instrument(bare), aliases=tuple(aliases)))
    return found


_GRIDS: Final = ("tick_size", "step_size", "qty_min", "qty_max", "notional_min", "notional_max")


def read_instrument(spot: Spot) -> Instrument:
    """Read an instrument in DESIGN's field names. Assets are those of the symbol unless they are given.

    Raises:
        DefinitionError: It is not one.
    """
    items = spot.keys(("symbol", "venue_symbol"), ("base_asset", "quote_asset", *_GRIDS))
    symbol = items["symbol"].text()
    base, _, quote = symbol.partition("/")
    if not base or not quote:
        items["symbol"].fail(f"expected a symbol such as BTC/USDT, found {symbol[:40]!r}")
    grids: dict[str, Any] = {name: items[name].number() for name in _GRIDS if name in items}
    return Instrument(
        symbol=symbol,
        venue_symbol=items["venue_symbol"].text(),
        base_asset=items["base_asset"].text() if "base_asset" in items else base,
        quote_asset=items["quote_asset"].text() if "quote_asset" in items else quote,
        **grids,
    )
