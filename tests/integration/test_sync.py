"""`tradegw.sync`: the same gateway without asyncio, embedded and served."""

from __future__ import annotations

import inspect
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import tradegw
from tests.e2e.processes import serving
from tradegw import Gateway, Order, OrdStatus, Session, sync

MARKET: dict[str, Any] = {
    "account": "paper",
    "symbol": "BTC/USDT",
    "side": "buy",
    "ord_type": "market",
    "order_qty": "0.01",
}


@contextmanager
def embedded(directory: Path) -> Iterator[sync.SyncGateway]:
    config = {
        "store": {"url": f"sqlite:///{directory}/tradegw.db"},
        "venues": {"mock": {"plugin": "mock"}},
        "accounts": {"paper": {"venue": "mock"}},
    }
    with sync.open(config) as gateway:
        yield gateway


@contextmanager
def served(directory: Path) -> Iterator[sync.SyncGateway]:
    with serving(directory) as running, sync.connect(running.grpc) as gateway:
        yield gateway


@pytest.fixture(params=[embedded, served], ids=["embedded", "served"])
def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sync.SyncGateway]:
    with request.param(tmp_path) as opened:
        yield opened


def test_every_method_of_the_gateway_is_there_with_the_same_arguments() -> None:
    for ours, theirs in ((sync.SyncGateway, Gateway), (sync.SyncSession, Session)):
        for name, method in vars(theirs).items():
            if name.startswith("_") or name == "aclose":
                continue
            wanted = inspect.signature(method).parameters
            found = inspect.signature(getattr(ours, name)).parameters
            assert {n: (p.kind, p.default) for n, p in found.items()} == {
                n: (p.kind, p.default) for n, p in wanted.items()
            }, name


def test_orders_are_placed_found_and_listed(gateway: sync.SyncGateway) -> None:
    order = gateway.place_order(**MARKET, idempotency_key="k1")
    assert order.ord_status is OrdStatus.FILLED
    assert gateway.place_order(**MARKET, idempotency_key="k1").order_id == order.order_id
    assert gateway.get_order(order.order_id) == order
    assert [o.order_id for o in gateway.list_orders().items] == [order.order_id]
    assert [f.order_id for f in gateway.list_fills().items] == [order.order_id]
    with pytest.raises(tradegw.InvalidOrder):
        gateway.place_order(**{**MARKET, "order_qty": "-1"})
    with gateway.session() as session:
        assert session.place_order(**MARKET).ord_status is OrdStatus.FILLED


def test_a_stream_is_an_iterator_that_another_thread_may_close(gateway: sync.SyncGateway) -> None:
    gateway.place_order(**MARKET)
    with gateway.stream_fills() as stream:
        fills = [item.fill for batch in iter_until_caught_up(stream) for item in batch.fills]
        assert [fill.order_id for fill in fills] == [gateway.list_orders().items[0].order_id]
        with ThreadPoolExecutor(1) as pool:
            rest = pool.submit(lambda: list(stream))
            order = gateway.place_order(**MARKET)
            # The reader waits by now, or will find the stream closed: both end it.
            stream.close()
            seen = [item.fill.order_id for batch in rest.result(30) for item in batch.fills]
        assert set(seen) <= {order.order_id}
    assert list(stream) == []


def iter_until_caught_up(stream: sync.SyncStream) -> Iterator[tradegw.StreamBatch]:
    for batch in stream:
        yield batch
        if batch.caught_up:
            return


def test_many_threads_may_call(gateway: sync.SyncGateway) -> None:
    def place(number: int) -> Order:
        return gateway.place_order(**MARKET, idempotency_key=f"k{number % 8}")

    with ThreadPoolExecutor(16) as pool:
        orders = list(pool.map(place, range(32)))
    assert all(order.ord_status is OrdStatus.FILLED for order in orders)
    assert len({order.order_id for order in orders}) == 8
    assert len(gateway.list_orders().items) == 8


def test_ctrl_c_in_a_call_leaves_the_gateway_usable(gateway: sync.SyncGateway) -> None:
    stream = gateway.stream_orders(after={"paper": -1})
    assert next(stream).caught_up
    interrupter = threading.Timer(
        0.2, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]
    )
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    interrupter.join()
    assert gateway.place_order(**MARKET).ord_status is OrdStatus.FILLED
    stream.close()
    stream.close()


@pytest.mark.parametrize("opener", [embedded, served])
def test_after_its_end_it_says_so_and_no_thread_stays(
    opener: Callable[[Path], Any], tmp_path: Path
) -> None:
    before = threading.active_count()
    with opener(tmp_path) as gateway:
        assert threading.active_count() > before
        stream = gateway.stream_orders()
        next(stream)
    with pytest.raises(tradegw.UsageError):
        gateway.place_order(**MARKET)
    stream.close()
    assert not [t for t in threading.enumerate() if t.name == "tradegw"]


def test_what_opening_raises_arrives(tmp_path: Path) -> None:
    with (
        pytest.raises(tradegw.ConfigError, match=r"store\.url"),
        sync.open({"store": {"url": "x"}}),
    ):
        pass
    with embedded(tmp_path), pytest.raises(tradegw.StoreInUse), embedded(tmp_path):
        pass


def test_what_the_block_raises_arrives_and_the_gateway_is_closed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mine"), embedded(tmp_path):
        raise RuntimeError("mine")
    with embedded(tmp_path) as gateway:
        assert gateway.list_venues()
