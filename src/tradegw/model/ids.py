"""Names of things. Each is a type of its own, so that a checker notices a mix-up."""

from __future__ import annotations

from typing import NewType
from uuid import UUID

AccountName = NewType("AccountName", str)
"""The name of an account in the configuration, such as `paper`. What callers and streams use."""

AccountId = NewType("AccountId", UUID)
"""The store's key of an account. It outlives a renaming of the section in the configuration."""

OrderId = NewType("OrderId", UUID)
"""Our name for an order, unique for ever."""

ClientOrderId = NewType("ClientOrderId", str)
"""The caller's name for an order (FIX ClOrdID), unique within an account."""

VenueOrderId = NewType("VenueOrderId", str)
"""The venue's name for an order (FIX OrderID), known once it answers."""

VenueClientOrderId = NewType("VenueClientOrderId", str)
"""What we call the order at the venue; made before the first byte leaves, so that we can ask."""

TradeId = NewType("TradeId", str)
"""The venue's name for a fill (FIX TradeID). Unique only within an order."""

__all__ = [
    "AccountId",
    "AccountName",
    "ClientOrderId",
    "OrderId",
    "TradeId",
    "VenueClientOrderId",
    "VenueOrderId",
]
