"""Liquidity from a file: what its rows do to who trades here, and what is refused before anything plays."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tradegw_mock.exchange import (
    BALANCES,
    INSTRUMENTS,
    Exchange,
    Order,
    OrderRequest,
    OrdType,
    Refusal,
    Replay,
    ReplayError,
    ReplayFile,
    Side,
    Store,
)
from tradegw_mock.host import HostSettings, open_host
from tradegw_mock.requests import Done, Place

from .admin_helpers import Admin
from .helpers import Clock
from .venue_helpers import Runtime

D = Decimal
HEADER = "time_ms,kind,symbol,side,price,qty\n"


def a_file(directory: Path, *rows: str) -> Path:
    path = directory / "market.csv"
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return path


class Playing:
    """An exchange where a file is played row by row, and `alice` trades."""

    def __init__(self, directory: Path, *rows: str) -> None:
        self.exchange = Exchange(INSTRUMENTS, clock=Clock())
        self.exchange.create_account("alice", balances=BALANCES)
        file = ReplayFile(a_file(directory, *rows), list(INSTRUMENTS))
        self.replay = Replay(self.exchange, file, seed=1)
        self.rows = self.replay.remaining()

    def play(self, count: int = 1) -> None:
        for _ in range(count):
            self.replay.play(next(self.rows)[1])
            assert self.exchange.check_invariants() == []

    def place(self, side: str, qty: str, price: str | None, **more: Any) -> Order:
        change = self.exchange.place("alice", a_request(side, qty, price, **more))
        assert change.order is not None
        return change.order

    def filled(self, order: Order) -> Decimal:
        return self.exchange.get_order("alice", order_id=order.order_id).cum_qty

    def depth(self, symbol: str = "BTC/USDT") -> tuple[list[Any], list[Any]]:
        depth = self.exchange.depth(symbol)
        bids, asks = ([(int(p), q) for p, q in side] for side in (depth.bids, depth.asks))
        return bids, asks


def a_request(side: str, qty: str, price: str | None, symbol: str = "BTC/USDT") -> OrderRequest:
    return OrderRequest(
        symbol=symbol,
        side=Side(side),
        ord_type=OrdType.MARKET if price is None else OrdType.LIMIT,
        order_qty=D(qty),
        price=None if price is None else D(price),
    )


def test_a_book_is_what_the_rows_say(tmp_path: Path) -> None:
    playing = Playing(
        tmp_path,
        "0,book,BTC/USDT,BUY,100,2",
        "0,book,BTC/USDT,SELL,110,3",
        "5,book,BTC/USDT,BUY,100,1.5",
        "5,book,BTC/USDT,SELL,110,0",
        # The market moved up: the bid comes before its ask is taken away.
        "9,book,BTC/USDT,SELL,120,1",
        "9,book,BTC/USDT,BUY,120,1",
    )
    playing.play(2)
    assert playing.depth() == ([(100, 2)], [(110, 3)])
    playing.play(2)
    assert playing.depth() == ([(100, D("1.5"))], [])
    playing.play(2)
    assert playing.depth() == ([(120, 1), (100, D("1.5"))], [])


def test_who_takes_from_the_book_leaves_a_hole_until_the_next_row(tmp_path: Path) -> None:
    rows = ["0,book,BTC/USDT,SELL,110,3", "1,book,BTC/USDT,SELL,110,3"]
    playing = Playing(tmp_path, *rows)
    playing.play()
    assert playing.filled(playing.place("BUY", "2", "110")) == 2
    assert playing.depth()[1] == [(110, 1)]
    playing.play()
    assert playing.depth()[1] == [(110, 3)]


def test_a_book_row_meets_whoever_rests_in_its_way(tmp_path: Path) -> None:
    playing = Playing(tmp_path, "0,book,BTC/USDT,SELL,100,3")
    order = playing.place("BUY", "1", "105")
    playing.play()
    assert playing.filled(order) == 1
    assert playing.depth()[1] == [(100, 2)]


@pytest.mark.parametrize("book", [[], ["0,book,BTC/USDT,BUY,99,5", "0,book,BTC/USDT,SELL,103,5"]])
def test_a_trade_fills_who_rests_there(tmp_path: Path, book: list[str]) -> None:
    """Beyond the price all, at the price what was traded, elsewhere nothing; the last price moves."""
    start = book or ["0,trade,BTC/USDT,BUY,102,1"]
    playing = Playing(tmp_path, *start, "1,trade,BTC/USDT,SELL,100,0.3")
    playing.play(len(start))
    beyond = playing.place("BUY", "1", "101")
    at_first, at_second = (playing.place("BUY", "0.2", "100") for _ in range(2))
    below = playing.place("BUY", "1", "98")
    playing.play()
    assert playing.filled(beyond) == 1
    assert playing.filled(at_first) == D("0.2")
    assert playing.filled(at_second) == D("0.1")
    assert playing.filled(below) == 0
    assert playing.exchange.reference_price("BTC/USDT").last == 100


def test_a_symbol_without_book_rows_is_quoted_around_its_trades(tmp_path: Path) -> None:
    playing = Playing(tmp_path, "0,trade,ETH/USDT,BUY,3000,1", "1,trade,ETH/USDT,SELL,2900,1")
    playing.play(2)
    price = playing.exchange.reference_price("ETH/USDT")
    assert price.bid is not None
    assert price.ask is not None
    assert 2899 < price.bid < 2900 < price.ask < 2901
    order = playing.place("BUY", "1", None, symbol="ETH/USDT")
    assert playing.filled(order) == 1
    with pytest.raises(Refusal):
        playing.place("BUY", "9999999", None, symbol="ETH/USDT")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("0,trade,BTC/USDT,BUY,100", "expected 6 columns, found 5"),
        ("0,trade,DOGE/USDT,BUY,100,1", "no symbol 'DOGE/USDT' trades here"),
        ("0,quote,BTC/USDT,BUY,100,1", "expected trade or book, found 'quote'"),
        ("0,trade,BTC/USDT,LONG,100,1", "LONG"),
        ("0,trade,BTC/USDT,BUY,cheap,1", "ConversionSyntax"),
        ("0,trade,BTC/USDT,BUY,100.001,1", "PRICE_OFF_TICK"),
        ("0,trade,BTC/USDT,BUY,NaN,1", "PRICE_OUT_OF_RANGE"),
        ("0,trade,BTC/USDT,BUY,100,0", "QTY_TOO_SMALL"),
        ("0,book,BTC/USDT,BUY,100,0.000001", "QTY_TOO_SMALL"),
        ("x,book,BTC/USDT,BUY,100,1", "invalid literal"),
        ("-1,book,BTC/USDT,BUY,100,1", "expected milliseconds"),
    ],
)
def test_what_is_not_in_order_is_refused_by_its_line(
    tmp_path: Path, row: str, expected: str
) -> None:
    path = a_file(tmp_path, "0,trade,BTC/USDT,BUY,100,1", row)
    with pytest.raises(ReplayError) as e:
        ReplayFile(path, list(INSTRUMENTS))
    assert f"{path}, line 3" in str(e.value)
    assert expected in str(e.value)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    late = a_file(tmp_path, "5,trade,BTC/USDT,BUY,100,1", "4,trade,BTC/USDT,BUY,100,1")
    with pytest.raises(ReplayError, match="time_ms of at least 5, found 4"):
        ReplayFile(late, list(INSTRUMENTS))
    with pytest.raises(ReplayError, match="No such file"):
        ReplayFile(tmp_path / "none.csv", list(INSTRUMENTS))
    other = tmp_path / "other.csv"
    other.write_text("price,qty\n1,2\n")
    with pytest.raises(ReplayError, match="expected the header"):
        ReplayFile(other, list(INSTRUMENTS))
    with pytest.raises(ReplayError, match="found none"):
        ReplayFile(a_file(tmp_path), list(INSTRUMENTS))


async def test_it_is_played_at_its_own_pace(tmp_path: Path) -> None:
    path = a_file(
        tmp_path,
        "1700000000000,trade,BTC/USDT,BUY,100,1",
        "1700000002000,trade,BTC/USDT,BUY,110,1",
        "1700000060000,trade,BTC/USDT,BUY,120,1",
    )
    runtime = Runtime()
    settings = HostSettings(replay=path)
    async with open_host(settings, clock=runtime.time_ns, sleep=runtime.sleep) as host:
        seen: list[Any] = []
        for _ in range(70):
            await runtime.advance(1)
            last = host.exchange.reference_price("BTC/USDT").last
            if last not in seen:
                seen.append(last)
        assert seen == [100, 110, 120]
        await host.open_account("a")
        answer = await host.carry_out(Place(account="a", order=a_request("BUY", "0.1", None)))
        assert isinstance(answer, Done)
        assert answer.order is not None
        assert answer.order.ord_status == "FILLED"


def test_a_file_goes_on_where_the_exchange_stopped(tmp_path: Path) -> None:
    rows = [f"{number},book,BTC/USDT,BUY,{100 + number},1" for number in range(10)]
    path = a_file(tmp_path, *rows)
    clock = Clock()
    for life in range(2):
        store = Store(tmp_path / "exchange.db", clock=clock)
        exchange = Exchange(
            INSTRUMENTS, clock=clock, state=store.load(), archive=store, journal=store.commit_one
        )
        replay = Replay(exchange, ReplayFile(path, list(INSTRUMENTS)), seed=1)
        remaining = list(replay.remaining())
        assert [offset for offset, _ in remaining] == list(range(5 * life, 10))
        for _, row in remaining[:5]:
            replay.play(row)
        assert exchange.check_invariants() == []
        bids = exchange.depth("BTC/USDT").bids
        assert len(bids) == 5 * (life + 1)
        store.close()


def test_it_is_served(tmp_path: Path) -> None:
    from tradegw_mock.testing import MockProcess

    from .test_serve import run

    path = a_file(tmp_path, "0,trade,BTC/USDT,BUY,54321,1")
    with MockProcess(config={"replay": str(path)}) as process:
        admin = Admin(process.serving.admin)
        assert admin.get("/status")["liquidity"] == "replay"
        (price,) = [p for p in admin.get("/prices")["prices"] if p["symbol"] == "BTC/USDT"]
        assert D(price["last"]) == 54321
    config = tmp_path / "mock.toml"
    config.write_text('replay = "/none.csv"\n')
    done = run("serve", "--port", "0", "--config", str(config))
    assert done.returncode == 1
    assert done.stderr.startswith("tradegw mock: /none.csv")
    assert done.stderr.count("\n") == 1
