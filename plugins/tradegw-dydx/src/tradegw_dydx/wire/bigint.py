"""The chain's big integers in bytes fields: a sign byte, then the magnitude, most significant byte first."""

from __future__ import annotations

__all__ = ["from_bytes", "to_bytes"]

_PLUS, _MINUS = 2, 3


def to_bytes(value: int) -> bytes:
    """Encode an integer."""
    size = (value.bit_length() + 7) // 8
    return bytes([_MINUS if value < 0 else _PLUS]) + abs(value).to_bytes(size, "big")


def from_bytes(data: bytes) -> int:
    """Decode an integer; no bytes at all are zero.

    Raises:
        ValueError: The first byte is neither sign.
    """
    if not data:
        return 0
    if data[0] not in (_PLUS, _MINUS):
        raise ValueError(f"a big integer begins with 02 or 03; found {data[:1].hex()}")
    magnitude = int.from_bytes(data[1:], "big")
    return -magnitude if data[0] == _MINUS else magnitude
