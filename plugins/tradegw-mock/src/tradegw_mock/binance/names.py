"""Ids that the exchange makes where a client leaves them to it."""

from __future__ import annotations

import hashlib
import string
from typing import Final

__all__ = ["account_uid", "make_id"]

_LETTERS: Final = string.ascii_letters + string.digits
_LENGTH: Final = 22


def make_id(seed: int, number: int) -> str:
    """Make an id of 22 letters and digits, the same for the same seed and number."""
    rest = int.from_bytes(hashlib.sha256(f"{seed}:{number}".encode()).digest()[:17])
    letters: list[str] = []
    for _ in range(_LENGTH):
        rest, letter = divmod(rest, len(_LETTERS))
        letters.append(_LETTERS[letter])
    return "".join(letters)


def account_uid(account: str) -> int:
    """Make the number by which Binance would know an account."""
    return int.from_bytes(hashlib.sha256(account.encode()).digest()[:4]) + 1
