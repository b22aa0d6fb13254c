"""Stage: L1 norms of task vectors, whole and as sparsified."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alloyd_kernels.delta_norms.cpu import measure_l1
from alloyd_kernels.dtypes import LEAF

from ..engine.block import Block, Scratch
from ..engine.sparsifier import Sparsifier, SparsifierArrays
from ..stages import Finding, Numbers, Recall, Stage, Steps
from .gram import fold_leaves


@dataclass(frozen=True, slots=True)
class DeltaNorms:
    """(sum |d|, sum |d| of what is kept) of each task vector; resolves to float64 [n, 2].

    Task vectors that keep everything are not measured: their rows are zero.
    """

    base: int
    positions: tuple[int, ...]
    sparsifiers: tuple[Sparsifier, ...]

    def begin(self, elements: int, workers: int) -> DeltaNormSweep:
        return DeltaNormSweep(self, elements)


def l1_norms(
    base: int, positions: Sequence[int], sparsifiers: Sequence[Sparsifier]
) -> Steps[npt.NDArray[np.float64]]:
    """``DeltaNorms`` of each task vector, float64 [n, 2]; each is known or measured by itself."""
    thinned = [place for place, each in enumerate(sparsifiers) if each != Sparsifier.keep()]

    def measure(missing: tuple[int, ...]) -> Generator[Stage, Any, list[Numbers]]:
        places = [thinned[each] for each in missing]
        found = yield DeltaNorms(
            base, tuple(positions[each] for each in places), tuple(sparsifiers[each] for each in places)
        )
        return [tuple(row) for row in found.tolist()]

    norms = np.zeros((len(positions), 2))
    findings = tuple(
        Finding("delta norms", (base, positions[place]), astuple(sparsifiers[place]), 2) for place in thinned
    )
    if findings:
        norms[thinned] = yield Recall(findings, measure)
    return norms


def norm_bytes(sources: int, leaves: int, workers: int) -> int:
    """Private memory of a sweep, its fold included."""
    return 2 * 16 * leaves * sources


class DeltaNormSweep:
    def __init__(self, stage: DeltaNorms, elements: int) -> None:
        self.base = stage.base
        self.pick = np.array(stage.positions, dtype=np.intp)
        self.keep = SparsifierArrays.of(stage.sparsifiers)
        self.partials = np.zeros((-(-elements // LEAF), len(stage.positions), 2))

    def measure(self, block: Block, worker: int, scratch: Scratch) -> None:
        keep = self.keep
        measure_l1(
            *block.task_vectors(self.base, self.pick),
            block.count,
            block.first,
            keep.kinds,
            keep.thresholds,
            keep.leaves,
            keep.quotas,
            keep.keys,
            self.partials,
            scratch.rows,
            scratch.draws,
            scratch.seen,
            scratch.lanes,
        )

    def resolve(self) -> npt.NDArray[np.float64]:
        return fold_leaves(self.partials)
