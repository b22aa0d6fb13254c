"""A weight plus a low-rank product in float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


def add_low_rank(weight: Numbers, left: Numbers, right: Numbers, scale: float) -> Numbers:
    """weight + scale * (left @ right); float64 [n, m], [n, r] and [r, m]."""
    return weight + scale * (left @ right)
