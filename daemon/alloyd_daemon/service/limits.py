"""How much one remote key may ask: a bucket of requests that refills at a steady rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

BURST_SECONDS: Final = 4.0
"""A key that was quiet may ask as much at once as is its due in so long."""


class TokenBuckets:
    """A bucket for each name: ``rate`` requests a second, saved up for a few seconds."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._most = max(1.0, rate * BURST_SECONDS)
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait(self, name: str) -> float:
        """Take one request of ``name``: 0, or how many seconds it must wait for the next one."""
        now = self._clock()
        left, at = self._left.get(name, (self._most, now))
        left = min(self._most, left + (now - at) * self._rate)
        taken = left >= 1.0
        self._left[name] = (left - 1.0 if taken else left, now)
        if len(self._left) > 10_000:
            full = self._most - 1e-9
            self._left = {
                each: (had, then)
                for each, (had, then) in self._left.items()
                if had + (now - then) * self._rate < full
            }
        return 0.0 if taken else (1.0 - left) / self._rate
