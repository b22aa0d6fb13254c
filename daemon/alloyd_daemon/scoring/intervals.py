"""Confidence intervals of measured shares."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a binomial share, without continuity correction, as (low, high) in [0, 1].

    Unlike the normal approximation it stays inside [0, 1] and keeps its coverage for shares near 0 and 1.
    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).

    Raises ValueError unless ``0 <= successes <= trials``, ``trials >= 1`` and ``0 < confidence < 1``.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"no share of {successes} in {trials} trials")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    spread = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    shrink = 1 + z * z / trials
    middle = share + z * z / (2 * trials)
    low = 0.0 if successes == 0 else (middle - spread) / shrink
    high = 1.0 if successes == trials else (middle + spread) / shrink
    return low, high
