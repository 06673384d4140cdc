"""One operation of a definition: how its request is built, and how its answer is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tradegw import (
    AccountName,
    CommandKind,
    ExecutionReport,
    InvalidOrder,
    Order,
    TranslationError,
    UnsupportedOrder,
)
from tradegw.venue import ReferencePrice, VenueTime
from tradegw_rest.costs import COSTS, Cost
from tradegw_rest.inputs import Inputs, Read
from tradegw_rest.paging import PAGERS, Pager, no_more
from tradegw_rest.reports import (
    MakeReport,
    Rows,
    compile_balance,
    compile_instrument,
    compile_report,
)
from tradegw_rest.source import Spot
from tradegw_rest.values import Compiler, to_decimal, to_text

__all__ = ["COMMANDS", "OPERATIONS", "Draft", "Operation", "compile_operation"]

COMMANDS: Final[Mapping[str, CommandKind]] = {
    "place": CommandKind.NEW,
    "cancel": CommandKind.CANCEL,
    "cancel_all": CommandKind.CANCEL,
    "replace": CommandKind.REPLACE,
}
"""Operations that change something, and by which command their outcome is read."""

OPERATIONS: Final[Mapping[str, str]] = {
    "place": "Place one order.",
    "cancel": "Cancel one order.",
    "cancel_all": "Cancel every order, of a market or of all.",
    "replace": "Give an order other terms, in place.",
    "order": "Ask about one order, by our name or the venue's id.",
    "open_orders": "List open orders.",
    "history": "List orders of any status.",
    "fills": "List fills.",
    "balances": "List balances.",
    "instruments": "List what can be traded.",
    "reference_price": "A price to measure others against.",
    "server_time": "The venue's clock.",
    "stream_token": "A token that opens the private stream.",
    "api_version": "Which version of its API the venue runs, for `tradegw doctor`.",
    "key_permissions": "What the key may do, for `tradegw doctor`.",
}
"""Every operation that a definition may have."""

REQUEST_KEYS: Final[Mapping[str, str]] = {
    "request": "Method and path: `POST /api/v3/order`. `{name}` in the path is a member of `vars`.",
    "when": "Alternatives only: the condition under which this one is meant.",
    "vars": "Values for the path.",
    "send": "`query`, `form`, `json`, `json_list` (a list of one object) or `none`: where parameters go.",
    "params": "Parameters, in the order in which they are sent. Absent values are left out.",
    "headers": "Further headers.",
    "signed": "`false` for public requests. Default `true`.",
    "cost": "Units that it takes from each budget: a number, or a named strategy.",
    "valid_s": "How long this command is valid, where not `expiry_s`; `never`: it is taken however late.",
    "ok": "Condition on an answer of HTTP 2xx to be an acceptance.",
    "as_of": "Where the answer says what time it is at the venue.",
}
ANSWER_KEYS: Final[Mapping[str, str]] = {
    "answer": "Commands: list of `{when, each, entries, report}`: the reports that the answer makes.",
    "rows": "Path of the rows, or of one row. The answer itself without it.",
    "entries": "Path of an object whose members are rows; `$key` is the key of each.",
    "keep": "Condition on a row to count. `name: $input` holds when the input is absent.",
    "newest_first": "`true` when the venue lists the latest first.",
    "report": "Fields of an execution report.",
    "also": "Further reports of a row: list of `{when, report}`.",
    "balance": "`asset`, `free`, and `held` or `total`.",
    "instrument": "Fields of an instrument, and its aliases.",
    "price": "`px` and `time`.",
    "token": "Where the token stands.",
    "version": "Where the version stands: it is compared with `checked`.",
    "may_trade": "Condition on the answer under which the key may trade.",
    "may_withdraw": "Condition under which it may withdraw, which it should not.",
    "by_client_id": "Of `fills`: `true` when rows can be told by our name of the order.",
    "next": "How a listing goes on: a named pager and its settings.",
}

_PATH_VAR: Final = re.compile(r"\{([a-z_]+)\}", re.ASCII)
_is_segment = re.compile(r"[A-Za-z0-9_.~:-]{1,128}", re.ASCII).fullmatch
_REQUEST: Final = re.compile(r"(GET|POST|PUT|PATCH|DELETE) (/[A-Za-z0-9_./{}~-]*)", re.ASCII)


@dataclass(slots=True, kw_only=True)
class Draft:
    """One unsigned request, with all that is needed to sign it and to read its answer.

    It is the payload of a `VenueRequest`. Nobody changes one; it is not frozen because Python takes longer to
    make a frozen object of ten fields than we take to fill them.

    Attributes:
        params: In order. Text; for `json` also lists, objects, numbers, truth values.
        now_ns: The venue's clock at translation.
        valid_until_ns: When the venue refuses it. Of a venue that never does: now, plus ten seconds.
        inputs: What it was built from.
    """

    operation: Operation
    method: str
    path: str
    encoding: str
    params: Mapping[str, Any]
    headers: Mapping[str, str]
    now_ns: int
    valid_until_ns: int
    inputs: Inputs = field(repr=False)
    cost: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def is_signed(self) -> bool:
        """Whether it needs a key."""
        return self.operation.is_signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Emit:
    """One item of `answer`: which reports it makes of an answer to a command."""

    test: Callable[[Any, Inputs], bool] | None
    rows: Rows | None
    make: MakeReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One way to carry out an operation.

    Attributes:
        name: One of `OPERATIONS`.
        test: The condition under which this alternative is meant.
    """

    name: str
    where: str
    method: str
    path: str
    path_vars: tuple[tuple[str, Read], ...]
    encoding: str
    params: tuple[tuple[str, Read], ...]
    headers: tuple[tuple[str, Read], ...]
    is_signed: bool
    costs: tuple[tuple[str, Cost], ...]
    test: Callable[[Any, Inputs], bool] | None = None
    ok: Callable[[Any, Inputs], bool] | None = None
    as_of: Read | None = None
    emits: tuple[Emit, ...] = ()
    rows: Rows | None = None
    report: MakeReport | None = None
    also: tuple[Emit, ...] = ()
    balance: Callable[[Any, Inputs, AccountName, int], Any] | None = None
    instrument: Callable[[Any, Inputs], Any] | None = None
    price: tuple[Read, Read | None] | None = None
    token: Read | None = None
    version: Read | None = None
    may_trade: Callable[[Any, Inputs], bool] | None = None
    may_withdraw: Callable[[Any, Inputs], bool] | None = None
    pager: Pager = no_more
    valid_s: float | None = None
    never_expires: bool = False
    by_client_id: bool = False
    fixed_cost: Mapping[str, int] | None = None

    @property
    def command(self) -> CommandKind | None:
        """By which command its outcome is read; None for questions."""
        return COMMANDS.get(self.name)

    def draft(self, inputs: Inputs, *, valid_until_ns: int) -> Draft:
        """Build the request.

        Raises:
            InvalidOrder: The venue cannot do this.
        """
        params: dict[str, Any] = {}
        for name, read in self.params:
            value = read(None, inputs)
            if value is not None:
                params[name] = value
        if self.encoding not in {"json", "json_list"}:
            for name, value in params.items():
                if not isinstance(value, str):
                    params[name] = _as_text(value)
        headers: dict[str, str] = {}
        for name, read in self.headers:
            value = to_text(read(None, inputs))
            if value is not None:
                headers[name] = value
        path = self.path
        for name, read in self.path_vars:
            segment = to_text(read(None, inputs)) or ""
            if not _is_segment(segment) or segment in {".", ".."}:
                raise InvalidOrder(
                    f"{self.where}: {{{name}}} in the path is missing or has odd characters"
                )
            path = path.replace(f"{{{name}}}", segment)
        return Draft(
            operation=self,
            method=self.method,
            path=path,
            encoding=self.encoding,
            params=params,
            headers=headers,
            now_ns=inputs.now_ns,
            valid_until_ns=valid_until_ns,
            inputs=inputs,
            cost=self.fixed_cost or {pool: cost.units(inputs) for pool, cost in self.costs},
        )

    def reports(self, answer: Any, inputs: Inputs, received_ns: int) -> tuple[ExecutionReport, ...]:
        """Read an acceptance of a command."""
        found: list[ExecutionReport] = []
        for emit in self.emits:
            if emit.test is None or emit.test(answer, inputs):
                if emit.rows is None:
                    found.append(emit.make(answer, inputs, received_ns))
                else:
                    found.extend(
                        [
                            emit.make(row, inputs, received_ns)
                            for row in emit.rows.kept(emit.rows.all(answer), inputs)
                        ]
                    )
        return tuple(found)

    def listed(
        self, rows: Sequence[tuple[str | None, Any]], inputs: Inputs, received_ns: int
    ) -> Iterator[ExecutionReport]:
        """Read the rows of a question about orders or fills."""
        assert self.rows is not None
        assert self.report is not None
        for row in self.rows.kept(list(rows), inputs):
            yield self.report(row, inputs, received_ns)
            yield from emitted(self.also, row, inputs, received_ns)

    def reference_price(self, answer: Any, inputs: Inputs, asked_ns: int) -> ReferencePrice | None:
        """Read a price; None when the venue has none."""
        assert self.price is not None
        assert inputs.instrument is not None
        assert self.rows is not None
        for row in self.rows.kept(self.rows.all(answer), inputs):
            px = to_decimal(self.price[0](row, inputs))
            time_ns = asked_ns if self.price[1] is None else self.price[1](row, inputs)
            if px is not None and time_ns is not None:
                return ReferencePrice(symbol=inputs.instrument.symbol, px=px, time_ns=time_ns)
        return None

    def time(self, answer: Any, inputs: Inputs, asked_ns: int) -> VenueTime:
        """Say what time it was at the venue when it answered: never later than it was."""
        told = None if self.as_of is None else self.as_of(answer, inputs)
        if told is None and self.name == "server_time":
            raise TranslationError(f"{self.where}: the answer names no time")
        return VenueTime(time_ns=asked_ns if told is None else told)


