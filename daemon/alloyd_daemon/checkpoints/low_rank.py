"""The two factors of an adapter's change of one tensor, decoded to float32 and laid out for the kernel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alloyd_kernels.dtypes import CODES, TILE
from alloyd_kernels.low_rank.cpu import add_low_rank
from alloyd_kernels.tile.reference import NUMPY_TYPES

from .checkpoint import LowRank, Tensor


class Factors:
    """Adds scale * (left @ right) to blocks of a weight; safe for use by several threads."""

    def __init__(self, low_rank: LowRank, a: memoryview, b: memoryview) -> None:
        self._weight_code = CODES[low_rank.weight.dtype]
        self._scale = np.float32(low_rank.scale)
        self._columns = low_rank.columns
        first, second = _matrix(low_rank.a, a), _matrix(low_rank.b, b)
        left, right = (first.T, second.T) if low_rank.transposed else (second, first)
        self._left = np.empty((low_rank.rows, low_rank.rank), dtype=np.float32)
        self._left[:] = left
        tiles = -(-self._columns // TILE)
        self._right = np.zeros((tiles, low_rank.rank, TILE), dtype=np.float32)
        for tile in range(tiles):
            part = right[:, tile * TILE : (tile + 1) * TILE]
            self._right[tile, :, : part.shape[1]] = part

    def add(self, weight: memoryview, first: int, out: memoryview) -> None:
        """Write to ``out`` (float32) what the elements from ``first`` on become; ``weight`` has their stored bytes."""
        stored = np.frombuffer(weight, dtype=np.uint8)
        target = np.frombuffer(out, dtype=np.uint8)
        add_low_rank(
            np.uint64(stored.ctypes.data),
            self._weight_code,
            first,
            len(target) // 4,
            self._columns,
            self._left,
            np.uint64(self._right.ctypes.data),
            self._scale,
            np.uint64(target.ctypes.data),
            np.empty((2, TILE), dtype=np.float32),
        )


def _matrix(tensor: Tensor, data: memoryview) -> npt.NDArray[np.generic]:
    """The stored values; where they begin need not be aligned."""
    kind = NUMPY_TYPES[CODES[tensor.dtype]]
    return np.ndarray(tensor.shape, dtype=kind, buffer=data)
