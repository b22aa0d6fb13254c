"""Base plus a combination of task vectors in one pass over memory: float32 inside, rounded once."""

from __future__ import annotations

import numpy as np

from ..compiled import compiled
from ..dtypes import BF16, LEAF, TILE
from ..sparsify.cpu import sparsify_tile
from ..sparsify.kinds import CUT, KEEP
from ..tile.cpu import load_tile, store_tile
from ..tile.native import bits_of, load_u16, magnitude_bits, widen_bf16

_SIGN = np.uint32(0x80000000)


@compiled
def delta_tile(address, code, base, start, size, row):  # type: ignore[no-untyped-def]
    """``row`` = source - ``base`` for one tile, in float32."""
    load_tile(address, code, start, size, row)
    for j in range(size):
        row[j] -= base[j]


@compiled
def least_kept(kind, threshold, cut_leaf, leaf):  # type: ignore[no-untyped-def]
    """The least magnitude bits that stay where keeping is one comparison, -1 where it is not."""
    if kind == KEEP:
        return np.int32(0)
    if kind == CUT and leaf != cut_leaf:
        return np.int32(threshold + np.int64(leaf > cut_leaf))
    return np.int32(-1)


@compiled
def contribution(delta, least, scale, weight):  # type: ignore[no-untyped-def]
    """What one element of a task vector adds to the sum: nothing where its magnitude bits are below ``least``."""
    kept = delta if magnitude_bits(delta) >= least else np.float32(0.0)
    return (kept * scale) * weight


@compiled
def agreed(origin, mixed, share, total, normalize, factor):  # type: ignore[no-untyped-def]
    """``origin`` + ``factor`` * what agrees with the sign of ``total``, over its share of the weights."""
    mixed /= share if normalize and share != np.float32(0.0) else np.float32(1.0)
    # Where the sum is no number, nor is what comes of it.
    mixed = mixed if total == total else total
    return origin + mixed * factor


@compiled
def agrees(value, flip):  # type: ignore[no-untyped-def]
    """Whether ``value`` is not zero and has the elected sign: ``flip`` is the sign bit where that is negative."""
    return np.int32(bits_of(value) ^ flip) > np.int32(0)


@compiled
def elect_tile(base, rows, leasts, scales, weights, normalize, factor, size, out):  # type: ignore[no-untyped-def]
    """Write base + factor * the sum of those that agree with the sign of the whole sum, for one tile.

    ``rows`` (decoded sources, float32 [TILE] each), ``leasts``, ``scales`` and ``weights`` are tuples: their length is
    known when this is compiled, so that everything about an element stays in registers. The same values as the loops
    of ``combine_task_vectors``, in the same order.
    """
    for j in range(size):
        origin = base[j]
        total = np.float32(0.0)
        for i in range(len(rows)):
            total += contribution(rows[i][j] - origin, leasts[i], scales[i], weights[i])
        flip = np.uint32(0) if total >= np.float32(0.0) else _SIGN
        mixed = np.float32(0.0)
        share = np.float32(0.0)
        for i in range(len(rows)):
            value = contribution(rows[i][j] - origin, leasts[i], scales[i], weights[i])
            along = agrees(value, flip)
            mixed = mixed + value if along else mixed
            share = share + weights[i] if along else share
        out[j] = agreed(origin, mixed, share, total, normalize, factor)


@compiled
def elect_bf16(base, sources, start, leasts, scales, weights, normalize, factor, size, out):  # type: ignore[no-untyped-def]
    """The same of tensors that are all bf16, from element ``start`` on: decoded in the loop, which saves a third.

    ``base`` and ``sources`` are addresses.
    """
    for j in range(size):
        origin = widen_bf16(load_u16(base, start + j))
        total = np.float32(0.0)
        for i in range(len(sources)):
            delta = widen_bf16(load_u16(sources[i], start + j)) - origin
            total += contribution(delta, leasts[i], scales[i], weights[i])
        flip = np.uint32(0) if total >= np.float32(0.0) else _SIGN
        mixed = np.float32(0.0)
        share = np.float32(0.0)
        for i in range(len(sources)):
            delta = widen_bf16(load_u16(sources[i], start + j)) - origin
            value = contribution(delta, leasts[i], scales[i], weights[i])
            along = agrees(value, flip)
            mixed = mixed + value if along else mixed
            share = share + weights[i] if along else share
        out[j] = agreed(origin, mixed, share, total, normalize, factor)