def _as_text(value: Any) -> str:
    text = to_text(value)
    assert text is not None
    return text


def emitted(
    emits: Sequence[Emit], answer: Any, inputs: Inputs, received_ns: int
) -> Iterator[ExecutionReport]:
    """Iterate over the reports that an answer makes."""
    for emit in emits:
        if emit.test is not None and not emit.test(answer, inputs):
            continue
        if emit.rows is None:
            yield emit.make(answer, inputs, received_ns)
            continue
        for row in emit.rows.kept(emit.rows.all(answer), inputs):
            yield emit.make(row, inputs, received_ns)


def compile_emits(
    spot: Spot, answers: Compiler, settles: CommandKind | None = None
) -> tuple[Emit, ...]:
    """Compile a list of `{when, rows, entries, keep, report}`."""
    found: list[Emit] = []
    for part in spot.each():
        items = part.keys(("report",), ("when", *Rows.KEYS))
        has_rows = "rows" in items or "entries" in items
        found.append(
            Emit(
                test=answers.condition(items["when"]) if "when" in items else None,
                rows=Rows(items, answers) if has_rows else None,
                make=compile_report(items["report"], answers, settles=settles),
            )
        )
    return tuple(found)


def compile_operation(
    name: str, spot: Spot, requests: Compiler, answers: Compiler, pools: Sequence[str]
) -> tuple[Operation, ...]:
    """Compile an operation: one request, or a list of alternatives.

    Of a command the first alternative is meant whose condition holds. Of a question all are asked whose
    condition holds, in turn.
    """
    found = [_alternative(name, part, requests, answers, pools) for part in spot.each()]
    drawn = {pool for alternative in found for pool, _ in alternative.costs}
    return tuple(_priced(alternative, drawn) for alternative in found)


