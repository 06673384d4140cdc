"""The value language: how a definition says what stands in a request, and where it stands in an answer.

A value is text, or a mapping whose first key is its verb. In requests plain text is itself, in answers it is
a path; `$name` is an input in both. Everything is compiled at load to closures `(row, inputs) -> value`;
None means "absent", and what is absent is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from operator import attrgetter
from typing import Any, Final

from tradegw import InvalidOrder, TranslationError, UnsupportedOrder, parse_decimal, plain
from tradegw_rest.inputs import DOMAINS, INPUTS, WITH_PATH, Inputs, Read
from tradegw_rest.paths import PathError, compile_path
from tradegw_rest.source import Spot
from tradegw_rest.times import TIME_FORMATS, TIME_READERS

__all__ = ["VERBS", "Compiler", "to_decimal", "to_text"]

ABSENT: Final = "absent"
PRESENT: Final = "present"
_ZERO: Final = Decimal(0)


def to_text(value: Any) -> str | None:
    """Write a scalar of JSON as text: ids that are numbers become their digits, true is `true`."""
    if value is None or type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case Decimal():
            return plain(value)
        case int():
            return str(value)
        case _:
            raise TranslationError(f"expected text or a number, found {value!r:.80}")


def to_decimal(value: Any) -> Decimal | None:
    """Read a number that a venue wrote; None where it wrote nothing.

    Raises:
        TranslationError: It is something else.
    """
    if value is None or value == "":
        return None
    try:
        if type(value) is str:
            return parse_decimal(value)
        if isinstance(value, Decimal):
            return parse_decimal(plain(value))
        return parse_decimal(value)
    except ValueError as e:
        raise TranslationError(str(e)) from e


def _number(value: Any) -> Decimal:
    number = to_decimal(value)
    return _ZERO if number is None else number


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """Compiles values, in a request or in an answer.

    Attributes:
        tables: Named tables of the definition, for `map`.
        reports: Named reports of the definition.
    """

    reads_answer: bool
    tables: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    reports: Mapping[str, Spot] = field(default_factory=dict[str, Spot])

    def value(self, spot: Spot) -> Read:
        """Compile one value.

        Raises:
            DefinitionError: It is not one.
        """
        if spot.is_text:
            return self._text(spot)
        items = spot.items()
        if not items:
            spot.fail(f"expected a verb: one of {', '.join(VERBS)}")
        verb = next(iter(items))
        if verb not in VERBS:
            items[verb].fail(f"unknown verb; expected one of {', '.join(VERBS)}")
        known = VERBS[verb]
        if known.where == ("request" if self.reads_answer else "answer"):
            items[verb].fail(f"belongs into {'a request' if self.reads_answer else 'an answer'}")
        spot.keys((verb, *known.required), known.optional)
        return known.compile(self, items)

    def _text(self, spot: Spot) -> Read:
        text = spot.text()
        if text.startswith("$"):
            name, _, path = text[1:].partition(".")
            if name not in INPUTS:
                spot.fail(f"unknown input; expected one of {', '.join(INPUTS)}")
            read = INPUTS[name][0]
            if not path:
                return read
            if name not in WITH_PATH:
                spot.fail(f"only {', '.join(sorted(WITH_PATH))} take a path")
            get = self.path(spot, path)
            return lambda row, inputs: get(read(row, inputs))
        if self.reads_answer:
            return self.path(spot, text)
        return lambda row, inputs: text

    def path(self, spot: Spot, text: str) -> Callable[..., Any]:
        """Compile a path that stands at `spot`."""
        try:
            return compile_path(text)
        except PathError as e:
            spot.fail(str(e))

    # --- conditions -------------------------------------------------------------------------------

    def condition(self, spot: Spot) -> Callable[[Any, Inputs], bool]:
        """Compile a condition: every key's value is what stands beside it, or one of a list.

        Raises:
            DefinitionError: It is not one.
        """
        items = spot.items()
        if not items:
            spot.fail("expected at least one thing to look at")
        tests = [self._test(name, wanted) for name, wanted in items.items()]
        if len(tests) == 1:
            return tests[0]
        if len(tests) == 2:
            one, two = tests
            return lambda row, inputs: one(row, inputs) and two(row, inputs)
        one, two, *rest = tests
        if len(rest) == 1:
            (three,) = rest
            return lambda row, inputs: one(row, inputs) and two(row, inputs) and three(row, inputs)
        return lambda row, inputs: all(test(row, inputs) for test in tests)

    def _test(self, name: str, wanted: Spot) -> Callable[[Any, Inputs], bool]:
        if self.reads_answer:
            read = self._text(Spot(name, wanted.file, wanted.line, wanted.path))
        else:
            read = self._text(
                Spot(f"${name.removeprefix('$')}", wanted.file, wanted.line, wanted.path)
            )
        if wanted.is_map:
            other = self._test(name, wanted.keys(("not",))["not"])
            return lambda row, inputs: not other(row, inputs)
        choices = [choice.text() for choice in wanted.each()]
        if len(choices) == 1 and choices[0].startswith("$"):
            # A filter by an input that is absent lets everything pass.
            filter_by = self._text(wanted if wanted.is_text else wanted.list()[0])
            return lambda row, inputs: (
                (asked := _text_or_none(filter_by(row, inputs))) is None
                or _text_or_none(read(row, inputs)) == asked
            )
        domain = DOMAINS.get(name.removeprefix("$"))
        if self.reads_answer and not name.startswith("$"):
            domain = None
        for choice in choices:
            if domain is not None and choice not in (*domain, PRESENT, ABSENT):
                wanted.fail(f"{name} is one of {', '.join(sorted(domain))}; found {choice!r}")
        if choices == [PRESENT]:
            return lambda row, inputs: not _is_absent(read(row, inputs))
        if choices == [ABSENT]:
            return lambda row, inputs: _is_absent(read(row, inputs))
        many = frozenset(choices)
        if domain is not None and not many & {PRESENT, ABSENT}:
            return _test_of_order(name.removeprefix("$"), choices)
        if len(choices) == 1:
            choice = choices[0]
            return lambda row, inputs: _same(read(row, inputs), choice)
        return lambda row, inputs: _text_or_none(read(row, inputs)) in many


def _test_of_order(name: str, choices: list[str]) -> Callable[[Any, Inputs], bool]:
    """Compile a test of a field of the order that has few values: every request is decided by several."""
    get = attrgetter(name)
    if "true" in DOMAINS[name]:
        truths = tuple({choice == "true" for choice in choices})
        return lambda row, inputs: bool(inputs.order and get(inputs.order)) in truths
    # Members of our enumerations are text, and quicker to compare than to hash.
    if len(choices) == 1:
        (only,) = choices
        return lambda row, inputs: inputs.order is not None and get(inputs.order) == only
    several = tuple(choices)
    return lambda row, inputs: inputs.order is not None and get(inputs.order) in several


def _is_absent(value: Any) -> bool:
    # Nothing, empty text, an empty list or object: but neither false nor zero.
    return not value and (value is None or type(value) in {str, list, dict})


def _same(value: Any, text: str) -> bool:
    return value == text if isinstance(value, str) else _text_or_none(value) == text


def _text_or_none(value: Any) -> str | None:
    if type(value) is str:
        return value
    return None if isinstance(value, (dict, list)) else to_text(value)


# --- verbs ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One kind of value.

    Attributes:
        where: `request`, `answer` or `both`.
        doc: What it means, for the reference page.
    """

    compile: Callable[[Compiler, Mapping[str, Spot]], Read]
    doc: str
    where: str = "both"
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


