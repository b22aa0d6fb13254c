"""Confidence intervals: of shares in closed form, of other figures by resampling the items."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 5000
SEED: Final = 0
_AT_ONCE: Final = 1 << 20
"""Indices drawn at a time, so that memory does not grow with items times resamples."""


def wilson_interval(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
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


def bootstrap_interval(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    items: int,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> tuple[float, float]:
    """The percentile bootstrap interval of a statistic of ``items`` items, as (low, high).

    ``statistic`` gets item numbers, int64 of shape (resamples, items), and returns one value a row. The draws follow
    from ``seed`` and ``items`` alone, so that figures of the same items are resampled alike.
    Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7 (1979).

    Raises ValueError for no items.
    """
    import numpy as np  # a client of the shares alone does without

    if items < 1:
        raise ValueError("no interval of no items")
    values = np.concatenate([statistic(each) for each in _draws(items, resamples, seed)])
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _draws(items: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    import numpy as np

    random = np.random.Generator(np.random.Philox(seed))
    rows = max(1, _AT_ONCE // items)
    for start in range(0, resamples, rows):
        yield random.integers(items, size=(min(rows, resamples - start), items))
