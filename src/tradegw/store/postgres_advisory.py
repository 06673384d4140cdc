"""The advisory locks of a store in Postgres, in one place: two of one number would keep each other out."""

from __future__ import annotations

from enum import IntEnum, unique

__all__ = ["AdvisoryLock"]


@unique
class AdvisoryLock(IntEnum):
    """The first of a lock's two numbers; the second is the schema's: a database may hold several stores.

    A number stays with its lock for good: processes of two releases may use a store at the same time.
    """

    GATEWAY = 0x7470_6701
    """Held by a gateway's watch connection: alone, or with others that share the store."""
    WRITERS = 0x7470_6702
    """Held by every connection that writes for a gateway that is alone."""
    SCHEMA = 0x7470_6703
    """Held while the schema moves, beside gateways: whoever comes second finds it moved."""
    SHARERS = 0x7470_6704
    """Held by every connection that writes for a gateway that shares the store."""
    ARCHIVE = 0x7470_6705
    """Held while somebody archives, beside gateways; never beside another who does."""
