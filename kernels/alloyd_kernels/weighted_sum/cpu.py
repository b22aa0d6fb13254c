"""Weighted sum of n tensors in one pass over memory: float32 inside, rounded once."""

from __future__ import annotations

import numpy as np

from ..compiled import compiled
from ..dtypes import TILE
from ..tile.cpu import load_tile, store_tile


@compiled
def weighted_sum(sources, codes, count, weights, divisor, offset, out, out_code, rows):  # type: ignore[no-untyped-def]
    """Write sum_i weights[i] * source_i / divisor + offset for ``count`` elements; returns how many are not finite.

    ``sources`` uint64 [n >= 1] addresses, ``codes`` int64 [n] element types, ``weights`` float32 [n],
    ``divisor`` and ``offset`` float32, ``out`` address, ``rows`` float32 [>= 2, TILE] scratch. Terms are added
    in the order of the sources, each product rounded before it is added (no fused multiply-add), then divided, as
    mergekit 0.1.5 does in float32; an offset of 0 is not added, so that -0 stays.
    """
    strange = np.int64(0)
    total = rows[0]
    row = rows[1]
    for start in range(0, count, TILE):
        size = min(TILE, count - start)
        load_tile(sources[0], codes[0], start, size, total)
        weight = weights[0]
        for j in range(size):
            total[j] *= weight
        for i in range(1, sources.shape[0]):
            load_tile(sources[i], codes[i], start, size, row)
            weight = weights[i]
            for j in range(size):
                total[j] += row[j] * weight
        if divisor != np.float32(1.0):
            for j in range(size):
                total[j] /= divisor
        if offset != np.float32(0.0):
            for j in range(size):
                total[j] += offset
        strange += store_tile(total, size, out, out_code, start)
    return strange
