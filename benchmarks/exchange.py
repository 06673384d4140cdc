"""The mock exchange: orders per second of its matching engine in process, and of its REST API on a port.

The port is measured against a bare server of the same framework, which reads the same requests and sends
answers of the same size.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from tradegw_mock.exchange import (
    OrderRequest,
    OrdType,
    SelfTradePrevention,
    Side,
    default_exchange,
)

from benchmarks.measure import Figures, hammer

__all__ = ["engine_orders", "rest_orders"]

CALLERS = 16
ANSWER = {
    "symbol": "BTCUSDT",
    "orderId": 1234567,
    "orderListId": -1,
    "clientOrderId": "FBGBALrPVG2wxWLPCKqQVo",
    "transactTime": 1795709568702,
    "price": "60000.00000000",
    "origQty": "0.00100000",
    "executedQty": "0.00100000",
    "origQuoteOrderQty": "0.00000000",
    "cummulativeQuoteQty": "65.00000000",
    "status": "FILLED",
    "timeInForce": "GTC",
    "type": "LIMIT",
    "side": "BUY",
    "workingTime": 1795709568702,
    "fills": [
        {
            "price": "65004.00000000",
            "qty": "0.00100000",
            "commission": "0.00000100",
            "commissionAsset": "BTC",
            "tradeId": 1234567,
        }
    ],
    "selfTradePreventionMode": "EXPIRE_MAKER",
}
"""What the bare server answers: as much as a filled order."""

CONFIG = """
step_interval_s = 0
limits = { enforced = false }
accounts = [{ name = "a", balances = { USDT = "1000000000000", BTC = "1000000000" } }]
"""


def engine_orders(count: int) -> Figures:
    """Measure orders that two accounts trade with each other, every second one filled."""
    mock = default_exchange(
        clock=time.time_ns,
        accounts={name: {"USDT": Decimal(10**12), "BTC": Decimal(10**9)} for name in "ab"},
        seed=None,
    )
    requests = [
        OrderRequest(
            symbol="BTC/USDT",
            side=side,
            ord_type=OrdType.LIMIT,
            order_qty=Decimal("0.001"),
            price=Decimal(65000),
            self_trade_prevention=SelfTradePrevention.NONE,
        )
        for side in Side
    ]
    place = mock.exchange.place
    for _ in range(count // 20):
        place("a", requests[0])
        place("b", requests[1])
    taken: list[float] = []
    started = time.perf_counter()
    for _ in range(count // 2):
        for account, request in zip("ab", requests, strict=True):
            before = time.perf_counter()
            place(account, request)
            taken.append(time.perf_counter() - before)
    seconds = time.perf_counter() - started
    taken.sort()
    return Figures(
        count=len(taken),
        seconds=seconds,
        p50_s=taken[len(taken) // 2],
        p99_s=taken[len(taken) * 99 // 100],
    )


async def rest_orders(address: str, key: str, secret: str, *, kind: str, count: int) -> Figures:
    """Measure signed orders over kept connections: `MARKET`, which fill, or `IOC`, which expire at once."""
    order = "symbol=BTCUSDT&quantity=0.001"
    if kind == "MARKET":
        order += "&type=MARKET"
    else:
        order += "&type=LIMIT&timeInForce=IOC&price=60000"
    at = urlsplit(address)
    idle = [await asyncio.open_connection(at.hostname, at.port) for _ in range(CALLERS)]
    sides = ("BUY", "BUY") if kind == "IOC" else ("BUY", "SELL")
    sent = 0

    async def call() -> None:
        nonlocal sent
        sent += 1
        body = f"{order}&side={sides[sent % 2]}&timestamp={time.time_ns() // 1_000_000}"
        body += "&signature=" + hmac.digest(secret.encode(), body.encode(), hashlib.sha256).hex()
        reader, writer = connection = idle.pop()
        writer.write(
            (
                "POST /api/v3/order HTTP/1.1\r\nhost: localhost\r\n"
                "content-type: application/x-www-form-urlencoded\r\n"
                f"x-mbx-apikey: {key}\r\ncontent-length: {len(body)}\r\n\r\n{body}"
            ).encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head[:16], head
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        idle.append(connection)

    try:
        return await hammer(call, count=count, callers=CALLERS)
    finally:
        for _, writer in idle:
            writer.close()


@asynccontextmanager
async def served() -> AsyncIterator[dict[str, Any]]:
    """Serve a mock exchange that forgets; yield its first line."""
    with TemporaryDirectory() as directory:
        config = Path(directory, "mock.toml")
        config.write_text(CONFIG, "utf-8")  # noqa: ASYNC240  Nothing runs beside it yet.
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tradegw_mock", "serve", "--port", "0", "--json"),
            *("--config", str(config)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdout is not None
        try:
            yield json.loads(await child.stdout.readline())
        finally:
            child.terminate()
            await child.wait()
