"""When two results count as equal."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoint_factory import SAFETENSORS_CODES

SHARE_OF_LARGEST = 2.0**-15
STEP_BITS = {"BF16": 7, "F16": 10}


def excess(
    ours: NDArray[Any], theirs: NDArray[Any], leave_out: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """How far beyond the tolerance each element differs, as a multiple of it; at most 1 everywhere is parity.

    The tolerance is 2^-15 of the tensor's largest magnitude, or one step of a 16-bit format where that is
    more. NaN must meet NaN and an infinity itself. Elements in ``leave_out`` count as equal.
    """
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    tolerance = np.full(a.shape, np.abs(b[finite]).max(initial=0.0) * SHARE_OF_LARGEST)
    bits = STEP_BITS.get(SAFETENSORS_CODES[theirs.dtype])
    if bits is not None:
        larger = np.where(finite, np.maximum(np.abs(a), np.abs(b)), 1.0)
        exponent = np.floor(np.log2(np.maximum(larger, 2.0**-126)))
        tolerance = np.maximum(tolerance, 2.0 ** (exponent - bits))
    with np.errstate(invalid="ignore"):
        difference = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    found = np.where(same, 0.0, np.inf)
    measured = finite & ~same
    found[measured] = difference[measured] / np.maximum(tolerance[measured], 1e-300)
    if leave_out is not None:
        found[leave_out] = 0.0
    return found
