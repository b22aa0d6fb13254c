"""Sizes and durations as people write and read them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd.errors import UsageError
from alloyd.units import format_duration, format_size, parse_size, total_memory


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 512 * 2**20),
        ("2GB", 2 * 10**9),
        ("2 gb", 2 * 10**9),
        ("1.5GiB", 3 * 2**29),
        (".5k", 500),
        ("1048576", 2**20),
        ("25%", 250),
        ("100%", 1000),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text, total=1000) == size


@pytest.mark.parametrize(
    "text", ["", "MiB", "-1GB", "0", "1e9", "12 parsecs", "101%", "1GBB", "nan", "1_000", "½GB", "9" * 400]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text, total=1000)


def test_a_unit_is_suggested() -> None:
    with pytest.raises(UsageError) as caught:
        parse_size("4GiBs")
    assert caught.value.hint == "Did you mean 'GiB'?"


@given(st.text())
def test_any_text_is_a_size_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse_size(text, total=10**9) > 0


@given(st.integers(min_value=0, max_value=10**16))
def test_sizes_are_written_short(size: int) -> None:
    text = format_size(size)
    number, unit = text.split()
    factor = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}[unit]
    assert abs(float(number) * factor - size) <= max(0.06 * size, 0.5)
    assert unit == "TB" or len(number) <= 4


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1m 00s"),
        (200, "3m 20s"),
        (7500, "2h 05m"),
        (273600, "3d 04h"),
    ],
)
def test_durations_are_written(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_memory_of_this_machine_is_plausible() -> None:
    assert 2**26 < total_memory() < 2**50
