"""The plugin's entry point: what it offers to tradegw."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from tradegw import hookimpl
from tradegw.ports import Sink, SinkFactory, SinkRuntime
from tradegw_rabbitmq.config import RabbitConfig

if TYPE_CHECKING:
    import cyclopts

__all__ = ["tradegw_cli", "tradegw_register_event_sinks"]


def _open(config: RabbitConfig, runtime: SinkRuntime) -> AbstractAsyncContextManager[Sink]:
    from tradegw_rabbitmq.sink import open_rabbit

    return open_rabbit(config, runtime)


@hookimpl
def tradegw_register_event_sinks() -> Sequence[SinkFactory[RabbitConfig]]:
    """Offer the sink `rabbitmq`."""
    return (SinkFactory(name="rabbitmq", config_type=RabbitConfig, open=_open),)


@hookimpl
def tradegw_cli(app: cyclopts.App) -> None:
    """Add `tradegw rabbitmq`."""
    from tradegw_rabbitmq.cli import make_app

    app.command(make_app())