def _const(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    text = items["const"].text()
    return lambda row, inputs: text


def _when(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    test = compiler.condition(items["when"])
    then = compiler.value(items["is"])
    return lambda row, inputs: then(row, inputs) if test(row, inputs) else None


def _rows_of(compiler: Compiler, spot: Spot) -> list[tuple[Callable[[Any, Inputs], bool], Read]]:
    found: list[tuple[Callable[[Any, Inputs], bool], Read]] = []
    for row in spot.list():
        parts = row.keys(("when", "is"))
        found.append((compiler.condition(parts["when"]), compiler.value(parts["is"])))
    return found


def _choose(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    rows = _rows_of(compiler, items["choose"])
    where = items["choose"].path
    reads_answer = compiler.reads_answer

    def read(row: Any, inputs: Inputs) -> Any:
        for test, then in rows:
            if test(row, inputs):
                return then(row, inputs)
        if reads_answer:
            raise TranslationError(f"{where}: nothing fits this answer: {row!r:.200}")
        order = inputs.order
        if order is None:
            raise UnsupportedOrder(f"{where}: the venue cannot do this")
        raise UnsupportedOrder(
            f"{where}: the venue has no {order.ord_type} with {order.time_in_force}"
            f"{', post-only' if order.post_only else ''}"
            f"{', sized in quote units' if order.quote_qty is not None else ''}"
        )

    return read


def _pick(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    rows = _rows_of(compiler, items["pick"])

    def read(row: Any, inputs: Inputs) -> Any:
        for test, then in rows:
            if test(row, inputs):
                return then(row, inputs)
        return None

    return read


def _map(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    spot = items["map"]
    if spot.is_text:
        name = spot.text()
        if name not in compiler.tables:
            known = ", ".join(compiler.tables) or "none"
            spot.fail(f"no such table; the definition has {known}")
        table = dict(compiler.tables[name])
    else:
        table = {key: part.text() for key, part in spot.items().items()}
    of = compiler.value(items["of"])
    otherwise = compiler.value(items["else"]) if "else" in items else None
    where, reads_answer = spot.path, compiler.reads_answer

    def read(row: Any, inputs: Inputs) -> Any:
        found = of(row, inputs)
        if found is None:
            return None
        key = found if isinstance(found, str) else to_text(found)
        assert key is not None
        try:
            return table[key]
        except KeyError:
            if otherwise is not None:
                return otherwise(row, inputs)
        text = f"{where}: expected one of {', '.join(table)}; found {key[:60]!r}"
        raise TranslationError(text) if reads_answer else UnsupportedOrder(text)

    return read


def _decimal(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    of = compiler.value(items["decimal"])
    name = items["decimal"].text().removeprefix("$") if items["decimal"].is_text else "number"
    grid = items["grid"].one_of(("tick", "step", "none"))

    def read(row: Any, inputs: Inputs) -> Any:
        number = of(row, inputs)
        if number is None:
            return None
        if grid != "none":
            instrument = inputs.instrument
            assert instrument is not None
            size = instrument.tick_size if grid == "tick" else instrument.step_size
            # The engine has looked already; looking again is cheap, and a definition may be used alone.
            if size and number % size:
                raise InvalidOrder(
                    f"{name} must be a multiple of {plain(size)}; found {plain(number)}",
                    reason="OFF_GRID",
                )
        text = str(number)
        return text if _is_plain(text) else plain(number)

    return read


_is_plain = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d*[1-9])?", re.ASCII).fullmatch


def _time(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    of = compiler.value(items["time"])
    unit = items["unit"].one_of(TIME_READERS if compiler.reads_answer else TIME_FORMATS)
    convert: Callable[[Any], Any]
    convert = TIME_READERS[unit] if compiler.reads_answer else TIME_FORMATS[unit]

    def read(row: Any, inputs: Inputs) -> Any:
        value = of(row, inputs)
        return None if value is None or value == "" else convert(value)

    return read


def _first(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    values = [compiler.value(part) for part in items["first"].list()]

    def read(row: Any, inputs: Inputs) -> Any:
        for value in values:
            found = value(row, inputs)
            if found is not None and found != "":
                return found
        return None

    return read


def _join(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    values = [compiler.value(part) for part in items["join"].list()]
    by = items["by"].text()

    def read(row: Any, inputs: Inputs) -> Any:
        found = (to_text(value(row, inputs)) for value in values)
        return by.join([text for text in found if text is not None]) or None

    return read


def _split(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    of = compiler.value(items["split"])
    by = items["by"].text()
    part = items["part"].whole()

    def read(row: Any, inputs: Inputs) -> Any:
        text = to_text(of(row, inputs))
        parts = [] if text is None else text.split(by)
        return parts[part] if part < len(parts) else None

    return read


def _case(
    change: Callable[[str], str], verb: str
) -> Callable[[Compiler, Mapping[str, Spot]], Read]:
    def compile_case(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
        of = compiler.value(items[verb])

        def read(row: Any, inputs: Inputs) -> Any:
            text = to_text(of(row, inputs))
            return None if text is None else change(text)

        return read

    return compile_case


def _object(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    fields = [(name, compiler.value(part)) for name, part in items["object"].items().items()]

    def read(row: Any, inputs: Inputs) -> Any:
        found = ((name, value(row, inputs)) for name, value in fields)
        return {name: value for name, value in found if value is not None}

    return read


def _keyed(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    key = compiler.value(items["keyed"])
    value = compiler.value(items["value"])

    def read(row: Any, inputs: Inputs) -> Any:
        name = to_text(key(row, inputs))
        return None if name is None else {name: value(row, inputs)}

    return read


def _list(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    values = [compiler.value(part) for part in items["list"].list()]

    def read(row: Any, inputs: Inputs) -> Any:
        found = (value(row, inputs) for value in values)
        return [value for value in found if value is not None]

    return read


def _flag(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    of = compiler.value(items["flag"])

    def read(row: Any, inputs: Inputs) -> Any:
        value = of(row, inputs)
        return None if value is None else value is True or value == "true"

    return read


def _whole(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    of = compiler.value(items["number"])
    where = items["number"].path

    def read(row: Any, inputs: Inputs) -> Any:
        value = of(row, inputs)
        if value is None:
            return None
        try:
            return int(value)
        except ValueError as e:
            raise InvalidOrder(f"{where}: expected a whole number, found {value!r:.60}") from e

    return read


def _sum(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    values = [compiler.value(part) for part in items["sum"].list()]

    def read(row: Any, inputs: Inputs) -> Any:
        found = [to_decimal(value(row, inputs)) for value in values]
        known = [number for number in found if number is not None]
        return sum(known, _ZERO) if known else None

    return read


def _product(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    values = [compiler.value(part) for part in items["product"].list()]

    def read(row: Any, inputs: Inputs) -> Any:
        product = Decimal(1)
        for value in values:
            number = to_decimal(value(row, inputs))
            if number is None:
                return None
            product *= number
        return product

    return read


def _difference(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    spots = items["difference"].list()
    if len(spots) != 2:
        items["difference"].fail(f"expected two values, found {len(spots)}")
    left, right = (compiler.value(part) for part in spots)

    def read(row: Any, inputs: Inputs) -> Any:
        number = to_decimal(left(row, inputs))
        return None if number is None else number - _number(right(row, inputs))

    return read


def _quotient(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    spots = items["quotient"].list()
    if len(spots) != 2:
        items["quotient"].fail(f"expected two values, found {len(spots)}")
    left, right = (compiler.value(part) for part in spots)

    def read(row: Any, inputs: Inputs) -> Any:
        number, by = to_decimal(left(row, inputs)), to_decimal(right(row, inputs))
        if number is None or by is None:
            return None
        if not by:
            raise TranslationError(f"expected a number to divide {number} by, found zero")
        step = Decimal("1E-18") if inputs.instrument is None else inputs.instrument.step_size
        with localcontext(prec=38):
            # Venues trade whole steps: what is beside them is what their own rounding left.
            return (number / by / step).quantize(Decimal(1), ROUND_HALF_EVEN) * step

    return read


def _power(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    of = compiler.value(items["power"])

    def read(row: Any, inputs: Inputs) -> Any:
        number = to_decimal(of(row, inputs))
        if number is None:
            return None
        if number != int(number) or not -38 <= number <= 38:
            raise TranslationError(f"expected a number of decimals, found {number}")
        return Decimal(1).scaleb(-int(number))

    return read


def _changed(
    change: Callable[[Decimal], Any], verb: str
) -> Callable[[Compiler, Mapping[str, Spot]], Read]:
    def compile_change(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
        of = compiler.value(items[verb])

        def read(row: Any, inputs: Inputs) -> Any:
            number = to_decimal(of(row, inputs))
            return None if number is None else change(number)

        return read

    return compile_change


def _sign_of(number: Decimal) -> str:
    return "0" if number.is_zero() else "-" if number < 0 else "+"


def _lookup(compiler: Compiler, items: Mapping[str, Spot]) -> Read:
    key = compiler.value(items["lookup"])
    within = compiler.value(items["in"])

    def read(row: Any, inputs: Inputs) -> Any:
        name, table = key(row, inputs), within(row, inputs)
        return table.get(name) if isinstance(table, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]

    return read


VERBS: Final[Mapping[str, Verb]] = {
    "const": Verb(compile=_const, doc="This text; for answers, where plain text is a path."),
    "when": Verb(
        compile=_when,
        required=("is",),
        doc="The value under `is` when the condition holds; else absent.",
    ),
    "choose": Verb(
        compile=_choose,
        doc="The first of a list of `{when, is}` whose condition holds. None holds: the order is refused, "
        "the answer unreadable.",
    ),
    "pick": Verb(compile=_pick, doc="As `choose`; none holds: absent."),
    "map": Verb(
        compile=_map,
        required=("of",),
        optional=("else",),
        doc="What a table says of the value under `of`: a mapping of texts, or the name of one under "
        "`tables`. A value that it lacks is `else`; without `else` the order is refused, the answer "
        "unreadable.",
    ),
    "decimal": Verb(
        compile=_decimal,
        where="request",
        required=("grid",),
        doc="A number as plain text, exactly. `grid` is `tick`, `step` or `none`; a number off its grid is "
        "refused, never rounded.",
    ),
    "time": Verb(
        compile=_time,
        required=("unit",),
        doc="An instant, in requests from nanoseconds to `unit`, in answers from `unit` to nanoseconds.",
    ),
    "first": Verb(
        compile=_first, doc="The first of a list of values that is there and not empty text."
    ),
    "join": Verb(
        compile=_join,
        required=("by",),
        doc="Those of a list of values that are there, joined by text.",
    ),
    "split": Verb(
        compile=_split,
        required=("by", "part"),
        doc="A part of a text that is split; parts count from 0.",
    ),
    "upper": Verb(compile=_case(str.upper, "upper"), doc="The value in upper case."),
    "lower": Verb(compile=_case(str.lower, "lower"), doc="The value in lower case."),
    "object": Verb(
        compile=_object, where="request", doc="A JSON object; absent members are left out."
    ),
    "keyed": Verb(
        compile=_keyed,
        where="request",
        required=("value",),
        doc="A JSON object of one member, whose key is a value too.",
    ),
    "list": Verb(compile=_list, where="request", doc="A JSON array; absent members are left out."),
    "flag": Verb(
        compile=_flag, where="request", doc="A JSON truth value: true for `true`, else false."
    ),
    "number": Verb(compile=_whole, where="request", doc="A JSON number, whole."),
    "sum": Verb(
        compile=_sum, where="answer", doc="The sum of those numbers of a list that are there."
    ),
    "product": Verb(compile=_product, where="answer", doc="The product of a list of numbers."),
    "difference": Verb(
        compile=_difference, where="answer", doc="The first of two numbers less the second."
    ),
    "quotient": Verb(
        compile=_quotient,
        where="answer",
        doc="The first of two numbers divided by the second, in whole steps of the market.",
    ),
    "negate": Verb(
        compile=_changed(lambda number: -number, "negate"),
        where="answer",
        doc="A number with the other sign.",
    ),
    "absolute": Verb(
        compile=_changed(abs, "absolute"), where="answer", doc="A number without its sign."
    ),
    "sign": Verb(
        compile=_changed(_sign_of, "sign"),
        where="answer",
        doc="`+`, `-` or `0`, by a number's sign.",
    ),
    "power": Verb(
        compile=_power, where="answer", doc="Ten to the minus n: the grid of n decimals."
    ),
    "lookup": Verb(
        compile=_lookup,
        where="answer",
        required=("in",),
        doc="The member of the object under `in` whose key is the value of `lookup`.",
    ),
}
"""Every kind of value."""
