"""Regular expressions that a user gives: compiled once, named where they are none, bounded in time."""

from __future__ import annotations

from collections import deque
from functools import cache
from itertools import islice
from typing import Any, Final

from alloyd.errors import TaskError, UsageError

from ..late import library

SECONDS: Final = 10.0
"""How long a pattern may look at one answer; one that takes longer backtracks without end."""


@cache
def compiled(pattern: str, option: str) -> Any:
    """``pattern`` compiled by the library ``regex`` (a superset of ``re``). Raises UsageError naming the option."""
    regex = library("regex", user=f"the option '{option}'", extra="score")
    try:
        return regex.compile(pattern)
    except regex.error as wrong:
        raise UsageError(
            f"the option '{option}' is no regular expression: {wrong}",
            hint=f"It says {pattern!r}.",
            key=option,
        ) from None


def fully_matches(pattern: Any, text: str) -> bool:
    """Whether the whole of ``text`` matches. Raises TaskError where that takes too long."""
    try:
        return pattern.fullmatch(text, timeout=SECONDS) is not None
    except TimeoutError:
        raise _too_slow(pattern) from None


def found(pattern: Any, text: str, which: str) -> str | None:
    """What the ``first`` or ``last`` match in ``text`` holds: its first group that matched, else the whole of it.

    ``None`` where nothing matches. Raises TaskError where that takes too long.
    """
    try:
        matches = pattern.finditer(text, timeout=SECONDS)
        matched = [*islice(matches, 1)] if which == "first" else [*deque(matches, maxlen=1)]
    except TimeoutError:
        raise _too_slow(pattern) from None
    if not matched:
        return None
    (match,) = matched
    return next((str(group) for group in match.groups() if group is not None), str(match.group()))


def _too_slow(pattern: Any) -> TaskError:
    return TaskError(
        f"the pattern {pattern.pattern!r} took more than {SECONDS:g} s on one answer",
        hint="Write it without nested repetitions, which backtrack without end.",
    )
