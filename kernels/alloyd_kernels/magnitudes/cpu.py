"""Order statistics of |source - base| in streaming passes: integer counts, so any order of blocks is the same."""

from __future__ import annotations

import numpy as np
from numba import njit

from ..dtypes import LEAF, TILE
from ..task_vectors.cpu import delta_tile
from ..tile.cpu import load_tile
from ..tile.native import magnitude_bits

WAYS = 4
"""Interleaved copies of the coarse histogram: equal neighbours would otherwise wait for each other's store."""

FINE = 65_536
SPARE = 16
GROUP = 32
"""Elements looked at together for a hit: most groups have none, and a group is two vector registers."""


@njit(cache=True, nogil=True)
def count_coarse(base, base_code, sources, codes, active, count, histograms, rows):  # type: ignore[no-untyped-def]
    """Add ``count`` elements to ``histograms`` (int64 [n, WAYS, 32768]) by their upper magnitude bits.

    ``active`` bool [n] says which sources are wanted; ``rows`` float32 [>= 2, TILE].
    """
    base_row = rows[0]
    row = rows[1]
    for start in range(0, count, TILE):
        size = min(TILE, count - start)
        load_tile(base, base_code, start, size, base_row)
        for i in range(sources.shape[0]):
            if not active[i]:
                continue
            delta_tile(sources[i], codes[i], base_row, start, size, row)
            first, second, third, fourth = histograms[i, 0], histograms[i, 1], histograms[i, 2], histograms[i, 3]
            whole = size - size % 4
            for j in range(0, whole, 4):
                first[magnitude_bits(row[j]) >> 16] += 1
                second[magnitude_bits(row[j + 1]) >> 16] += 1
                third[magnitude_bits(row[j + 2]) >> 16] += 1
                fourth[magnitude_bits(row[j + 3]) >> 16] += 1
            for j in range(whole, size):
                first[magnitude_bits(row[j]) >> 16] += 1


@njit(cache=True, nogil=True)
def count_fine(base, base_code, sources, codes, active, count, coarse, histograms, rows):  # type: ignore[no-untyped-def]
    """Add to ``histograms`` (int64 [n, FINE + SPARE]) the lower bits of elements whose upper bits equal ``coarse[i]``.

    The last SPARE bins hold misses and mean nothing.
    """
    base_row = rows[0]
    row = rows[1]
    for start in range(0, count, TILE):
        size = min(TILE, count - start)
        load_tile(base, base_code, start, size, base_row)
        for i in range(sources.shape[0]):
            if not active[i]:
                continue
            delta_tile(sources[i], codes[i], base_row, start, size, row)
            wanted = np.int32(coarse[i])
            histogram = histograms[i]
            for group in range(0, size, GROUP):
                stop = min(group + GROUP, size)
                hits = np.int32(0)
                for j in range(group, stop):
                    hits += np.int32(magnitude_bits(row[j]) >> 16 == wanted)
                if hits == 0:
                    continue
                # Misses go to spare bins behind the real ones: a branch here would be mispredicted.
                for j in range(group, stop):
                    bits = magnitude_bits(row[j])
                    histogram[bits & 0xFFFF if bits >> 16 == wanted else FINE + (j & (SPARE - 1))] += 1


@njit(cache=True, nogil=True)
def count_ties(base, base_code, sources, codes, active, count, first, thresholds, ties, rows):  # type: ignore[no-untyped-def]
    """Count into ``ties`` (int64 [n, leaves]) the elements whose magnitude bits equal ``thresholds[i]``.

    ``first`` is the index of the block's first element in its tensor, a multiple of LEAF.
    """
    base_row = rows[0]
    row = rows[1]
    for start in range(0, count, TILE):
        size = min(TILE, count - start)
        leaf = (first + start) // LEAF
        load_tile(base, base_code, start, size, base_row)
        for i in range(sources.shape[0]):
            if not active[i]:
                continue
            delta_tile(sources[i], codes[i], base_row, start, size, row)
            wanted = np.int32(thresholds[i])
            equal = np.int32(0)
            for j in range(size):
                equal += np.int32(magnitude_bits(row[j]) == wanted)
            ties[i, leaf] += equal
