"""An evaluator's options, which come as text from a command line or as plain data from a program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alloyd.errors import UsageError


def text(options: Mapping[str, Any], name: str, default: str = "") -> str:
    """The text called ``name``. Raises UsageError for other data."""
    value = options.get(name, default)
    if not isinstance(value, str):
        raise UsageError(f"the option '{name}' must be text, not {value!r}", key=name)
    return value


def count(options: Mapping[str, Any], name: str, *, least: int = 1) -> int | None:
    """The whole number called ``name``, ``None`` where it is not given. Raises UsageError below ``least``."""
    value = options.get(name)
    if value is None:
        return None
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(
            f"the option '{name}' must be a whole number of at least {least}, not {value!r}", key=name
        )
    return value


def share(options: Mapping[str, Any], name: str) -> float:
    """The number from 0 to 1 called ``name``, 0 where it is not given. Raises UsageError for another."""
    try:
        value = float(options.get(name, 0))
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value <= 1:
        raise UsageError(f"the option '{name}' must be a number from 0 to 1, not {options[name]!r}", key=name)
    return value


def one_of(options: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str:
    """The word called ``name``, the first of ``known`` where it is not given. Raises UsageError for another."""
    value = text(options, name, known[0])
    if value not in known:
        raise UsageError(
            f"the option '{name}' knows no {value!r}", hint=f"Known: {', '.join(known)}.", key=name
        )
    return value


def texts(options: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The texts called ``name``: one, or a list of them. Raises UsageError for other data, and for an empty one."""
    value = options.get(name, ())
    found = (
        (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else (None,)
    )
    if not all(isinstance(each, str) and each for each in found):
        raise UsageError(f"the option '{name}' must be text, or a list of texts, not {value!r}", key=name)
    return found
