"""L1 norms of task vectors before and after sparsifying, in one pass."""

from __future__ import annotations

import numpy as np

from ..compiled import compiled
from ..dtypes import LEAF, TILE
from ..gram.cpu import fold_lanes
from ..sparsify.cpu import sparsify_tile
from ..sparsify.kinds import KEEP
from ..task_vectors.cpu import delta_tile
from ..tile.cpu import load_tile


@compiled
def add_magnitudes(row, lanes):  # type: ignore[no-untyped-def]
    """Add |row| of a whole tile (float32 [TILE]) to ``lanes`` (float64 [TILE]), element by element."""
    for j in range(TILE):
        lanes[j] += np.float64(abs(row[j]))


@compiled
def measure_l1(  # type: ignore[no-untyped-def]
    base, base_code, sources, codes, count, first, kinds, thresholds, cut_leaves, quotas, keys,
    partials, rows, draws, seen, lanes,
):  # fmt: skip
    """Write (sum |delta|, sum |kept delta|) of each leaf to ``partials`` (float64 [leaves, n, 2]).

    Arguments as in ``combine_task_vectors``; ``rows`` float32 [>= 2, TILE]; ``lanes`` float64 [>= 2 n, TILE], zero on
    entry and on return. Sources that keep everything are passed over (their partials stay as they are).
    """
    base_row = rows[0]
    row = rows[1]
    n = sources.shape[0]
    for leaf_start in range(0, count, LEAF):
        stop = min(leaf_start + LEAF, count)
        for start in range(leaf_start, stop, TILE):
            size = min(TILE, stop - start)
            load_tile(base, base_code, start, size, base_row)
            for i in range(n):
                if kinds[i] == KEEP:
                    continue
                delta_tile(sources[i], codes[i], base_row, start, size, row)
                for j in range(size, TILE):
                    row[j] = np.float32(0.0)
                add_magnitudes(row, lanes[2 * i])
                seen[i] = sparsify_tile(
                    row,
                    size,
                    first + start,
                    kinds[i],
                    thresholds[i],
                    cut_leaves[i],
                    quotas[i],
                    keys[i],
                    seen[i],
                    draws,
                )
                add_magnitudes(row, lanes[2 * i + 1])
        leaf = (first + leaf_start) // LEAF
        for i in range(n):
            if kinds[i] != KEEP:
                partials[leaf, i, 0] = fold_lanes(lanes[2 * i])
                partials[leaf, i, 1] = fold_lanes(lanes[2 * i + 1])
