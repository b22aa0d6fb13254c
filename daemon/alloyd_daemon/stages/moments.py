"""Stage: sums and inner products of task vectors, from which means, norms, angles and distances follow."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alloyd_kernels.dtypes import LEAF
from alloyd_kernels.moments.cpu import measure_moments

from ..engine.block import Block, Scratch
from ..stages import Finding, Numbers, Recall, Stage, Steps
from .gram import fold_leaves


@dataclass(frozen=True, slots=True)
class Moments:
    """Of the task vectors of the sources at ``positions``: resolves to float64 [n, n + 1].

    Row i holds the sum of task vector i, then its inner product with each (also with those before it).
    """

    base: int
    positions: tuple[int, ...]

    def begin(self, elements: int, workers: int) -> MomentSweep:
        return MomentSweep(self, elements)


def moments(base: int, positions: Sequence[int]) -> Steps[npt.NDArray[np.float64]]:
    """``Moments`` of the task vectors at ``positions``, float64 [n, n + 1]; a pair is known or measured by itself."""
    n = len(positions)
    pairs = [(i, k) for i in range(n) for k in range(i, n)]
    findings = tuple(
        Finding("delta sums", (base, positions[i]), (), 2)
        if i == k
        else Finding("delta products", (base, positions[i], positions[k]), (), 1)
        for i, k in pairs
    )

    def measure(missing: tuple[int, ...]) -> Generator[Stage, Any, list[Numbers]]:
        wanted = [pairs[each] for each in missing]
        used = sorted({each for pair in wanted for each in pair})
        found = yield Moments(base, tuple(positions[each] for each in used))
        place = {each: number for number, each in enumerate(used)}
        return [
            (float(found[place[i], 0]), float(found[place[i], 1 + place[i]]))
            if i == k
            else (float(found[place[i], 1 + place[k]]),)
            for i, k in wanted
        ]

    table = np.zeros((n, n + 1))
    for (i, k), numbers in zip(pairs, (yield Recall(findings, measure)), strict=True):
        if i == k:
            table[i, 0], table[i, 1 + i] = numbers
        else:
            table[i, 1 + k] = table[k, 1 + i] = numbers[0]
    return table


def moment_bytes(sources: int, leaves: int, workers: int) -> int:
    """Private memory of a sweep over a base and ``sources`` others, its fold included."""
    return 2 * 8 * leaves * sources * (sources + 1)


class MomentSweep:
    """One float64 partial per leaf, folded by leaf index in one fixed binary tree."""

    def __init__(self, stage: Moments, elements: int) -> None:
        self.base = stage.base
        self.pick: npt.NDArray[np.intp] = np.array(stage.positions, dtype=np.intp)
        n = len(stage.positions)
        self.partials = np.zeros((-(-elements // LEAF), n, n + 1))

    def measure(self, block: Block, worker: int, scratch: Scratch) -> None:
        measure_moments(
            *block.task_vectors(self.base, self.pick),
            block.count,
            block.first,
            self.partials,
            scratch.rows,
            scratch.lanes,
        )

    def resolve(self) -> npt.NDArray[np.float64]:
        total = fold_leaves(self.partials)
        products = total[:, 1:]
        return np.column_stack([total[:, 0], products + np.triu(products, 1).T])
