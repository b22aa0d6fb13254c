"""Sums and inner products of task vectors in one pass: a float64 lane for each place of a tile, folded once a leaf."""

from __future__ import annotations

import numpy as np

from ..compiled import compiled
from ..dtypes import LEAF, TILE
from ..gram.cpu import dot_tile, fold_lanes
from ..task_vectors.cpu import delta_tile
from ..tile.cpu import load_tile


@compiled
def add_tile(row, lanes):  # type: ignore[no-untyped-def]
    """Add ``row`` of a whole tile (float32 [TILE]) to ``lanes`` (float64 [TILE]), element by element."""
    for j in range(TILE):
        lanes[j] += np.float64(row[j])


@compiled
def measure_moments(base, base_code, sources, codes, count, first, partials, rows, lanes):  # type: ignore[no-untyped-def]
    """Write, for each leaf, the sum of each task vector and its inner products with itself and those after it.

    ``partials`` float64 [leaves, n, n + 1]: place 0 of row i is the sum, place 1 + k (k >= i) the product with task
    vector k. ``first`` is the index of the block's first element in its tensor, a multiple of LEAF; ``rows`` float32
    [>= n + 1, TILE]; ``lanes`` float64 [>= n * (n + 1), TILE], zero on entry and on return. A task vector is
    source - base, rounded to float32, as every method sees it.
    """
    n = sources.shape[0]
    base_row = rows[n]
    for leaf_start in range(0, count, LEAF):
        stop = min(leaf_start + LEAF, count)
        for start in range(leaf_start, stop, TILE):
            size = min(TILE, stop - start)
            load_tile(base, base_code, start, size, base_row)
            for i in range(n):
                delta_tile(sources[i], codes[i], base_row, start, size, rows[i])
                for j in range(size, TILE):
                    rows[i, j] = np.float32(0.0)
            for i in range(n):
                add_tile(rows[i], lanes[i * (n + 1)])
                for k in range(i, n):
                    dot_tile(rows[i], rows[k], lanes[i * (n + 1) + 1 + k])
        leaf = (first + leaf_start) // LEAF
        for i in range(n):
            partials[leaf, i, 0] = fold_lanes(lanes[i * (n + 1)])
            for k in range(i, n):
                partials[leaf, i, 1 + k] = fold_lanes(lanes[i * (n + 1) + 1 + k])
