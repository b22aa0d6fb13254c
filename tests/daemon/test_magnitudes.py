"""Cuts keep exactly k of largest magnitude, lowest index first among equals, by either way of finding them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloyd_daemon.engine.block import Block, Scratch
from alloyd_daemon.engine.findings import answered
from alloyd_daemon.stages.brackets import Bracketed, bracket, quick_cuts
from alloyd_daemon.stages.cuts import EVERY_LEAF, Cut
from alloyd_daemon.stages.magnitudes import magnitude_cuts, sure_cuts
from alloyd_kernels.dtypes import BF16, F32, LEAF
from alloyd_kernels.magnitudes.cpu import RUN
from alloyd_kernels.magnitudes.reference import bracket_counts, magnitude_bits
from alloyd_kernels.sparsify.reference import top_k

Values = npt.NDArray[np.float32]


def find(
    steps: Generator[Any, Any, Any], tensors: list[Values], *, blocks: int = 2 * LEAF, short: bool = False
) -> Any:
    """Run stages over tensors (the base first) in memory, blocks in reverse order on two workers.

    ``short`` keeps them as bf16, which must hold their values.
    """
    count = len(tensors[0])
    codes = np.full(len(tensors), BF16 if short else F32, dtype=np.int64)
    held = [each.astype(ml_dtypes.bfloat16) for each in tensors] if short else tensors
    width = 2 if short else 4
    scratch = [Scratch(len(tensors)), Scratch(len(tensors))]
    result = None
    stages = answered(steps, None, ())
    try:
        while True:
            sweep = stages.send(result).begin(count, 2)
            for number, first in enumerate(reversed(range(0, count, blocks))):
                size = min(blocks, count - first)
                addresses = np.array([each.ctypes.data + width * first for each in held], dtype=np.uint64)
                sweep.measure(Block(first, size, addresses, codes), number % 2, scratch[number % 2])
            result = sweep.resolve()
    except StopIteration as end:
        return end.value


def mask_of(cut: Cut, delta: Values) -> npt.NDArray[np.bool_]:
    bits = magnitude_bits(delta)
    leaf = np.arange(len(bits)) // LEAF
    equal = bits == cut.threshold
    inside = equal & (leaf == cut.leaf)
    return (bits > cut.threshold) | (equal & (leaf < cut.leaf)) | (inside & (np.cumsum(inside) <= cut.quota))


def tensors_of(kind: str, count: int, seed: int) -> list[Values]:
    rng = np.random.default_rng(seed)
    base = rng.standard_normal(count).astype(np.float32)
    if kind == "smooth":
        return [base, base + rng.standard_normal(count).astype(np.float32) * np.float32(1e-3)]
    if kind == "ties":
        return [np.zeros(count, np.float32), rng.integers(-3, 4, count).astype(np.float32)]
    if kind == "equal":
        return [base, base.copy()]
    if kind == "sorted":
        return [np.zeros(count, np.float32), np.sort(np.abs(base))]
    sparse = np.zeros(count, np.float32)
    sparse[rng.integers(0, count, max(count // 500, 1))] = 1.0
    return [np.zeros(count, np.float32), sparse]


@pytest.mark.parametrize("kind", ["smooth", "ties", "equal", "sorted", "sparse"])
@pytest.mark.parametrize("count", [2, 777, LEAF + 1, 5 * LEAF + 321])
@pytest.mark.parametrize("density", [1e-9, 0.1, 0.5, 0.93])
def test_cuts_equal_a_stable_sort(kind: str, count: int, density: float) -> None:
    tensors = tensors_of(kind, count, count)
    delta = tensors[1] - tensors[0]
    k = max(1, int(density * count))
    wanted = top_k(delta, k)
    for way in (magnitude_cuts(0, {1: k}, count), sure_cuts(0, {1: k})):
        cut = find(way, tensors)[1]
        np.testing.assert_array_equal(mask_of(cut, delta), wanted)


@pytest.mark.parametrize("kind", ["smooth", "ties", "equal", "sorted", "sparse"])
@pytest.mark.parametrize("density", [1e-9, 0.1, 0.5, 0.93])
def test_cuts_of_bf16_equal_a_stable_sort(kind: str, density: float) -> None:
    count = 5 * LEAF + 321
    tensors = [each.astype(ml_dtypes.bfloat16).astype(np.float32) for each in tensors_of(kind, count, count)]
    delta = tensors[1] - tensors[0]
    k = max(1, int(density * count))
    cut = find(magnitude_cuts(0, {1: k}, count), tensors, short=True)[1]
    np.testing.assert_array_equal(mask_of(cut, delta), top_k(delta, k))


def test_several_sources_get_their_own_cuts() -> None:
    base, *rest = (tensors_of("smooth", 3 * LEAF, each)[1] for each in range(4))
    keep = {1: 1000, 3: 100_000}
    cuts = find(magnitude_cuts(0, keep, 3 * LEAF), [base, *rest])
    for position, k in keep.items():
        delta = rest[position - 1] - base
        np.testing.assert_array_equal(mask_of(cuts[position], delta), top_k(delta, k))


def test_a_sample_that_misleads_is_noticed_and_the_histograms_step_in() -> None:
    count = 40 * LEAF
    delta = np.full(count, 1e-3, dtype=np.float32)
    hidden = np.ones(count, dtype=bool)
    runs = 131_072 // (40 * RUN)
    for run in range(runs):
        start = run * (LEAF // runs)
        for leaf in range(40):
            hidden[leaf * LEAF + start : leaf * LEAF + start + RUN] = False
    rng = np.random.default_rng(0)
    delta[hidden] = rng.standard_normal(int(hidden.sum())).astype(np.float32)
    tensors = [np.zeros(count, dtype=np.float32), delta]
    k = count // 10
    assert find(quick_cuts(0, {1: k}, count), tensors)[1] is None
    cut = find(magnitude_cuts(0, {1: k}, count), tensors)[1]
    np.testing.assert_array_equal(mask_of(cut, delta), top_k(delta, k))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(0, 12), st.integers(0, 2**31), st.data())
def test_a_bracketed_rank_is_exact_or_refused(
    count: int, spread: int, seed: int, data: st.DataObject
) -> None:
    values = np.random.default_rng(seed).integers(-spread, spread + 1, count).astype(np.float32)
    bits = magnitude_bits(values)
    low, high = sorted((int(data.draw(st.sampled_from(bits))), int(data.draw(st.sampled_from(bits)))))
    above, at_high, inside, at_low, kept = bracket_counts(bits, low, high)
    one = [np.array([each], dtype=np.int32) for each in (above, at_high, inside, at_low)]
    k = data.draw(st.integers(1, count))
    cut = Bracketed(low, high, one[0], one[1], one[2], one[3], kept.astype(np.int32)).cut(k)
    inside_the_bracket = above < k <= above + at_high + inside + at_low
    assert (cut is not None) == inside_the_bracket
    if cut is not None:
        np.testing.assert_array_equal(mask_of(cut, values), top_k(values, k))


def test_a_bracket_holds_the_wanted_rank_of_its_own_sample() -> None:
    sample = np.random.default_rng(1).integers(0, 2**30, 10_000).astype(np.int32)
    for share in (1e-6, 0.2, 0.5, 0.999):
        low, high = bracket(sample, share)
        wanted = np.sort(sample)[::-1][max(int(share * len(sample)) - 1, 0)]
        assert low <= wanted <= high
    assert Cut(5).leaf == EVERY_LEAF
