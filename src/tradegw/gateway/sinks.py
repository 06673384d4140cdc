"""The sinks of a gateway: opens them, and carries out the commands that they take."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from tradegw.engine.context import REQUEST, REQUEST_NAME, TRACE_ID, Request
from tradegw.engine.crash import CrashPoint, reach
from tradegw.engine.outbox import NamedSink
from tradegw.errors import (
    ConfigError,
    IdempotencyKeyReused,
    InvalidOrder,
    StoreError,
    Unavailable,
)
from tradegw.gateway.config import Config, SinkConfig, decode_sink_config
from tradegw.gateway.local import LocalGateway
from tradegw.model import Order, OrderId
from tradegw.plugins import Plugins
from tradegw.ports import (
    CancelCommand,
    Clock,
    Command,
    InboxEntry,
    PlaceCommand,
    SinkFactory,
)

__all__ = ["SinkDoor", "open_sinks", "plan_sinks"]

_MESSAGE_ID: Final = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)
_KEY_MAX = 64


def plan_sinks(config: Config, plugins: Plugins) -> list[tuple[SinkConfig, SinkFactory[Any], Any]]:
    """Return each sink with its factory and what it is told. Opens nothing.

    Raises:
        ConfigError: A sink is one that no plugin offers, or a key is none that the plugin knows.
    """
    if not config.sinks:
        return []
    factories = plugins.sink_factories()
    secrets = plugins.secret_sources()
    planned: list[tuple[SinkConfig, SinkFactory[Any], Any]] = []
    for sink in config.sinks.values():
        factory = factories.get(sink.plugin)
        if factory is None:
            have = ", ".join(sorted(factories)) or "none"
            raise ConfigError(
                f"sinks.{sink.name}.plugin is {sink.plugin!r}, and no plugin offers it; there are {have}"
            )
        options = decode_sink_config(factory.config_type, sink, config.sources, secrets)
        planned.append((sink, factory, options))
    return planned


@asynccontextmanager
async def open_sinks(
    config: Config,
    plugins: Plugins,
    *,
    gateway: LocalGateway,
    clock: Clock,
    opened: asyncio.Event,
) -> AsyncGenerator[Sequence[NamedSink]]:
    """Open every configured sink.

    Args:
        opened: Set once the gateway's store is open; commands wait for it.
    """
    async with AsyncExitStack() as stack:
        sinks: list[NamedSink] = []
        for sink, factory, options in plan_sinks(config, plugins):
            door = SinkDoor(sink.name, gateway, clock, opened)
            entered = await stack.enter_async_context(factory.open(options, door))
            sinks.append(NamedSink(name=sink.name, sink=entered))
        yield sinks


class SinkDoor:
    """What a sink gets from the gateway; see `ports.SinkRuntime`."""

    def __init__(
        self, name: str, gateway: LocalGateway, clock: Clock, opened: asyncio.Event
    ) -> None:
        self.name = name
        self._gateway = gateway
        self._clock = clock
        self._opened = opened

    def sent(self) -> None:
        """Take note that events are on their way."""
        reach(CrashPoint.OUTBOX_UNCONFIRMED)

    async def carry_out(
        self,
        command: Command,
        *,
        message_id: str,
        digest: str,
        request_id: str = "",
        trace_id: str = "",
    ) -> OrderId | None:
        """Carry out a command once; see `ports.SinkRuntime.carry_out`."""
        if not _MESSAGE_ID.fullmatch(message_id):
            raise InvalidOrder(
                "message_id must be 1 to 128 printable ASCII characters without spaces; "
                f"found {message_id!r:.80}",
                reason="INVALID_FIELD",
            )
        # What names the sender's own things must not keep its command from being carried out.
        if not REQUEST_NAME.fullmatch(request_id):
            request_id = message_id
        if not TRACE_ID.fullmatch(trace_id):
            trace_id = ""
        await self._opened.wait()
        store = self._gateway.engine.store
        entry = InboxEntry(source=self.name, message_id=message_id, digest=digest)
        try:
            known = await store.find_inbox(self.name, message_id)
            if known is None:
                reach(CrashPoint.INBOX_UNCOMMITTED)
                token = REQUEST.set(Request(request_id=request_id, trace_id=trace_id))
                try:
                    order = await self._ask(command, _key(self.name, message_id))
                finally:
                    REQUEST.reset(token)
                # Dying here is harmless: the key that the effect was stored with gives the same effect.
                reach(CrashPoint.INBOX_UNMARKED)
                entry = replace(entry, order_id=order.order_id, taken_time_ns=self._clock.time_ns())
                known = await store.put_inbox(entry)
        except StoreError as e:
            raise Unavailable(f"the store cannot be used: {e}", reason=e.reason) from e
        if known is not None and known.digest != digest:
            raise IdempotencyKeyReused(
                f"message id {message_id!r} belongs to a message that held something else"
            )
        reach(CrashPoint.INBOX_UNACKNOWLEDGED)
        return entry.order_id if known is None else known.order_id

    async def _ask(self, command: Command, key: str) -> Order:
        gateway = self._gateway
        if isinstance(command, PlaceCommand):
            order = command.order
            if order.idempotency_key is None:
                order = replace(order, idempotency_key=key)
            return await gateway.place_order(order)
        key = command.idempotency_key or key
        if isinstance(command, CancelCommand):
            return await gateway.cancel_order(
                command.order_id,
                account=command.account,
                client_order_id=command.client_order_id,
                idempotency_key=key,
            )
        terms = command.terms
        return await gateway.replace_order(
            command.order_id,
            order_qty=terms.order_qty,
            price=terms.price,
            trigger_price=terms.trigger_price,
            idempotency_key=key,
        )


def _key(sink: str, message_id: str) -> str:
    """Return the key of a command that brings none: the same whenever its message comes."""
    key = f"{sink}/{message_id}"
    if len(key) <= _KEY_MAX:
        return key
    return f"{sink[:20]}/{hashlib.sha256(key.encode()).hexdigest()[:40]}"
