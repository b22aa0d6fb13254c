"""Stage: where to cut each task vector so that exactly k elements of largest magnitude stay."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alloyd_kernels.dtypes import LEAF
from alloyd_kernels.magnitudes.cpu import FINE, SPARE, WAYS, count_coarse, count_fine, count_ties

from ..block import Block, Scratch
from . import Stage

COARSE = 32_768
EVERY_LEAF = 2**62


@dataclass(frozen=True, slots=True)
class Cut:
    """Keep magnitudes whose bits exceed ``threshold``, and of its equals those of leaves before ``leaf`` and the first
    ``quota`` within it."""

    threshold: int
    leaf: int = EVERY_LEAF
    quota: int = 0


@dataclass(frozen=True, slots=True)
class CoarseMagnitudes:
    """Counts of |source - base| by the upper 15 magnitude bits; resolves to int64 [n, 32768]."""

    base: int
    positions: tuple[int, ...]

    def begin(self, elements: int, workers: int) -> CoarseSweep:
        return CoarseSweep(self, workers)


@dataclass(frozen=True, slots=True)
class FineMagnitudes:
    """Counts by the lower 16 magnitude bits of those in one coarse bin a source; resolves to int64 [n, 65536]."""

    base: int
    positions: tuple[int, ...]
    coarse: tuple[int, ...]

    def begin(self, elements: int, workers: int) -> FineSweep:
        return FineSweep(self, workers)


@dataclass(frozen=True, slots=True)
class Ties:
    """How many elements of each leaf have exactly the magnitude bits ``thresholds``; resolves to int64 [n, leaves]."""

    base: int
    positions: tuple[int, ...]
    thresholds: tuple[int, ...]

    def begin(self, elements: int, workers: int) -> TieSweep:
        return TieSweep(self, elements)


def magnitude_bytes(sources: int, leaves: int, workers: int) -> int:
    """Private memory of the largest of the three sweeps."""
    coarse = 8 * sources * COARSE * (WAYS * workers + 2)
    fine = 8 * sources * (FINE + SPARE) * (workers + 2)
    return max(coarse, fine, 8 * sources * leaves)


class CoarseSweep:
    def __init__(self, stage: CoarseMagnitudes, workers: int) -> None:
        self.base = stage.base
        self.pick = np.array(stage.positions, dtype=np.intp)
        self.active = np.ones(len(stage.positions), dtype=np.bool_)
        self.shape = (len(stage.positions), WAYS, COARSE)
        self.counts: list[npt.NDArray[np.int64] | None] = [None] * workers

    def measure(self, block: Block, worker: int, scratch: Scratch) -> None:
        counts = self.counts[worker]
        if counts is None:
            counts = self.counts[worker] = np.zeros(self.shape, dtype=np.int64)
        count_coarse(
            block.addresses[self.base],
            block.codes[self.base],
            block.addresses[self.pick],
            block.codes[self.pick],
            self.active,
            block.count,
            counts,
            scratch.rows,
        )

    def resolve(self) -> npt.NDArray[np.int64]:
        total = np.zeros((self.shape[0], COARSE), dtype=np.int64)
        for counts in self.counts:
            if counts is not None:
                total += counts.sum(axis=1)
        return total


class FineSweep:
    def __init__(self, stage: FineMagnitudes, workers: int) -> None:
        self.base = stage.base
        self.pick = np.array(stage.positions, dtype=np.intp)
        self.active = np.ones(len(stage.positions), dtype=np.bool_)
        self.coarse = np.array(stage.coarse, dtype=np.int64)
        self.counts: list[npt.NDArray[np.int64] | None] = [None] * workers

    def measure(self, block: Block, worker: int, scratch: Scratch) -> None:
        counts = self.counts[worker]
        if counts is None:
            counts = self.counts[worker] = np.zeros((len(self.pick), FINE + SPARE), dtype=np.int64)
        count_fine(
            block.addresses[self.base],
            block.codes[self.base],
            block.addresses[self.pick],
            block.codes[self.pick],
            self.active,
            block.count,
            self.coarse,
            counts,
            scratch.rows,
        )

    def resolve(self) -> npt.NDArray[np.int64]:
        total = np.zeros((len(self.pick), FINE), dtype=np.int64)
        for counts in self.counts:
            if counts is not None:
                total += counts[:, :FINE]
        return total


class TieSweep:
    def __init__(self, stage: Ties, elements: int) -> None:
        self.base = stage.base
        self.pick = np.array(stage.positions, dtype=np.intp)
        self.active = np.ones(len(stage.positions), dtype=np.bool_)
        self.thresholds = np.array(stage.thresholds, dtype=np.int64)
        self.ties = np.zeros((len(stage.positions), -(-elements // LEAF)), dtype=np.int64)

    def measure(self, block: Block, worker: int, scratch: Scratch) -> None:
        count_ties(
            block.addresses[self.base],
            block.codes[self.base],
            block.addresses[self.pick],
            block.codes[self.pick],
            self.active,
            block.count,
            block.first,
            self.thresholds,
            self.ties,
            scratch.rows,
        )

    def resolve(self) -> npt.NDArray[np.int64]:
        return self.ties


def magnitude_cuts(base: int, keep: Mapping[int, int]) -> Generator[Stage, Any, dict[int, Cut]]:
    """Cuts that keep exactly ``keep[position]`` elements (at least one, fewer than all) of each task vector.

    Two histograms find the threshold's bits exactly; where only some of its equals may stay, a third sweep counts them per
    leaf, so that the lowest indices win as in a stable sort.
    """
    positions = tuple(keep)
    counts = yield CoarseMagnitudes(base, positions)
    coarse = [_from_the_top(row, keep[position]) for row, position in zip(counts, positions, strict=True)]
    counts = yield FineMagnitudes(base, positions, tuple(bin_ for bin_, _ in coarse))
    cuts: dict[int, Cut] = {}
    partial: dict[int, int] = {}
    for row, position, (upper, wanted) in zip(counts, positions, coarse, strict=True):
        lower, quota = _from_the_top(row, wanted)
        cuts[position] = Cut((upper << 16) | lower)
        if quota < row[lower]:
            partial[position] = quota
    if partial:
        some = tuple(partial)
        ties = yield Ties(base, some, tuple(cuts[position].threshold for position in some))
        for row, position in zip(ties, some, strict=True):
            before = np.cumsum(row)
            leaf = int(np.searchsorted(before, partial[position]))
            quota = partial[position] - int(before[leaf] - row[leaf])
            cuts[position] = Cut(cuts[position].threshold, leaf, quota)
    return cuts


def _from_the_top(counts: npt.NDArray[np.int64], wanted: int) -> tuple[int, int]:
    """The bin that holds the ``wanted``-th largest, and how many of that bin are among the wanted."""
    above = np.cumsum(counts[::-1])
    place = int(np.searchsorted(above, wanted))
    bin_ = len(counts) - 1 - place
    return bin_, wanted - int(above[place] - counts[bin_])
