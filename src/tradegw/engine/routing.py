"""Picks the account of an order that names none: exactly one, or a refusal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tradegw.errors import InvalidOrder
from tradegw.model import AccountName, NewOrder

__all__ = ["Route", "pick_account"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One account as a target of routing.

    Attributes:
        tags: An order with tags goes to the account whose own tags hold all of the order's routing tags,
            which are those whose names any account uses.
    """

    account: AccountName
    venue: str
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


def pick_account(order: NewOrder, routes: Iterable[Route]) -> AccountName:
    """Return the one account that the order is for.

    Raises:
        InvalidOrder: Reason `UNKNOWN_ACCOUNT`, `NO_ROUTE` or `AMBIGUOUS_ROUTE`.
    """
    routes = tuple(routes)
    known = ", ".join(sorted(r.account for r in routes)) or "none"
    if order.account is not None:
        for route in routes:
            if route.account == order.account:
                if order.venue is not None and order.venue != route.venue:
                    raise InvalidOrder(
                        f"account {order.account} is at venue {route.venue}, not {order.venue}",
                        reason="NO_ROUTE",
                    )
                return route.account
        raise InvalidOrder(
            f"there is no account {order.account!r}; there are {known}", reason="UNKNOWN_ACCOUNT"
        )
    routing = {name for route in routes for name in route.tags}
    wanted = {name: value for name, value in order.tags.items() if name in routing}
    if order.venue is None and not wanted and len(routes) != 1:
        raise InvalidOrder(
            f"give account, venue or routing tags; there are {known}", reason="AMBIGUOUS_ROUTE"
        )
    matches = [
        route
        for route in routes
        if (order.venue is None or route.venue == order.venue)
        and all(route.tags.get(name) == value for name, value in wanted.items())
    ]
    if not matches:
        raise InvalidOrder(
            f"no account matches venue {order.venue!r} and tags {wanted}; there are {known}",
            reason="NO_ROUTE",
        )
    if len(matches) > 1:
        names = ", ".join(sorted(r.account for r in matches))
        raise InvalidOrder(f"the order fits several accounts: {names}", reason="AMBIGUOUS_ROUTE")
    return matches[0].account
