"""GGUF: one file for llama.cpp, quantised block by block while the merge streams, with ggml's own quantiser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from blake3 import blake3
from msgspec import structs

from ..checkpoints.journal import Block
from ..checkpoints.layout import MergedTensor, Run, Shard, Slot, merged_tensors
from ..checkpoints.sink import StagedSink
from ..gguf.encoder import Encoder, chunks, unit_of, worker_bytes
from ..gguf.imatrix import read_imatrix
from ..gguf.layout import GgufLayout, describe
from ..gguf.placement import Extent
from ..gguf.types import file_type
from ..output_format import OUTPUT_FORMATS, Model, OutputFormat

LIBRARIES: Final = 32 * 1024 * 1024
"""Private bytes of the gguf package, llama.cpp's libraries, and the metadata of a large vocabulary."""


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
        return unit_of(self.file.placements[tensor])

    def worker_bytes(self, tensor: int, block: int) -> int:
        return worker_bytes(self.file.placements[tensor])

    def state_bytes(self, tensor: int) -> int:
        return 0

    def extents(self, tensor: int, start: int, stop: int) -> Iterator[Extent]:
        """Where bytes [start, stop) of a merged tensor go.

        Raises
        ------
        ValueError
            The range is not inside the tensor, or cuts a unit in two.
        """
        merged = self.tensors[tensor]
        unit = self.unit(tensor) * merged.width
        if not 0 <= start <= stop <= merged.nbytes or start % unit or (stop % unit and stop < merged.nbytes):
            raise ValueError(f"bytes [{start}, {stop}) of '{merged.name}' are no block")
        return chunks(self.file.placements[tensor], start // merged.width, stop // merged.width)

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

    def __init__(self, final: Path, layout: GgufOutput, **how: Any) -> None:
        super().__init__(final, layout, **how)
        self._encoder = Encoder()

    def put(self, block: Block, data: memoryview) -> None:
        merged = self.layout.tensors[block.tensor]
        digests: list[bytes] = []
        digest, end = blake3(), -1
        for extent in self.layout.extents(block.tensor, block.start, block.stop):
            at = extent.first * merged.width - block.start
            values = data[at : at + extent.elements * merged.width]
            stored = self._encoder.encode(extent, values, merged.dtype, tensor=merged.name)
            if extent.offset != end and end >= 0:
                digests.append(digest.digest())
                digest = blake3()
            self.files.write(0, extent.offset, stored)
            digest.update(stored)
            end = extent.offset + stored.nbytes
        if end >= 0:
            digests.append(digest.digest())
        self.record(structs.replace(block, stored=tuple(digests)))


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
        library="gguf",
    ),
)
