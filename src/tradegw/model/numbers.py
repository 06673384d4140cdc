"""Money and size: finite decimals of at most 38 digits, 18 of them fraction, written plainly."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal

__all__ = ["CONTEXT", "ZERO", "average", "is_multiple", "parse_decimal", "plain"]

ZERO = Decimal(0)
DIGITS_MAX = 38
FRACTION_MAX = 18

CONTEXT = Context(prec=DIGITS_MAX, rounding=ROUND_HALF_EVEN)
_WIDE = Context(prec=4 * DIGITS_MAX)
_EXPONENT_MIN = Decimal(1).scaleb(-FRACTION_MAX)
_PLAIN = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)", re.ASCII)
# Nearly every number that is met: as it should be already, and short enough to see at once.
_is_usual = re.compile(r"-?(?:[1-9]\d{0,16}|\d{1,16}\.\d{0,15}[1-9])", re.ASCII).fullmatch


def parse_decimal(value: str | int | Decimal, name: str = "number") -> Decimal:
    """Read a decimal as people and wires write it, exactly.

    Text has no exponent: `1e9` is more often a slip than a wish, and venues refuse it.

    Raises:
        ValueError: Not a finite plain decimal, or beyond 38 digits, 18 of them fraction. A `float` is
            refused as well: its digits are not those that were written.
    """
    if isinstance(value, str):
        if len(value) > 2 * DIGITS_MAX or not _PLAIN.fullmatch(value):
            raise ValueError(
                f"{name} must be a plain decimal such as 0.01, without exponent; found {value[:80]!r}"
            )
        number = Decimal(value)
    elif isinstance(value, bool) or not isinstance(value, (int, Decimal)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(
            f"{name} must be a Decimal or its text, never a {type(value).__name__}; found {value!r:.80}"
        )
    elif isinstance(value, int):
        # Converting a huge int to decimal text takes quadratic time.
        if value.bit_length() > 4 * DIGITS_MAX:
            raise ValueError(f"{name} must have at most {DIGITS_MAX} digits; found more")
        number = Decimal(value)
    else:
        number = value
    return check_decimal(number, name)


def check_decimal(number: Decimal, name: str = "number") -> Decimal:
    """Return `number` with trailing zeros taken off, or refuse it.

    Raises:
        ValueError: Not finite, or beyond 38 digits, 18 of them fraction.
    """
    if _is_usual(str(number)):
        return number
    if not number.is_finite():
        raise ValueError(f"{name} must be finite; found {_show(number)}")
    if number.is_zero():
        return ZERO
    # Where the number begins is known at once; a hand-made 1E+1000000 must not be written out to see.
    if number.adjusted() >= DIGITS_MAX:
        raise ValueError(f"{name} must have at most {DIGITS_MAX} digits; found {_show(number)}")
    if number.adjusted() < -FRACTION_MAX:
        raise ValueError(_too_fine(number, name))
    exact = number.normalize(_WIDE)
    _, digits, exponent = exact.as_tuple()
    assert isinstance(exponent, int)
    if exponent < -FRACTION_MAX:
        raise ValueError(_too_fine(number, name))
    if len(digits) > DIGITS_MAX or exact != number:
        raise ValueError(f"{name} must have at most {DIGITS_MAX} digits; found {_show(number)}")
    # Adding zero takes 6.5E+4 back to 65000.
    return _WIDE.add(exact, ZERO) if exponent > 0 else exact


def _too_fine(number: Decimal, name: str) -> str:
    return f"{name} must have at most {FRACTION_MAX} digits of fraction; found {_show(number)}"


def _show(number: Decimal) -> str:
    text = str(number)
    return text if len(text) <= 2 * DIGITS_MAX else f"{text[: 2 * DIGITS_MAX]}..."


def plain(number: Decimal) -> str:
    """Write a decimal without exponent; `Decimal("1E-7")` becomes `0.0000001`."""
    return format(number, "f")


def is_multiple(number: Decimal, step: Decimal) -> bool:
    """Whether `number` is a whole multiple of `step`, exactly. A step of zero admits all."""
    return step.is_zero() or not _WIDE.remainder(number, step)


def average(cum_quote: Decimal, cum_qty: Decimal) -> Decimal | None:
    """Return the average price of fills: half-even, to 18 places, in a 38-digit context."""
    if cum_qty.is_zero():
        return None
    price = _WIDE.divide(cum_quote, cum_qty).quantize(_EXPONENT_MIN, ROUND_HALF_EVEN, _WIDE)
    # Adding zero takes 6.5E+4 back to 65000.
    return CONTEXT.add(price.normalize(_WIDE), ZERO)
