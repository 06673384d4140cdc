"""What the configuration says to the sink `rabbitmq`, and the names that follow."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tradegw.venue import Secret

__all__ = ["RabbitConfig"]

Delay = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class RabbitConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[sinks.NAME]` with `plugin = "rabbitmq"`.

    Attributes:
        url: `amqp://` or `amqps://`, with user, password and virtual host.
        prefix: Stands before every name at the broker.
        format: `protobuf`, or `json` for debugging.
        mandatory: An event that no queue takes is not confirmed, and comes again.
        commands: Take commands from `orders.commands.v1`.
        prefetch: Commands that the broker hands out before the first is acknowledged.
        concurrency: Commands that are carried out at once. Those of one order are carried out in turn.
        retry_delays_s: After how long a command that could not be stored is tried again, each time.
    """

    url: Secret
    prefix: str = ""
    format: Literal["protobuf", "json"] = "protobuf"
    mandatory: bool = True
    commands: bool = False
    prefetch: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 64
    concurrency: Annotated[int, msgspec.Meta(ge=1)] = 16
    retry_delays_s: tuple[Delay, ...] = (1.0, 5.0, 30.0)

    @property
    def orders(self) -> str:
        """Exchange of all events but fills."""
        return f"{self.prefix}orders.events.v1"

    @property
    def executions(self) -> str:
        """Exchange of fills."""
        return f"{self.prefix}executions.events.v1"

    @property
    def command_queue(self) -> str:
        """Queue of commands."""
        return f"{self.prefix}orders.commands.v1"

    @property
    def dead_queue(self) -> str:
        """Queue of commands that were refused."""
        return f"{self.command_queue}.dead"

    @property
    def dead_exchange(self) -> str:
        """Exchange of what was refused."""
        return f"{self.prefix}dead.v1"

    def retry_queue(self, delay_s: float) -> str:
        """Queue in which a command waits so long."""
        return f"{self.command_queue}.retry.{round(delay_s * 1000)}"
