"""The halts in force: they stand in the store, whoever stored them, and are obeyed from memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from tradegw.model import AccountName, Halt
from tradegw.ports import Store

__all__ = ["ANY_SCOPE", "Halts"]

log = logging.getLogger(__name__)

ANY_SCOPE = "*"


class Halts:
    """What must not be traded now.

    Args:
        on_new: Told when there is a halt that was not known.
    """

    def __init__(self, store: Store, on_new: Callable[[], None]) -> None:
        self._store = store
        self._on_new = on_new
        self._on_changed: Callable[[], None] = lambda: None
        self._by_scope: dict[str, Halt] = {}
        self._version = 0

    @property
    def all(self) -> Sequence[Halt]:
        """The halts in force."""
        return tuple(self._by_scope.values())

    def get(self, scope: str) -> Halt | None:
        """Return the halt of a scope, or None."""
        return self._by_scope.get(scope)

    def find(self, account: AccountName, venue: str, symbol: str) -> Halt | None:
        """Return a halt that an order would meet, or None."""
        if not self._by_scope:
            return None
        for scope in (ANY_SCOPE, f"account:{account}", f"venue:{venue}", f"symbol:{symbol}"):
            if scope in self._by_scope:
                return self._by_scope[scope]
        return None

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Have a listener told when a halt was stored or lifted here."""
        self._on_changed = listener

    async def read(self) -> None:
        """Obey what is stored.

        Raises:
            StoreError: It cannot be read; what was known is obeyed.
        """
        while True:
            version = self._version
            found = {halt.scope: halt for halt in await self._store.list_halts()}
            if version == self._version:
                break
            # One was stored or lifted here while we read: what we read may be older.
        new = found.keys() - self._by_scope.keys()
        self._set(found)
        for scope in sorted(new):
            log.warning("HALT of %s by %s: %s", scope, found[scope].by, found[scope].why)
        if new:
            self._on_new()

    def put(self, halt: Halt) -> None:
        """Obey one that was stored."""
        self._set({**self._by_scope, halt.scope: halt})
        log.warning("HALT of %s by %s: %s", halt.scope, halt.by, halt.why)
        self._on_changed()

    def drop(self, scope: str) -> None:
        """Obey one no more that was lifted in the store."""
        self._set({s: halt for s, halt in self._by_scope.items() if s != scope})
        self._on_changed()

    def _set(self, halts: dict[str, Halt]) -> None:
        self._by_scope = halts
        self._version += 1
