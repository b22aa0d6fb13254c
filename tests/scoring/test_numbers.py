"""The last number in running text."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd_daemon.scoring.numbers import last_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 18.", "18"),
        ("3 apples and 4 pears, so 7", "7"),
        ("= -4", "-4"),
        ("7-5", "5"),
        ("(7)-5", "5"),
        ("from -5 to +7", "7"),
        ("\u22123", "-3"),
        ("$1,234.50 in all", "1234.50"),
        ("1'234'567", "1234567"),
        ("12 345 \u20ac", "345"),
        ("12\u202f345", "12345"),
        ("12,50", "50"),
        ("1,2345", "2345"),
        (".5", "0.5"),
        ("1.2.3", "3"),
        ("\uff11\uff12\uff0c\uff13\uff14\uff15\u5186", "12345"),
        ("\u0664\u0662", "42"),
        ("x2", "2"),
        ("007", "7"),
        ("3.0", "3"),
        ("100%", "100"),
    ],
)
def test_the_last_number_is_found(text: str, number: str) -> None:
    assert last_number(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "none", "-", "...", "\u0661\u0662"[:0]])
def test_where_there_is_none_none_is_found(text: str) -> None:
    assert last_number(text) is None


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**12), max_value=10**12))
def test_a_number_is_found_as_people_write_it(number: Decimal) -> None:
    assert last_number(f"12 and then {number:,f}.") == number
    assert last_number(f"12 and then {number:f} apples") == number
    assert last_number(f"{number:f}".replace("-", "\u2212")) == number


@given(st.text(max_size=50))
def test_any_text_has_a_number_or_none(text: str) -> None:
    found = last_number(text)
    assert found is None or found.is_finite()
