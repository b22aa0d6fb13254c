"""Descents in one pass over memory: every step on a tile before the next tile, float32 inside, rounded once."""

from __future__ import annotations

import numpy as np

from ..compiled import compiled
from ..dtypes import TILE
from ..sparsify.cpu import draw_tile
from ..sparsify.kinds import DRAW
from ..tile.cpu import load_tile, store_tile


@compiled
def step_tile(parent, start, toward, away, factor, limit, draws, size, out):  # type: ignore[no-untyped-def]
    """``out`` = start + factor * (toward - away) where a draw is at most ``limit``, ``parent`` elsewhere."""
    for j in range(size):
        moved = start[j] + factor * (toward[j] - away[j])
        out[j] = moved if draws[j] <= limit else parent[j]


@compiled
def descend_tiles(  # type: ignore[no-untyped-def]
    sources, codes, count, first, steps, factors, kinds, thresholds, keys, out, out_code, rows, draws,
):  # fmt: skip
    """Write what the last step makes for ``count`` elements; returns how many are NaN or infinite.

    ``sources`` uint64 [n] addresses, decoded into the first n ``rows``; ``first`` the index of the first element in its
    tensor, a multiple of TILE; ``steps`` int64 [m >= 1, 5] the rows of each step's parent, start, toward, away, and of
    its child, which is none of the others; ``factors`` float32 [m]; ``kinds`` DRAW or KEEP (everywhere),
    ``thresholds`` and ``keys`` as in ``sparsify``. ``rows`` float32 [all, TILE], ``draws`` uint32 [TILE] are scratch.
    """
    strange = np.int64(0)
    m = steps.shape[0]
    for start in range(0, count, TILE):
        size = min(TILE, count - start)
        for i in range(sources.shape[0]):
            load_tile(sources[i], codes[i], start, size, rows[i])
        for s in range(m):
            limit = np.uint32(0xFFFFFFFF)
            if kinds[s] == DRAW:
                draw_tile(keys[s], (first + start) // TILE, draws)
                limit = np.uint32(thresholds[s] - 1)
            else:
                for j in range(TILE):
                    draws[j] = np.uint32(0)
            step_tile(
                rows[steps[s, 0]], rows[steps[s, 1]], rows[steps[s, 2]], rows[steps[s, 3]],
                factors[s], limit, draws, size, rows[steps[s, 4]],
            )  # fmt: skip
        strange += store_tile(rows[steps[m - 1, 4]], size, out, out_code, start)
    return strange
