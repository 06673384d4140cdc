"""Ids that the exchange makes where a client leaves them to it."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

__all__ = ["account_uid", "make_id"]

_LENGTH: Final = 22


def make_id(seed: int, number: int) -> str:
    """Make an id of 22 letters and digits, the same for the same seed and number."""
    digest = hashlib.sha256(f"{seed}:{number}".encode()).digest()
    # Letters in the place of what is neither letter nor digit: 125 bits of chance are enough.
    return base64.b64encode(digest, altchars=b"xX")[:_LENGTH].decode()


def account_uid(account: str) -> int:
    """Make the number by which Binance would know an account."""
    return int.from_bytes(hashlib.sha256(account.encode()).digest()[:4]) + 1
