"""The options that most commands share, and the way to the gateway that they ask."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from uuid import UUID, uuid4

from cyclopts import Parameter

from tradegw.errors import CommitUnknown, ConfigError, InvalidOrder, NotFound, Unavailable
from tradegw.gateway.api import Gateway
from tradegw.gateway.config import Config, load_config
from tradegw.gateway.record import Record, find_running, has_record, open_record
from tradegw.model import AccountName, ClientOrderId, OrderFilter, OrderId

__all__ = [
    "Asking",
    "Json",
    "connected",
    "find_order_id",
    "find_target",
    "new_key",
    "reading",
    "telling",
    "wanted_order",
]

_HINT_S = 2.0
_STARTING_S = 3.0
_ASK_AGAIN_S = 0.05
_TIMEOUT_MAX_S = 1e6

Json = Annotated[
    bool, Parameter(name="--json", help="Print JSON for programs, not text for people.")
]

_TARGET = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", re.ASCII)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Asking:
    """Whom to ask, for how long, and how to print the answer.

    Attributes:
        target: The gateway's gRPC door, HOST:PORT. Default: $TRADEGW_TARGET, else the gateway that writes
            the configured store, else the configured address.
        config: Configuration that tells where the store is. Default: tradegw.toml here, if there is one.
        timeout: Seconds during which a request is repeated, with the same key, while the gateway is
            unavailable.
    """

    target: Annotated[str | None, Parameter(help="Gateway to ask, HOST:PORT of its gRPC door.")] = (
        None
    )
    config: Annotated[Path | None, Parameter(help="Configuration; tells where the store is.")] = (
        None
    )
    timeout: Annotated[
        float, Parameter(help="Seconds to go on asking an unavailable gateway (30).")
    ] = 30.0
    json: Json = False

    @property
    def named_target(self) -> str | None:
        """The gateway that the caller named, here or in $TRADEGW_TARGET."""
        return self.target or os.environ.get("TRADEGW_TARGET") or None


def new_key() -> str:
    """Return an idempotency key that nobody has used."""
    return f"cli-{uuid4().hex}"


async def find_target(asking: Asking, config: Config | None = None) -> str:
    """Return the address of the gateway to ask.

    Raises:
        ConfigError: The address is malformed, or the configuration is wrong.
        Unavailable: Who writes the store has no gRPC door.
    """
    named = asking.named_target
    if named is not None:
        if not _TARGET.fullmatch(named) or int(named.rpartition(":")[2]) > 65_535:
            raise ConfigError(
                f"a target is HOST:PORT, such as 127.0.0.1:50051; found {named!r}",
                reason="INVALID_TARGET",
            )
        return named
    config = config or load_config(asking.config)
    ends = time.monotonic() + min(_STARTING_S, asking.timeout)
    while (running := find_running(config)) is not None:
        if "grpc" in running.addresses:
            return running.addresses["grpc"]
        # It may be starting, and tell in a moment.
        if time.monotonic() > ends:
            raise Unavailable(
                f"process {running.pid} writes {config.store.shown_url} and has no gRPC door: an embedded "
                "gateway takes orders from its own program alone",
                reason="NO_GATEWAY",
            )
        await asyncio.sleep(_ASK_AGAIN_S)
    return f"{config.server.grpc_host}:{config.server.grpc_port}"


@contextmanager
def telling(key: str) -> Generator[None]:
    """Tell the key wherever the outcome is left open, so that the caller can ask again."""
    try:
        yield
    except (Unavailable, CommitUnknown) as e:
        e.add_note(f"idempotency_key={key}")
        raise
    except asyncio.CancelledError:
        # Ctrl-C: the request may be on its way, and only the key can tell.
        print(
            f"\ntradegw: INTERRUPTED: the outcome is open; idempotency_key {key}", file=sys.stderr
        )
        raise


@asynccontextmanager
async def connected(asking: Asking, config: Config | None = None) -> AsyncGenerator[Gateway]:
    """Connect to the gateway."""
    target = await find_target(asking, config)
    from tradegw.transports.grpc.client import connect

    if not 0 < asking.timeout < _TIMEOUT_MAX_S:
        raise ConfigError(
            f"--timeout is seconds above zero; found {asking.timeout:g}", reason="INVALID_FIELD"
        )
    # Whoever forgot to start a gateway should not sit before a silent terminal.
    hint = asyncio.get_running_loop().call_later(
        _HINT_S,
        lambda: print(
            f"tradegw: no answer from {target} yet; going on for {asking.timeout:g} s. Ctrl-C stops, "
            "`tradegw serve` starts a gateway.",
            file=sys.stderr,
        ),
    )
    try:
        async with connect(target, timeout_s=asking.timeout) as gateway:
            yield gateway
    finally:
        hint.cancel()


@asynccontextmanager
async def reading(asking: Asking) -> AsyncGenerator[Gateway | Record]:
    """Give somebody who knows the record: the gateway, or the record where none is known to write it."""
    if asking.named_target is None:
        config = load_config(asking.config)
        running = find_running(config)
        # A program that embeds a gateway writes the store, and has no door to ask at.
        if has_record(config) and (running is None or "grpc" not in running.addresses):
            async with open_record(config) as record:
                yield record
            return
        async with connected(asking, config) as gateway:
            yield gateway
        return
    async with connected(asking) as gateway:
        yield gateway


async def wanted_order(
    gateway: Gateway | Record, order: str | None, account: str | None, client_order_id: str | None
) -> OrderId:
    """Return the id of the order that the caller named, in one of the two ways.

    Raises:
        ConfigError: Neither or both were given, or the id is no UUID.
        NotFound: The account has no order of that client order id.
    """
    if (order is None) == (client_order_id is None):
        raise ConfigError(
            "name the order by its id, or by --account and --client-order-id",
            reason="INVALID_FIELD",
        )
    if order is not None:
        try:
            return OrderId(UUID(order))
        except ValueError:
            raise ConfigError(
                f"an order's id is a UUID, such as `tradegw orders` prints; found {order[:80]!r}",
                reason="INVALID_FIELD",
            ) from None
    if account is None:
        raise ConfigError(
            "a client order id is unique within an account: give --account too",
            reason="INVALID_FIELD",
        )
    found = await gateway.find_order(account=AccountName(account), client_order_id=client_order_id)
    if found is None:
        raise NotFound(
            f"account {account} has no order with client order id {client_order_id!r}",
            reason="UNKNOWN_ORDER",
        )
    return found.order_id


async def find_order_id(
    gateway: Gateway | Record, name: str, account: str | None = None
) -> OrderId:
    """Return the id of the order that `name` means: its id, or its client order id in any account.

    Raises:
        NotFound: There is none.
        InvalidOrder: Several accounts have one.
    """
    try:
        return OrderId(UUID(name))
    except ValueError:
        pass
    where = OrderFilter(
        accounts=None if account is None else (AccountName(account),),
        client_order_id=ClientOrderId(name),
    )
    found = (await gateway.list_orders(where, page_size=2)).items
    match found:
        case (one,):
            return one.order_id
        case ():
            raise NotFound(
                f"there is no order with the id or client order id {name[:80]!r}",
                reason="UNKNOWN_ORDER",
            )
        case _:
            raise InvalidOrder(
                f"several accounts have an order {name[:80]!r}: give --account, or the order's id",
                reason="AMBIGUOUS_ORDER",
            )
