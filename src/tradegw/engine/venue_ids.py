"""Names of our orders at a venue. Pure, so that a name can be told from an order and back."""

from __future__ import annotations

import hashlib

from tradegw.model import OrderId, VenueClientOrderId

__all__ = ["gateway_tag", "hex32", "is_ours"]


def gateway_tag(name: str) -> str:
    """Return the 8 hex digits that mark orders of the gateway of that name."""
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def hex32(tag: str, order_id: OrderId, generation: int) -> VenueClientOrderId:
    """Return 32 hex digits: 8 of the tag, 22 of the order id (88 bits), 2 of the generation.

    One form fits Binance, Kraken, Coinbase, OKX, Bybit and Bitstamp unchanged.
    """
    assert 0 <= generation < 256, "an order has at most 256 incarnations"
    # The end of a UUID: its middle holds version bits, which tell orders apart less well.
    return VenueClientOrderId(f"{tag}{order_id.hex[-22:]}{generation:02x}")


def is_ours(tag: str, name: VenueClientOrderId) -> bool:
    """Whether the name was made by a gateway with this tag."""
    return len(name) == 32 and name.startswith(tag)
