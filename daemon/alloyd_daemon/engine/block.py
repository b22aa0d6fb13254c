"""One block of one tensor as kernels see it (addresses and element types), and a worker's scratch memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alloyd_kernels.dtypes import TILE

Addresses = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Block:
    """``count`` consecutive elements of every source of a tensor, from element ``first`` (a multiple of LEAF) on.

    ``addresses`` uint64 [n] and ``codes`` int64 [n] are in recipe order; ``out`` and ``out_code`` are where the blend
    writes (0 while measuring).
    """

    first: int
    count: int
    addresses: Addresses
    codes: Codes
    out: int = 0
    out_code: int = 0

    def part(self, begin: int, count: int, widths: Addresses, out_width: int) -> Block:
        """``count`` elements from element ``begin`` of this block on (a multiple of LEAF).

        ``widths`` (uint64 [n]) and ``out_width`` are bytes of one element.
        """
        return Block(
            self.first + begin,
            count,
            self.addresses + np.uint64(begin) * widths,
            self.codes,
            self.out + begin * out_width,
            self.out_code,
        )

    def task_vectors(self, base: int, positions: npt.NDArray[np.intp]) -> tuple[Any, Any, Addresses, Codes]:
        """The first four arguments of every kernel on task vectors: the base, its code, the sources, their codes."""
        return self.addresses[base], self.codes[base], self.addresses[positions], self.codes[positions]


class Scratch:
    """What one worker's kernels write to between loads and stores; made once, for at most ``sources`` sources.

    ``rows`` are those that a method asks for beyond one a source and four.
    """

    def __init__(self, sources: int, rows: int = 0) -> None:
        self.rows = np.empty((sources + 4 + rows, TILE), dtype=np.float32)
        self.draws = np.empty(TILE, dtype=np.uint32)
        self.flags = np.empty(TILE, dtype=np.uint8)
        self.seen = np.zeros(sources, dtype=np.int64)
        self.lanes = np.zeros((max(2 * sources, sources * sources), TILE), dtype=np.float64)

    @staticmethod
    def nbytes(sources: int, rows: int = 0) -> int:
        """Bytes of a scratch for ``sources`` sources and ``rows`` more rows."""
        return TILE * (4 * (sources + 4 + rows) + 5 + 8 * max(2 * sources, sources * sources)) + 8 * sources
