"""Offline cases: what a definition says of itself, and whether it is so.

```yaml
cases:
  - case: a limit order
    operation: place
    order: {symbol: BTC/USDT, side: BUY, ord_type: LIMIT, order_qty: "0.01", price: "65000"}
    sends: {request: POST /api/v3/order, params: {symbol: BTCUSDT, side: BUY}}
    answer: {status: "200", body: '{"orderId": 28}'}
    gives: [{exec_type: NEW, venue_order_id: "28"}]
```

The order's name is `NAME` unless it says another, the clock stands at `NOW_NS`, markets are the samples. Of
`sends` and `gives` what stands there must be so; a parameter that must not be sent is written as `absent`.
"""

# Plain parts of a definition are what they are: dicts, lists and text.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from tradegw import AccountName, TradegwError, VenueError
from tradegw_rest.definition import Definition
from tradegw_rest.operations import COMMANDS, Draft
from tradegw_rest.render import build, find_instrument, operation_named, read_order
from tradegw_rest.source import DefinitionError, Spot
from tradegw_rest.values import to_text
from tradegw_rest.wire import HttpResponse

__all__ = ["CASE_KEYS", "Outcome", "run_cases"]

NAME: Final = "0123456789abcdef0123456789abcdef"
NOW_NS: Final = 1_700_000_000_000_000_000
CASE_KEYS: Final[Mapping[str, str]] = {
    "case": "Its name.",
    "operation": "Which operation.",
    "order": "The order, in the field names of orders; its `client_order_id` is 32 hex digits unless given.",
    "sends": "`request` (method and path), `params`, `headers`: what must be sent.",
    "refused": "Part of the words with which it is refused before anything is sent.",
    "answer": "`status`, `headers` and `body` (JSON text) of the exchange's answer.",
    "gives": "What the answer must be read as: a list of reports, balances or instruments.",
    "fails": "The class of failure as which the answer must be read.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one case went: `problem` is empty when it holds."""

    name: str
    where: str
    problem: str = ""


def run_cases(top: Spot, definition: Definition) -> Iterator[Outcome]:
    """Run the cases that stand in a definition's text.

    Raises:
        DefinitionError: A case is not one.
    """
    for spot in top.items()["cases"].list() if "cases" in top.items() else ():
        items = spot.keys(
            ("case", "operation"), [key for key in CASE_KEYS if key not in {"case", "operation"}]
        )
        name = items["case"].text()
        try:
            problem = _run(items, definition)
        except DefinitionError:
            raise
        except TradegwError as e:
            problem = f"{type(e).__name__}: {e}"
        yield Outcome(name=name, where=f"{spot.file}:{spot.line}", problem=problem)


def _run(items: Mapping[str, Spot], definition: Definition) -> str:
    operation = operation_named(items["operation"].text())
    given = items["order"].plain() if "order" in items else None
    order = market = None
    if given is not None:
        for name, value in given.items():
            if value in {"true", "false"}:
                given[name] = value == "true"
        order = read_order({"client_order_id": NAME, **given})
        market = find_instrument(definition, order.symbol, None)
    try:
        draft = build(definition, operation, order, market, NOW_NS)
    except TradegwError as e:
        if "refused" not in items:
            raise
        wanted = items["refused"].text()
        return "" if wanted in str(e) else f"expected a refusal with {wanted!r}, found {str(e)!r}"
    if "refused" in items:
        return "expected a refusal, and it would be sent"
    problem = _sent(items["sends"], draft) if "sends" in items else ""
    if problem or "answer" not in items:
        return problem
    return _read(items, definition, draft)


def _sent(spot: Spot, draft: Draft) -> str:
    items = spot.keys((), ("request", "params", "headers"))
    found = f"{draft.method} {draft.path}"
    if "request" in items and items["request"].text() != found:
        return f"expected {items['request'].text()}, found {found}"
    for key, sent in (("params", draft.params), ("headers", draft.headers)):
        wanted = items[key].plain() if key in items else {}
        texts = _as_text(sent)
        for name, value in wanted.items():
            if texts.get(name, "absent") != value:
                return f"{key}.{name}: expected {value!r}, found {texts.get(name, 'absent')!r}"
    return ""


def _as_text(value: Any) -> Any:
    match value:
        case dict():
            return {key: _as_text(part) for key, part in value.items()}
        case list():
            return [_as_text(part) for part in value]
        case _:
            return to_text(value)


def _read(items: Mapping[str, Spot], definition: Definition, draft: Draft) -> str:
    answer = items["answer"].keys(("status", "body"), ("headers",))
    headers = answer["headers"].plain() if "headers" in answer else {}
    response = HttpResponse(
        status=answer["status"].whole(),
        headers={name.lower(): value for name, value in headers.items()},
        body=answer["body"].text().encode(),
    )
    try:
        told: Any
        if draft.operation.name in COMMANDS:
            told = definition.reports(draft, response)
        else:
            draft.inputs.markets = definition.samples
            told = definition.page(draft, response, AccountName("case")).items
    except VenueError as e:
        if "fails" not in items:
            raise
        wanted = items["fails"].text()
        return "" if e.reason == wanted else f"expected {wanted}, found {e.reason}: {e}"
    if "fails" in items:
        return f"expected {items['fails'].text()}, found {len(told)} rows"
    wanted_rows = items["gives"].list() if "gives" in items else ()
    if "gives" in items and len(wanted_rows) != len(told):
        return f"expected {len(wanted_rows)} rows, found {len(told)}"
    for spot, row in zip(wanted_rows, told, strict=False):
        problem = _differs(spot, getattr(row, "instrument", row))
        if problem:
            return problem
    return ""


def _differs(spot: Spot, row: Any) -> str:
    known = {field.name for field in fields(row)}
    for name, part in spot.items().items():
        if name not in known:
            part.fail(f"unknown field; expected one of {', '.join(sorted(known))}")
        found = to_text(getattr(row, name))
        if (found if found is not None else "absent") != part.text():
            return f"{part.path}: expected {part.text()!r}, found {found!r}"
    return ""
