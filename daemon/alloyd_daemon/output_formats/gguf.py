"""GGUF: one file for llama.cpp, quantised block by block while the merge streams, with ggml's own quantiser."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import ml_dtypes
import numpy as np
from blake3 import blake3
from msgspec import structs
from numpy.typing import NDArray

from ..checkpoints.journal import Block
from ..checkpoints.layout import MergedTensor, Run, Shard, Slot, merged_tensors
from ..checkpoints.sink import StagedSink
from ..gguf.encode import encode
from ..gguf.imatrix import read_imatrix
from ..gguf.layout import GgufLayout, describe
from ..gguf.placement import Extent
from ..gguf.types import file_type
from ..output_format import OUTPUT_FORMATS, Model, OutputFormat

CHUNK: Final = 1 << 17
"""Elements that are decoded and quantised at a time, or one unit where that is more: what stays in a core's cache."""

LIBRARIES: Final = 32 * 1024 * 1024
"""Private bytes of the gguf package, llama.cpp's libraries, and the metadata of a large vocabulary."""

_DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}


@dataclass(frozen=True, slots=True)
class GgufOutput:
    """One GGUF file as a layout: a run is what a block becomes at consecutive bytes of the file."""

    file: GgufLayout
    filename: str
    identity: str
    tensors: tuple[MergedTensor, ...]
    encodes = True
    fixed_bytes = LIBRARIES

    @property
    def shards(self) -> tuple[Shard, ...]:
        constants = tuple((each.offset, each.data) for each in self.file.constants)
        return (Shard(self.filename, self.file.header, self.file.size, constants),)

    @property
    def slots(self) -> tuple[Slot, ...]:
        return tuple(
            Slot(each.name, each.type.name, each.shape, 0, each.offset, each.size)
            for each in self.file.tensors
        )

    @property
    def sides(self) -> Mapping[str, bytes]:
        return {}

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.file.warnings

    def unit(self, tensor: int) -> int:
        """Whole quantisation blocks, and whole heads where their rows are interleaved: then a block of the merge is
        consecutive in the file."""
        placement = self.file.placements[tensor]
        heads = (part.head_rows * part.row_length for part in placement.parts if part.head_rows)
        return math.lcm(placement.unit, *heads)

    def worker_bytes(self, tensor: int, block: int) -> int:
        """The values of a chunk as float32, two copies at most (other order, shift), and as they are stored."""
        return 16 * self._step(tensor)

    def state_bytes(self, tensor: int) -> int:
        return 0

    def _step(self, tensor: int) -> int:
        unit = self.unit(tensor)
        return min(unit * max(1, CHUNK // unit), self.tensors[tensor].elements)

    def extents(self, tensor: int, start: int, stop: int) -> Iterator[Extent]:
        """Where bytes [start, stop) of a merged tensor go, each extent at most a chunk.

        Raises
        ------
        ValueError
            The range is not inside the tensor, or cuts a unit in two.
        """
        merged = self.tensors[tensor]
        unit = self.unit(tensor) * merged.width
        if not 0 <= start <= stop <= merged.nbytes or start % unit or (stop % unit and stop < merged.nbytes):
            raise ValueError(f"bytes [{start}, {stop}) of '{merged.name}' are no block")
        placement, step = self.file.placements[tensor], self._step(tensor)
        first, end = start // merged.width, stop // merged.width
        for at in range(first, end, max(1, step)):
            yield from placement.extents(at, min(step, end - at))

    def runs(self, tensor: int, start: int, stop: int) -> Iterator[Run]:
        run: Run | None = None
        for extent in self.extents(tensor, start, stop):
            if run is not None and run.offset + run.size == extent.offset:
                run = Run(0, run.offset, run.size + extent.size)
                continue
            if run is not None:
                yield run
            run = Run(0, extent.offset, extent.size)
        if run is not None:
            yield run


class GgufSink(StagedSink):
    """Quantises blocks in the threads that bring them."""

    layout: GgufOutput
    _buffers = threading.local()

    def put(self, block: Block, data: memoryview) -> None:
        merged = self.layout.tensors[block.tensor]
        digests: list[bytes] = []
        digest, end = blake3(), -1
        for extent in self.layout.extents(block.tensor, block.start, block.stop):
            at = extent.first * merged.width - block.start
            stored = self._encoded(extent, data[at : at + extent.elements * merged.width], merged)
            if extent.offset != end and end >= 0:
                digests.append(digest.digest())
                digest = blake3()
            self.files.write(0, extent.offset, stored)
            digest.update(stored)
            end = extent.offset + stored.nbytes
        if end >= 0:
            digests.append(digest.digest())
        self.record(structs.replace(block, stored=tuple(digests)))

    def _encoded(self, extent: Extent, data: memoryview, merged: MergedTensor) -> memoryview:
        if extent.part.type.name == merged.dtype and extent.order is None and not extent.part.shift:
            return data
        values = self._buffer("values", extent.elements * 4).view(np.float32)
        stored = self._buffer("stored", extent.size)
        _widen(data, merged.dtype, values)
        encode(extent, values, stored, tensor=merged.name)
        return stored.data

    def _buffer(self, name: str, nbytes: int) -> NDArray[np.uint8]:
        """This thread's buffer of that name; it grows to the largest that is asked for."""
        found: NDArray[np.uint8] | None = getattr(self._buffers, name, None)
        if found is None or len(found) < nbytes:
            found = np.empty(nbytes, dtype=np.uint8)
            setattr(self._buffers, name, found)
        return found[:nbytes]


def _widen(data: memoryview, dtype: str, out: NDArray[np.float32]) -> None:
    """The elements in ``data`` as float32."""
    if dtype == "BF16":
        # bfloat16 is the upper half of float32; a shift needs no interpreter lock, as a cast of ml_dtypes does.
        np.left_shift(np.frombuffer(data, dtype=np.uint16), 16, out=out.view(np.uint32), dtype=np.uint32)
    else:
        np.copyto(out, np.frombuffer(data, dtype=_DTYPES[dtype]), casting="unsafe")


def _lay_out(model: Model) -> GgufOutput:
    kind = file_type(model.form.type or "").name
    imatrix = None
    if model.form.imatrix is not None:
        imatrix = read_imatrix(model.base_dir / Path(model.form.imatrix))
    filename = f"{model.title or 'model'}-{kind}.gguf"
    file = describe(
        model.tensors,
        model.config,
        model.folder,
        kind,
        filename=filename,
        imatrix=imatrix,
        name=model.title,
    )
    library = version("llama_cpp_python")
    weighted = f", imatrix {imatrix.digest}" if imatrix is not None else ""
    identity = f"gguf {kind}, llama_cpp_python {library}{weighted}"
    return GgufOutput(file, filename, identity, merged_tensors(model.tensors))


OUTPUT_FORMATS.register(
    "gguf",
    OutputFormat(
        name="gguf",
        summary="one file for llama.cpp, of any of its types",
        lay_out=_lay_out,
        sink=GgufSink,
    ),
)
