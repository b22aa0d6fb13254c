"""Blends: what writes an output block from its sources, in one fused pass with resolved coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from alloyd_kernels.task_vectors.cpu import combine_task_vectors
from alloyd_kernels.weighted_sum.cpu import weighted_sum

from .block import Block, Scratch
from .sparsifier import Sparsifier, SparsifierArrays


class Blend(Protocol):
    """Writes blocks; ``copies`` is the source whose bytes ARE the output when the element types agree, else
    ``None``."""

    @property
    def copies(self) -> int | None: ...

    def write(self, block: Block, scratch: Scratch) -> int:
        """Write ``block.out``; returns how many elements are NaN or infinite. Called from several threads at once."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One source, unchanged but for its element type."""

    position: int

    @property
    def copies(self) -> int | None:
        return self.position

    def write(self, block: Block, scratch: Scratch) -> int:
        pick = slice(self.position, self.position + 1)
        one = np.ones(1, dtype=np.float32)
        return int(
            weighted_sum(
                block.addresses[pick],
                block.codes[pick],
                block.count,
                one,
                one[0],
                np.float32(0.0),
                block.out,
                block.out_code,
                scratch.rows,
            )
        )


class WeightedSum:
    """sum_i weight_i * source_i / divisor + offset over the sources at ``positions``, added in order in float32."""

    copies: int | None = None

    def __init__(
        self,
        positions: Sequence[int],
        weights: Sequence[float],
        divisor: float = 1.0,
        offset: float = 0.0,
    ) -> None:
        self.pick: npt.NDArray[np.intp] = np.array(positions, dtype=np.intp)
        self.weights = np.array(weights, dtype=np.float32)
        self.divisor = np.float32(divisor)
        self.offset = np.float32(offset)

    def write(self, block: Block, scratch: Scratch) -> int:
        return int(
            weighted_sum(
                block.addresses[self.pick],
                block.codes[self.pick],
                block.count,
                self.weights,
                self.divisor,
                self.offset,
                block.out,
                block.out_code,
                scratch.rows,
            )
        )


class TaskVectorSum:
    """base + factor * (combination of sparsified, scaled, weighted task vectors)."""

    copies: int | None = None

    def __init__(
        self,
        base: int,
        positions: Sequence[int],
        sparsifiers: Sequence[Sparsifier],
        *,
        scales: Sequence[float],
        weights: Sequence[float],
        consensus: bool,
        normalize: bool,
        factor: float,
    ) -> None:
        self.base = base
        self.pick: npt.NDArray[np.intp] = np.array(positions, dtype=np.intp)
        self.keep = SparsifierArrays.of(sparsifiers)
        self.scales = np.array(scales, dtype=np.float32)
        self.weights = np.array(weights, dtype=np.float32)
        divisor = np.float32(0.0)
        for weight in self.weights:
            divisor += weight
        self.divisor = np.float32(1.0) if abs(divisor) < 1e-8 else divisor
        self.consensus = consensus
        self.normalize = normalize
        self.factor = np.float32(factor)

    def write(self, block: Block, scratch: Scratch) -> int:
        keep = self.keep
        return int(
            combine_task_vectors(
                *block.task_vectors(self.base, self.pick),
                block.count,
                block.first,
                keep.kinds,
                keep.thresholds,
                keep.leaves,
                keep.quotas,
                keep.keys,
                self.scales,
                self.weights,
                self.divisor,
                self.consensus,
                self.normalize,
                self.factor,
                block.out,
                block.out_code,
                scratch.rows,
                scratch.draws,
                scratch.seen,
            )
        )
