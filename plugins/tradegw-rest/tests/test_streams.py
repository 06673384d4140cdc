"""The private streams of the definitions, without a socket: login, subscriptions, events, gaps."""

from __future__ import annotations

import hashlib
import hmac
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tradegw_rest import Credentials, Stamp, StreamRefused, StreamSession, load

from tradegw import AccountName, ExecType, OrdStatus
from tradegw.venue import BalanceUpdate, Secret, StreamReady

from .test_corpus import keys_of

NAME = "0123456789abcdef0123456789abcdef"
NOW = 1_700_000_000_000_000_000


def begin(name: str, *symbols: str, token: Any = None) -> StreamSession:
    definition = load(name)
    assert definition.stream is not None
    keys = keys_of(name)
    credentials = Credentials(
        key=Secret(keys["key"]),
        secret=Secret(keys["secret"]),
        passphrase=Secret(keys["passphrase"]) if "passphrase" in keys else None,
    )
    return definition.stream.begin(
        account=AccountName("main"),
        signer=definition.signer(credentials),
        stamp=lambda: Stamp(now_ns=NOW, nonce="00"),
        markets=definition.samples,
        symbols=symbols,
        token=token,
    )


def tell(session: StreamSession, message: Any) -> Any:
    return session.receive(msgspec.json.encode(message).decode(), received_time_ns=1)


def sent(received: Any) -> list[Any]:
    return [msgspec.json.decode(text) for text in received.send]


def test_okx_logs_in_with_seconds_and_subscribes_in_turn() -> None:
    session = begin("okx-spot")
    (login,) = sent(session.start())
    assert login["op"] == "login"
    assert login["args"][0]["timestamp"] == "1700000000"
    told = tell(session, {"event": "login", "code": "0"})
    for channel in ("orders", "orders-algo", "account"):
        (frame,) = sent(told)
        assert frame["args"][0]["channel"] == channel
        told = tell(session, {"event": "subscribe", "arg": {"channel": channel}})
    assert told.items == (StreamReady(),)
    row = {"instId": "BTC-USDT", "ordId": "1", "clOrdId": NAME, "side": "buy", "state": "filled"}
    row |= {
        "accFillSz": "1",
        "sz": "1",
        "ordType": "limit",
        "px": "100",
        "tradeId": "9",
        "fillSz": "1",
    }
    row |= {
        "fillPx": "100",
        "fillFee": "-0.1",
        "fillFeeCcy": "BTC",
        "execType": "M",
        "fillTime": "5",
    }
    told = tell(session, {"arg": {"channel": "orders"}, "data": [row | {"uTime": "6"}]})
    trade, end = told.items
    assert (trade.exec_type, trade.fee, trade.symbol) == (
        ExecType.TRADE,
        Decimal("0.1"),
        "BTC/USDT",
    )
    assert (end.ord_status, end.cum_qty) == (OrdStatus.FILLED, Decimal(1))
    assert session.heartbeat() == "ping"
    assert session.receive("pong", received_time_ns=1).items == ()
    assert tell(session, {"event": "notice", "code": "64008"}).again


def test_bybit_signs_its_login() -> None:
    session = begin("bybit-spot")
    (login,) = sent(session.start())
    key, expires, signature = login["args"]
    assert key == "K"
    wanted = hmac.new(b"S", f"GET/realtime{expires}".encode(), hashlib.sha256).hexdigest()
    assert signature == wanted
    (frame,) = sent(tell(session, {"op": "auth", "success": True}))
    assert frame["args"] == ["order.spot", "execution.spot", "wallet"]
    assert tell(session, {"op": "subscribe", "success": True}).items == (StreamReady(),)
    fill = {
        "symbol": "BTCUSDT",
        "orderId": "1",
        "orderLinkId": NAME,
        "side": "Buy",
        "execType": "Trade",
    }
    fill |= {"execId": "e", "execQty": "1", "execPrice": "100", "isMaker": True, "execTime": "5"}
    (trade,) = tell(session, {"topic": "execution.spot", "data": [fill]}).items
    assert (trade.trade_id, trade.last_qty, trade.venue_client_order_id) == ("e", Decimal(1), NAME)
    # What is no trade is no fill.
    assert (
        tell(session, {"topic": "execution.spot", "data": [fill | {"execType": "Funding"}]}).items
        == ()
    )
    coin = {"coin": "BTC", "walletBalance": "2", "locked": "0.5"}
    (update,) = tell(session, {"topic": "wallet", "data": [{"coin": [coin]}]}).items
    assert isinstance(update, BalanceUpdate)
    assert (update.balances[0].free, update.balances[0].held) == (Decimal("1.5"), Decimal("0.5"))


