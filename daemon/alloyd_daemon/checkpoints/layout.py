"""Where every byte of the output goes, known before the first is written: shards, headers, offsets, index."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from alloyd.errors import PlanError, UsageError

from .header import ALIGNMENT, DTYPES, render, size_of

SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of the output: its name, its header's bytes, its size with header and data."""

    filename: str
    header: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one output tensor: shard number, absolute offset in that file, bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class OutputLayout:
    """The whole output: shards, one slot per tensor in the order given, and the index's bytes for several."""

    shards: tuple[Shard, ...]
    tensors: tuple[Slot, ...]
    index: bytes | None

    @property
    def size(self) -> int:
        """Bytes of all shards and the index."""
        return sum(each.size for each in self.shards) + len(self.index or b"")


def lay_out(
    tensors: Sequence[tuple[str, str, tuple[int, ...]]],
    *,
    shard_size: int,
    metadata: Mapping[str, str] | None = None,
) -> OutputLayout:
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
    return OutputLayout(tuple(shards), ordered, index)


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
