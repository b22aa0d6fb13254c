"""Combination of task vectors in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def combine(
    base: npt.NDArray[np.float64],
    deltas: Sequence[npt.NDArray[np.float64]],
    weights: Sequence[float],
    *,
    consensus: bool,
    normalize: bool,
    scale: float = 1.0,
) -> npt.NDArray[np.float64]:
    """base + scale * (weighted sum of the sparsified ``deltas``), all float64 [n].

    With ``consensus`` (arXiv:2306.01708, TIES) only deltas whose weighted sign equals the sign of the weighted sum
    take part, and zero never does; ``normalize`` divides by the weights that took part.
    """
    weighted = np.stack([delta * weight for delta, weight in zip(deltas, weights, strict=True)])
    column = np.asarray(weights, dtype=np.float64)[:, None]
    if consensus:
        elected = np.where(weighted.sum(axis=0) >= 0, 1.0, -1.0)
        agree = np.sign(weighted) == elected
        mixed = (weighted * agree).sum(axis=0)
        divisor = (column * agree).sum(axis=0)
        divisor[divisor == 0] = 1.0
    else:
        mixed = weighted.sum(axis=0)
        divisor = np.full(base.shape, column.sum())
        divisor[np.abs(divisor) < 1e-8] = 1.0
    if normalize:
        mixed = mixed / divisor
    return np.asarray(base + mixed * scale)
