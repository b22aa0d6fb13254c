"""Stage: a sample of magnitudes, then one exact count around the rank that is wanted."""

from __future__ import annotations

import math
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alloyd_kernels.dtypes import LEAF
from alloyd_kernels.magnitudes.cpu import BINS, RUN, count_bracket, sample_magnitudes, select_ranks

from ..engine.block import Block, Scratch
from ..stages import Stage
from .cuts import Cut, cut_at

SAMPLES = 131_072
"""Sampled elements of a tensor."""

LARGEST = 2**27
"""Elements of a tensor beyond which what a bracket keeps would weigh too much in a small budget."""

SIGMAS = 6.0
"""Half the width of a bracket in standard deviations of the sample's rank; runs of neighbours are alike."""

KEPT_SHARE = 0.03
"""Elements inside a bracket that are kept, as a share of the tensor; more, and the bracket is given up."""

NOTHING = np.int32(-1)
EVERYTHING = np.int32(2**31 - 1)


@dataclass(frozen=True, slots=True)
class SampleMagnitudes:
    """Magnitude bits of |source - base| at evenly spread elements; resolves to int32 [n, samples], unsorted."""

    base: int
    positions: tuple[int, ...]

    def begin(self, elements: int, workers: int) -> SampleSweep:
        return SampleSweep(self, elements)


@dataclass(frozen=True, slots=True)
class BracketMagnitudes:
    """Exact counts against a bracket [low, high] of magnitude bits a source; resolves to a :class:`Bracketed` each."""

    base: int
    positions: tuple[int, ...]
    brackets: tuple[tuple[int, int], ...]

    def begin(self, elements: int, workers: int) -> BracketSweep:
        return BracketSweep(self, elements, workers)


@dataclass(frozen=True, slots=True)
class Bracketed:
    """One source against its bracket: counts per leaf (int32 [leaves]), and the bits strictly inside in element order.

    ``bits`` is ``None`` when there were too many to keep.
    """

    low: int
    high: int
    above: npt.NDArray[np.int32]
    at_high: npt.NDArray[np.int32]
    inside: npt.NDArray[np.int32]
    at_low: npt.NDArray[np.int32]
    bits: npt.NDArray[np.int32] | None

    def cut(self, keep: int) -> Cut | None:
        """The cut that keeps exactly ``keep`` elements, or ``None`` when it lies outside of the bracket."""
        rank = keep - int(self.above.sum())
        if rank <= 0:
            return None
        ties = int(self.at_high.sum())
        if rank <= ties:
            return cut_at(self.high, rank, self.at_high)
        rank -= ties
        within = int(self.inside.sum())
        if rank <= within:
            if self.bits is None:
                return None
            threshold = int(np.partition(self.bits, within - rank)[within - rank])
            equal = self.bits == threshold
            leaves = np.repeat(np.arange(len(self.inside)), self.inside)[equal]
            quota = rank - int((self.bits > threshold).sum())
            return cut_at(threshold, quota, np.bincount(leaves, minlength=len(self.inside)))
        rank -= within
        if self.low != self.high and rank <= int(self.at_low.sum()):
            return cut_at(self.low, rank, self.at_low)
        return None


def bracket_bytes(sources: int, leaves: int, workers: int) -> int:
    """Private memory of the two sweeps: samples and their histograms, counts, what is kept inside and its copies."""
    samples = 4 * leaves * _runs(leaves) * RUN
    kept = int(4 * KEPT_SHARE * leaves * LEAF)
    buffers = 4 * workers * _capacity(leaves * LEAF)
    return (
        max(sources * samples + 4 * 2 * BINS, sources * (kept + buffers) + 2 * kept)
        + sources * 4 * 4 * leaves
    )


def quick_cuts(
    base: int, keep: Mapping[int, int], elements: int
) -> Generator[Stage, Any, dict[int, Cut | None]]:
    """Cuts that keep exactly ``keep[position]`` elements of each task vector; ``None`` where the sample misled."""
    positions = tuple(keep)
    samples = yield SampleMagnitudes(base, positions)
    brackets = tuple(
        bracket(row, keep[position] / elements) for row, position in zip(samples, positions, strict=True)
    )
    counted = yield BracketMagnitudes(base, positions, brackets)
    return {position: each.cut(keep[position]) for position, each in zip(positions, counted, strict=True)}


