"""Has a plugin translate a command, and reads when what came of it ends to be valid."""

from __future__ import annotations

from typing import Any

from tradegw.errors import PluginError, TradegwError
from tradegw.plugins import AccountPlugins
from tradegw.ports import VenueOrderRef
from tradegw.venue import Command, TranslateContext, VenueRequest, VenueTime

__all__ = ["has_passed", "placed_until", "translate", "valid_until"]


def translate(venue: AccountPlugins, command: Command, context: TranslateContext) -> VenueRequest:
    """Translate, and tell a plugin's refusal from its mistakes. Nothing has been stored.

    Raises:
        InvalidOrder: The venue cannot do this.
        PluginError: The plugin failed.
    """
    try:
        request: Any = venue.translate(command, context)
    except TradegwError:
        raise
    except Exception as e:
        raise PluginError(
            f"plugin {venue.account.plugin} failed to translate: {type(e).__name__}: {e}"
        ) from e
    if not isinstance(request, VenueRequest):
        raise PluginError(
            f"plugin {venue.account.plugin} translated to {type(request).__name__}, not VenueRequest"
        )
    return request


def has_passed(until: VenueTime, now: VenueTime) -> bool:
    """Whether a request that is valid until then is refused by the venue now."""
    if until.height is not None:
        return now.height is not None and now.height >= until.height
    return now.time_ns >= until.time_ns


def placed_until(ref: VenueOrderRef) -> VenueTime | None:
    """Return until when an incarnation's placement is valid, if it ends by itself."""
    if ref.valid_until_height is not None:
        return VenueTime(time_ns=ref.valid_until_ns or 0, height=ref.valid_until_height)
    return None if ref.valid_until_ns is None else VenueTime(time_ns=ref.valid_until_ns)


def valid_until(request: VenueRequest) -> tuple[int | None, int | None]:
    """Return until when a request is valid: ns by the venue's clock, or a height."""
    until = request.valid_until
    if until is None:
        return None, None
    return (None, until.height) if until.height is not None else (until.time_ns, None)
