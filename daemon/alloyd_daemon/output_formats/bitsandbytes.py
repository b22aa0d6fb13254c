"""bitsandbytes: an ordinary pre-quantised safetensors checkpoint, each matrix quantised once all of it is merged."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from ..checkpoints.digest import piece_digests
from ..checkpoints.journal import Block
from ..checkpoints.layout import Layout, MergedTensor, Run, Shard, Slot, merged_tensors
from ..checkpoints.safetensors_layout import SafetensorsLayout, lay_out, pieces_of
from ..checkpoints.sink import StagedSink
from ..late import version
from ..output_format import OUTPUT_FORMATS, Model, OutputFormat
from ..quantised_layout import QuantisedLayout, quantised_layout
from ..quantiser import quantiser

LIBRARIES: Final = 512 * 1024 * 1024
"""Private bytes of torch, transformers and bitsandbytes."""


@dataclass(frozen=True, slots=True)
class QuantisedOutput:
    """A checkpoint in which each merged tensor is one stored tensor or, quantised, several; a run is a piece of one.

    ``places`` has the slots of each merged tensor.
    """

    quantised: QuantisedLayout
    checkpoint: SafetensorsLayout
    tensors: tuple[MergedTensor, ...]
    places: tuple[tuple[int, ...], ...]
    identity: str
    encodes = True
    fixed_bytes = LIBRARIES

    @property
    def shards(self) -> tuple[Shard, ...]:
        return self.checkpoint.shards

    @property
    def slots(self) -> tuple[Slot, ...]:
        return self.checkpoint.slots

    @property
    def sides(self) -> Mapping[str, bytes]:
        return self.checkpoint.sides

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.quantised.warnings

    def is_whole(self, tensor: int) -> bool:
        """Whether a tensor is stored as it is."""
        return self.quantised.tensors[tensor].unchanged

    def unit(self, tensor: int) -> int:
        return 1

    def worker_bytes(self, tensor: int, block: int) -> int:
        return self.quantised.workspace(tensor)

    def state_bytes(self, tensor: int) -> int:
        """A matrix is gathered before it is quantised."""
        return 0 if self.is_whole(tensor) else self.tensors[tensor].nbytes

    def runs(self, tensor: int, start: int, stop: int) -> Iterator[Run]:
        """All of a quantised tensor is one block.

        Raises
        ------
        ValueError
            The range is not inside the tensor, or no block.
        """
        if self.is_whole(tensor):
            yield from pieces_of(self.slots[self.places[tensor][0]], start, stop)
            return
        if (start, stop) != (0, self.tensors[tensor].nbytes):
            raise ValueError(f"bytes [{start}, {stop}) of '{self.tensors[tensor].name}' are not all of it")
        for place in self.places[tensor]:
            slot = self.slots[place]
            yield from pieces_of(slot, 0, slot.nbytes)


class QuantisedSink(StagedSink):
    """Gathers the blocks of a matrix; whoever brings the last one quantises it. It is journalled as one block."""

    layout: QuantisedOutput
    _gathered: dict[int, _Matrix]
    _gathering: threading.Lock

    def open(self) -> tuple[Block, ...]:
        self._gathered = {}
        self._gathering = threading.Lock()
        return super().open()

    def put(self, block: Block, data: memoryview) -> None:
        if self.layout.is_whole(block.tensor):
            super().put(structs.replace(block, stored=block.pieces), data)
            return
        with self._gathering:
            matrix = self._gathered.setdefault(
                block.tensor, _Matrix(self.layout.tensors[block.tensor].nbytes)
            )
        matrix.data[block.start : block.stop] = np.frombuffer(data, dtype=np.uint8)
        with self._gathering:
            matrix.blocks.append(block)
            if sum(each.stop - each.start for each in matrix.blocks) < len(matrix.data):
                return
            del self._gathered[block.tensor]
        digests: list[bytes] = []
        encoded = self.layout.quantised.encode(block.tensor, matrix.data)
        for place in self.layout.places[block.tensor]:
            slot = self.layout.slots[place]
            stored = encoded[slot.name]
            self.files.write(slot.shard, slot.offset, stored)
            digests += piece_digests(stored)
        self.record(structs.replace(_joined(matrix.blocks), stored=tuple(digests)))


class _Matrix:
    """A matrix of which not all blocks were brought yet."""

    def __init__(self, nbytes: int) -> None:
        self.data: NDArray[np.uint8] = np.empty(nbytes, dtype=np.uint8)
        self.blocks: list[Block] = []


def _joined(blocks: Sequence[Block]) -> Block:
    """The blocks of a whole tensor as one."""
    ordered = sorted(blocks, key=lambda each: each.start)
    inputs: dict[int, tuple[bytes, ...]] = {}
    facts: dict[str, int] = {}
    for block in ordered:
        for position, pieces in block.inputs:
            inputs[position] = inputs.get(position, ()) + pieces
        for name, count in block.facts.items():
            facts[name] = facts.get(name, 0) + count
    return Block(
        ordered[0].tensor,
        0,
        ordered[-1].stop,
        tuple(piece for block in ordered for piece in block.pieces),
        tuple(inputs.items()),
        facts,
    )


def _lay_out(model: Model) -> QuantisedOutput:
    kind = model.form.type or ""
    # Asked before anything is laid out, so that its absence is told before work.
    library = version("bitsandbytes", user=f"writing {kind}", extra="bitsandbytes")
    quantised = quantised_layout(model.tensors, model.config, quantiser(kind, model.form.options))
    checkpoint = lay_out(
        [(each.name, each.dtype, each.shape) for each in quantised.stored], shard_size=model.shard_size
    )
    places: list[tuple[int, ...]] = []
    at = 0
    for tensor in quantised.tensors:
        places.append(tuple(range(at, at + len(tensor.stored))))
        at += len(tensor.stored)
    options = "".join(f", {key} {value}" for key, value in sorted(model.form.options.items()))
    identity = f"bitsandbytes {kind}{options}, bitsandbytes {library}"
    return QuantisedOutput(quantised, checkpoint, merged_tensors(model.tensors), tuple(places), identity)


def _configure(config: bytes, layout: Layout) -> bytes:
    assert isinstance(layout, QuantisedOutput)
    return layout.quantised.config(config)


OUTPUT_FORMATS.register(
    "bitsandbytes",
    OutputFormat(
        name="bitsandbytes",
        summary="a checkpoint whose matrices are NF4, FP4 or int8, which transformers loads",
        lay_out=_lay_out,
        sink=QuantisedSink,
        configure=_configure,
    ),
)
