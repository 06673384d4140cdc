"""Decimals: what is read is exact or refused, quickly; averages are those of exact fractions."""

from __future__ import annotations

import time
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradegw.model.numbers import (
    CONTEXT,
    DIGITS_MAX,
    FRACTION_MAX,
    ZERO,
    average,
    is_multiple,
    parse_decimal,
    plain,
)


@st.composite
def decimals(draw: st.DrawFn, *, digits_max: int = DIGITS_MAX) -> Decimal:
    """Any decimal that is within the limits, in any of its spellings."""
    fraction = draw(st.integers(0, FRACTION_MAX))
    coefficient = draw(st.integers(-(10**digits_max) + 1, 10**digits_max - 1))
    return Decimal(f"{coefficient}E-{fraction}")


POSITIVE = decimals().filter(lambda number: number > 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.01", "0.01"),
        ("65000", "65000"),
        ("65000.00", "65000"),
        ("0.10", "0.1"),
        ("-1.5", "-1.5"),
        ("+1.5", "1.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("007", "7"),
        ("0", "0"),
        ("-0.00", "0"),
        ("0" * 40 + "1", "1"),
        ("1." + "0" * 40, "1"),
        ("0." + "0" * 17 + "1", "0.000000000000000001"),
        ("9" * 38, "9" * 38),
        ("1" + "0" * 37, "1" + "0" * 37),
        ("9" * 20 + "." + "9" * 18, "9" * 20 + "." + "9" * 18),
        (7, "7"),
        (-7, "-7"),
        (10**37, "1" + "0" * 37),
        (Decimal("6.5E+4"), "65000"),
        (Decimal("1E-18"), "0.000000000000000001"),
        (Decimal("1E+37"), "1" + "0" * 37),
        (Decimal("-0E+1000000"), "0"),
        (Decimal("0E-1000000"), "0"),
        (Decimal("1." + "0" * 1000), "1"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_reads(text: str | int | Decimal, expected: str) -> None:
    number = parse_decimal(text)
    assert plain(number) == expected
    assert str(number) == expected or abs(number) < Decimal("0.000001"), "no exponent is left"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        pytest.param("", "plain decimal", id="empty"),
        pytest.param(".", "plain decimal", id="a point"),
        pytest.param("-", "plain decimal", id="a sign"),
        pytest.param("1e9", "without exponent", id="exponent"),
        pytest.param("1E-9", "without exponent", id="negative exponent"),
        pytest.param("NaN", "plain decimal", id="NaN"),
        pytest.param("sNaN", "plain decimal", id="sNaN"),
        pytest.param("inf", "plain decimal", id="inf"),
        pytest.param("-Infinity", "plain decimal", id="Infinity"),
        pytest.param("1_000", "plain decimal", id="underscore"),
        pytest.param("1,000", "plain decimal", id="comma"),
        pytest.param(" 1", "plain decimal", id="space before"),
        pytest.param("1 ", "plain decimal", id="space after"),
        pytest.param("1\n", "plain decimal", id="newline"),
        pytest.param("1\x00", "plain decimal", id="null byte"),
        pytest.param("١٢٣", "plain decimal", id="Arabic digits"),
        pytest.param("1\uff12", "plain decimal", id="full-width digit"),
        pytest.param("1.²", "plain decimal", id="superscript"),
        pytest.param("\u22121", "plain decimal", id="typographic minus"),
        pytest.param("--1", "plain decimal", id="two signs"),
        pytest.param("1.2.3", "plain decimal", id="two points"),
        pytest.param("0x10", "plain decimal", id="hex"),
        pytest.param("1" * 39, "38 digits", id="39 digits"),
        pytest.param("1" * 1_000_000, "plain decimal", id="a million digits"),
        pytest.param("1" * 21 + "." + "1" * 18, "38 digits", id="39 digits with fraction"),
        pytest.param("0." + "0" * 18 + "1", "18 digits of fraction", id="19 places"),
        pytest.param("1." + "0" * 18 + "1", "18 digits of fraction", id="1 and 19 places"),
        pytest.param(0.1, "never a float", id="float"),
        pytest.param(1.0, "never a float", id="whole float"),
        pytest.param(True, "never a bool", id="bool"),
        pytest.param(None, "never a NoneType", id="None"),
        pytest.param(b"1", "never a bytes", id="bytes"),
        pytest.param(Fraction(1, 2), "never a Fraction", id="Fraction"),
        pytest.param([1] * 1000, "never a list", id="list"),
        pytest.param(10**38, "38 digits", id="int of 39 digits"),
        pytest.param(-(10**38), "38 digits", id="negative int of 39 digits"),
        pytest.param(1 << 40_000_000, "38 digits", id="huge int"),
        pytest.param(Decimal("NaN"), "finite", id="Decimal NaN"),
        pytest.param(Decimal("sNaN"), "finite", id="Decimal sNaN"),
        pytest.param(Decimal("NaN" + "9" * 1000), "finite", id="Decimal NaN with digits"),
        pytest.param(Decimal("-Infinity"), "finite", id="Decimal Infinity"),
        pytest.param(Decimal("1E+38"), "38 digits", id="Decimal of 39 digits"),
        pytest.param(Decimal("1E+1000000"), "38 digits", id="Decimal huge"),
        pytest.param(Decimal("-1E+999999999999999999"), "38 digits", id="Decimal hugest"),
        pytest.param(Decimal("1E-19"), "18 digits of fraction", id="Decimal of 19 places"),
        pytest.param(Decimal("1E-1000000"), "18 digits of fraction", id="Decimal tiny"),
        pytest.param(
            Decimal("1E-1999999999999999996"), "18 digits of fraction", id="Decimal tiniest"
        ),
        pytest.param(Decimal("1" * 1_000_000), "38 digits", id="Decimal of a million digits"),
        pytest.param(
            Decimal("1." + "0" * 1_000_000 + "1"),
            "must have at most",
            id="Decimal of a million places",
        ),
        pytest.param(
            Decimal("1." + "0" * 150 + "1"), "must have at most", id="Decimal of 151 places"
        ),
        pytest.param(
            Decimal("1." + "0" * 151 + "1"), "must have at most", id="Decimal of 152 places"
        ),
        pytest.param(
            Decimal("9." + "9" * 200), "must have at most", id="Decimal that would round up"
        ),
    ],
)
def test_refuses_at_once_and_in_few_words(value: object, says: str) -> None:
    begin = time.process_time()
    with pytest.raises(ValueError, match=says) as refusal:
        parse_decimal(value, "price")  # type: ignore[arg-type]
    # Not a benchmark: what must not happen takes minutes.
    assert time.process_time() - begin < 1
    assert str(refusal.value).startswith("price must ")
    assert len(str(refusal.value)) < 300


@given(decimals())
def test_reading_keeps_the_value_and_one_spelling(number: Decimal) -> None:
    read = parse_decimal(plain(number))
    assert read == number
    assert parse_decimal(number) == number
    for again in (
        parse_decimal(number),
        parse_decimal(read),
        parse_decimal(plain(read) + ("0" if "." in plain(read) else ".0")),
    ):
        assert again.as_tuple() == read.as_tuple()


@given(st.text(alphabet="0123456789.+-eE_ ٣", max_size=50))
def test_text_is_read_exactly_or_refused(text: str) -> None:
    try:
        number = parse_decimal(text)
    except ValueError:
        return
    assert Fraction(number) == Fraction(text)
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    assert -FRACTION_MAX <= exponent <= 0
    assert len(number.as_tuple().digits) <= DIGITS_MAX


@given(st.decimals())
def test_any_decimal_is_kept_or_refused(number: Decimal) -> None:
    try:
        read = parse_decimal(number)
    except ValueError:
        return
    assert read == number


@given(decimals())
def test_plain_is_exact_and_has_no_exponent(number: Decimal) -> None:
    assert set(plain(number)) <= set("0123456789.-")
    assert Fraction(plain(number)) == Fraction(number)


@given(decimals(), decimals())
def test_is_multiple_is_exact(number: Decimal, step: Decimal) -> None:
    expected = step == 0 or (Fraction(number) / Fraction(step)).denominator == 1
    assert is_multiple(number, step) == expected


@given(decimals(digits_max=18), st.integers(-(10**18), 10**18))
def test_multiples_are_recognised(step: Decimal, count: int) -> None:
    number = Context(prec=60).multiply(step, Decimal(count))
    assert is_multiple(number, step)
    if step:
        half = Context(prec=60).divide(step, Decimal(2))
        assert not is_multiple(Context(prec=60).add(number, half), step)


@given(decimals(digits_max=36).filter(lambda quote: abs(quote) < Decimal(10) ** 18), POSITIVE)
def test_average_is_the_exact_quotient_to_18_places(cum_quote: Decimal, cum_qty: Decimal) -> None:
    exact = Fraction(cum_quote) / Fraction(cum_qty)
    found = average(cum_quote, cum_qty)
    assert found is not None
    scaled = round(exact * 10**FRACTION_MAX)  # `round` of a Fraction is half-even.
    if abs(scaled) < 10**DIGITS_MAX:
        assert Fraction(found) == Fraction(scaled, 10**FRACTION_MAX)
    else:
        digits = CONTEXT.divide(Decimal(scaled), Decimal(10**FRACTION_MAX))
        assert found == digits


@pytest.mark.parametrize(
    ("cum_quote", "cum_qty", "expected"),
    [
        pytest.param("0", "0", None, id="no fills"),
        pytest.param("0E-8", "0E-8", None, id="all taken back"),
        pytest.param("650000", "10", "65000", id="whole, without exponent"),
        pytest.param("1", "3", "0." + "3" * 18, id="cut"),
        pytest.param("2", "3", "0." + "6" * 17 + "7", id="rounded up"),
        pytest.param("1.000000000000000001", "2", "0.5", id="half, to the even below"),
        pytest.param("1.000000000000000003", "2", "0.500000000000000002", id="half, to even above"),
        pytest.param("-3", "2", "-1.5", id="negative prices exist"),
    ],
)
def test_average(cum_quote: str, cum_qty: str, expected: str | None) -> None:
    found = average(Decimal(cum_quote), Decimal(cum_qty))
    assert (None if found is None else plain(found)) == expected


@given(POSITIVE, POSITIVE)
def test_numbers_do_not_depend_on_the_callers_context(one: Decimal, other: Decimal) -> None:
    expected = (parse_decimal(one), plain(one), is_multiple(one, other), average(one, other))
    with localcontext(Context(prec=3, rounding="ROUND_UP")):
        found = (parse_decimal(one), plain(one), is_multiple(one, other), average(one, other))
    assert found == expected


def test_zero_and_context_are_what_the_record_holds() -> None:
    assert (str(ZERO), CONTEXT.prec, CONTEXT.rounding) == ("0", 38, ROUND_HALF_EVEN)
