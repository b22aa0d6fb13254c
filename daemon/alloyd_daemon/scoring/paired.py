"""Two models on the same items: the difference of their figures, with its interval, and whether it is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..evaluator import ItemScore, Metric
from .intervals import CONFIDENCE, bootstrap_interval
from .summary import Columns, columns


@dataclass(frozen=True, slots=True)
class Comparison:
    """``second`` against ``first`` by one metric, over the ``n`` items that both have.

    ``difference`` is the second's figure less the first's, (``low``, ``high``) its 95 % interval from resampling the
    items, the same for both (``None`` for a single item). ``wins``, ``losses`` and ``ties`` count items that the second
    scores better, worse and alike; ``p`` is McNemar's exact test of wins against losses where every value is 0 or 1.
    ``unpaired`` counts the items that only one of the two has.
    """

    metric: Metric
    n: int
    unpaired: int
    first: float
    second: float
    difference: float
    low: float | None
    high: float | None
    wins: int
    losses: int
    ties: int
    p: float | None

    @property
    def verdict(self) -> Literal["better", "worse", "no clear difference"]:
        """Better or worse where the interval leaves out 0 and the test, where there is one, agrees at 5 %."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "no clear difference"
        if self.p is not None and self.p > 1 - CONFIDENCE:
            return "no clear difference"
        return "better" if (self.difference > 0) == (self.metric.better == "higher") else "worse"


def compare(metric: Metric, first: Sequence[ItemScore], second: Sequence[ItemScore]) -> Comparison | None:
    """The comparison over the items, by id, that both have; ``None`` where they have none in common."""
    theirs = {each.id: each for each in second}
    ours = [each for each in first if each.id in theirs]
    if not ours:
        return None
    a, b = columns(metric, ours), columns(metric, [theirs[each.id] for each in ours])
    n = len(ours)
    gains = b.values / b.weights - a.values / a.weights
    if metric.better == "lower":
        gains = -gains
    wins, losses = int((gains > 0).sum()), int((gains < 0).sum())
    low, high = (
        bootstrap_interval(lambda rows: b.resampled(rows) - a.resampled(rows), n) if n > 1 else (None, None)
    )
    return Comparison(
        metric=metric,
        n=n,
        unpaired=len(first) + len(second) - 2 * n,
        first=a.figure(),
        second=b.figure(),
        difference=b.figure() - a.figure(),
        low=low,
        high=high,
        wins=wins,
        losses=losses,
        ties=n - wins - losses,
        p=mcnemar(wins, losses) if _are_shares(a, b) else None,
    )


def mcnemar(wins: int, losses: int) -> float:
    """The exact two-sided p-value of ``wins`` against ``losses`` if either were as likely.

    Twice the binomial tail of the smaller, at most 1, in whole numbers, so that nothing is lost in large counts.
    McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12 (1947).
    """
    n, term, tail = wins + losses, 1, 0
    for k in range(min(wins, losses) + 1):
        tail += term
        term = term * (n - k) // (k + 1)
    return min(1.0, 2 * tail / (1 << n))


def _are_shares(*parts: Columns) -> bool:
    return bool(np.all([each.is_share for each in parts]))