def _alternative(
    name: str, spot: Spot, requests: Compiler, answers: Compiler, pools: Sequence[str]
) -> Operation:
    items = spot.keys(("request",), (*REQUEST_KEYS, *ANSWER_KEYS))
    target = _REQUEST.fullmatch(items["request"].text())
    if target is None:
        items["request"].fail("expected a method and a path, such as POST /api/v3/order")
    method, path = target.groups()
    wanted = _PATH_VAR.findall(path)
    given = items["vars"].items() if "vars" in items else {}
    if set(wanted) != set(given):
        spot.fail(f"the path names {wanted or 'nothing'}, vars gives {list(given) or 'nothing'}")
    params = items["params"].items() if "params" in items else {}
    encoding = (
        items["send"].one_of(("query", "form", "json", "json_list", "none"))
        if "send" in items
        else "none"
    )
    if params and encoding == "none":
        items["params"].fail("send must say where the parameters go")
    command = COMMANDS.get(name)
    pager: Pager = no_more
    if "next" in items:
        pager = _pager(items["next"], answers)
    valid = items.get("valid_s")
    never_expires = valid is not None and valid.is_text and valid.text() == "never"
    valid_s = None if valid is None or never_expires else valid.seconds()
    operation = Operation(
        name=name,
        where=spot.path,
        method=method,
        path=path,
        path_vars=tuple((key, requests.value(part)) for key, part in given.items()),
        encoding=encoding,
        params=tuple((key, requests.value(part)) for key, part in params.items()),
        headers=tuple((key, requests.value(part)) for key, part in items["headers"].items().items())
        if "headers" in items
        else (),
        is_signed=items["signed"].flag() if "signed" in items else True,
        costs=_costs(items["cost"], pools) if "cost" in items else (),
        test=requests.condition(items["when"]) if "when" in items else None,
        ok=answers.condition(items["ok"]) if "ok" in items else None,
        as_of=answers.value(items["as_of"]) if "as_of" in items else None,
        emits=compile_emits(items["answer"], answers, command) if "answer" in items else (),
        rows=Rows(items, answers),
        report=compile_report(items["report"], answers) if "report" in items else None,
        also=compile_emits(items["also"], answers) if "also" in items else (),
        balance=compile_balance(items["balance"], answers) if "balance" in items else None,
        instrument=compile_instrument(items["instrument"], answers)
        if "instrument" in items
        else None,
        price=_price(items["price"], answers) if "price" in items else None,
        token=answers.value(items["token"]) if "token" in items else None,
        version=answers.value(items["version"]) if "version" in items else None,
        may_trade=answers.condition(items["may_trade"]) if "may_trade" in items else None,
        may_withdraw=answers.condition(items["may_withdraw"]) if "may_withdraw" in items else None,
        pager=pager,
        valid_s=valid_s,
        never_expires=never_expires,
        by_client_id="by_client_id" in items and items["by_client_id"].flag(),
    )
    _check_whole(name, operation, spot)
    return operation


