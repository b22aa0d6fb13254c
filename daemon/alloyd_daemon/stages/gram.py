"""Stage: inner products of every pair of sources."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alloyd_kernels.dtypes import LEAF
from alloyd_kernels.gram.cpu import measure_gram

from ..engine.block import Block, Scratch
from ..stages import Finding, Numbers, Recall, Stage, Steps


@dataclass(frozen=True, slots=True)
class Gram:
    """Inner products of the sources at ``positions``; resolves to float64 [n, n], symmetric."""

    positions: tuple[int, ...]

    def begin(self, elements: int, workers: int) -> GramSweep:
        return GramSweep(self.positions, elements)


def inner_products(positions: tuple[int, ...]) -> Steps[npt.NDArray[np.float64]]:
    """The Gram matrix of the sources at ``positions``, float64 [n, n]."""

    def measure(missing: tuple[int, ...]) -> Generator[Stage, Any, list[Numbers]]:
        found = yield Gram(positions)
        return [tuple(found.reshape(-1).tolist())]

    n = len(positions)
    (numbers,) = yield Recall((Finding("gram", positions, (), n * n),), measure)
    return np.array(numbers, dtype=np.float64).reshape(n, n)


def gram_bytes(sources: int, leaves: int, workers: int) -> int:
    """Private memory of a sweep."""
    return 8 * leaves * sources * sources


class GramSweep:
    """One float64 partial per leaf, folded by leaf index in one fixed binary tree."""

    def __init__(self, positions: tuple[int, ...], elements: int) -> None:
        self.pick = np.array(positions, dtype=np.intp)
        self.partials = np.zeros((-(-elements // LEAF), len(positions), len(positions)))

    def measure(self, block: Block, worker: int, scratch: Scratch) -> None:
        measure_gram(
            block.addresses[self.pick],
            block.codes[self.pick],
            block.count,
            block.first,
            self.partials,
            scratch.rows,
            scratch.lanes,
        )

    def resolve(self) -> npt.NDArray[np.float64]:
        total = fold_leaves(self.partials)
        return np.asarray(total + np.triu(total, 1).T)


def fold_leaves(partials: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sum over the first axis by a binary tree that depends on its length only; float64 [leaves, ...] -> [...]."""
    while len(partials) > 1:
        if len(partials) % 2:
            partials = np.concatenate([partials, np.zeros_like(partials[:1])])
        partials = partials[0::2] + partials[1::2]
    return partials[0] if len(partials) else np.zeros(partials.shape[1:])
