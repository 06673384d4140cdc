"""Every exception that tradegw raises, in one tree.

    TradegwError
    ├── ConfigError             the configuration is wrong: fix it and restart
    ├── InvalidOrder            nothing was stored or sent, the key is free: fix the request
    │   └── UnsupportedOrder    the venue cannot do this; another venue might
    ├── NotFound                no such order, account or venue
    ├── IdempotencyKeyReused    the key belongs to a request with other parameters
    ├── DuplicateClientOrderId  the client order id belongs to an order with another key
    ├── Conflict                the order's state forbids it (closed, or a command is pending)
    ├── Unavailable             nothing was stored: try again with the same key
    ├── StoreError              the record cannot be used
    │   ├── StoreInUse          another process writes this store
    │   ├── StoreUnavailable    nothing was stored: it was not asked to commit (an `Unavailable` as well)
    │   │   └── LeaseLost       another gateway serves the account, or may by now
    │   ├── CommitUnknown       the store was asked to commit, and nobody knows whether it did
    │   ├── StoreCorrupt        what is stored contradicts itself
    │   └── SchemaMismatch      the schema is newer or older than this program can use
    ├── PluginError             a plugin is broken, or cannot run here
    ├── TranslationError        a venue's message could not be read
    └── VenueError              between a plugin and the engine; a caller never sees these four
        ├── VenueRejected       the venue said no, definitively
        ├── RateLimited         the venue did not take it: too fast
        ├── NotSent             no byte left
        └── OutcomeUnknown      it may be live
    UsageError (RuntimeError)   the calling code is wrong

A class says what the caller can do; the `reason` code says why. "They refused" and "we never heard" are
different classes, always.
"""

from __future__ import annotations

__all__ = [
    "CommitUnknown",
    "ConfigError",
    "Conflict",
    "DuplicateClientOrderId",
    "IdempotencyKeyReused",
    "InvalidOrder",
    "LeaseLost",
    "NotFound",
    "NotSent",
    "OutcomeUnknown",
    "PluginError",
    "RateLimited",
    "SchemaMismatch",
    "StoreCorrupt",
    "StoreError",
    "StoreInUse",
    "StoreUnavailable",
    "TradegwError",
    "TranslationError",
    "Unavailable",
    "UnsupportedOrder",
    "UsageError",
    "VenueError",
    "VenueRejected",
]


class TradegwError(Exception):
    """The root. `reason` is a stable code in upper case; the text is for people and may change."""

    reason: str = "INTERNAL"

    def __init__(self, text: str, *, reason: str | None = None) -> None:
        super().__init__(text)
        if reason is not None:
            self.reason = reason


class ConfigError(TradegwError):
    """The configuration is wrong. Fix it and restart; nothing has run."""

    reason = "CONFIG_INVALID"


class InvalidOrder(TradegwError):
    """The request cannot be carried out as it stands. Nothing was stored or sent; its key is free."""

    reason = "INVALID_REQUEST"


class UnsupportedOrder(InvalidOrder):
    """The venue's capabilities do not cover the request. Nothing was stored or sent."""

    reason = "UNSUPPORTED"


class NotFound(TradegwError):
    """No such order, account, venue or symbol."""

    reason = "NOT_FOUND"


class IdempotencyKeyReused(TradegwError):
    """The key was used before, with other parameters. Nothing was stored or sent."""

    reason = "IDEMPOTENCY_KEY_REUSED"


class DuplicateClientOrderId(TradegwError):
    """An order with this client order id exists under another key. Nothing was stored or sent."""

    reason = "DUPLICATE_CLIENT_ORDER_ID"


class Conflict(TradegwError):
    """The order's present state forbids the command. Nothing was stored or sent."""

    reason = "ORDER_CLOSED"


class Unavailable(TradegwError):
    """Not now: reconciling, breaker, budget, shutting down, store away.

    Nothing was stored. The same request with the same key may be tried again.
    """

    reason = "UNAVAILABLE"


class StoreError(TradegwError):
    """The record cannot be used."""

    reason = "STORE_ERROR"


class StoreInUse(StoreError):
    """Another process writes this store. The text names its pid and its addresses."""

    reason = "STORE_IN_USE"


class StoreUnavailable(StoreError, Unavailable):
    """The store could not be reached, or refused, before it was asked to commit: nothing was stored."""

    reason = "STORE_UNAVAILABLE"


class LeaseLost(StoreUnavailable):
    """The account's lease is another gateway's. Nothing was stored, and nothing more is sent from here."""

    reason = "LEASE_LOST"


class CommitUnknown(StoreError):
    """The store was asked to commit, and the answer was lost: read it before anyone is answered."""

    reason = "COMMIT_UNKNOWN"


class StoreCorrupt(StoreError):
    """What is stored contradicts itself or cannot be read. Restore a copy; do not trade on it."""

    reason = "STORE_CORRUPT"


class SchemaMismatch(StoreError):
    """The store's schema is not one that this program can use. The text says which is newer."""

    reason = "SCHEMA_MISMATCH"


class PluginError(TradegwError):
    """A plugin is broken, or cannot run here. The text names its distribution and version."""

    reason = "PLUGIN_ERROR"


class TranslationError(TradegwError):
    """A message of a venue is malformed or new. Reading it by guesswork could close a live order."""

    reason = "UNREADABLE_VENUE_MESSAGE"


class VenueError(TradegwError):
    """What a venue plugin may raise from `execute`. A caller never sees it: the order is the answer."""

    reason = "VENUE_ERROR"


class VenueRejected(VenueError):
    """The venue refused, and said so. The order is not live there because of this request."""

    reason = "VENUE_REJECTED"


class RateLimited(VenueError):
    """The venue did not take the request: too fast. It had no effect.

    Attributes:
        retry_after_s: Seconds that the venue asked us to wait, when it said so.
    """

    reason = "VENUE_RATE_LIMITED"

    def __init__(
        self, text: str, *, reason: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(text, reason=reason)
        self.retry_after_s = retry_after_s


class NotSent(VenueError):
    """No byte left this process, so the venue cannot have acted."""

    reason = "NOT_SENT"


class OutcomeUnknown(VenueError):
    """The venue may have acted. Only evidence decides."""

    reason = "OUTCOME_UNKNOWN"


class UsageError(RuntimeError):
    """The calling code is wrong: a closed gateway was used, a method was called twice."""
