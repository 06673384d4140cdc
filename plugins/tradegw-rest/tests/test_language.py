"""The definition language: what it takes, what it refuses, and with which words."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tradegw_rest import DefinitionError
from tradegw_rest.cases import run_cases
from tradegw_rest.compiling import compile_source
from tradegw_rest.inputs import Inputs
from tradegw_rest.library import names, source_of
from tradegw_rest.source import read_source
from tradegw_rest.times import TIME_FORMATS, TIME_READERS
from tradegw_rest.values import VERBS, Compiler

from tradegw import InvalidOrder, TranslationError, UnsupportedOrder, parse_decimal, plain
from tradegw.testing import an_instrument, an_order

SMALL = """\
definition: small
title: Small
checked: {version: v1, date: 2026-01-01}
hosts: {live: {rest: "https://api.small.example"}}
signer: {name: none}
client_id: {pattern: "[a-z0-9]{1,32}"}
capabilities:
  ord_types: [LIMIT]
  time_in_force: [GTC]
  expiry: NONE
  visibility_lag_s: 1
operations:
  place:
    request: POST /orders
    send: json
    params:
      price: {decimal: $price, grid: tick}
    ok: {id: present}
    answer:
      - report: {exec_type: {const: NEW}, venue_order_id: id}
errors:
  rules:
    - {http: 5xx, class: STATUS_UNKNOWN}
