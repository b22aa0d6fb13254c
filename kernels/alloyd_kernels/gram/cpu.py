"""Gram matrix of n tensors in one pass: a float64 lane for each place of a tile, folded once a leaf."""

from __future__ import annotations

import numpy as np

from ..compiled import compiled
from ..dtypes import LEAF, TILE
from ..tile.cpu import load_tile


@compiled
def dot_tile(left, right, lanes):  # type: ignore[no-untyped-def]
    """Add left * right of a whole tile (float32 [TILE]) to ``lanes`` (float64 [TILE]), element by element."""
    for j in range(TILE):
        lanes[j] += np.float64(left[j]) * np.float64(right[j])


@compiled
def fold_lanes(lanes):  # type: ignore[no-untyped-def]
    """The sum of ``lanes`` (float64 [TILE]) by a fixed binary tree; leaves them zero."""
    width = TILE // 2
    while width > 0:
        for lane in range(width):
            lanes[lane] += lanes[lane + width]
        width //= 2
    total = lanes[0]
    lanes[:] = 0.0
    return total


@compiled
def measure_gram(sources, codes, count, first, partials, rows, lanes):  # type: ignore[no-untyped-def]
    """Write the inner products of each leaf to ``partials`` (float64 [leaves, n, n], upper triangle).

    ``first`` is the index of the block's first element in its tensor, a multiple of LEAF; ``rows`` float32
    [>= n, TILE]; ``lanes`` float64 [>= n * n, TILE], zero on entry and on return.
    """
    n = sources.shape[0]
    for leaf_start in range(0, count, LEAF):
        stop = min(leaf_start + LEAF, count)
        for start in range(leaf_start, stop, TILE):
            size = min(TILE, stop - start)
            for i in range(n):
                load_tile(sources[i], codes[i], start, size, rows[i])
                for j in range(size, TILE):
                    rows[i, j] = np.float32(0.0)
            for i in range(n):
                for k in range(i, n):
                    dot_tile(rows[i], rows[k], lanes[i * n + k])
        leaf = (first + leaf_start) // LEAF
        for i in range(n):
            for k in range(i, n):
                partials[leaf, i, k] = fold_lanes(lanes[i * n + k])
