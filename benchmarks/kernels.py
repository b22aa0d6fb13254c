"""Time each CPU kernel on one core against memcpy: nanoseconds an element, and GB/s of what it reads and writes.

    .venv/bin/python benchmarks/kernels.py

Three bf16 tensors, a base and two fine-tunes, of a block's size; the best of several runs. A kernel is as fast as
copying when its GB/s are those of memcpy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import ml_dtypes
import numpy as np
import numpy.typing as npt

from alloyd_daemon.checkpoints.digest import piece_digests
from alloyd_kernels.delta_norms.cpu import measure_l1
from alloyd_kernels.dtypes import BF16, LEAF, TILE
from alloyd_kernels.gram.cpu import measure_gram
from alloyd_kernels.magnitudes.cpu import (
    FINE,
    SPARE,
    WAYS,
    count_bracket,
    count_coarse,
    count_fine,
    count_ties,
)
from alloyd_kernels.magnitudes.reference import magnitude_bits
from alloyd_kernels.sparsify.kinds import CUT, DRAW, KEEP
from alloyd_kernels.task_vectors.cpu import combine_task_vectors
from alloyd_kernels.weighted_sum.cpu import weighted_sum

COUNT = 1 << 21


def best(work: Callable[[], object], runs: int) -> float:
    """Seconds of the fastest of ``runs`` calls, after one that compiles."""
    work()
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    rng = np.random.default_rng(0)
    base = (rng.standard_normal(COUNT) * 0.02).astype(np.float32)
    tuned = [base] + [
        base + np.float32(s) * rng.standard_normal(COUNT).astype(np.float32) for s in (2e-4, 1e-4)
    ]
    models = [each.astype(ml_dtypes.bfloat16) for each in tuned]
    addresses = np.array([each.ctypes.data for each in models], dtype=np.uint64)
    codes = np.full(3, BF16, dtype=np.int64)
    out = np.zeros(COUNT, dtype=np.uint16)
    into = np.uint64(out.ctypes.data)
    rows = np.zeros((8, TILE), dtype=np.float32)
    draws, flags = np.zeros(TILE, dtype=np.uint32), np.zeros(TILE, dtype=np.uint8)
    seen, lanes = np.zeros(2, dtype=np.int64), np.zeros((9, TILE))
    bits = [magnitude_bits(each.astype(np.float32) - models[0].astype(np.float32)) for each in models[1:]]
    low, high = (np.array([np.quantile(each, at) for each in bits], dtype=np.int32) for at in (0.49, 0.51))
    middle = np.array([int(np.median(each)) for each in bits])
    leaves = COUNT // LEAF
    deltas = (addresses[0], codes[0], addresses[1:], codes[1:])
    both = np.array([True, True])
    coarse = np.zeros((2, WAYS, 32768), dtype=np.int64)
    fine = np.zeros((2, FINE + SPARE), dtype=np.int64)
    counts = [np.zeros((2, leaves), dtype=np.int32) for _ in range(4)]
    ties = np.zeros((2, leaves), dtype=np.int64)
    inside = np.zeros((2, COUNT // 8), dtype=np.int32)
    weights, one = np.full(3, 0.3, dtype=np.float32), np.ones(2, dtype=np.float32)

    def blend(kind: int, threshold: npt.NDArray[np.int64], *, consensus: bool) -> Callable[[], object]:
        keep = (np.full(2, kind), threshold, np.full(2, 3), np.full(2, 5), np.full(2, 77, dtype=np.uint64))
        return lambda: combine_task_vectors(
            *deltas, COUNT, 0, *keep, one, one, np.float32(2), consensus, consensus, np.float32(1), into, BF16,
            rows, draws, seen,
        )  # fmt: skip

    half = np.full(2, 1 << 31)
    draw = (
        np.full(2, DRAW),
        half,
        np.zeros(2, np.int64),
        np.zeros(2, np.int64),
        np.full(2, 77, dtype=np.uint64),
    )
    copy = models[0].view(np.uint16)
    work: dict[str, tuple[int, Callable[[], object]]] = {
        "memcpy": (4, lambda: np.copyto(out, copy)),
        "linear, 3 sources": (
            8,
            lambda: weighted_sum(
                addresses, codes, COUNT, weights, np.float32(1.1), np.float32(0), into, BF16, rows
            ),
        ),
        "gram, 2 sources": (
            4,
            lambda: measure_gram(addresses[:2], codes[:2], COUNT, 0, np.zeros((leaves, 2, 2)), rows, lanes),
        ),
        "bracket, 2 task vectors": (
            6,
            lambda: count_bracket(
                *deltas, COUNT, 0, low, high, *counts, inside, np.zeros(2, dtype=np.int64), flags, rows
            ),
        ),
        "coarse histogram": (6, lambda: count_coarse(*deltas, both, COUNT, coarse, rows)),
        "fine histogram": (6, lambda: count_fine(*deltas, both, COUNT, middle >> 16, fine, rows)),
        "ties per leaf": (6, lambda: count_ties(*deltas, both, COUNT, 0, middle, ties, rows)),
        "L1 norms, drawn": (
            6,
            lambda: measure_l1(*deltas, COUNT, 0, *draw, np.zeros((leaves, 2, 2)), rows, draws, seen, lanes),
        ),
        "task_arithmetic blend": (8, blend(KEEP, half, consensus=False)),
        "ties blend": (8, blend(CUT, middle, consensus=True)),
        "dare_ties blend": (8, blend(DRAW, half, consensus=True)),
        "digest (BLAKE3)": (2, lambda: piece_digests(copy.view(np.uint8).data)),
    }
    print(f"{COUNT:,} elements, one thread, best of {runs}")
    print(f"{'':26}{'ns/element':>12}{'GB/s':>8}")
    for name, (moved, call) in work.items():
        seconds = best(call, runs)
        print(f"{name:26}{seconds / COUNT * 1e9:12.3f}{moved * COUNT / seconds / 1e9:8.1f}")


if __name__ == "__main__":
    main()
