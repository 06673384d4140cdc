"""The plugin's entry point: what it offers to tradegw."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from tradegw import ConfigError, hookimpl
from tradegw.venue import Runtime, Venue, VenueFactory
from tradegw_mock.config import MockConfig

__all__ = ["tradegw_register_venues"]


def _open(config: MockConfig, runtime: Runtime) -> AbstractAsyncContextManager[Venue]:
    if config.url:
        raise ConfigError("url: the native door is not built yet")
    from tradegw_mock.inprocess import open_in_process

    return open_in_process(config, runtime)


@hookimpl
def tradegw_register_venues(api_version: int) -> Sequence[VenueFactory[MockConfig]]:
    """Offer the venue `mock`."""
    return (VenueFactory(name="mock", config_type=MockConfig, open=_open),)
