"""`tradegw explain ORDER`: the story of an order, from the record alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tradegw.model import CommandKind, EventType, EvidenceKind, Order, OrderEvent, plain
from tradegw.transports.cli.asking import Asking, find_order_id, reading
from tradegw.transports.cli.show import console, instant, number, print_json, styled_status
from tradegw.transports.cli.values import clean, jsonable

__all__ = ["event_fields", "explain", "tell"]

_ASKING = Asking()
_BEGINNINGS: Final = (EventType.INTENT, EventType.EXTERNAL, EventType.ADOPTED)
_NS_PER_MS = 1_000_000

_EVIDENCE: Final = {
    EvidenceKind.VENUE_REPORT: "the venue said so",
    EvidenceKind.FILL: "a fill proves it",
    EvidenceKind.ABSENT_AFTER_EXPIRY: "the venue does not know it, and would refuse it by now",
    EvidenceKind.EXPIRY_PASSED: "its time at the venue has passed",
    EvidenceKind.NOT_SENT: "no byte of it ever left",
    EvidenceKind.IDEMPOTENT_RESEND: "the venue answered when it was sent again",
    EvidenceKind.OPERATOR: "an operator decided",
}


_MOVED: Final = ("ord_status", "cum_qty", "leaves_qty", "avg_px", "in_doubt")


async def explain(order: str, /, *, account: str | None = None, asking: Asking = _ASKING) -> None:
    """Tell the story of an order: who asked, what was stored before what was sent, evidence, doubts, fills.

    It is told from the record, by the gateway or from the store where none runs. With --json: the order, and
    its events, oldest first.

    For example:

        tradegw explain 6f1ce0a2-3f1d-4a55-9df6-6b2a8e2f9d10

        tradegw explain breakfast

    Args:
        order: The order's id, or its client order id.
        account: Account of the client order id, where several have one of that name.
    """
    async with reading(asking) as source:
        order_id = await find_order_id(source, order, account)
        found = await source.get_order(order_id)
        events = await source.list_order_events(order_id)
    if asking.json:
        print_json({"order": found, "events": [event_fields(event) for event in events]})
    else:
        _show(found, events)


def event_fields(event: OrderEvent) -> dict[str, Any]:
    """Return an event for programs: of the order only what it moved."""
    fields: dict[str, Any] = jsonable(event)
    order: dict[str, Any] | None = fields.pop("order")
    if order is not None:
        fields |= {name: order[name] for name in _MOVED}
    return {**fields, "told": tell(event)}


def _show(order: Order, events: Sequence[OrderEvent]) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    title = Text.assemble(
        (_terms(order), "bold"),
        "\n",
        ("order ", "dim"),
        str(order.order_id),
        ("  account ", "dim"),
        clean(order.account),
        ("  venue ", "dim"),
        clean(order.venue),
    )
    if order.client_order_id:
        title.append("  client order id ", "dim").append(clean(order.client_order_id))
    out.print(title)
    out.print()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("event", "after", "what happened"):
        table.add_column(name, no_wrap=name != "what happened", overflow="fold")
    started = events[0].time_ns if events else 0
    for event in events:
        after_ms = (event.time_ns - started) // _NS_PER_MS
        after = instant(event.time_ns) if event is events[0] else f"+{after_ms / 1000:,.3f} s"
        table.add_row(
            Text(f"{event.seq}", style="dim"),
            Text(after, style="dim"),
            Text(clean(tell(event), limit=2000), style=_style(event)),
        )
    out.print(table)
    if not events or events[0].event_type not in _BEGINNINGS:
        out.print(
            Text("What came before is archived: tradegw store read FILE --order ORDER", style="dim")
        )
    out.print()
    now = Text.assemble(("Now: ", "bold"), styled_status(order))
    now.append(f", filled {plain(order.cum_qty)}")
    if order.order_qty is not None:
        now.append(f" of {plain(order.order_qty)}")
    if order.avg_px is not None:
        now.append(f" at {plain(order.avg_px)} on average")
    if order.reason:
        now.append(f"; {clean(order.reason)}")
    if order.text:
        now.append(f": {clean(order.text)}", "dim")
    out.print(now)
    for doubt in order.in_doubt:
        text = (
            f"In doubt: {doubt.command} since {instant(doubt.since_ns)}, because {doubt.why}. "
            "The gateway goes on asking the venue; until there is evidence the order counts as open."
        )
        out.print(Text(clean(text, limit=2000), style="bold yellow"))


def tell(event: OrderEvent) -> str:
    """Return in plain words what an event says."""
    told = _words(event)
    if event.late:
        told += " (late: the order had closed)"
    if event.evidence is not None and event.event_type not in _PLAIN:
        told += f"; evidence: {_EVIDENCE[event.evidence.kind]}"
        if event.evidence.detail:
            told += f" ({event.evidence.detail})"
    return told


_PLAIN: Final = {EventType.INTENT, EventType.NEW, EventType.TRADE, EventType.PENDING_CANCEL}
"""Told without their evidence, which says no more than they do."""


def _words(event: OrderEvent) -> str:
    order, why = event.order, _why(event)
    asked = f" (request {event.request_id})" if event.request_id else ""
    match event.event_type:
        case EventType.INTENT if order is not None:
            key = f", key {order.idempotency_key}" if order.idempotency_key else ""
            kept = "; the venue is out, so it waits here" * order.queued
            return f"asked for {_terms(order)}{asked}{key}; stored before anything was sent{kept}"
        case EventType.NEW if order is not None:
            return (
                f"{order.venue} holds it as {order.venue_order_id or 'an order without an id yet'}"
            )
        case EventType.SENT_UNANSWERED:
            return f"nobody knows what became of {_command(event)}: {event.text or why}"
        case EventType.DOUBT_RESOLVED:
            return f"the doubt about {_command(event)} is settled"
        case EventType.TRIGGERED:
            return "its trigger price traded; it is live"
        case EventType.TRADE | EventType.TRADE_CORRECT | EventType.UNMATCHED_FILL:
            return _fill(event)
        case EventType.FILLED:
            return "the venue says that it is complete"
        case EventType.PENDING_CANCEL if order is not None and order.queued:
            return f"cancel asked{asked}; it waits here until the venue can be asked{why}"
        case EventType.PENDING_CANCEL:
            return f"cancel asked{asked}; stored before it was sent"
        case EventType.DEQUEUED:
            return f"the turn of {_command(event)} has come; it is sent next"
        case EventType.CANCELED:
            return f"canceled{why}"
        case EventType.CANCEL_REJECTED:
            return f"the cancel was refused{why}; the order stands as its fills say"
        case EventType.PENDING_REPLACE if order is not None:
            return f"replace asked{asked}: {_new_terms(order)}; stored before it was sent"
        case EventType.REPLACED if order is not None:
            return f"replaced: now {_terms(order)}"
        case EventType.REPLACE_REJECTED:
            return f"the replace was refused{why}; the old terms stand"
        case EventType.REJECTED:
            return f"refused{why}"
        case EventType.EXPIRED:
            return f"expired{why}"
        case EventType.REVIVED:
            return f"ALARM: closed on weaker evidence, it turned up at the venue after all{why}"
        case EventType.OVERFILL:
            return f"ALARM: more was filled than ordered{why}"
        case EventType.EXTERNAL:
            return "seen at the venue; not placed by this gateway"
        case EventType.ADOPTED:
            return f"adopted: from now on it is ours{why}"
        case EventType.FILL_ATTACHED:
            return f"a fill that had matched no order was found to be its own{why}"
        case EventType.HISTORY_GAP:
            return f"ALARM: the gateway was away longer than the venue remembers{why}"
        case EventType.VENUE_RESET:
            return f"ALARM: the venue came back as another instance{why}"
        case _:
            return f"{event.event_type}{why}"


def _fill(event: OrderEvent) -> str:
    fill, order = event.fill, event.order
    if fill is None:
        return event.event_type.value
    if fill.corrects:
        return f"took back the inferred fill {fill.corrects}: {plain(fill.last_qty)}"
    text = f"filled {plain(fill.last_qty)} at {plain(fill.last_px)}"
    if fill.fee is not None:
        text += f", fee {plain(fill.fee)} {fill.fee_asset or ''}".rstrip()
    text += f", as {fill.liquidity.lower()}" if fill.liquidity != "UNKNOWN" else ""
    text += f" (trade {fill.trade_id}{', inferred' if fill.inferred else ''})"
    if order is not None and order.order_qty is not None:
        text += f"; {plain(order.cum_qty)} of {plain(order.order_qty)} done"
    return text


def _terms(order: Order) -> str:
    size = number(order.order_qty)
    if order.quote_qty is not None:
        size = f"for {plain(order.quote_qty)} quote of"
    text = f"{order.side} {size} {order.symbol} {order.ord_type}"
    if order.price is not None:
        text += f" at {plain(order.price)}"
    if order.trigger_price is not None:
        text += f" when {plain(order.trigger_price)} trades"
    return f"{text} {order.time_in_force}" + " post-only" * order.post_only


def _new_terms(order: Order) -> str:
    terms = order.pending_terms
    if terms is None:
        return "other terms"
    given = {
        "quantity": terms.order_qty,
        "price": terms.price,
        "trigger price": terms.trigger_price,
    }
    return ", ".join(f"{name} {plain(value)}" for name, value in given.items() if value is not None)


def _command(event: OrderEvent) -> str:
    return _COMMANDS[event.command] if event.command is not None else "a command"


_COMMANDS: Final = {
    CommandKind.NEW: "the order",
    CommandKind.CANCEL: "the cancel",
    CommandKind.REPLACE: "the replace",
}


def _why(event: OrderEvent) -> str:
    words = ", ".join(word for word in (event.reason, event.text) if word)
    return f": {words}" if words else ""


def _style(event: OrderEvent) -> str:
    match event.event_type:
        case EventType.TRADE | EventType.FILLED:
            return "green"
        case EventType.REJECTED:
            return "red"
        case EventType.SENT_UNANSWERED:
            return "bold yellow"
        case EventType.REVIVED | EventType.OVERFILL | EventType.HISTORY_GAP | EventType.VENUE_RESET:
            return "bold red"
        case _:
            return ""
