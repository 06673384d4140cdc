"""The plugin's entry point: what it offers to tradegw."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tradegw import hookimpl
from tradegw.venue import Runtime, Venue, VenueFactory
from tradegw_dydx.config import DydxConfig

if TYPE_CHECKING:
    import cyclopts

__all__ = ["tradegw_cli", "tradegw_register_venues"]


@asynccontextmanager
async def _open(config: DydxConfig, runtime: Runtime) -> AsyncGenerator[Venue]:
    # Away from the event loop: grpc and aiohttp take half a second to import.
    await asyncio.to_thread(importlib.import_module, "tradegw_dydx.venue")
    from tradegw_dydx.venue import open_dydx

    async with open_dydx(config, runtime) as venue:
        yield venue


@hookimpl
def tradegw_register_venues(api_version: int) -> Sequence[VenueFactory[DydxConfig]]:
    """Offer the venue `dydx`."""
    return (VenueFactory(name="dydx", config_type=DydxConfig, open=_open),)


@hookimpl
def tradegw_cli(app: cyclopts.App) -> None:
    """Add `tradegw dydx`."""
    from tradegw_dydx.cli import make_app

    app.command(make_app())