"""


def test_the_small_one_is_sound() -> None:
    assert compile_source(SMALL, "small.yaml").name == "small"


@pytest.mark.parametrize("name", names())
def test_the_cases_of_every_definition_hold(name: str) -> None:
    top = read_source(*source_of(name))
    outcomes = list(run_cases(top, compile_source(*source_of(name))))
    assert len(outcomes) >= 5
    assert [one for one in outcomes if one.problem] == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("title: Small", "titel: Small", "small.yaml:2: titel: unknown key"),
        ("title: Small", "", "small.yaml:1: definition: title is missing"),
        (
            "  expiry: NONE",
            "  expiry: NEVER",
            "small.yaml:10: capabilities.expiry: expected one of",
        ),
        ("  expiry: NONE", "  expiry: TIME", "expiry_s belongs to expiry TIME"),
        ("[LIMIT]", "[LIMIT, MARKED]", "small.yaml:8: capabilities.ord_types[1]: expected one of"),
        (
            "POST /orders",
            "POST orders",
            "small.yaml:14: operations.place.request: expected a method",
        ),
        ("POST /orders", "POST /o/{x}", "the path names ['x'], vars gives nothing"),
        ("$price", "$prize", "small.yaml:17: operations.place.params.price.decimal: unknown input"),
        ("grid: tick", "grid: nearest", "params.price.grid: expected one of none, step, tick"),
        ("grid: tick", "rounding: up", "params.price.rounding: unknown key"),
        ("{const: NEW}", "{constant: NEW}", "unknown verb"),
        ("venue_order_id: id", "venue_order_id: 'id[*]'", "not a path of the subset of JMESPath"),
        ("venue_order_id: id", "order_number: id", "report.order_number: unknown key"),
        ("    ok: {id: present}\n", "", "operations.place: ok is missing"),
        ("STATUS_UNKNOWN", "MAYBE", "errors.rules[0].class: expected one of"),
        ("http: 5xx, ", "", "expected at least one of code, text and http"),
        ("https://api", "http://api", "expected a URL of https"),
        ("https://api.", "https://user@api.", "expected a URL of https"),
        ("[a-z0-9]{1,32}", "[a-z", "client_id.pattern: not a regular expression"),
        (
            "title: Small",
            "title: Small\ntitle: Big",
            "small.yaml:3: title: the key stands here twice",
        ),
        ("title: Small", "title: &a Small", "small.yaml:2: anchors, aliases and tags"),
        ("title: Small", "title: !!int 3", "small.yaml:2: anchors, aliases and tags"),
        ("title: Small", "title: [unclosed", "not YAML"),
        ("    send: json\n", "", "send must say where the parameters go"),
        ("visibility_lag_s: 1", "visibility_lag_s: 1e3", "must be a plain decimal"),
        ("date: 2026-01-01", "date: yesterday", "expected a date such as"),
        ("  place:", "  plaice:", "operations.plaice: unknown operation"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_path(old: str, new: str, told: str) -> None:
    assert old in SMALL
    with pytest.raises(DefinitionError) as error:
        compile_source(SMALL.replace(old, new, 1), "small.yaml")
    assert told in str(error.value)
    assert str(error.value).startswith("small.yaml:")


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(max_size=60)
    | st.sampled_from(SMALL.splitlines()).map(lambda line: line + "\n  x: [")
)
def test_any_text_is_a_definition_or_an_error_of_ours(text: str) -> None:
    with pytest.raises(DefinitionError):
        compile_source(text, "odd.yaml")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_definition_with_lines_lost_is_refused_in_our_words(data: Any) -> None:
    text, file = source_of(data.draw(st.sampled_from(names())))
    lines = text.splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    until = min(len(lines), at + data.draw(st.integers(1, 4)))
    told = file
    try:
        compile_source("\n".join([*lines[:at], *lines[until:]]), file)
    except DefinitionError as e:
        told = str(e)
    assert told.startswith(file)


def test_nothing_is_typed_but_by_who_reads_it() -> None:
    top = read_source("a: no\nb: 0123\nc: 1e3\nd: ~\ne: 2026-01-01\n", "x.yaml")
    assert top.plain() == {"a": "no", "b": "0123", "c": "1e3", "d": "~", "e": "2026-01-01"}


def test_a_deep_text_is_refused() -> None:
    with pytest.raises(DefinitionError):
        read_source("[" * 2000 + "]" * 2000, "deep.yaml")


# --- values ---------------------------------------------------------------------------------------


def value(text: str, *, answer: bool = False, tables: Any = None) -> Any:
    compiler = Compiler(reads_answer=answer, tables=tables or {})
    return compiler.value(read_source(f"v: {text}", "v.yaml").items()["v"])


def ask(text: str, **fields: Any) -> Any:
    inputs = Inputs(now_ns=10**18, order=an_order(**fields), instrument=an_instrument())
    return value(text)(None, inputs)


def read(text: str, row: Any) -> Any:
    inputs = Inputs(now_ns=0, instrument=an_instrument()).reading(row)
    return value(text, answer=True)(row, inputs)


def test_every_verb_is_told_in_the_reference() -> None:
    assert all(verb.doc for verb in VERBS.values())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("plain", "plain"),
        ("$symbol", "BTC/USDT"),
        ("$venue_symbol", "BTCUSDT"),
        ("{lower: $side}", "buy"),
        ("{decimal: $price, grid: tick}", "100"),
        ("{map: {BUY: B, SELL: S}, of: $side}", "B"),
        ("{when: {ord_type: MARKET}, is: x}", None),
        ("{when: {ord_type: [MARKET, LIMIT], post_only: false}, is: x}", "x"),
        ("{when: {ord_type: {not: LIMIT}}, is: x}", None),
        ("{when: {trigger_price: absent, price: present}, is: x}", "x"),
        ("{pick: [{when: {side: SELL}, is: s}, {when: {side: BUY}, is: b}]}", "b"),
        ("{first: [$trigger_price, {decimal: $order_qty, grid: step}]}", "1"),
        ('{join: [{when: {side: SELL}, is: x}, post, viqc], by: ","}', "post,viqc"),
        ('{join: [{when: {side: SELL}, is: x}], by: ","}', None),
        ("{object: {a: $side, b: $trigger_price}}", {"a": "BUY"}),
        ("{keyed: {lower: $ord_type}, value: {object: {a: x}}}", {"limit": {"a": "x"}}),
        ("{list: [$side, $trigger_price, x]}", ["BUY", "x"]),
        ("{flag: $post_only}", False),
        ('{number: "7"}', 7),
        ("{time: $now_ns, unit: ms}", "1000000000000"),
        ("{time: $now_ns, unit: iso}", "2001-09-09T01:46:40Z"),
        ("{time: $now_ns, unit: iso_ms}", "2001-09-09T01:46:40.000Z"),
    ],
)
def test_values_of_requests(text: str, found: Any) -> None:
    assert ask(text) == found


@pytest.mark.parametrize(
    ("text", "row", "found"),
    [
        ("a.b", {"a": {"b": "x"}}, "x"),
        ("{const: x}", {}, "x"),
        ("$root.a", {"a": 1}, 1),
        ("{first: [a, b]}", {"a": "", "b": "x"}, "x"),
        ("{map: {'1': x}, of: a}", {"a": 1}, "x"),
        ("{map: {'1': x}, of: a, else: {const: y}}", {"a": 2}, "y"),
        ("{map: {'1': x}, of: a}", {}, None),
        ("{negate: a}", {"a": "-0.1"}, Decimal("0.1")),
        ("{absolute: a}", {"a": "-2"}, Decimal(2)),
        ("{sign: a}", {"a": "-2"}, "-"),
        ("{sum: [a, b, c]}", {"a": "1", "b": 2}, Decimal(3)),
        ("{product: [a, {const: '0.5'}]}", {"a": "3"}, Decimal("1.5")),
        ("{difference: [a, b]}", {"a": "3", "b": "1.5"}, Decimal("1.5")),
        ("{quotient: [a, b]}", {"a": "10", "b": "4"}, Decimal("2.5")),
        # In whole steps: what the venue rounded is rounded back.
        ("{quotient: [a, b]}", {"a": "10", "b": "3"}, Decimal("3.3333")),
        ("{power: a}", {"a": 8}, Decimal("1E-8")),
        ("{split: a, by: ' ', part: '0'}", {"a": "10 USD"}, "10"),
        ("{split: a, by: ' ', part: '1'}", {"a": "10"}, None),
        ("{lookup: {lower: $base_asset}, in: '@'}", {"btc": "1"}, "1"),
        ("{time: a, unit: ms}", {"a": "1700000000000"}, 1_700_000_000_000_000_000),
        ("{time: a, unit: s}", {"a": Decimal("1700000000.123456789")}, 1_700_000_000_123_456_789),
        ("{time: a, unit: iso}", {"a": "2023-11-14T22:13:20.5+01:00"}, 1_699_996_400_500_000_000),
        ("{when: {a: 'true'}, is: b}", {"a": True, "b": 1}, 1),
    ],
)
def test_values_of_answers(text: str, row: Any, found: Any) -> None:
    assert read(text, row) == found


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("{map: {x: X}, of: a}", {"a": "new"}),
        ("{time: a, unit: ms}", {"a": "soon"}),
        ("{time: a, unit: iso}", {"a": 7}),
        ("{negate: a}", {"a": "1e9"}),
        ("{power: a}", {"a": "1.5"}),
        ("{quotient: [a, b]}", {"a": "1.5", "b": "0"}),
        ("{choose: [{when: {a: x}, is: a}]}", {"a": "y"}),
    ],
)
def test_what_an_answer_should_not_say_is_unreadable(text: str, row: Any) -> None:
    with pytest.raises(TranslationError):
        read(text, row)


def test_what_the_venue_lacks_is_refused() -> None:
    with pytest.raises(UnsupportedOrder, match="the venue has no LIMIT with GTC"):
        ask("{choose: [{when: {ord_type: MARKET}, is: x}]}")
    with pytest.raises(UnsupportedOrder):
        ask("{map: {SELL: S}, of: $side}")


@settings(max_examples=200, deadline=None)
@given(
    units=st.integers(1, 10**9),
    tick=st.sampled_from(["0.01", "0.5", "1", "0.00000001", "0.05", "25"]),
    off=st.sampled_from(["0", "0.000000001", "0.003"]),
)
def test_a_number_on_the_grid_keeps_its_value_and_any_other_is_refused(
    units: int, tick: str, off: str
) -> None:
    size = Decimal(tick)
    price = parse_decimal(plain(units * size + Decimal(off)))
    inputs = Inputs(now_ns=0, order=an_order(price=price), instrument=an_instrument(tick_size=size))
    made = value("{decimal: $price, grid: tick}")
    if price % size:
        with pytest.raises(InvalidOrder, match="multiple"):
            made(None, inputs)
    else:
        text = made(None, inputs)
        assert Decimal(text) == price
        assert "E" not in text


@given(
    ns=st.integers(0, 4 * 10**18),
    unit=st.sampled_from(sorted(set(TIME_FORMATS) & set(TIME_READERS))),
)
def test_an_instant_written_and_read_loses_only_what_its_unit_cannot_hold(
    ns: int, unit: str
) -> None:
    size = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1, "iso": 10**9}[unit]
    assert TIME_READERS[unit](TIME_FORMATS[unit](ns)) == ns - ns % size


# --- cases ----------------------------------------------------------------------------------------

CASE = """
cases:
  - case: a limit
    operation: place
    order: {symbol: BTC/USDT, ord_type: LIMIT, price: "100", order_qty: "1"}
    sends: {request: POST /orders, params: {price: "100"}}
    answer: {status: "200", body: '{"id": 1}'}
    gives: [{venue_order_id: "1"}]
