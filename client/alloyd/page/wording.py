"""Numbers, names and times as a page writes them. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from ..foreign import printable

LONGEST: Final = 40


def number(value: Any, digits: int = 4) -> str:
    """A number in few digits, or a dash where there is none."""
    found = finite(value)
    if found is None:
        return "–"
    if found == int(found) and abs(found) < 1e15:
        return f"{int(found):,}"
    return f"{found:.{digits}g}" if abs(found) < 10_000 else f"{found:,.0f}"


def figure(value: Any, sign: str = "") -> str:
    """A score: three decimals, where they say anything beside what stands before the point."""
    found = finite(value)
    if found is None:
        return "–"
    return f"{found:{sign}.3f}" if abs(found) < 1000 else f"{found:{sign},.1f}"


def interval(low: Any, high: Any, sign: str = "") -> str:
    """From where to where, or a dash."""
    if finite(low) is None or finite(high) is None:
        return "–"
    return f"{figure(low, sign)} to {figure(high, sign)}"


def with_interval(value: Any, low: Any, high: Any, sign: str = "") -> str:
    """A score with its interval, where it has one."""
    between = interval(low, high, sign)
    return figure(value, sign) + (f" ({between})" if between != "–" else "")


def finite(value: Any) -> float | None:
    """``value`` as a number that can be drawn, or ``None``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def short(name: Any, longest: int = LONGEST) -> str:
    """A name that fits: printable, and with its middle left out where it is long."""
    text = " ".join(printable(str(name)).split())
    if len(text) <= longest:
        return text
    front = (longest - 1) // 2
    return f"{text[:front]}…{text[len(text) - (longest - 1 - front) :]}"


def short_names(names: Sequence[str]) -> list[str]:
    """The last part of each name that is a path, or of as many parts as tell them apart."""
    parts = [str(name).rstrip("/").split("/") for name in names]
    for count in range(1, max(map(len, parts), default=1) + 1):
        found = ["/".join(each[-count:]) for each in parts]
        if len(set(found)) == len(set(names)):
            return found
    return [str(name) for name in names]


def time(when: datetime | None) -> str:
    """A time in UTC; the page turns it into the reader's own."""
    return "–" if when is None else when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def counted(count: int, one: str, several: str = "") -> str:
    """``3 trials``, ``1 trial``."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def listed(words: Sequence[str], most: int = 4) -> str:
    """``a, b and c``; of many the first, and how many more."""
    known = list(words)
    if len(known) > most:
        return f"{', '.join(known[:most])} and {len(known) - most:,} more"
    return " and ".join([", ".join(known[:-1]), known[-1]]) if len(known) > 1 else "".join(known)
