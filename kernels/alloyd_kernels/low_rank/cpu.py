"""A weight plus a low-rank product for any run of its elements, in float32."""

from __future__ import annotations

import numpy as np

from ..compiled import compiled
from ..dtypes import F32, TILE
from ..tile.cpu import load_tile, store_tile
from ..tile.native import load_f32


@compiled
def add_four(right, at, a, b, c, d, size, total):  # type: ignore[no-untyped-def]
    """Add four products to each running sum, in order: the sums are loaded and stored once for all four."""
    for j in range(size):
        value = total[j] + a * load_f32(right, at + j)
        value += b * load_f32(right, at + TILE + j)
        value += c * load_f32(right, at + 2 * TILE + j)
        total[j] = value + d * load_f32(right, at + 3 * TILE + j)


@compiled
def add_low_rank(source, code, first, count, columns, left, right, scale, out, rows):  # type: ignore[no-untyped-def]
    """Write weight + scale * (left @ right) as float32 for ``count`` elements from element ``first`` on.

    ``source`` is the address of element ``first`` of a row-major matrix of ``columns`` columns and of element type
    ``code``; ``left`` float32 [its rows, r]; ``right`` the address of float32 [tiles, r, TILE], its columns TILE by
    TILE; ``scale`` float32; ``out`` address; ``rows`` float32 [>= 2, TILE] scratch. The r products of
    an element are rounded and added in the order of the rank, then scaled, then added to the weight (no fused
    multiply-add): an element does not depend on the run that it is in.
    """
    total = rows[0]
    row = rows[1]
    rank = left.shape[1]
    last = first + count
    for tile in range((columns + TILE - 1) // TILE):
        begin = tile * TILE
        width = min(TILE, columns - begin)
        for i in range(first // columns, (last - 1) // columns + 1):
            start = max(first, i * columns + begin)
            stop = min(last, i * columns + begin + width)
            size = stop - start
            if size <= 0:
                continue
            for j in range(size):
                total[j] = np.float32(0.0)
            for k in range(0, rank // 4 * 4, 4):
                at = (tile * rank + k) * TILE + start - i * columns - begin
                add_four(right, at, left[i, k], left[i, k + 1], left[i, k + 2], left[i, k + 3], size, total)
            for k in range(rank // 4 * 4, rank):
                factor = left[i, k]
                at = (tile * rank + k) * TILE + start - i * columns - begin
                for j in range(size):
                    total[j] += factor * load_f32(right, at + j)
            load_tile(source, code, start - first, size, row)
            for j in range(size):
                row[j] += scale * total[j]
            store_tile(row, size, out, F32, start - first)
