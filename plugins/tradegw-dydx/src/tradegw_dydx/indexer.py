"""The indexer's REST API: one page at a time, never repeated by itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import aiohttp
import msgspec

from tradegw import RateLimited, TranslationError, VenueError
from tradegw_dydx.markets import Market, read_market

__all__ = ["PAGE_MAX", "Indexer", "IndexerNotFound", "open_indexer"]

PAGE_MAX: Final = 1000
"""The most that it gives at once."""
_BODY_MAX: Final = 16 * 1024 * 1024


class IndexerNotFound(VenueError):
    """The indexer answered that there is no such thing."""

    reason = "NOT_FOUND"


class Indexer:
    """Asks for one subaccount's affairs."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, address: str, subaccount: int
    ) -> None:
        self._session = session
        self._url = url
        self._address = address
        self._subaccount = subaccount

    async def markets(self, ticker: str | None = None) -> dict[str, Market]:
        """Return the markets by ticker; those that cannot be read are left out, because they cannot trade."""
        told = await self._get("/v4/perpetualMarkets", {} if ticker is None else {"ticker": ticker})
        markets: dict[str, Market] = {}
        for one in _mapping(told, "markets").values():
            try:
                market = read_market(one)
            except TranslationError:
                continue
            markets[market.ticker] = market
        return markets

    async def height(self) -> int:
        """Return the height up to which the indexer knows everything."""
        told = await self._get("/v4/height", {})
        try:
            return int(told["height"])
        except (KeyError, ValueError, TypeError) as e:
            raise TranslationError(f"unreadable height {told!r:.200}") from e

    async def subaccount(self) -> Mapping[str, Any]:
        """Return the subaccount with its positions.

        Raises:
            IndexerNotFound: It never had anything.
        """
        told = await self._get(
            f"/v4/addresses/{self._address}/subaccountNumber/{self._subaccount}", {}
        )
        return _mapping(told, "subaccount")

    async def order(self, uuid: str) -> Mapping[str, Any]:
        """Return one order.

        Raises:
            IndexerNotFound: It knows none of that id (any more: unfilled short-term orders vanish).
        """
        told = await self._get(f"/v4/orders/{uuid}", {})
        if not isinstance(told, dict):
            raise TranslationError(f"unreadable order {told!r:.200}")
        return told  # pyright: ignore[reportUnknownVariableType]

    async def orders(self, **filters: str) -> list[Mapping[str, Any]]:
        """Return up to a thousand orders, those that end last first."""
        return _list(await self._get("/v4/orders", self._own(limit=str(PAGE_MAX), **filters)))

    async def fills(self, **filters: str) -> list[Mapping[str, Any]]:
        """Return up to a thousand fills, newest first."""
        told = await self._get("/v4/fills", self._own(limit=str(PAGE_MAX), **filters))
        return _list(_field(told, "fills"))

    def _own(self, **filters: str) -> dict[str, str]:
        return {"address": self._address, "subaccountNumber": str(self._subaccount), **filters}

    async def _get(self, path: str, query: Mapping[str, str]) -> Any:
        try:
            async with self._session.get(f"{self._url}{path}", params=query) as answer:
                body = await _body(answer)
                status, headers = answer.status, answer.headers
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise VenueError(f"indexer {path}: {e!r}", reason="VENUE_UNAVAILABLE") from e
        text = body[:300].decode(errors="replace")
        if status == 404:
            raise IndexerNotFound(f"indexer {path}: {text}")
        if status == 429:
            raise RateLimited(
                f"indexer {path}: {text}", retry_after_s=_retry_after_s(headers.get("Retry-After"))
            )
        if status != 200:
            raise VenueError(f"indexer {path}: {status}: {text}", reason=f"INDEXER_{status}")
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeError) as e:
            raise TranslationError(f"indexer {path}: no JSON: {text}") from e


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > _BODY_MAX:
            raise VenueError(f"the indexer's answer is longer than {_BODY_MAX} bytes")
    return bytes(body)


def _retry_after_s(value: str | None) -> float | None:
    # Milliseconds, against the standard.
    return int(value) / 1000 if value is not None and value.isdigit() else None


def _field(told: Any, key: str) -> Any:
    return cast("dict[str, Any]", told).get(key) if isinstance(told, dict) else None


def _mapping(told: Any, key: str) -> dict[str, Any]:
    found = _field(told, key)
    if not isinstance(found, dict):
        raise TranslationError(f"the indexer's answer has no {key}: {told!r:.200}")
    return found  # pyright: ignore[reportUnknownVariableType]


def _list(told: Any) -> list[Mapping[str, Any]]:
    if not isinstance(told, list):
        raise TranslationError(f"the indexer's answer is no list: {told!r:.200}")
    return told  # pyright: ignore[reportUnknownVariableType]


@asynccontextmanager
async def open_indexer(
    url: str, address: str, subaccount: int, *, timeout_s: float
) -> AsyncGenerator[Indexer]:
    """Open a session to an indexer; nothing is asked yet."""
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Indexer(session, url, address, subaccount)
