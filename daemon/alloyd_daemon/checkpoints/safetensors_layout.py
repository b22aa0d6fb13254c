"""A safetensors checkpoint as an output: shards, headers, offsets, index."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from alloyd.errors import PlanError, UsageError

from .digest import PIECE
from .header import ALIGNMENT, DTYPES, render, size_of
from .layout import Run, Shard, Slot

SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class SafetensorsLayout:
    """Shards, one slot per tensor in the order given, and the index's bytes for several shards.

    Every merged tensor is stored as it is; a run is one piece of it.
    """

    shards: tuple[Shard, ...]
    slots: tuple[Slot, ...]
    index: bytes | None
    encodes = False
    warnings = ()
    identity = ""
    fixed_bytes = 0

    @property
    def tensors(self) -> tuple[Slot, ...]:
        return self.slots

    @property
    def sides(self) -> Mapping[str, bytes]:
        return {} if self.index is None else {INDEX: self.index}

    def unit(self, tensor: int) -> int:
        return 1

    def worker_bytes(self, tensor: int, block: int) -> int:
        return 0

    def state_bytes(self, tensor: int) -> int:
        return 0

    def runs(self, tensor: int, start: int, stop: int) -> Iterator[Run]:
        return pieces_of(self.slots[tensor], start, stop)


def pieces_of(slot: Slot, start: int, stop: int) -> Iterator[Run]:
    """Bytes [start, stop) of a slot, piece by piece.

    Raises
    ------
    ValueError
        They are not inside the slot, or begin inside a piece.
    """
    if not 0 <= start <= stop <= slot.nbytes or start % PIECE:
        raise ValueError(
            f"bytes [{start}, {stop}) are not inside '{slot.name}' of {slot.nbytes} bytes, or begin inside a piece"
        )
    return (
        Run(slot.shard, slot.offset + at, min(PIECE, stop - at))
        for at in range(start, max(stop, start), PIECE)
    )


def lay_out(
    tensors: Sequence[tuple[str, str, tuple[int, ...]]],
    *,
    shard_size: int,
    metadata: Mapping[str, str] | None = None,
) -> SafetensorsLayout:
    """Lay tensors (name, dtype code, shape) out into shards of at most ``shard_size`` bytes of data.

    Tensors fill shards in the order given; one that is larger than ``shard_size`` has a shard of its own.
    Inside a shard tensors of whole pages come first, so that they can be written past the page cache, then
    wider dtypes before narrower ones, so that every tensor lies at a multiple of its element size. Names follow
    Hugging Face: model.safetensors alone, else model-00001-of-0000N.safetensors with an index.

    Raises
    ------
    PlanError
        Two tensors of one name, or elements that do not fill whole bytes.
    UsageError
        A shard size below one byte.
    """
    if shard_size < 1:
        raise UsageError(f"a shard size of {shard_size} bytes makes no sense", hint="Give at least 1 byte.")
    sizes = _sizes(tensors)
    groups: list[list[int]] = [[]]
    filled = 0
    for place, size in enumerate(sizes):
        if groups[-1] and filled + size > shard_size:
            groups.append([])
            filled = 0
        groups[-1].append(place)
        filled += size
    shards: list[Shard] = []
    slots: dict[int, Slot] = {}
    for number, group in enumerate(groups):
        group.sort(key=lambda place: (sizes[place] % ALIGNMENT != 0, -DTYPES[tensors[place][1]]))
        header, infos = render([tensors[place] for place in group], {"format": "pt"} | dict(metadata or {}))
        filename = SINGLE if len(groups) == 1 else f"model-{number + 1:05d}-of-{len(groups):05d}.safetensors"
        for place, info in zip(group, infos, strict=True):
            slots[place] = Slot(
                info.name, info.dtype, info.shape, number, len(header) + info.start, info.stop - info.start
            )
        shards.append(Shard(filename, header, len(header) + (infos[-1].stop if infos else 0)))
    ordered = tuple(slots[place] for place in range(len(tensors)))
    index = None
    if len(shards) > 1:
        index = _index(ordered, shards)
    return SafetensorsLayout(tuple(shards), ordered, index)


def _sizes(tensors: Sequence[tuple[str, str, tuple[int, ...]]]) -> list[int]:
    seen: set[str] = set()
    sizes = []
    for name, dtype, shape in tensors:
        if name in seen:
            raise PlanError(f"two output tensors are called '{name}'", tensor=name)
        seen.add(name)
        try:
            sizes.append(size_of(dtype, shape))
        except ValueError as wrong:
            raise PlanError(f"output tensor '{name}': {wrong}", tensor=name) from None
    return sizes


def _index(slots: Sequence[Slot], shards: Sequence[Shard]) -> bytes:
    index = {
        "metadata": {"total_size": sum(each.nbytes for each in slots)},
        "weight_map": {
            each.name: shards[each.shard].filename for each in sorted(slots, key=lambda slot: slot.name)
        },
    }
    return (json.dumps(index, indent=2, ensure_ascii=False) + "\n").encode("utf-8")
