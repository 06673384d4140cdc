"""The client's side of streams: they go on across lost connections, without gaps or repetitions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

import grpc.aio

from tradegw.errors import InvalidOrder, Unavailable
from tradegw.gateway import FillItem, OrderItem, StreamBatch
from tradegw.model import AccountName
from tradegw.trading.v1 import trading_gateway_pb2 as pb
from tradegw.transports.grpc.convert import read_event, read_fill
from tradegw.transports.grpc.requests import write_positions
from tradegw.transports.grpc.retry import Lost, pause_s, translate, unreadable

__all__ = ["follow_fills", "follow_orders"]

Open = Callable[[list[pb.Position]], Any]
Read = Callable[[Any, "_Thread"], StreamBatch]


def follow_orders(
    method: grpc.aio.UnaryStreamMultiCallable[pb.StreamOrdersRequest, pb.StreamOrdersResponse],
    *,
    accounts: Sequence[str] | None,
    after: Mapping[str, int] | None,
    symbol: str | None,
    timeout_s: float,
) -> AsyncIterator[StreamBatch]:
    """Yield what the gateway's stream of orders yields; see `Gateway.stream_orders`."""
    which = pb.StreamFilter(accounts=accounts or (), symbol=symbol)

    def begin(positions: list[pb.Position]) -> Any:
        return method(pb.StreamOrdersRequest(after=positions, filter=which))

    def read(response: pb.StreamOrdersResponse, thread: _Thread) -> StreamBatch:
        return StreamBatch(
            orders=tuple(
                OrderItem(
                    account=AccountName(item.account),
                    seq=item.seq,
                    prev_seq=thread.link(item),
                    event=read_event(item.event),
                )
                for item in response.items
            ),
            caught_up=response.caught_up,
            position=thread.move(response.position),
        )

    return _follow(begin, read, _Thread(after), timeout_s)


def follow_fills(
    method: grpc.aio.UnaryStreamMultiCallable[pb.StreamFillsRequest, pb.StreamFillsResponse],
    *,
    accounts: Sequence[str] | None,
    after: Mapping[str, int] | None,
    symbol: str | None,
    timeout_s: float,
) -> AsyncIterator[StreamBatch]:
    """Yield what the gateway's stream of fills yields; see `Gateway.stream_fills`."""
    which = pb.StreamFilter(accounts=accounts or (), symbol=symbol)

    def begin(positions: list[pb.Position]) -> Any:
        return method(pb.StreamFillsRequest(after=positions, filter=which))

    def read(response: pb.StreamFillsResponse, thread: _Thread) -> StreamBatch:
        return StreamBatch(
            fills=tuple(
                FillItem(
                    account=AccountName(item.account),
                    seq=item.seq,
                    prev_seq=thread.link(item),
                    fill=read_fill(item.fill),
                )
                for item in response.items
            ),
            caught_up=response.caught_up,
            position=thread.move(response.position),
        )

    return _follow(begin, read, _Thread(after), timeout_s)


class _Thread:
    """Where the reader is, over all connections.

    Attributes:
        position: Where to resume; -1 while the end that it began at is not known yet.
    """

    def __init__(self, after: Mapping[str, int] | None) -> None:
        self.position: dict[str, int] = dict(after or {})
        self._given: dict[
            str, int
        ] = {}  # Number of the last item that the reader got, or began after.
        self._heard: dict[str, int] = {}  # What the next item on this connection must follow.
        self._fresh: dict[str, int] = {}  # Items of a message that the reader has not got yet.

    def begin(self) -> list[pb.Position]:
        """Return where a new connection begins."""
        self._fresh.clear()
        self._heard = {account: seq for account, seq in self.position.items() if seq != -1}
        return write_positions(self.position)

    def link(self, item: pb.OrderItem | pb.FillItem) -> int:
        """Return the number of the item before this one, as the reader counts.

        A connection that resumes counts from where it began, which may lie beyond the last item: what the
        filter left out moves the position, too. The reader must not take that for a gap.

        Raises:
            Lost: Something between is missing.
        """
        heard = self._heard.get(item.account)
        if heard is not None and heard != item.prev_seq:
            raise Lost(
                f"the stream of {item.account} has a gap: {item.seq} follows {item.prev_seq}, "
                f"and we are at {heard}"
            )
        given = self._fresh.get(item.account) or self._given.get(item.account, item.prev_seq)
        self._heard[item.account] = self._fresh[item.account] = item.seq
        return given

    def move(self, positions: Iterable[pb.Position]) -> Mapping[AccountName, int]:
        """Take the message: its items and its position go together."""
        self._given.update(self._fresh)
        self._fresh.clear()
        moved = {AccountName(p.account): p.after_seq for p in positions}
        for account, seq in moved.items():
            self.position[account] = seq
        return moved

    def __str__(self) -> str:
        return ",".join(f"{account}:{seq}" for account, seq in sorted(self.position.items()))


async def _follow(
    begin: Open, read: Read, thread: _Thread, timeout_s: float
) -> AsyncIterator[StreamBatch]:
    failures = 0
    failing_since = time.monotonic()
    while True:
        call: Any = begin(thread.begin())
        try:
            async for response in call:
                failures = 0
                try:
                    batch = read(response, thread)
                except InvalidOrder as e:
                    raise unreadable(e) from e
                yield batch
            error: Exception = Lost("the stream ended")
        except grpc.aio.AioRpcError as e:
            error = translate(e)
        except Lost as e:
            error = e
        finally:
            call.cancel()
        if not isinstance(error, (Lost, Unavailable)):
            raise error
        if failures == 0:
            failing_since = time.monotonic()
        pause = pause_s(failures)
        failures += 1
        if time.monotonic() + pause - failing_since >= timeout_s:
            raise Unavailable(
                f"the stream had no connection for {timeout_s:g} s; resume after {thread}. Last: {error}",
                reason=error.reason if isinstance(error, Unavailable) else None,
            ) from error
        await asyncio.sleep(pause)
