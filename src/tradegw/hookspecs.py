"""Every hook: what a plugin may be asked.

Two families. The registration hooks are called once for each gateway, do no I/O and hand over factories.
The venue hooks do the work: `translate` is pure, `execute` and `fetch` return an awaitable, `stream` an
async iterator; pluggy never awaits, so the gateway does. Authors of venues subclass
`tradegw.venue.Venue` and mark nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tradegw.markers import hookspec
from tradegw.model import ExecutionReport, Order, OrderEvent
from tradegw.ports import SinkFactory
from tradegw.venue import (
    Command,
    Page,
    Query,
    StreamItem,
    TranslateContext,
    VenueAccount,
    VenueFactory,
    VenueRequest,
)

if TYPE_CHECKING:
    import cyclopts

__all__ = ["Denial", "SecretSource"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """Why a check refuses an order. The order is stored `REJECTED` with this reason.

    Attributes:
        reason: A code in upper case, such as `DESK_RULE`.
    """

    reason: str
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSource:
    """Where secrets of one kind come from: `api_key = "NAME:REFERENCE"` asks it for `REFERENCE`.

    Attributes:
        name: 1 to 32 lower-case letters, digits and `-`; not `env`, `file` or `keyring`.
        read: Returns a secret. Called in a thread, so it may block; anew at each opening of a venue, so that
            a secret that was changed there is used from then on. Whatever it raises is told by the type of
            the error alone: its text may hold the secret.
    """

    name: str
    read: Callable[[str], str]


# --- registration ---------------------------------------------------------------------------------


@hookspec
def tradegw_register_venues(api_version: int) -> Sequence[VenueFactory[Any]]:
    """Offer venues to the gateway.

    Called once for each gateway, before any connection exists. Does no I/O: awaiting belongs to the
    `Venue` that a factory builds. The offers of all plugins are joined; two of one name are an error.
    Added in 0.1.

    Args:
        api_version: Contract version that the gateway speaks. Offer nothing if it is too old.

    Raises:
        PluginError: The plugin cannot run here. The others still load, and the reason is logged.
    """
    return ()


@hookspec
def tradegw_register_secret_sources() -> Sequence[SecretSource]:
    """Offer sources of secrets, such as a vault.

    Called once for each gateway, before the configuration is decoded. Does no I/O: a source is asked when a
    venue opens. The offers of all plugins are joined; two of one name are an error. Added in 0.1.
    """
    return ()


@hookspec
def tradegw_register_event_sinks() -> Sequence[SinkFactory[Any]]:
    """Offer places where events go, such as a broker: `[sinks.NAME] plugin = "..."`.

    Called once for each gateway. Does no I/O: connecting belongs to the `Sink` that a factory opens. The
    offers of all plugins are joined; two of one name are an error. Added in 0.1.
    """
    return ()


@hookspec
def tradegw_register_wrappers() -> Sequence[object]:
    """Offer plugins that wrap the venue hooks of every account: chaos, tracing, a desk's rule.

    Called once for each account. What is returned is registered in the account's own plugin manager,
    beside its one venue; its hook implementations must be wrappers (`@hookimpl(wrapper=True)`), which is
    checked, because a plain one would answer in the venue's place. Added in 0.1.
    """
    return ()


@hookspec
def tradegw_cli(app: cyclopts.App) -> None:
    """Add commands to the command line.

    Called once for each run of `tradegw`. Import what is heavy inside the commands. Added in 0.1.
    """


# --- the venue contract ---------------------------------------------------------------------------


@hookspec(firstresult=True)
def tradegw_translate(
    account: VenueAccount, command: Command, context: TranslateContext
) -> VenueRequest | None:
    """Turn a command into one unsigned request. Pure.

    Called once for each command, before it is stored. Answered by the account's one venue.
    Added in 0.1.

    Raises:
        InvalidOrder: The venue cannot do this. Nothing has been stored, the caller's key is free.
    """


@hookspec(firstresult=True)
def tradegw_execute(
    account: VenueAccount, request: VenueRequest
) -> Awaitable[Sequence[ExecutionReport]] | None:
    """Sign and send one request; return an awaitable of the venue's answer.

    Called once for each request, after it was stored; never a second time for the same order, except
    where the venue declares resending idempotent. Answered by the account's one venue. Added in 0.1.

    Raises:
        VenueRejected, RateLimited, NotSent, OutcomeUnknown: From the awaitable. Anything else counts as
            `OutcomeUnknown`.
    """


@hookspec(firstresult=True)
def tradegw_stream(account: VenueAccount, since: int) -> AsyncIterator[StreamItem] | None:
    """Return the account's live updates: ready, changes, a gap, ready again.

    Called at start, and again with a backoff whenever the iterator ends or fails. Answered by the
    account's one venue. Added in 0.1.
    """


@hookspec(firstresult=True)
def tradegw_fetch(account: VenueAccount, query: Query) -> Awaitable[Page[Any]] | None:
    """Ask the venue; return an awaitable of one page.

    Called by the resolver, the reconciler and the lists. Answered by the account's one venue.
    Added in 0.1.

    Raises:
        VenueError: From the awaitable: no answer. Never an empty page in its place.
    """


# --- around the order -----------------------------------------------------------------------------


@hookspec
def tradegw_check_order(order: Order, account: VenueAccount) -> Denial | None:
    """Say why an order must not be sent; None when there is nothing against it.

    Called once for each new order, after our own checks and before it is stored. Synchronous and pure.
    Any denial wins; an implementation that raises is a denial with reason `CHECK_FAILED`. Added in 0.1.
    """


@hookspec
def tradegw_on_event(event: OrderEvent) -> None:
    """See every event, after it was stored.

    Called once for each event, in the order of the account's stream, off the order path: what it raises
    is logged and fails no order. Added in 0.1.
    """
