"""What was committed is there again, whatever happened to the process."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from random import Random

import pytest
from tradegw_mock.exchange import (
    Change,
    Exchange,
    ExchangeBroken,
    Maker,
    MockExchange,
    Order,
    OrdType,
    Refusal,
    RefusalCode,
    SelfTradePrevention,
    Side,
    Store,
    StoreError,
    StoreInUse,
    TimeInForce,
    default_exchange,
)

from .helpers import BTC_USDT, SYMBOL, Clock, D, a_request

ACCOUNTS = {name: {"BTC": D(100), "USDT": D(50_000)} for name in ("alice", "bob", "carol")}


def opened(path: Path | None, clock: Clock, *, seed: int | None = None) -> MockExchange:
    return default_exchange(
        clock=clock,
        accounts=ACCOUNTS,
        instruments=[BTC_USDT],
        start_prices={SYMBOL: D(100)},
        seed=seed,
        path=path,
    )


def trade(exchange: Exchange, clock: Clock, maker: Maker | None, rng: Random, count: int) -> None:
    """Do `count` random things; equal generators on equal exchanges do equal things."""
    for _ in range(count):
        clock.advance(rng.randint(1, 10))
        account = rng.choice(sorted(ACCOUNTS))
        roll = rng.random()
        try:
            if roll < 0.7:
                ord_type = rng.choice([OrdType.LIMIT] * 4 + [OrdType.MARKET, OrdType.STOP_LIMIT])
                gtd = ord_type is OrdType.LIMIT and rng.random() < 0.3
                request = a_request(
                    rng.choice(list(Side)),
                    str(rng.randint(1, 300) / D(100)),
                    None if ord_type is OrdType.MARKET else str(rng.randint(195, 205) / D(2)),
                    ord_type=ord_type,
                    trigger_price=(
                        D(rng.randint(90, 110)) if ord_type is OrdType.STOP_LIMIT else None
                    ),
                    time_in_force=TimeInForce.GTD if gtd else TimeInForce.GTC,
                    expire_time_ns=clock.now_ns + rng.randint(1, 400) if gtd else None,
                    client_order_id=f"c{rng.randint(1, 60)}",
                    self_trade_prevention=rng.choice(list(SelfTradePrevention)),
                )
                exchange.place(account, request)
            elif roll < 0.8:
                order = rng.choice(exchange.open_orders(account) or [None])
                if order is not None:
                    exchange.cancel(account, order_id=order.order_id)
            elif roll < 0.9:
                order = rng.choice(exchange.open_orders(account) or [None])
                price = D(rng.randint(195, 205)) / 2
                if order is not None and order.price is not None:
                    exchange.replace(account, order_id=order.order_id, price=price)
            elif roll < 0.95:
                exchange.deposit(account, "USDT", D(rng.randint(1, 9)))
            elif maker is not None:
                maker.step()
        except Refusal:
            pass


def everything(exchange: Exchange) -> dict[str, object]:
    """Give all that can be asked of an exchange."""
    names = [account.name for account in exchange.accounts()]
    return {
        "instance": exchange.instance_id,
        "accounts": exchange.accounts(),
        "balances": {name: exchange.balances(name) for name in names},
        "open": {name: exchange.open_orders(name) for name in names},
        "depth": exchange.depth(SYMBOL),
        "market": exchange.market_state(SYMBOL),
        "orders": exchange.order_history(None, limit=100_000).orders,
        "fills": exchange.fills(None, limit=100_000),
        "audit": list(exchange.audit()),
        "violations": exchange.check_invariants(),
    }


@pytest.mark.parametrize("seed", [None, 7], ids=["users alone", "with the maker"])
def test_a_reopened_exchange_is_the_same_and_goes_on_the_same(
    tmp_path: Path, seed: int | None
) -> None:
    """One exchange is reopened several times, its twin never; they must not differ."""
    clock, twin_clock = Clock(), Clock()
    rng, twin_rng = Random(1), Random(1)
    twin = opened(None, twin_clock, seed=seed)
    instances = set()
    for _ in range(4):
        mock = opened(tmp_path / "mock.db", clock, seed=seed)
        assert mock.store is not None
        instances.add(mock.exchange.instance_id)
        found, expected = everything(mock.exchange), everything(twin.exchange)
        for each in (found, expected):
            del each["instance"]
        assert found == expected
        assert found["violations"] == []
        trade(mock.exchange, clock, mock.maker, rng, 200)
        trade(twin.exchange, twin_clock, twin.maker, twin_rng, 200)
        mock.close()
    assert len(instances) == 1
    assert twin.exchange.instance_id not in instances


def test_a_long_history_is_answered_from_the_file(tmp_path: Path) -> None:
    clock = Clock()
    store = Store(tmp_path / "mock.db", clock=clock)
    small = Exchange(
        [BTC_USDT],
        clock=clock,
        state=store.load(),
        archive=store,
        journal=store.commit_one,
        history_bound=20,
    )
    large = Exchange([BTC_USDT], clock=clock)
    for exchange in (small, large):
        for name, balances in ACCOUNTS.items():
            exchange.create_account(name, balances=balances)
    start = clock.now_ns
    trade(small, clock, None, Random(2), 1000)
    clock.now_ns = start
    trade(large, clock, None, Random(2), 1000)
    assert len(small._history._closed) <= 25 < len(large._history._closed)
    expected = everything(large) | {"instance": small.instance_id}
    assert everything(small) == expected
    for name in ACCOUNTS:
        paged: list[Order] = []
        cursor: int | None = 0
        while cursor is not None:
            page = small.order_history(name, symbol=SYMBOL, cursor=cursor, limit=7)
            paged += page.orders
            cursor = page.next_cursor
        assert paged == list(large.order_history(name, limit=100_000).orders)
        since = start + 2000
        assert small.order_history(name, since_ns=since) == large.order_history(
            name, since_ns=since
        )
        for number in range(1, 61):
            client_order_id = f"c{number}"
            try:
                latest = large.get_order(name, client_order_id=client_order_id)
            except Refusal:
                with pytest.raises(Refusal):
                    small.get_order(name, client_order_id=client_order_id)
            else:
                assert small.get_order(name, client_order_id=client_order_id) == latest
        fills = large.fills(name, limit=100_000)
        middle = fills[len(fills) // 2].trade_id
        after = small.fills(name, since_trade_id=middle, limit=5)
        assert after == [fill for fill in fills if fill.trade_id > middle][: len(after)]
        assert len(after) >= 5
        one = fills[0].order_id
        assert small.fills(name, order_id=one) == [f for f in fills if f.order_id == one]
    store.close()


def test_without_a_store_the_oldest_history_is_dropped_and_that_is_known() -> None:
    clock = Clock()
    exchange = Exchange([BTC_USDT], clock=clock, history_bound=20)
    for name, balances in ACCOUNTS.items():
        exchange.create_account(name, balances=balances)
    trade(exchange, clock, None, Random(2), 1000)
    assert exchange._history.lost
    assert len(exchange._history._closed) <= 25
    assert exchange.check_invariants() == []


def test_group_commit_is_one_transaction_without_gaps(tmp_path: Path) -> None:
    clock = Clock()
    store = Store(tmp_path / "mock.db", clock=clock)
    exchange = Exchange([BTC_USDT], clock=clock, state=store.load(), archive=store)
    pending: list[Change] = []
    exchange.listen(pending.append)
    for name, balances in ACCOUNTS.items():
        exchange.create_account(name, balances=balances)
    maker = Maker(exchange, seed=1, start_prices={SYMBOL: D(100)})
    trade(exchange, clock, maker, Random(3), 300)
    with pytest.raises(StoreError, match="without a gap"):
        store.commit(pending[1:])
    store.commit(pending[:100])
    exchange.committed(pending[99].number)
    store.commit(pending[100:])
    exchange.committed(pending[-1].number)
    with pytest.raises(StoreError, match="without a gap"):
        store.commit(pending[-1:])
    before = everything(exchange)
    store.close()
    with_file = opened(tmp_path / "mock.db", clock, seed=1)
    assert everything(with_file.exchange) == before
    with_file.close()


def test_memory_keeps_what_is_not_committed_yet(tmp_path: Path) -> None:
    clock = Clock()
    store = Store(tmp_path / "mock.db", clock=clock)
    exchange = Exchange([BTC_USDT], clock=clock, state=store.load(), archive=store, history_bound=5)
    pending: list[Change] = []
    exchange.listen(pending.append)
    exchange.create_account("alice", balances=ACCOUNTS["alice"])
    for number in range(50):
        exchange.place("alice", a_request("BUY", "1", "99", client_order_id=f"c{number}"))
        exchange.cancel("alice", client_order_id=f"c{number}")
    assert exchange.get_order("alice", client_order_id="c0").ord_status == "CANCELED"
    assert len(exchange.order_history("alice").orders) == 50
    store.commit(pending)
    exchange.committed(pending[-1].number)
    assert len(exchange._history._closed) <= 6
    assert exchange.get_order("alice", client_order_id="c0").ord_status == "CANCELED"
    assert len(exchange.order_history("alice").orders) == 50
    store.close()


def test_a_commit_that_fails_stops_the_exchange_and_loses_nothing_acknowledged(
    tmp_path: Path,
) -> None:
    clock = Clock()
    mock = opened(tmp_path / "mock.db", clock)
    assert mock.store is not None
    kept = mock.exchange.place("alice", a_request("BUY", "1", "99")).order
    # A full disk, as far as SQLite is concerned.
    (pages,) = mock.store._writer.execute("PRAGMA page_count").fetchone()
    mock.store._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="full"):
        for _ in range(200):
            kept = mock.exchange.place("alice", a_request("BUY", "0.1", "99")).order
    with pytest.raises(ExchangeBroken):
        mock.exchange.place("alice", a_request("BUY", "1", "99"))
    mock.close()
    again = opened(tmp_path / "mock.db", clock)
    assert kept is not None
    assert again.exchange.open_orders("alice")[-1] == kept
    assert again.exchange.check_invariants() == []
    again.close()


CHILD = """
import sys, time
from decimal import Decimal as D
from tradegw_mock.exchange import *
path = sys.argv[1]
mock = default_exchange(clock=time.time_ns, accounts=["alice"], path=path)
print("ready", flush=True)
for number in range(1_000_000):
    change = mock.exchange.place("alice", OrderRequest(
        symbol="BTC/USDT", side=Side.BUY if number % 2 else Side.SELL, ord_type=OrdType.MARKET,
        order_qty=D("0.001"), client_order_id=f"c{number}"))
    print(change.order.order_id, change.order.cum_qty, flush=True)
    if number % 10 == 0:
        mock.maker.step()
