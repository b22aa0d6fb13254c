"""How fast merges went here: bytes per second of each method's last run, for the time that a plan predicts."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec

FIRST_GUESS: Final = 1.0e9
"""Bytes read and written per second where no merge by the method was measured yet."""

STARTUP: Final = 1.0
"""Seconds of loading libraries."""


def seconds_for(home: Path, method: str, nbytes: int) -> float:
    """Predicted seconds to sweep and write ``nbytes`` with ``method``."""
    return STARTUP + nbytes / _read(home).get(method, FIRST_GUESS)


def remember(home: Path, method: str, nbytes: int, seconds: float) -> None:
    """Keep the rate of a merge that ran from start to end; a rate that cannot be kept is only a worse guess later."""
    if seconds <= 0 or nbytes < 64 * 1024 * 1024:
        return
    rates = _read(home) | {method: nbytes / seconds}
    path = home / "rates.json"
    with contextlib.suppress(OSError):
        fresh = path.with_name(f"rates.{os.getpid()}.json")
        fresh.write_bytes(msgspec.json.encode(rates))
        fresh.replace(path)


def _read(home: Path) -> dict[str, float]:
    try:
        return msgspec.json.decode((home / "rates.json").read_bytes(), type=dict[str, float])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
