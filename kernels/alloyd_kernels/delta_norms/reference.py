"""L1 norms in float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def l1_norms(delta: npt.NDArray[np.float64], keep: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """(sum |delta|, sum |delta| over ``keep``); float64 [n], bool [n]."""
    size = np.abs(delta)
    return float(size.sum()), float(size[keep].sum())
