"""Commands on the store as a whole: archive its oldest events, and read what was archived."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from tradegw.errors import ConfigError
from tradegw.gateway.archive import Archived, archive_store, read_archive
from tradegw.gateway.clock import SystemClock
from tradegw.gateway.config import load_config
from tradegw.model import OrderEvent
from tradegw.transports.cli.asking import Json
from tradegw.transports.cli.explain import event_fields, tell
from tradegw.transports.cli.show import console, instant, print_json, show_table
from tradegw.transports.cli.values import clean

__all__ = ["archive", "read"]

_NS_PER_S: Final = 1_000_000_000
_UNITS: Final = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def archive(
    *,
    before: str = "30d",
    to: Path = Path(),
    account: str | None = None,
    without_sink: Annotated[Sequence[str], Parameter(consume_multiple=False)] = (),
    config: Path | None = None,
    dry_run: bool = False,
    json: Json = False,
) -> None:
    """Move the oldest events and fills of each account to a file, and keep what answers late duplicates.

    Up to the first event of an order that is open, that some sink has not confirmed, or that is not older
    than --before. The file is on the disk before anything is deleted; a run that was cut short is repeated.
    In a file while no gateway runs on it. In Postgres beside gateways, as the role that owns the tables.

    For example:

        tradegw store archive --before 90d --to /var/lib/tradegw/archive --dry-run

        tradegw store archive --before 2026-01-01 --account paper

    Args:
        before: What is recorded since then stays: an age such as 90d, 12h, 30m, 0s, or a date or instant in
            ISO 8601, UTC unless it says otherwise.
        to: A directory; or, with --account, the file.
        account: Only this account.
        without_sink: A sink that is gone for good, for which no events need be kept. Repeatable.
        config: Configuration that tells where the store is.
        dry_run: Only say what would leave.
    """
    settings = load_config(config)
    done = await archive_store(
        settings,
        before_ns=_before(before, SystemClock().time_ns()),
        to=to,
        account=account,
        without_sinks=without_sink,
        dry_run=dry_run,
    )
    if json:
        print_json({"dry_run": dry_run, "accounts": [_fields(one) for one in done]})
        return
    show_table(
        ["account", "leaves" if dry_run else "left", "stays", "held by", "file"],
        [
            [
                one.account,
                f"{one.after_seq + 1}-{one.up_to_seq}" if one.events else "nothing",
                f"{one.up_to_seq + 1}-{one.head_seq}"
                if one.head_seq > one.up_to_seq
                else "nothing",
                one.held_by,
                "" if one.path is None else str(one.path),
            ]
            for one in done
        ],
    )


def _fields(one: Archived) -> dict[str, Any]:
    return {
        "account": one.account,
        "events": one.events,
        "after_seq": one.after_seq,
        "up_to_seq": one.up_to_seq,
        "head_seq": one.head_seq,
        "held_by": one.held_by,
        "file": None if one.path is None else str(one.path),
    }


def read(*files: Path, order: str | None = None, json: Json = False) -> None:
    """Print the events that are in archives, each checked against the one before it.

    For example:

        tradegw store read archive/paper.000000000001-000000012000.jsonl.gz

        tradegw store read archive/*.jsonl.gz --order 6f1ce0a2-3f1d-4a55-9df6-6b2a8e2f9d10 --json

    With --json: one event a line. Ends with an error when a file was altered or cut off; what was printed
    until then is as it was archived.

    Args:
        files: Archives, in the order in which to print them.
        order: Only of the order with this id, or client order id.
    """
    if not files:
        raise ConfigError("expected the files to read; found none", reason="INVALID_FIELD")
    for path in files:
        with read_archive(path) as (found, events):
            for event in events:
                if order is not None and order not in _names(event):
                    continue
                if json:
                    print_json(event_fields(event))
                else:
                    console().print(
                        f"{clean(found.account)} {event.seq}  {instant(event.time_ns)}  "
                        f"{clean(tell(event), limit=2000)}",
                        markup=False,
                        soft_wrap=True,
                    )


def _names(event: OrderEvent) -> set[str]:
    named = {str(event.order_id)}
    if event.order is not None and event.order.client_order_id is not None:
        named.add(event.order.client_order_id)
    return named


def _before(text: str, now_ns: int) -> int:
    if match := re.fullmatch(r"(\d{1,9})([dhms])", text):
        return now_ns - int(match[1]) * _UNITS[match[2]] * _NS_PER_S
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--before is an age such as 90d or 12h, or a date such as 2026-01-31; found {text[:80]!r}",
            reason="INVALID_FIELD",
        ) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return (found - _EPOCH) // timedelta(microseconds=1) * 1000
