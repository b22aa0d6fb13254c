"""What is known of a job by its key, as words with units: ``bytes_written: 4858368`` is ``written  4.9 MB``. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from .units import format_duration, format_size

_SIZES: Final = {
    "bytes_written": "written",
    "bytes_read": "read",
    "memory": "memory",
    "shard_size": "shard size",
}
_SECONDS: Final = {"seconds": "took"}
_NOTED: Final = {
    "resumed_blocks": ("resumed", "{} blocks were there from an earlier run"),
    "non_finite": ("not finite", "{} values are NaN or infinite"),
    "already_there": ("note", "it was there already"),
}
"""Worth a word only where they are more than nothing."""


def told(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each fact that says something: its name and its value, as people read them."""
    for key, value in facts.items():
        if value is None or value == "" or (isinstance(value, list | tuple | dict) and not value):
            continue
        if key in _NOTED:
            if value:
                name, text = _NOTED[key]
                yield name, text.format(value)
        elif key in _SIZES and isinstance(value, int):
            yield _SIZES[key], format_size(value)
        elif key in _SECONDS and isinstance(value, int | float):
            yield _SECONDS[key], format_duration(value)
        elif isinstance(value, bool):
            yield key.replace("_", " "), "yes" if value else "no"
        else:
            yield key.replace("_", " "), listed(value)


def listed(value: Any) -> str:
    """Several values in one line."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}={each}" for key, each in value.items())
    return str(value)
