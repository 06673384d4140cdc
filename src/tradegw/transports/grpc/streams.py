"""The server's side of streams: batches of the gateway become messages; the end says where to resume."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, TypeVar, cast

from tradegw.errors import Unavailable
from tradegw.gateway import Gateway, StreamBatch
from tradegw.trading.v1 import trading_gateway_pb2 as pb
from tradegw.transports.grpc.closing import Closed, Closing
from tradegw.transports.grpc.convert import write_event, write_fill
from tradegw.transports.grpc.interceptor import Interrupted
from tradegw.transports.grpc.requests import read_positions, write_positions

__all__ = ["stream_fills", "stream_orders"]

ItemT = TypeVar("ItemT", pb.OrderItem, pb.FillItem)

# Callers take messages of 4 MiB by default. Most batches are far below.
_ITEMS_BYTES: Final = 1024 * 1024

# The key in the `ErrorInfo` of a stream's end; its value is `account:seq,...`.
RESUME_AFTER = "resume_after"


async def stream_orders(
    gateway: Gateway, request: pb.StreamOrdersRequest, closing: Closing
) -> AsyncIterator[pb.StreamOrdersResponse]:
    """Yield messages until the gateway or the door shuts down; then say so.

    A reader that does not read holds nothing up: writing waits for it, and the gateway's stream is asked only
    when the last message has left.

    Raises:
        Interrupted: The end, with the position in its metadata.
    """
    told = _Told(read_positions(request.after))
    batches = gateway.stream_orders(
        accounts=list(request.filter.accounts) or None,
        after=dict(told.position),
        symbol=request.filter.symbol if request.filter.HasField("symbol") else None,
    )
    async for batch in _until_closed(batches, closing, told):
        items = [
            pb.OrderItem(
                account=item.account,
                seq=item.seq,
                prev_seq=item.prev_seq,
                event=write_event(item.event),
            )
            for item in batch.orders
        ]
        for part in _parts(items):
            yield pb.StreamOrdersResponse(items=part, position=write_positions(told.pass_by(part)))
        yield pb.StreamOrdersResponse(
            items=items,
            caught_up=batch.caught_up,
            position=write_positions(told.tell(batch)),
        )


async def stream_fills(
    gateway: Gateway, request: pb.StreamFillsRequest, closing: Closing
) -> AsyncIterator[pb.StreamFillsResponse]:
    """Yield messages of fills, as `stream_orders` does."""
    told = _Told(read_positions(request.after))
    batches = gateway.stream_fills(
        accounts=list(request.filter.accounts) or None,
        after=dict(told.position),
        symbol=request.filter.symbol if request.filter.HasField("symbol") else None,
    )
    async for batch in _until_closed(batches, closing, told):
        items = [
            pb.FillItem(
                account=item.account,
                seq=item.seq,
                prev_seq=item.prev_seq,
                fill=write_fill(item.fill),
            )
            for item in batch.fills
        ]
        for part in _parts(items):
            yield pb.StreamFillsResponse(items=part, position=write_positions(told.pass_by(part)))
        yield pb.StreamFillsResponse(
            items=items,
            caught_up=batch.caught_up,
            position=write_positions(told.tell(batch)),
        )


def _parts(items: list[ItemT]) -> Iterator[list[ItemT]]:
    """Take messages off the front of `items` until the rest fits into one."""
    begin = size = 0
    for i, item in enumerate(items):
        item_size = item.ByteSize()
        if size + item_size > _ITEMS_BYTES and i > begin:
            yield items[begin:i]
            begin, size = i, 0
        size += item_size
    del items[:begin]


class _Told:
    """What the reader knows of its position."""

    def __init__(self, after: Mapping[str, int]) -> None:
        self.position: dict[str, int] = dict(after)

    def tell(self, batch: StreamBatch) -> Mapping[str, int]:
        """Return the accounts that moved since the last message; all of them with `caught_up`."""
        moved: dict[str, int] = {
            account: seq
            for account, seq in batch.position.items()
            if batch.caught_up or self.position.get(account) != seq
        }
        self.position.update(moved)
        return moved

    def pass_by(self, items: Sequence[pb.OrderItem | pb.FillItem]) -> Mapping[str, int]:
        """Return the position after a part of a batch."""
        moved = {item.account: item.seq for item in items}
        self.position.update(moved)
        return moved

    def __str__(self) -> str:
        return ",".join(f"{account}:{seq}" for account, seq in sorted(self.position.items()))


async def _until_closed(
    batches: AsyncIterator[StreamBatch], closing: Closing, told: _Told
) -> AsyncIterator[StreamBatch]:
    async with aclosing(cast("Any", batches)):
        while True:
            try:
                batch = await closing.wait_for(anext(batches))
            except (Closed, StopAsyncIteration) as e:
                raise Interrupted(
                    Unavailable(
                        f"the gateway shuts down; resume after {told}", reason="SHUTTING_DOWN"
                    ),
                    {RESUME_AFTER: str(told)},
                ) from e
            yield batch
