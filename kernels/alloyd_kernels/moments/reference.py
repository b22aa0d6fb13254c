"""Sums and inner products of task vectors in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def moments(deltas: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Row i: the sum of task vector i, then its inner product with each; float64 [m] each -> float64 [n, n + 1]."""
    stacked = np.stack(deltas)
    return np.column_stack([stacked.sum(axis=1), stacked @ stacked.T])
