"""Order statistics of |source - base| in streaming passes: integer counts, so any order of blocks is the same.

The quick way is a sample and a bracket around the wanted rank; the sure way is a coarse and a fine histogram
and a count of ties. Both are exact.
"""

from __future__ import annotations

import numpy as np

from ..compiled import compiled
from ..dtypes import BF16, LEAF, TILE
from ..task_vectors.cpu import delta_tile
from ..tile.cpu import load_tile
from ..tile.native import load_u16, magnitude_bits, widen_bf16

WAYS = 4
"""Interleaved copies of the coarse histogram: equal neighbours would otherwise wait for each other's store."""

FINE = 65_536
SPARE = 16
GROUP = 16
"""Elements looked at together for a hit: most groups have none, and a group is a vector register or two."""

LOWER = 15
BINS = 65_536
"""Bins for the upper 16 of 31 magnitude bits; the LOWER ones need half as many."""

RUN = 64
"""Consecutive elements that a sample takes at each spot."""


@compiled
def sample_magnitudes(base, base_code, sources, codes, count, first, runs, samples, rows):  # type: ignore[no-untyped-def]
    """Write the magnitude bits of ``runs`` runs of RUN elements a leaf to ``samples`` (int32 [n, leaves, runs * RUN]).

    Runs are spread evenly over each leaf. Places that lie behind the tensor's end keep what ``samples`` held.
    ``first`` is the index of the block's first element in its tensor, a multiple of LEAF; ``rows`` float32
    [>= 2, TILE].
    """
    base_row = rows[0]
    row = rows[1]
    apart = LEAF // runs
    for leaf_start in range(0, count, LEAF):
        leaf = (first + leaf_start) // LEAF
        for run in range(runs):
            start = leaf_start + run * apart
            size = min(RUN, count - start)
            if size <= 0:
                break
            load_tile(base, base_code, start, size, base_row)
            for i in range(sources.shape[0]):
                delta_tile(sources[i], codes[i], base_row, start, size, row)
                for j in range(size):
                    samples[i, leaf, run * RUN + j] = magnitude_bits(row[j])


@compiled
def select_ranks(bits, ranks, counts, found):  # type: ignore[no-untyped-def]
    """Write to ``found`` (int32 [r]) what stands at ``ranks`` (int64 [r], 0 the smallest) among those of ``bits`` >= 0.

    ``bits`` int32 [n] is in any order; ``counts`` int32 [2, BINS] is scratch: a histogram of the upper bits finds the
    bin, one of the lower bits the value.
    """
    for k in range(BINS):
        counts[0, k] = 0
    for i in range(bits.shape[0]):
        if bits[i] >= 0:
            counts[0, bits[i] >> LOWER] += 1
    for r in range(ranks.shape[0]):
        left = ranks[r]
        upper = 0
        while left >= counts[0, upper]:
            left -= counts[0, upper]
            upper += 1
        for k in range(1 << LOWER):
            counts[1, k] = 0
        for i in range(bits.shape[0]):
            if bits[i] >> LOWER == upper:
                counts[1, bits[i] & ((1 << LOWER) - 1)] += 1
        lower = 0
        while left >= counts[1, lower]:
            left -= counts[1, lower]
            lower += 1
        found[r] = (upper << LOWER) | lower


@compiled
def count_bracket(  # type: ignore[no-untyped-def]
    base, base_code, sources, codes, count, first, lows, highs,
    above, at_high, at_low, inside, found, found_count, flags, rows,
):  # fmt: skip
    """Count where magnitudes lie against each source's bracket [low, high] of magnitude bits, and keep those inside.

    ``lows``, ``highs`` int32 [n]. Per leaf, int32 [n, leaves]: ``above`` counts bits > high, ``at_high``
    those equal to high, ``inside`` those between, ``at_low`` those equal to low where low differs from high.
    The bits of those between are appended in element order to ``found`` (int32 [n, capacity]) at
    ``found_count`` (int64 [n]); beyond the capacity they are counted but not kept. ``first`` is a multiple of
    LEAF; ``flags`` uint8 [TILE] and ``rows`` float32 [>= 2, TILE] are scratch.
    """
    base_row = rows[0]
    row = rows[1]
    words = flags.view(np.uint64)
    capacity = found.shape[1]
    for start in range(0, count, TILE):
        size = min(TILE, count - start)
        leaf = (first + start) // LEAF
        load_tile(base, base_code, start, size, base_row)
        for i in range(sources.shape[0]):
            low = lows[i]
            high = highs[i]
            over = np.int32(0)
            top = np.int32(0)
            bottom = np.int32(0)
            between = np.int32(0)
            if low == high and codes[i] == BF16:
                # Differences of bf16 take few values: often one of them is all that a bracket holds.
                for j in range(size):
                    bits = magnitude_bits(widen_bf16(load_u16(sources[i], start + j)) - base_row[j])
                    over += np.int32(bits > high)
                    top += np.int32(bits == high)
                above[i, leaf] += over
                at_high[i, leaf] += top
                continue
            delta_tile(sources[i], codes[i], base_row, start, size, row)
            for j in range(size):
                bits = magnitude_bits(row[j])
                over += np.int32(bits > high)
                top += np.int32(bits == high)
                bottom += np.int32(bits == low)
                between += np.int32((bits > low) & (bits < high))
            above[i, leaf] += over
            at_high[i, leaf] += top
            if low != high:
                at_low[i, leaf] += bottom
            if between == 0:
                continue
            inside[i, leaf] += between
            place = found_count[i]
            if place + between > capacity:
                found_count[i] = place + between
                continue
            for j in range(size):
                bits = magnitude_bits(row[j])
                flags[j] = np.uint8((bits > low) & (bits < high))
            for j in range(size, -(-size // 8) * 8):
                flags[j] = np.uint8(0)
            # Eight flags at a time: most words are zero.
            kept = found[i]
            for word in range(-(-size // 8)):
                if words[word] != np.uint64(0):
                    for j in range(word * 8, word * 8 + 8):
                        if flags[j] != np.uint8(0):
                            kept[place] = magnitude_bits(row[j])
                            place += 1
            found_count[i] = place


@compiled
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
            first, second, third, fourth = (
                histograms[i, 0],
                histograms[i, 1],
                histograms[i, 2],
                histograms[i, 3],
            )
            whole = size - size % 4
            for j in range(0, whole, 4):
                first[magnitude_bits(row[j]) >> 16] += 1
                second[magnitude_bits(row[j + 1]) >> 16] += 1
                third[magnitude_bits(row[j + 2]) >> 16] += 1
                fourth[magnitude_bits(row[j + 3]) >> 16] += 1
            for j in range(whole, size):
                first[magnitude_bits(row[j]) >> 16] += 1


@compiled
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


@compiled
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
