"""Cuts: where to cut each task vector so that exactly k elements of largest magnitude stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

EVERY_LEAF = 2**62


@dataclass(frozen=True, slots=True)
class Cut:
    """Keep magnitudes whose bits exceed ``threshold``; of its equals those of leaves before ``leaf`` and the first
    ``quota`` within it."""

    threshold: int
    leaf: int = EVERY_LEAF
    quota: int = 0


def cut_at(threshold: int, quota: int, ties: npt.NDArray[Any]) -> Cut:
    """The cut that keeps the first ``quota`` equals of ``threshold``, of which each leaf has ``ties``
    (integers [leaves])."""
    before = np.cumsum(ties, dtype=np.int64)
    if quota == before[-1]:
        return Cut(threshold)
    leaf = int(np.searchsorted(before, quota))
    return Cut(threshold, leaf, quota - int(before[leaf] - ties[leaf]))
