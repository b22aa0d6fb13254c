"""Weighted sum in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def weighted_sum(
    sources: Sequence[npt.NDArray[np.float64]],
    weights: Sequence[float],
    divisor: float = 1.0,
    offset: float = 0.0,
) -> npt.NDArray[np.float64]:
    """sum_i weights[i] * sources[i] / divisor + offset; arrays float64 [n] (arXiv:2203.05482, soup generalised)."""
    total = np.zeros_like(sources[0])
    for source, weight in zip(sources, weights, strict=True):
        total += source * weight
    return total / divisor + offset
