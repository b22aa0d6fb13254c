"""Stage: histograms of magnitudes, coarse and fine, and ties per leaf; with them every rank is found exactly."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alloyd_kernels.dtypes import LEAF
from alloyd_kernels.magnitudes.cpu import FINE, SPARE, WAYS, count_coarse, count_fine, count_ties

from ..engine.block import Block, Scratch
from ..stages import Finding, Numbers, Recall, Stage, Steps
from .brackets import LARGEST, bracket_bytes, quick_cuts
from .cuts import Cut, cut_at

COARSE = 32_768


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
    """Private memory of the largest sweep that finding cuts can take."""
    coarse = 8 * sources * COARSE * (WAYS * workers + 2)
    fine = 8 * sources * (FINE + SPARE) * (workers + 2)
    quick = bracket_bytes(sources, leaves, workers) if leaves * LEAF <= LARGEST else 0
    return max(coarse, fine, 8 * sources * leaves, quick)


def magnitude_passes(elements: int) -> int:
    """Sweeps that finding cuts takes: sample and bracket, or two histograms and the ties."""
    return 2 if elements <= LARGEST else 3


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
            *block.task_vectors(self.base, self.pick),
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
            *block.task_vectors(self.base, self.pick),
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
            *block.task_vectors(self.base, self.pick),
            self.active,
            block.count,
            block.first,
            self.thresholds,
            self.ties,
            scratch.rows,
        )

    def resolve(self) -> npt.NDArray[np.int64]:
        return self.ties


def magnitude_cuts(base: int, keep: Mapping[int, int], elements: int) -> Steps[dict[int, Cut]]:
    """Cuts that keep exactly ``keep[position]`` elements (at least one, fewer than all) of each task vector.

    Among equal magnitudes the lowest indices stay, as in a stable sort. Each cut is known or measured by itself.
    """
    positions = tuple(keep)

    def measure(missing: tuple[int, ...]) -> Generator[Stage, Any, list[Numbers]]:
        wanted = {positions[each]: keep[positions[each]] for each in missing}
        cuts = yield from measured_cuts(base, wanted, elements)
        return [astuple(cuts[position]) for position in wanted]

    found = yield Recall(
        tuple(Finding("cut", (base, position), (keep[position],), 3) for position in positions), measure
    )
    return {position: Cut(*numbers) for position, numbers in zip(positions, found, strict=True)}


def measured_cuts(base: int, keep: Mapping[int, int], elements: int) -> Generator[Stage, Any, dict[int, Cut]]:
    """The same, measured: in all but huge tensors a sample and a bracket find nearly every cut in two sweeps; where the
    sample misled, histograms do in three more."""
    if elements > LARGEST:
        return (yield from sure_cuts(base, keep))
    quick = yield from quick_cuts(base, keep, elements)
    cuts = {position: cut for position, cut in quick.items() if cut is not None}
    missed = {position: keep[position] for position, cut in quick.items() if cut is None}
    if missed:
        cuts |= yield from sure_cuts(base, missed)
    return cuts


def sure_cuts(base: int, keep: Mapping[int, int]) -> Generator[Stage, Any, dict[int, Cut]]:
    """The same by histograms alone: two find the threshold's bits, a third sweep counts its equals per leaf."""
    positions = tuple(keep)
    counts = yield CoarseMagnitudes(base, positions)
    coarse = [_from_the_top(row, keep[position]) for row, position in zip(counts, positions, strict=True)]
    counts = yield FineMagnitudes(base, positions, tuple(bin_ for bin_, _ in coarse))
    cuts: dict[int, Cut] = {}
    partial: dict[int, tuple[int, int]] = {}
    for row, position, (upper, wanted) in zip(counts, positions, coarse, strict=True):
        lower, quota = _from_the_top(row, wanted)
        threshold = (upper << 16) | lower
        if quota < row[lower]:
            partial[position] = (threshold, quota)
        else:
            cuts[position] = Cut(threshold)
    if partial:
        ties = yield Ties(base, tuple(partial), tuple(threshold for threshold, _ in partial.values()))
        for row, (position, (threshold, quota)) in zip(ties, partial.items(), strict=True):
            cuts[position] = cut_at(threshold, quota, row)
    return cuts


def _from_the_top(counts: npt.NDArray[np.int64], wanted: int) -> tuple[int, int]:
    """The bin that holds the ``wanted``-th largest, and how many of that bin are among the wanted."""
    above = np.cumsum(counts[::-1])
    place = int(np.searchsorted(above, wanted))
    bin_ = len(counts) - 1 - place
    return bin_, wanted - int(above[place] - counts[bin_])
