"""Which of several gateways on one store serves an account, for whoever has a request of it."""

from __future__ import annotations

from typing import Protocol

from tradegw.model import AccountName

__all__ = ["Holders"]


class Holders(Protocol):
    """Who holds the configured accounts now."""

    def is_ours(self, account: AccountName) -> bool:
        """Whether this gateway serves the account, and may still send for it."""
        ...

    async def address_of(self, account: AccountName) -> str | None:
        """Return where the holder's gRPC door listens; None when nobody holds the account now.

        Empty for a holder without one: a gateway inside a program, or one that is starting.

        What is known may be a second old: the holder may answer that it is none any more (`NOT_HOLDER`).

        Raises:
            StoreUnavailable: It cannot be looked up.
        """
        ...
