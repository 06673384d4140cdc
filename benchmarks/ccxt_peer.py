"""ccxt's `create_order` with HTTP stubbed, in an environment that has ccxt: `benchmarks.rest` starts it.

For every line that it reads it measures one round of calls, and prints the seconds of CPU that they took.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import ccxt  # type: ignore[import-not-found]  # It is in another environment.

MS = 1_700_000_000_000
MARKETS = (
    '{"timezone":"UTC","serverTime":1,"rateLimits":[],"exchangeFilters":[],"symbols":[{"symbol":"BTCUSDT",'
    '"status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT","baseAssetPrecision":8,"quotePrecision":8,'
    '"quoteAssetPrecision":8,"orderTypes":["LIMIT"],"isSpotTradingAllowed":true,'
    '"isMarginTradingAllowed":false,"filters":[{"filterType":"PRICE_FILTER","minPrice":"0.01",'
    '"maxPrice":"1000000","tickSize":"0.01"},{"filterType":"LOT_SIZE","minQty":"0.00001","maxQty":"9000",'
    '"stepSize":"0.00001"}],"permissions":[],"permissionSets":[["SPOT"]]}]}'
)


class Response:
    """What `requests` would return."""

    status_code = 200
    reason = "OK"

    def __init__(self, text: str) -> None:
        self.headers = {"Content-Type": "application/json"}
        self.text = text
        self.content = text.encode()

    def raise_for_status(self) -> None:
        """Raise nothing."""


class Session:
    """What `requests` would send with."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.headers: dict[str, str] = {}
        self.cookies: dict[str, str] = {}

    def request(self, method: str, url: str, **_: Any) -> Response:
        """Answer at once."""
        return Response(MARKETS if "exchangeInfo" in url else self.answer)

    def close(self) -> None:
        """Close nothing."""


def main() -> None:
    """Measure a round for every line."""
    count, answer = int(sys.argv[1]), sys.argv[2]
    options = {"fetchMarkets": {"types": ["spot"]}, "fetchMargins": False, "fetchCurrencies": False}
    exchange: Any = ccxt.binance(
        {"apiKey": "K", "secret": "S", "enableRateLimit": False, "options": options}
    )
    exchange.has["fetchCurrencies"] = False
    exchange.session = Session(answer)
    exchange.load_markets()
    params = {"clientOrderId": "0123456789abcdef0123456789abcdef"}
    for _ in sys.stdin:
        began = time.process_time()
        for _ in range(count):
            exchange.create_order("BTC/USDT", "limit", "buy", 0.01, 65000, params)
        print(time.process_time() - began, flush=True)


if __name__ == "__main__":
    main()