_READ_BY: Final[Mapping[str, str]] = {
    "order": "report",
    "open_orders": "report",
    "history": "report",
    "fills": "report",
    "balances": "balance",
    "instruments": "instrument",
    "reference_price": "price",
    "server_time": "as_of",
    "stream_token": "token",
    "api_version": "version",
    "key_permissions": "may_trade",
}


def _check_whole(name: str, operation: Operation, spot: Spot) -> None:
    if name in COMMANDS:
        # Without this a refusal with HTTP 200 would look like an order.
        if operation.ok is None:
            spot.fail("ok is missing: it says which answers are acceptances")
        if not operation.emits and name != "cancel_all":
            spot.fail("answer is missing: it says which reports an acceptance makes")
    elif getattr(operation, _READ_BY[name]) is None:
        spot.fail(f"{_READ_BY[name]} is missing")


def _costs(spot: Spot, pools: Sequence[str]) -> tuple[tuple[str, Cost], ...]:
    found: list[tuple[str, Cost]] = []
    for pool, part in spot.items().items():
        if pool not in pools:
            part.fail(f"no such budget; expected one of {', '.join(pools) or 'none'}")
        if part.text() in COSTS:
            found.append((pool, COSTS[part.text()]))
        else:
            found.append((pool, Cost(most=part.whole())))
    return tuple(found)


def _priced(operation: Operation, drawn: Collection[str]) -> Operation:
    """Have an alternative say of the budgets that the others draw on, too, what it takes: nothing."""
    costs = {pool: Cost(most=0) for pool in sorted(drawn)} | dict(operation.costs)
    is_fixed = all(cost.of is None for cost in costs.values())
    return replace(
        operation,
        costs=tuple(costs.items()),
        fixed_cost={pool: cost.most for pool, cost in costs.items()} if is_fixed else None,
    )


def _price(spot: Spot, answers: Compiler) -> tuple[Read, Read | None]:
    items = spot.keys(("px",), ("time",))
    time = answers.value(items["time"]) if "time" in items else None
    return answers.value(items["px"]), time


def _pager(spot: Spot, answers: Compiler) -> Pager:
    items = spot.items()
    if "pager" not in items:
        spot.fail("pager is missing")
    name = items["pager"].one_of(PAGERS)
    return PAGERS[name](spot, answers)


def refuse_unsupported(name: str, order: Order | None) -> UnsupportedOrder:
    """Say that no alternative of an operation fits."""
    what = "" if order is None else f" for {order.ord_type} orders"
    return UnsupportedOrder(f"the venue has no {name}{what}")
