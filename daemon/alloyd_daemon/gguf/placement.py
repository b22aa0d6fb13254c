"""Where the elements of a source tensor go in a GGUF file: pure arithmetic on rows and quantisation blocks.

A GGUF tensor is a sequence of rows; a row is a sequence of quantisation blocks, each of which is encoded by itself. A
source tensor of the checkpoint is cut into :class:`Part` s: consecutive rows that go to consecutive rows of one GGUF
tensor, in order or with the two halves of each head interleaved (Llama's query and key rows, which transformers keeps
in halves and llama.cpp in pairs: arXiv 2104.09864 against its GPT-NeoX form). Most tensors are one part. A fused
``gate_up_proj`` of experts is two parts an expert; a tensor that GGUF does not hold has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .element_type import WEIGH_WHOLE_ROWS, ElementType


@dataclass(frozen=True, slots=True)
class Extent:
    """Consecutive source elements that become consecutive bytes of the file.

    Take ``rows`` x ``columns`` elements from source element ``first`` on; where ``order`` is given, take these rows in
    that order (their numbers count from the extent's first row); quantise them as rows of ``columns`` elements with
    ``part.type`` and ``part.importance[column:column + columns]``; write the ``size`` bytes at ``offset``.
    """

    part: Part
    offset: int
    """First byte in the file."""
    first: int
    """First element, counted in the whole source tensor."""
    rows: int
    columns: int
    column: int
    """Column of the row at which the extent begins; 0 unless it is a piece of one row."""
    order: NDArray[np.intp] | None

    @property
    def elements(self) -> int:
        return self.rows * self.columns

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self.part.type.size_of(self.elements)

    @property
    def importance(self) -> NDArray[np.float32] | None:
        """The importance of the extent's columns, float32 of ``columns``, where the part has one."""
        found = self.part.importance
        return None if found is None else found[self.column : self.column + self.columns]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Consecutive rows of a source tensor that go to consecutive rows of one GGUF tensor."""

    tensor: int
    """Number of the GGUF tensor in ``GgufLayout.tensors``."""
    type: ElementType
    row_length: int
    """Elements in a row, a multiple of ``type.block``."""
    first_row: int
    """First row, counted in the source tensor."""
    rows: int
    offset: int
    """Byte of the file at which the first of these rows goes."""
    head_rows: int = 0
    """Rows of a head whose halves are interleaved; 0: rows stay in order."""
    shift: float = 0.0
    """What is added to every element before it is encoded (Gemma keeps its norms as w, GGUF as w + 1)."""
    importance: NDArray[np.float32] | None = None
    """One weight a column, float32 of ``row_length``, from an importance matrix."""

    @property
    def unit(self) -> int:
        """The fewest elements that are encoded by themselves: one block, or a row where the encoder weighs rows."""
        whole = self.importance is not None and self.type.name in WEIGH_WHOLE_ROWS
        return self.row_length if whole else self.type.block

    @property
    def row_size(self) -> int:
        """Bytes of a row in the file."""
        return self.type.size_of(self.row_length)


@dataclass(frozen=True, slots=True)
class Placement:
    """All that the file holds of one source tensor; no part: the file does not hold it, for ``reason``."""

    source: str
    """Name of the tensor in the checkpoint."""
    elements: int
    parts: tuple[Part, ...]
    reason: str = ""

    @property
    def unit(self) -> int:
        """A block of source elements must begin, and end short of the tensor's end, at a multiple of this.

        One quantisation block, as a rule; a row where the encoder weighs rows; 1 for a tensor that is not written.
        """
        return int(np.lcm.reduce([part.unit for part in self.parts])) if self.parts else 1

    def extents(self, first: int, count: int) -> Iterator[Extent]:
        """Where source elements [first, first + count) go, each once, in the order of the source.

        Raises
        ------
        ValueError
            The range leaves the tensor or cuts a unit in two: a fault of the caller, not of a user.
        """
        stop = first + count
        if first < 0 or count < 0 or stop > self.elements:
            raise ValueError(f"[{first}, {stop}) leaves the {self.elements} elements of {self.source}")
        for part in self.parts:
            begin = part.first_row * part.row_length
            low, high = max(first, begin), min(stop, begin + part.rows * part.row_length)
            if low < high:
                if (low - begin) % part.unit or (high - begin) % part.unit:
                    raise ValueError(f"[{low}, {high}) of {self.source} cuts a unit of {part.unit} in two")
                yield from _extents_of(part, low, high)


def _extents_of(part: Part, low: int, high: int) -> Iterator[Extent]:
    """Cut [low, high) into a row's end, whole rows (of whole heads where halves are interleaved), a row's start."""
    at = low
    while at < high:
        row, column = divmod(at, part.row_length)
        row -= part.first_row
        whole = (high - at) // part.row_length
        if column or not whole:
            columns = min(part.row_length - column, high - at)
            yield _extent(part, row, 1, column, columns)
            at += columns
            continue
        rows = whole
        if part.head_rows:
            inside = row % part.head_rows
            rows = whole - whole % part.head_rows if not inside else 0
            rows = rows or 1
        yield _extent(part, row, rows, 0, part.row_length)
        at += rows * part.row_length


def _extent(part: Part, row: int, rows: int, column: int, columns: int) -> Extent:
    target, order = row, None
    if part.head_rows:
        if rows > 1:
            order = interleave(rows, part.head_rows)
        else:
            head, inside = divmod(row, part.head_rows)
            half, pair = divmod(inside, part.head_rows // 2)
            target = head * part.head_rows + 2 * pair + half
    return Extent(
        part=part,
        offset=part.offset + target * part.row_size + part.type.size_of(column),
        first=(part.first_row + row) * part.row_length + column,
        rows=rows,
        columns=columns,
        column=column,
        order=order,
    )


def interleave(rows: int, head_rows: int) -> NDArray[np.intp]:
    """For each row of the file its row in the source: rows i and i + half of each head become neighbours.

    Returns
    -------
    intp of ``rows``, a multiple of ``head_rows``.
    """
    return np.arange(rows, dtype=np.intp).reshape(-1, 2, head_rows // 2).swapaxes(1, 2).reshape(-1)
