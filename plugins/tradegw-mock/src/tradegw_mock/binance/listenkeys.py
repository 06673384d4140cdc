"""Keys to user data streams, as Binance had them until 2026-02-20 and older clients still ask for."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

__all__ = ["ListenKeys"]

_VALID_NS: Final = 3600 * 1_000_000_000
_KEPT: Final = 10_000


class ListenKeys:
    """The keys in force: one for each account, for an hour from when it was last asked for.

    Args:
        clock: Nanoseconds since the epoch.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._keys: dict[str, tuple[str, int]] = {}
        self._of_account: dict[str, str] = {}

    def open(self, account: str) -> str:
        """Give the account's key, made where it has none."""
        key = self._of_account.get(account)
        if key is None or self.find(key) is None:
            key = secrets.token_hex(32)
            if len(self._of_account) >= _KEPT:
                self.close(next(iter(self._of_account)))
        self._of_account[account] = key
        self._keys[key] = account, self._clock() + _VALID_NS
        return key

    def extend(self, key: str, account: str) -> bool:
        """Let a key be good for another hour; False where the account has no such key."""
        if self.find(key) != account:
            return False
        self._keys[key] = account, self._clock() + _VALID_NS
        return True

    def close(self, account: str) -> None:
        """End an account's key."""
        key = self._of_account.pop(account, None)
        if key is not None:
            del self._keys[key]

    def clear(self) -> None:
        """End all keys."""
        self._keys.clear()
        self._of_account.clear()

    def find(self, key: str) -> str | None:
        """Find whose stream a key opens; None where it opens none."""
        known = self._keys.get(key)
        return known[0] if known is not None and known[1] > self._clock() else None
