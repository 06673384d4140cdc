"""The plugin's entry point: what it offers to tradegw."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from tradegw import hookimpl
from tradegw.venue import Runtime, Venue, VenueFactory
from tradegw_mock.config import MockConfig

if TYPE_CHECKING:
    import cyclopts

__all__ = ["tradegw_cli", "tradegw_register_venues"]


def _open(config: MockConfig, runtime: Runtime) -> AbstractAsyncContextManager[Venue]:
    if config.url:
        from tradegw_mock.native.remote import open_remote

        return open_remote(config, runtime)
    from tradegw_mock.inprocess import open_in_process

    return open_in_process(config, runtime)


@hookimpl
def tradegw_register_venues(api_version: int) -> Sequence[VenueFactory[MockConfig]]:
    """Offer the venue `mock`."""
    return (VenueFactory(name="mock", config_type=MockConfig, open=_open),)


@hookimpl
def tradegw_cli(app: cyclopts.App) -> None:
    """Add `tradegw mock`."""
    from tradegw_mock.cli import make_app

    app.command(make_app())
