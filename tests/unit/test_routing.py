"""Routing: exactly one account, or a refusal."""

from __future__ import annotations

from typing import Any

import pytest

from tradegw.engine.routing import Route, pick_account
from tradegw.errors import InvalidOrder
from tradegw.testing import a_new_order


def route(account: str, venue: str, **tags: str) -> Route:
    return Route(account=account, venue=venue, tags=tags)  # type: ignore[arg-type]


ONE = [route("a", "x")]
THREE = [route("a", "x", desk="1"), route("b", "x", desk="2"), route("c", "y", desk="1")]


@pytest.mark.parametrize(
    ("routes", "fields", "expected"),
    [
        pytest.param(ONE, {}, "a", id="the only one"),
        pytest.param(ONE, {"tags": {"note": "n"}}, "a", id="tags that route nothing"),
        pytest.param(THREE, {"account": "b"}, "b", id="by name"),
        pytest.param(THREE, {"account": "b", "venue": "x"}, "b", id="by name, at its venue"),
        pytest.param(
            THREE, {"account": "b", "tags": {"desk": "1"}}, "b", id="a name outweighs tags"
        ),
        pytest.param(THREE, {"venue": "y"}, "c", id="by venue"),
        pytest.param(THREE, {"tags": {"desk": "2"}}, "b", id="by tag"),
        pytest.param(THREE, {"venue": "x", "tags": {"desk": "1"}}, "a", id="by venue and tag"),
        pytest.param(
            THREE, {"tags": {"desk": "2", "note": "n"}}, "b", id="other tags are the caller's own"
        ),
    ],
)
def test_one_account_is_picked(routes: list[Route], fields: dict[str, Any], expected: str) -> None:
    assert pick_account(a_new_order(**({"account": None} | fields)), routes) == expected


@pytest.mark.parametrize(
    ("routes", "fields", "reason"),
    [
        pytest.param([], {}, "AMBIGUOUS_ROUTE", id="no account at all"),
        pytest.param(THREE, {}, "AMBIGUOUS_ROUTE", id="nothing to pick by"),
        pytest.param(
            THREE, {"tags": {"note": "n"}}, "AMBIGUOUS_ROUTE", id="a tag that routes nothing"
        ),
        pytest.param(THREE, {"venue": "x"}, "AMBIGUOUS_ROUTE", id="two at the venue"),
        pytest.param(THREE, {"tags": {"desk": "1"}}, "AMBIGUOUS_ROUTE", id="two with the tag"),
        pytest.param(THREE, {"venue": "z"}, "NO_ROUTE", id="no such venue"),
        pytest.param(THREE, {"tags": {"desk": "9"}}, "NO_ROUTE", id="no such tag"),
        pytest.param(THREE, {"venue": "y", "tags": {"desk": "2"}}, "NO_ROUTE", id="not together"),
        pytest.param(THREE, {"account": "b", "venue": "y"}, "NO_ROUTE", id="not at that venue"),
        pytest.param(THREE, {"account": "z"}, "UNKNOWN_ACCOUNT", id="no such account"),
    ],
)
def test_anything_else_is_refused(routes: list[Route], fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidOrder) as refused:
        pick_account(a_new_order(**({"account": None} | fields)), routes)
    assert refused.value.reason == reason
