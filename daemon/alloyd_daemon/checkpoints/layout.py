"""Where every byte of an output goes, known before the first is written: its files, its slots, and which bytes of a
file a block of a merged tensor becomes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .header import size_of


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of the output: its name, its header's bytes, its size with header and data.

    ``constants`` are (offset, bytes) of what else is known before the merge.
    """

    filename: str
    header: bytes
    size: int
    constants: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one stored tensor: shard number, absolute offset in that file, bytes.

    ``dtype`` is the code of the file's format.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive bytes of one file of the output, which have one digest."""

    shard: int
    offset: int
    size: int


class Named(Protocol):
    """A tensor's name, dtype code, shape and bytes; a slot is one, too."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def nbytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class MergedTensor:
    """An output tensor as the merge makes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def width(self) -> int:
        """Bytes of an element."""
        return self.nbytes // max(1, self.elements)


def merged_tensors(tensors: Sequence[tuple[str, str, tuple[int, ...]]]) -> tuple[MergedTensor, ...]:
    """Names, dtype codes and shapes with their sizes."""
    return tuple(MergedTensor(name, dtype, shape, size_of(dtype, shape)) for name, dtype, shape in tensors)


class Layout(Protocol):
    """A whole output, as staging, plan and manifest see it."""

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The files with weights."""

    @property
    def tensors(self) -> Sequence[Named]:
        """What the merge makes, by number."""

    @property
    def slots(self) -> tuple[Slot, ...]:
        """What the files hold."""

    @property
    def encodes(self) -> bool:
        """Whether what is stored differs from the merged tensors' bytes; blocks then have digests of both."""

    @property
    def sides(self) -> Mapping[str, bytes]:
        """Small files that belong to the weights (an index), name to bytes."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know before the merge."""

    @property
    def identity(self) -> str:
        """What the stored bytes follow from besides the merged tensors and the headers, as text."""

    @property
    def fixed_bytes(self) -> int:
        """Private bytes of the libraries that encoding loads."""

    def unit(self, tensor: int) -> int:
        """A block begins, and ends short of the tensor's end, at a multiple of so many elements."""

    def worker_bytes(self, tensor: int, block: int) -> int:
        """Private bytes a worker needs to encode a block of ``block`` elements."""

    def state_bytes(self, tensor: int) -> int:
        """Private bytes that encoding holds while the tensor is in flight."""

    def runs(self, tensor: int, start: int, stop: int) -> Iterator[Run]:
        """Where bytes [start, stop) of merged tensor number ``tensor`` are stored, in the order of their digests.

        Raises
        ------
        ValueError
            The range is not inside the tensor, or no block.
        """


def size_of_output(layout: Layout) -> int:
    """Bytes of all shards and of what belongs to them."""
    return sum(each.size for each in layout.shards) + sum(len(data) for data in layout.sides.values())