samples:
  - {symbol: BTC/USDT, venue_symbol: btc, tick_size: "0.5"}
"""


def problems(text: str) -> list[str]:
    top = read_source(text, "small.yaml")
    return [one.problem for one in run_cases(top, compile_source(text, "small.yaml"))]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("POST /orders, params", "PUT /orders, params", "expected PUT /orders, found POST /orders"),
        (
            'params: {price: "100"}',
            'params: {price: "101"}',
            "params.price: expected '101', found '100'",
        ),
        ('params: {price: "100"}', "params: {price: absent}", "expected 'absent', found '100'"),
        ('venue_order_id: "1"', 'venue_order_id: "2"', "expected '2', found '1'"),
        ('gives: [{venue_order_id: "1"}]', "gives: []", "expected 0 rows, found 1"),
        ('gives: [{venue_order_id: "1"}]', "fails: AUTH", "expected AUTH, found 1 rows"),
        ('{"id": 1}', '{"no": 1}', "OutcomeUnknown"),
        ('price: "100", order', 'price: "100.1", order', "must be a multiple of 0.5"),
        (
            "    sends: {",
            "    refused: nothing\n    sends: {",
            "expected a refusal, and it would be sent",
        ),
    ],
)
def test_a_case_that_does_not_hold_says_so(old: str, new: str, told: str) -> None:
    assert problems(SMALL + CASE) == [""]
    assert old in CASE
    (problem,) = problems(SMALL + CASE.replace(old, new, 1))
    assert told in problem
