"""Keep masks in plain numpy: stable top-k by magnitude, and Philox draws by element index."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..dtypes import TILE

_LOW = np.uint64(0xFFFFFFFF)
_LANE = TILE // 4


def top_k(magnitudes: npt.NDArray[np.floating], k: int) -> npt.NDArray[np.bool_]:
    """Mask of the ``k`` largest of ``magnitudes`` [n]; among equals the lowest index wins; NaN counts as largest."""
    bits = np.abs(magnitudes.astype(np.float32)).view(np.int32).astype(np.int64)
    keep = np.zeros(bits.shape, dtype=np.bool_)
    keep[np.argsort(-bits, kind="stable")[:k]] = True
    return keep


def philox(counter: npt.NDArray[np.uint64], key: int) -> npt.NDArray[np.uint32]:
    """Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"); [m] counters ->
    uint32 [4, m]."""
    c0, c1 = counter & _LOW, counter >> np.uint64(32)
    c2, c3 = np.zeros_like(c0), np.zeros_like(c0)
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        first = c0 * np.uint64(0xD2511F53)
        second = c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (second >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            second & _LOW,
            (first >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            first & _LOW,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3]).astype(np.uint32)


def draws(key: int, first: int, count: int) -> npt.NDArray[np.uint32]:
    """The draw of each element ``first .. first + count``; uint32 [count].

    Element e belongs to group g = e // 1024 and place w = e % 1024; its draw is word w // 256 of Philox at counter
    256 g + w % 256, so that a run of elements is a run of counters.
    """
    elements = np.arange(first, first + count, dtype=np.uint64)
    group, place = elements // np.uint64(TILE), elements % np.uint64(TILE)
    words = philox(group * np.uint64(_LANE) + place % np.uint64(_LANE), key)
    return words[(place // np.uint64(_LANE)).astype(np.intp), np.arange(count)]


def draw_mask(key: int, first: int, count: int, density: float) -> npt.NDArray[np.bool_]:
    """Mask that keeps each element with probability ``density`` (arXiv:2311.03099, DARE)."""
    return draws(key, first, count).astype(np.uint64) < np.uint64(draw_threshold(density))


def draw_threshold(density: float) -> int:
    """The integer that a uniform 32-bit draw must be below to be kept with probability ``density``."""
    return min(max(round(density * 2**32), 0), 2**32)
