"""The plugin's entry point: what it offers to tradegw."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from tradegw import hookimpl
from tradegw.venue import Runtime, Venue, VenueFactory
from tradegw_rest.config import RestConfig

if TYPE_CHECKING:
    import cyclopts

__all__ = ["tradegw_cli", "tradegw_register_venues"]


def _open(config: RestConfig, runtime: Runtime) -> AbstractAsyncContextManager[Venue]:
    # Not before an account wants it: HTTP and WebSocket clients take long to import.
    from tradegw_rest.venue import open_rest

    return open_rest(config, runtime)


@hookimpl
def tradegw_register_venues(api_version: int) -> Sequence[VenueFactory[RestConfig]]:
    """Offer the venue `rest`."""
    return (VenueFactory(name="rest", config_type=RestConfig, open=_open),)


@hookimpl
def tradegw_cli(app: cyclopts.App) -> None:
    """Add `tradegw rest`."""
    from tradegw_rest.cli import make_app

    app.command(make_app())