@compiled
def combine_task_vectors(  # type: ignore[no-untyped-def]
    base, base_code, sources, codes, count, first,
    kinds, thresholds, cut_leaves, quotas, keys,
    scales, weights, divisor, consensus, normalize, factor,
    out, out_code, rows, draws, seen,
):  # fmt: skip
    """Write base + factor * combination of task vectors for ``count`` elements; returns how many are NaN or infinite.

    ``sources`` uint64 [n] addresses of the tensors that are not the base; ``first`` the index of the first
    element in its tensor (a multiple of LEAF); ``kinds`` .. ``keys`` [n] say what each task vector keeps (see
    ``sparsify``); ``scales`` float32 [n] multiply what is kept, then ``weights`` float32 [n]. ``divisor``
    float32 is used when there is no ``consensus``. ``rows`` float32 [n + 4, TILE], ``draws`` uint32 [TILE],
    ``seen`` int64 [n] are scratch.
    """
    strange = np.int64(0)
    n = sources.shape[0]
    base_row = rows[n]
    mixed = rows[n + 1]
    total = rows[n + 2]
    shares = rows[n + 3]
    short = base_code == BF16
    for i in range(n):
        short = short and codes[i] == BF16
    for start in range(0, count, TILE):
        size = min(TILE, count - start)
        if consensus and (n == 2 or n == 3):
            leaf = (first + start) // LEAF
            one = least_kept(kinds[0], thresholds[0], cut_leaves[0], leaf)
            two = least_kept(kinds[1], thresholds[1], cut_leaves[1], leaf)
            three = least_kept(kinds[n - 1], thresholds[n - 1], cut_leaves[n - 1], leaf)
            if min(one, two, three) >= 0:
                if not short:
                    load_tile(base, base_code, start, size, base_row)
                    for i in range(n):
                        load_tile(sources[i], codes[i], start, size, rows[i])
                if n == 2 and short:
                    elect_bf16(
                        base, (sources[0], sources[1]), start, (one, two), (scales[0], scales[1]),
                        (weights[0], weights[1]), normalize, factor, size, mixed,
                    )  # fmt: skip
                elif n == 2:
                    elect_tile(
                        base_row, (rows[0], rows[1]), (one, two), (scales[0], scales[1]),
                        (weights[0], weights[1]), normalize, factor, size, mixed,
                    )  # fmt: skip
                elif short:
                    elect_bf16(
                        base, (sources[0], sources[1], sources[2]), start, (one, two, three),
                        (scales[0], scales[1], scales[2]), (weights[0], weights[1], weights[2]), normalize, factor,
                        size, mixed,
                    )  # fmt: skip
                else:
                    elect_tile(
                        base_row, (rows[0], rows[1], rows[2]), (one, two, three), (scales[0], scales[1], scales[2]),
                        (weights[0], weights[1], weights[2]), normalize, factor, size, mixed,
                    )  # fmt: skip
                strange += store_tile(mixed, size, out, out_code, start)
                continue
        load_tile(base, base_code, start, size, base_row)
        for j in range(size):
            total[j] = np.float32(0.0)
        for i in range(n):
            row = rows[i]
            scale = scales[i]
            weight = weights[i]
            kind = kinds[i]
            leaf = (first + start) // LEAF
            if kind == KEEP or (kind == CUT and leaf != cut_leaves[i]):
                # Keeping is one comparison here, so everything up to the sum is one loop.
                least = np.int32(0)
                if kind == CUT:
                    least = np.int32(thresholds[i] + np.int64(leaf > cut_leaves[i]))
                load_tile(sources[i], codes[i], start, size, row)
                for j in range(size):
                    delta = row[j] - base_row[j]
                    kept = delta if magnitude_bits(delta) >= least else np.float32(0.0)
                    weighted = (kept * scale) * weight
                    row[j] = weighted
                    total[j] += weighted
            else:
                delta_tile(sources[i], codes[i], base_row, start, size, row)
                seen[i] = sparsify_tile(
                    row,
                    size,
                    first + start,
                    kind,
                    thresholds[i],
                    cut_leaves[i],
                    quotas[i],
                    keys[i],
                    seen[i],
                    draws,
                )
                for j in range(size):
                    weighted = (row[j] * scale) * weight
                    row[j] = weighted
                    total[j] += weighted
        if consensus:
            for j in range(size):
                mixed[j] = np.float32(0.0)
                shares[j] = np.float32(0.0)
            for i in range(n):
                row = rows[i]
                weight = weights[i]
                for j in range(size):
                    value = row[j]
                    # The sign of the sum, zero counted as positive, times the value: positive where they agree.
                    along = value if total[j] >= np.float32(0.0) else -value
                    share = np.float32(1.0) if along > np.float32(0.0) else np.float32(0.0)
                    mixed[j] += value * share
                    shares[j] += weight * share
            if normalize:
                for j in range(size):
                    share = shares[j]
                    mixed[j] /= share if share != np.float32(0.0) else np.float32(1.0)
        else:
            mixed = total
            if normalize:
                for j in range(size):
                    mixed[j] /= divisor
        for j in range(size):
            mixed[j] = base_row[j] + mixed[j] * factor
        strange += store_tile(mixed, size, out, out_code, start)
    return strange
