"""Every element goes to one place, whatever the blocks: against numpy's reshape and swap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd_daemon.gguf.element_type import F32, TYPES, ElementType
from alloyd_daemon.gguf.placement import Part, Placement, interleave

# One byte an element, so that a file's bytes are its elements.
BYTE = ElementType(99, "BYTE", 4, 4)


def _interleaved(values: np.ndarray, heads: int) -> np.ndarray:
    rows = values.shape[0]
    return (
        values.reshape(heads, 2, rows // heads // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
    )


@st.composite
def placements(draw: st.DrawFn) -> tuple[Placement, np.ndarray, np.ndarray]:
    """A placement, its source, and the file it should make."""
    blocks = draw(st.integers(1, 4))
    columns = blocks * BYTE.block
    parts, pieces, offset, first = [], [], 0, 0
    for _ in range(draw(st.integers(1, 3))):
        heads = draw(st.integers(0, 3))
        rows = heads * 2 * draw(st.integers(1, 3)) if heads else draw(st.integers(1, 7))
        gap = draw(st.integers(0, 5))
        importance = np.ones(columns, np.float32) if draw(st.booleans()) else None
        parts.append(
            Part(
                tensor=len(parts),
                type=BYTE,
                row_length=columns,
                first_row=first,
                rows=rows,
                offset=offset + gap,
                head_rows=rows // heads if heads else 0,
                importance=importance,
            )
        )
        pieces.append((gap, rows, heads))
        offset += gap + rows * columns
        first += rows
    source = np.arange(1, first * columns + 1, dtype=np.float64).reshape(first, columns)
    expected = np.zeros(offset)
    row = 0
    for part, (_, rows, heads) in zip(parts, pieces, strict=True):
        values = source[row : row + rows]
        values = _interleaved(values, heads) if heads else values
        expected[part.offset : part.offset + values.size] = values.reshape(-1)
        row += rows
    return Placement("t", source.size, tuple(parts)), source.reshape(-1), expected


@given(placements(), st.data())
def test_extents_make_the_file_whatever_the_blocks(
    made: tuple[Placement, np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    placement, source, expected = made
    file = np.zeros_like(expected)
    at = 0
    while at < source.size:
        units = data.draw(st.integers(1, 20))
        count = min(units * placement.unit, source.size - at)
        for extent in placement.extents(at, count):
            assert at <= extent.first
            assert extent.first + extent.elements <= at + count
            values = source[extent.first : extent.first + extent.elements].reshape(
                extent.rows, extent.columns
            )
            if extent.order is not None:
                values = values[extent.order]
            target = file[extent.offset : extent.offset + extent.size]
            assert not target.any()
            target[:] = values.reshape(-1)
        at += count
    assert np.array_equal(file, expected)


@given(st.integers(1, 5), st.integers(1, 6))
def test_interleave_is_reshape_and_swap(heads: int, half: int) -> None:
    rows = heads * 2 * half
    assert np.array_equal(interleave(rows, 2 * half), _interleaved(np.arange(rows), heads))


def test_whole_heads_are_one_extent() -> None:
    part = Part(tensor=0, type=F32, row_length=8, first_row=0, rows=64, offset=32, head_rows=16)
    placement = Placement("q", 512, (part,))
    assert len(list(placement.extents(0, 512))) == 1
    # A head begun in the block before goes row by row, what follows at once.
    assert [extent.rows for extent in placement.extents(8 * 14, 512 - 8 * 14)] == [1, 1, 48]


@pytest.mark.parametrize(("first", "count"), [(0, 513), (-8, 8), (8, -8)])
def test_a_range_outside_is_refused(first: int, count: int) -> None:
    part = Part(tensor=0, type=F32, row_length=8, first_row=0, rows=64, offset=32)
    with pytest.raises(ValueError, match="leaves"):
        list(Placement("q", 512, (part,)).extents(first, count))


def test_a_cut_unit_is_refused() -> None:
    part = Part(tensor=0, type=TYPES[12], row_length=256, first_row=0, rows=2, offset=32)
    with pytest.raises(ValueError, match="in two"):
        list(Placement("q", 512, (part,)).extents(0, 100))


def test_rows_are_units_only_where_the_encoder_weighs_rows() -> None:
    weights = np.ones(512, np.float32)
    codes = {kind.name: kind for kind in TYPES.values()}
    for name, unit in (("Q4_0", 512), ("Q5_1", 512), ("Q4_K", 256), ("IQ4_NL", 32), ("F16", 1)):
        part = Part(
            tensor=0, type=codes[name], row_length=512, first_row=0, rows=2, offset=0, importance=weights
        )
        assert Placement("q", 1024, (part,)).unit == unit
