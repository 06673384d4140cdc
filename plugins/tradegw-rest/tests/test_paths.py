"""Paths mean what JMESPath means by them: `jmespath` is the oracle."""

from __future__ import annotations

import json
from typing import Any

import jmespath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tradegw_rest.library import names, source_of
from tradegw_rest.paths import PathError, compile_path
from tradegw_rest.source import Spot, read_source

NAMES = ["a", "b", "k", "filters", "x_1"]
TEXTS = ["v", "w", "", "PRICE_FILTER"]

documents = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(TEXTS),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=25,
)
name = st.sampled_from([*NAMES, '"a"', '"k"'])


@st.composite
def paths(draw: Any) -> str:
    text = draw(name)
    for _ in range(draw(st.integers(0, 3))):
        text += draw(
            st.one_of(name.map(lambda n: f".{n}"), st.integers(0, 3).map(lambda i: f"[{i}]"))
        )
    if draw(st.booleans()):
        op, value = draw(st.sampled_from(["==", "!="])), draw(st.sampled_from(TEXTS))
        text += f"[?{draw(name)}{op}'{value}']"
        for _ in range(draw(st.integers(0, 2))):
            text += f".{draw(name)}"
        if draw(st.booleans()):
            text += " | [0]"
    return text


@settings(max_examples=200, deadline=None)
@given(path=paths(), document=documents)
def test_a_path_yields_what_jmespath_yields(path: str, document: Any) -> None:
    assert compile_path(path)(document) == jmespath.search(path, document), (path, document)


@pytest.mark.long
@settings(max_examples=50_000, deadline=None)
@given(path=paths(), document=documents)
def test_a_path_yields_what_jmespath_yields_at_length(path: str, document: Any) -> None:
    assert compile_path(path)(document) == jmespath.search(path, document), (path, document)


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet="ab.[]?='!@*|0 \"-&`(){},:", max_size=14))
def test_whatever_is_taken_is_jmespath(text: str) -> None:
    """The subset is strict: it takes nothing that JMESPath would not, or would read in another way."""
    try:
        ours = compile_path(text)
    except PathError:
        return
    document = {"a": {"b": [1, {"a": "v"}]}, "b": [{"a": "0", "b": 2}, {"a": ""}], "ab": [[3]]}
    assert ours(document) == jmespath.search(text, document)


def texts(spot: Spot) -> list[str]:
    if spot.is_text:
        return [spot.text()]
    inner = spot.items().values() if spot.is_map else spot.list()
    return [text for part in inner for text in texts(part)]


@pytest.mark.parametrize("definition", names())
@settings(max_examples=10, deadline=None)
@given(document=documents)
def test_every_path_of_the_definitions(definition: str, document: Any) -> None:
    top = read_source(*source_of(definition)).items()
    top.pop("cases")
    found = {text for part in top.values() for text in texts(part)}
    tried = 0
    for text in found:
        try:
            ours = compile_path(text)
        except PathError:
            continue
        # A document in which the path leads somewhere: its own steps around the random one.
        grown: Any = document
        for step in reversed(text.partition("[?")[0].split(".")):
            key, _, index = step.partition("[")
            grown = {key.strip('"'): [grown, grown] if index else grown}
        for one in (document, grown):
            assert ours(one) == jmespath.search(text, one), (text, json.dumps(one))
        tried += 1
    assert tried > 30


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "a[-1]",
        "a[*]",
        "*",
        "a | b",
        "a[?b=='v'",
        "a[?b>'v']",
        "a-b",
        "a b",
        "a[0",
        "a[]",
        "a | [0]",
        "`1`",
        "length(a)",
        "a[?b=='v'].c | [1]",
        "a[?b=='v'][0]",
        "a,b",
        "á",
    ],
)
def test_what_is_outside_the_subset_is_refused(text: str) -> None:
    with pytest.raises(PathError):
        compile_path(text)