def bracket(sample: npt.NDArray[np.int32], share: float) -> tuple[int, int]:
    """Magnitude bits [low, high] between which the smallest of the largest ``share`` of all elements surely lies."""
    size = int(np.count_nonzero(sample >= 0))
    rank = size * (1.0 - share)
    reach = SIGMAS * math.sqrt(size * share * (1.0 - share)) + 8.0
    low, high = math.floor(rank - reach), math.ceil(rank + reach)
    inner = np.array([min(max(low, 0), size - 1), min(max(high, 0), size - 1)], dtype=np.int64)
    found = np.empty(2, dtype=np.int32)
    select_ranks(sample, inner, np.empty((2, BINS), dtype=np.int32), found)
    return (
        int(found[0]) if low >= 0 else int(NOTHING),
        int(found[1]) if high < size else int(EVERYTHING),
    )


def _runs(leaves: int) -> int:
    """Runs of a sample in each leaf."""
    return min(max(SAMPLES // (leaves * RUN), 1), LEAF // RUN) if leaves else 1


def _capacity(elements: int) -> int:
    """Elements inside a bracket that a worker can take from one block."""
    return min(elements, 2**21) // 8 + 1024


class SampleSweep:
    def __init__(self, stage: SampleMagnitudes, elements: int) -> None:
        self.base = stage.base
        self.pick = np.array(stage.positions, dtype=np.intp)
        leaves = -(-elements // LEAF)
        self.runs = _runs(leaves)
        self.samples = np.full((len(stage.positions), leaves, self.runs * RUN), NOTHING, dtype=np.int32)

    def measure(self, block: Block, worker: int, scratch: Scratch) -> None:
        sample_magnitudes(
            *block.task_vectors(self.base, self.pick),
            block.count,
            block.first,
            self.runs,
            self.samples,
            scratch.rows,
        )

    def resolve(self) -> npt.NDArray[np.int32]:
        return self.samples.reshape(len(self.pick), -1)


class BracketSweep:
    def __init__(self, stage: BracketMagnitudes, elements: int, workers: int) -> None:
        self.stage = stage
        self.pick = np.array(stage.positions, dtype=np.intp)
        self.lows = np.array([low for low, _ in stage.brackets], dtype=np.int32)
        self.highs = np.array([high for _, high in stage.brackets], dtype=np.int32)
        n, leaves = len(stage.positions), -(-elements // LEAF)
        self.above, self.at_high, self.at_low, self.inside = (
            np.zeros((n, leaves), dtype=np.int32) for _ in range(4)
        )
        self.capacity = _capacity(elements)
        self.buffers: list[npt.NDArray[np.int32] | None] = [None] * workers
        self.kept: list[dict[int, npt.NDArray[np.int32]]] = [{} for _ in range(n)]
        self.room = [int(elements * KEPT_SHARE) + 1024] * n
        self.lock = threading.Lock()

    def measure(self, block: Block, worker: int, scratch: Scratch) -> None:
        buffer = self.buffers[worker]
        if buffer is None:
            buffer = self.buffers[worker] = np.empty((len(self.pick), self.capacity), dtype=np.int32)
        counts = np.zeros(len(self.pick), dtype=np.int64)
        count_bracket(
            *block.task_vectors(self.stage.base, self.pick),
            block.count,
            block.first,
            self.lows,
            self.highs,
            self.above,
            self.at_high,
            self.at_low,
            self.inside,
            buffer,
            counts,
            scratch.flags,
            scratch.rows,
        )
        for i, count in enumerate(counts.tolist()):
            with self.lock:
                self.room[i] -= count
                fits = self.room[i] >= 0 and count <= self.capacity
                if not fits:
                    self.room[i] = -1
                    self.kept[i].clear()
            if fits and count:
                self.kept[i][block.first] = buffer[i, :count].copy()

    def resolve(self) -> list[Bracketed]:
        empty = np.empty(0, dtype=np.int32)
        return [
            Bracketed(
                low,
                high,
                self.above[i],
                self.at_high[i],
                self.inside[i],
                self.at_low[i],
                None
                if self.room[i] < 0
                else np.concatenate([empty, *(self.kept[i][first] for first in sorted(self.kept[i]))]),
            )
            for i, (low, high) in enumerate(self.stage.brackets)
        ]