def test_kraken_closes_on_filled_alone() -> None:
    session = begin("kraken-spot", token="t0k")
    told = session.start()
    for channel in ("executions", "balances"):
        (frame,) = sent(told)
        assert (frame["params"]["channel"], frame["params"]["token"]) == (channel, "t0k")
        told = tell(
            session, {"method": "subscribe", "success": True, "result": {"channel": channel}}
        )
    assert told.items == (StreamReady(),)
    row = {"order_id": "O", "cl_ord_id": NAME, "symbol": "BTC/USD", "side": "buy", "cum_qty": 1}
    row |= {"timestamp": "2023-11-14T22:13:20Z"}
    trade = row | {
        "exec_type": "trade",
        "order_status": "partially_filled",
        "exec_id": "e",
        "last_qty": 1,
    }
    trade |= {"last_price": 100.5, "liquidity_ind": "t", "fees": [{"asset": "USD", "qty": 0.1}]}
    raw = msgspec.json.encode(
        {"channel": "executions", "data": [trade, row | {"exec_type": "filled"}]}
    )
    fill, end = session.receive(raw, received_time_ns=1).items
    # It says "partially_filled" even of the last fill: that is not read.
    assert (fill.last_px, fill.ord_status) == (Decimal("100.5"), None)
    assert (end.ord_status, end.cum_qty) == (OrdStatus.FILLED, Decimal(1))


def test_coinbase_notices_a_missing_message_and_signs_each_subscription() -> None:
    session = begin("coinbase")
    (first,) = sent(session.start())
    (second,) = sent(tell(session, {"channel": "subscriptions", "sequence_num": 0}))
    assert first["channel"] == "user"
    assert second["channel"] == "heartbeats"
    assert first["jwt"] != second["jwt"]
    assert StreamReady() in tell(session, {"channel": "subscriptions", "sequence_num": 1}).items
    order = {"order_id": "o", "client_order_id": NAME, "product_id": "BTC-USD", "order_side": "BUY"}
    order |= {"status": "OPEN", "cumulative_quantity": "0.25"}
    events = [{"type": "update", "orders": [order]}]
    (report,) = tell(session, {"channel": "user", "sequence_num": 2, "events": events}).items
    assert (report.exec_type, report.cum_qty) == (ExecType.ORDER_STATUS, Decimal("0.25"))
    assert (
        "4 followed 2" in tell(session, {"channel": "user", "sequence_num": 4, "events": []}).again
    )


def test_bitstamp_subscribes_to_each_market() -> None:
    session = begin("bitstamp", "BTC/USD", "ETH/USD", token={"token": "t", "user_id": 7})
    frames = sent(session.start())
    assert [frame["data"]["channel"] for frame in frames] == [
        "private-my_orders_btcusd-7",
        "private-my_orders_ethusd-7",
    ]
    done = {"event": "bts:subscription_succeeded"}
    assert tell(session, done).send == ()
    assert len(sent(tell(session, done))) == 2
    tell(session, done)
    assert tell(session, done).items == (StreamReady(),)
    order = {
        "id": 1,
        "id_str": "1",
        "client_order_id": NAME,
        "order_type": 0,
        "microtimestamp": "5",
    }
    for amount, wanted in (("0", ExecType.ORDER_STATUS), ("0.5", ExecType.CANCELED)):
        data = order | {"amount": amount, "amount_traded": "1"}
        (report,) = tell(session, {"event": "order_deleted", "data": data}).items
        assert report.exec_type is wanted
    assert tell(session, {"event": "bts:request_reconnect"}).again


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("okx-spot", {"event": "error", "code": "60009", "msg": "Login failed"}),
        ("bybit-spot", {"op": "auth", "success": False, "ret_msg": "Login failed"}),
        ("kraken-spot", {"method": "subscribe", "success": False, "error": "Login failed"}),
        ("coinbase", {"type": "error", "message": "Login failed"}),
    ],
)
def test_a_refused_login_is_told_without_the_frame(name: str, message: Any) -> None:
    session = begin(name, token="t0k")
    session.start()
    with pytest.raises(StreamRefused, match="Login failed") as told:
        tell(session, message)
    assert "t0k" not in str(told.value)
