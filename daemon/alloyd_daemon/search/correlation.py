"""How well one way to score predicts another: rank correlations over candidates, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES: Final = 2000
SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Correlation:
    """Kendall's tau-b and Spearman's rho of ``n`` pairs, each with its interval, resampling the candidates.

    ``None`` where it does not exist: fewer than three candidates, or one side that is all alike.
    """

    n: int
    kendall: float | None = None
    kendall_low: float | None = None
    kendall_high: float | None = None
    spearman: float | None = None
    spearman_low: float | None = None
    spearman_high: float | None = None


def correlation(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Correlation:
    """The rank correlations of two figures of the same candidates.

    Kendall, "The treatment of ties in ranking problems", Biometrika 33 (1945); Spearman, "The proof and measurement of
    association between two things", American Journal of Psychology 15 (1904). Percentile bootstrap; resamples in which
    one side is all alike are left out.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    n = len(a)
    if n < 3:
        return Correlation(n)
    draws = np.random.Generator(np.random.Philox(SEED)).integers(n, size=(RESAMPLES, n))
    found: list[float | None] = []
    for measure in (kendall, spearman):
        value = measure(a, b)
        spread = [each for each in (measure(a[draw], b[draw]) for draw in draws) if each is not None]
        if value is None or not spread:
            found += [None, None, None]
            continue
        low, high = np.quantile(spread, [(1 - confidence) / 2, (1 + confidence) / 2])
        found += [value, float(low), float(high)]
    return Correlation(n, *found)


def kendall(a: Array, b: Array) -> float | None:
    """Kendall's tau-b; ``None`` where one side is all alike."""
    signs_a, signs_b = np.sign(a[:, None] - a[None]), np.sign(b[:, None] - b[None])
    whole = float(np.sqrt((signs_a**2).sum() * (signs_b**2).sum()))
    return float((signs_a * signs_b).sum()) / whole if whole else None


def spearman(a: Array, b: Array) -> float | None:
    """Spearman's rho, equal values sharing the mean of their ranks; ``None`` where one side is all alike."""
    ranks_a, ranks_b = _ranks(a), _ranks(b)
    da, db = ranks_a - ranks_a.mean(), ranks_b - ranks_b.mean()
    whole = float(np.sqrt((da**2).sum() * (db**2).sum()))
    return float((da * db).sum()) / whole if whole else None


def _ranks(values: Array) -> Array:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    return np.asarray((ends - (count - 1) / 2)[place], np.float64)