"""


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "mock.db"
    acknowledged: dict[int, str] = {}
    for round_ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CHILD), str(path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        with pytest.raises(StoreInUse, match=str(child.pid)):
            Store(path, clock=Clock())
        fresh = []
        for line in child.stdout:
            order_id, cum_qty = line.split()
            fresh.append(int(order_id))
            acknowledged[int(order_id)] = cum_qty
            if len(fresh) == 60 + round_:
                child.send_signal(signal.SIGKILL)
                break
        # What was written to the pipe before the kill was acknowledged too.
        for line in child.stdout:
            if line.endswith("\n"):
                order_id, cum_qty = line.split()
                fresh.append(int(order_id))
                acknowledged[int(order_id)] = cum_qty
        child.stdout.close()
        assert child.wait() == -signal.SIGKILL
        mock = default_exchange(clock=Clock(), path=path)
        orders = mock.exchange.order_history("alice", limit=100_000).orders
        found = {order.order_id: str(order.cum_qty) for order in orders}
        assert acknowledged.items() <= found.items()
        # At most the one order that was committed and not yet printed, each round.
        assert len(found) - len(acknowledged) <= round_ + 1
        assert mock.exchange.check_invariants() == []
        numbers = [line.number for line in mock.exchange.audit()]
        assert numbers == list(range(1, len(numbers) + 1))
        mock.close()


def test_one_process_alone_may_hold_the_file(tmp_path: Path) -> None:
    first = Store(tmp_path / "mock.db", clock=Clock())
    with pytest.raises(StoreInUse, match="pid"):
        Store(tmp_path / "mock.db", clock=Clock())
    first.close()
    first.close()
    Store(tmp_path / "mock.db", clock=Clock()).close()


def _text_file(path: Path) -> None:
    path.write_text("not a database, but long enough to look like something" * 20)


def _alien(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x)")
    db.close()


def _newer(path: Path) -> None:
    Store(path, clock=Clock()).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (_text_file, "not a database"),
        (_alien, "not of a mock exchange"),
        (_newer, "expected schema version 2, found 99"),
        (Path.mkdir, "unable to open|cannot be opened"),
    ],
)
def test_a_file_that_cannot_serve_is_refused(tmp_path: Path, prepare: object, message: str) -> None:
    path = tmp_path / "mock.db"
    prepare(path)  # type: ignore[operator]
    for _ in range(2):  # The lock is free again after each failure.
        with pytest.raises(StoreError, match=message):
            Store(path, clock=Clock())


def test_a_file_of_the_version_before_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "mock.db"
    Store(path, clock=Clock()).close()
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE api_key")
        db.execute("PRAGMA user_version = 1")
    db.close()
    for _ in range(2):
        mock = default_exchange(clock=Clock(), accounts=["a"], seed=None, path=path)
        mock.exchange.create_api_key("a", api_key="key-0001", secret="s")
        mock.close()
    store = Store(path, clock=Clock())
    assert [key.api_key for key in store.load().api_keys] == ["key-0001"]
    store.close()


def test_api_keys_are_given_and_taken_away_for_good(tmp_path: Path) -> None:
    path = tmp_path / "mock.db"
    mock = default_exchange(clock=Clock(), accounts=["a", "b"], seed=None, path=path)
    exchange = mock.exchange
    exchange.create_api_key("a", api_key="key-0001", secret="one")
    exchange.create_api_key("a", api_key="key-0001", secret="one")
    for account, key, secret, code in [
        ("a", "key-0001", "other", RefusalCode.BAD_API_KEY),
        ("b", "key-0001", "one", RefusalCode.BAD_API_KEY),
        ("b", "no blanks", "one", RefusalCode.BAD_API_KEY),
        ("b", "key-0002", "", RefusalCode.BAD_API_KEY),
        ("nobody", "key-0002", "one", RefusalCode.UNKNOWN_ACCOUNT),
    ]:
        with pytest.raises(Refusal) as refused:
            exchange.create_api_key(account, api_key=key, secret=secret)
        assert refused.value.code is code
    exchange.create_api_key("b", api_key="key-0002", secret="two", can_trade=False)
    with pytest.raises(Refusal, match="UNKNOWN_API_KEY"):
        exchange.delete_api_key("a", api_key="key-0002")
    exchange.delete_api_key("a", api_key="key-0001")
    exchange.create_api_key("a", api_key="key-0001", secret="anew")
    assert "anew" not in repr(list(exchange.audit()))
    assert "anew" not in repr(exchange.find_api_key("key-0001"))
    before = [exchange.api_keys(name) for name in ("a", "b")]
    mock.close()
    again = default_exchange(clock=Clock(), seed=None, path=path)
    assert [again.exchange.api_keys(name) for name in ("a", "b")] == before
    assert [key.secret for key in before[0]] == ["anew"]
    again.close()


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        Store(tmp_path / "nowhere" / "mock.db", clock=Clock())


def test_the_ledger_is_readable_without_us(tmp_path: Path) -> None:
    """Decimals are plain text, and SQLite is durable as promised."""
    mock = opened(tmp_path / "mock.db", Clock())
    assert mock.store is not None
    assert mock.store._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    mock.exchange.place("alice", a_request("BUY", "1E+1", "1E+2"))
    mock.close()
    db = sqlite3.connect(tmp_path / "mock.db")
    assert db.execute("SELECT order_qty, price, held FROM orders").fetchall() == [
        ("10", "100", "1000")
    ]
    db.close()


def test_strange_requests_are_on_record_and_break_nothing(tmp_path: Path) -> None:
    mock = opened(tmp_path / "mock.db", Clock())
    assert mock.store is not None
    exchange = mock.exchange
    strange = [
        a_request(qty=qty, price=price, client_order_id=client_order_id, symbol=symbol)
        for qty, price, client_order_id, symbol in (
            ("NaN", "sNaN", None, SYMBOL),
            ("-Infinity", "1E+999999", None, SYMBOL),
            ("1", "99", "\udcff\x00" * 10_000, SYMBOL),
            ("1", "99", None, "\udcff" * 10_000),
        )
    ]
    for request in strange:
        with pytest.raises(Refusal):
            exchange.place("alice", request)
    for account in ("\udcff", "x" * 100_000, ""):
        with pytest.raises(Refusal):
            exchange.place(account, strange[0])
        with pytest.raises(Refusal):
            exchange.deposit(account, "\udcff" * 10_000, D("NaN"))
    with pytest.raises(Refusal):
        exchange.cancel("alice", client_order_id="\udcff")
    assert exchange.order_history("alice", symbol="\udcff").orders == ()
    for number in (2**80, -(2**80), 0):
        with pytest.raises(Refusal):
            exchange.cancel("alice", order_id=number)
        assert exchange.fills("alice", since_trade_id=number, order_id=number) == []
        assert exchange.order_history("alice", cursor=abs(number)).orders == ()
    lines = [str(line) for line in exchange.audit()]
    assert [str(line) for line in mock.store.list_audit(0, 1000)] == lines
    assert max(len(line) for line in lines) < 5_000
    mock.close()
