"""Merged bytes as the bytes of a GGUF file, chunk by chunk, in as many threads as bring them."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from .encode import encode
from .placement import Extent, Placement

CHUNK: Final = 1 << 17
"""Elements that are decoded and quantised at a time, or one unit where that is more: what stays in a core's cache."""

DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}


class Encoder:
    """Encodes extents; each thread has buffers of its own, of at most :func:`worker_bytes`."""

    def __init__(self) -> None:
        self._buffers = threading.local()

    def encode(self, extent: Extent, data: memoryview, dtype: str, *, tensor: str) -> memoryview:
        """``data``, the elements of ``extent`` as values of the safetensors type ``dtype``, as the file holds them.

        What is returned lasts until the thread encodes again.

        Raises
        ------
        SourceError
            Values that the type cannot hold.
        """
        if extent.part.type.name == dtype and extent.order is None and not extent.part.shift:
            return data
        values = self._buffer("values", extent.elements * 4).view(np.float32)
        stored = self._buffer("stored", extent.size)
        _widen(data, dtype, values)
        encode(extent, values, stored, tensor=tensor)
        return stored.data

    def _buffer(self, name: str, nbytes: int) -> NDArray[np.uint8]:
        """This thread's buffer of that name; it grows to the largest that is asked for."""
        found: NDArray[np.uint8] | None = getattr(self._buffers, name, None)
        if found is None or len(found) < nbytes:
            found = np.empty(nbytes, dtype=np.uint8)
            setattr(self._buffers, name, found)
        return found[:nbytes]


def chunks(placement: Placement, first: int, stop: int) -> Iterator[Extent]:
    """Where the elements [first, stop) of a tensor go, each extent at most a chunk."""
    step = _step(placement)
    for at in range(first, stop, step):
        yield from placement.extents(at, min(step, stop - at))


def unit_of(placement: Placement) -> int:
    """The fewest elements that become consecutive bytes of a file: whole quantisation blocks, and whole heads where
    their rows are interleaved.
    """
    heads = (part.head_rows * part.row_length for part in placement.parts if part.head_rows)
    return math.lcm(placement.unit, *heads)


def worker_bytes(placement: Placement) -> int:
    """Private bytes of one thread: the values of a chunk as float32, two copies at most, and as they are stored."""
    return 16 * min(_step(placement), placement.elements)


def _step(placement: Placement) -> int:
    unit = unit_of(placement)
    return unit * max(1, CHUNK // unit)


def _widen(data: memoryview, dtype: str, out: NDArray[np.float32]) -> None:
    """The elements in ``data`` as float32."""
    if dtype == "BF16":
        # bfloat16 is the upper half of float32; a shift needs no interpreter lock, as a cast of ml_dtypes does.
        np.left_shift(np.frombuffer(data, dtype=np.uint16), 16, out=out.view(np.uint32), dtype=np.uint32)
    else:
        np.copyto(out, np.frombuffer(data, dtype=DTYPES[dtype]), casting="unsafe")
