"""Gram matrix in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def gram(sources: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Inner products of every pair; float64 [n] each -> float64 [n, n]."""
    stacked = np.stack(sources)
    return np.asarray(stacked @ stacked.T)
