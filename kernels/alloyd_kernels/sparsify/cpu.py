"""Keep masks on a tile: magnitude cuts with an exact count, and counter-based draws."""

from __future__ import annotations

import numpy as np

from ..compiled import compiled
from ..dtypes import LEAF, TILE
from ..tile.native import magnitude_bits
from .kinds import CUT, DRAW, DROP

_LANE = TILE // 4
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


@compiled
def draw_tile(key, group, draws):  # type: ignore[no-untyped-def]
    """Fill ``draws`` (uint32 [TILE]) with the draws of elements ``group * TILE`` on (Philox4x32-10)."""
    base = np.uint64(group) * np.uint64(_LANE)
    for j in range(_LANE):
        counter = base + np.uint64(j)
        c0 = counter & _LOW
        c1 = counter >> _SHIFT
        c2 = np.uint64(0)
        c3 = np.uint64(0)
        k0 = key & _LOW
        k1 = key >> _SHIFT
        for _ in range(10):
            first = c0 * np.uint64(0xD2511F53)
            second = c2 * np.uint64(0xCD9E8D57)
            c0 = (second >> _SHIFT) ^ c1 ^ k0
            c1 = second & _LOW
            c2 = (first >> _SHIFT) ^ c3 ^ k1
            c3 = first & _LOW
            k0 = (k0 + np.uint64(0x9E3779B9)) & _LOW
            k1 = (k1 + np.uint64(0xBB67AE85)) & _LOW
        draws[j] = np.uint32(c0)
        draws[_LANE + j] = np.uint32(c1)
        draws[2 * _LANE + j] = np.uint32(c2)
        draws[3 * _LANE + j] = np.uint32(c3)


@compiled
def sparsify_tile(row, size, element, kind, threshold, cut_leaf, quota, key, seen, draws):  # type: ignore[no-untyped-def]
    """Zero the elements of ``row`` that are not kept; returns the ties seen so far in this leaf.

    ``element`` is the index of the tile's first element in its tensor (a multiple of TILE). For a cut,
    ``threshold`` is a magnitude's bits: leaves before ``cut_leaf`` keep its equals, leaves behind it do not,
    and ``cut_leaf`` itself keeps the first ``quota`` of them; ``seen`` counts them from the start of the
    leaf.
    """
    if kind == CUT:
        leaf = element // LEAF
        if leaf == cut_leaf:
            if element % LEAF == 0:
                seen = np.int64(0)
            for j in range(size):
                bits = np.int64(magnitude_bits(row[j]))
                if bits == threshold:
                    seen += 1
                    if seen > quota:
                        row[j] = np.float32(0.0)
                elif bits < threshold:
                    row[j] = np.float32(0.0)
        else:
            least = np.int32(threshold) if leaf < cut_leaf else np.int32(threshold + 1)
            for j in range(size):
                value = row[j]
                row[j] = value if magnitude_bits(value) >= least else np.float32(0.0)
    elif kind == DRAW:
        draw_tile(key, element // TILE, draws)
        limit = np.uint32(threshold - 1)
        for j in range(size):
            value = row[j]
            row[j] = value if draws[j] <= limit else np.float32(0.0)
    elif kind == DROP:
        for j in range(size):
            row[j] = np.float32(0.0)
    return seen
