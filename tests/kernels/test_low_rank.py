"""The low-rank kernel against its float64 reference; and that an element does not depend on the run that it is in."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloyd_kernels.dtypes import BF16, CODES, F32, TILE
from alloyd_kernels.low_rank.cpu import add_low_rank
from alloyd_kernels.low_rank.reference import add_low_rank as reference
from alloyd_kernels.tile.reference import decode, encode

SHAPES = ((1, 1), (3, 5), (7, TILE), (5, TILE + 1), (2, 3 * TILE - 7), (3000, 2))
POISON = 0xA5


class Case:
    """A weight at an odd address, its factors, and what float64 makes of them."""

    def __init__(self, shape: tuple[int, int], rank: int, code: int, scale: float = 0.75) -> None:
        chance = np.random.default_rng(rank)
        self.rows, self.columns = shape
        self.code, self.scale = code, np.float32(scale)
        raw = encode(chance.standard_normal(shape).ravel(), code)
        self._kept = np.concatenate([np.zeros(1, np.uint8), raw])
        self.width = len(raw) // (self.rows * self.columns)
        self.left = chance.standard_normal((self.rows, rank)).astype(np.float32)
        right = chance.standard_normal((rank, self.columns)).astype(np.float32)
        tiles = -(-self.columns // TILE)
        # What lies behind the last column is never read.
        self._right = np.full((tiles, rank, TILE), np.nan, dtype=np.float32)
        for tile in range(tiles):
            part = right[:, tile * TILE : (tile + 1) * TILE]
            self._right[tile, :, : part.shape[1]] = part
        weight = decode(raw, code).reshape(shape)
        self.wanted = reference(weight, self.left.astype(float), right.astype(float), float(self.scale))
        self.magnitude = reference(np.abs(weight), np.abs(self.left), np.abs(right), float(self.scale)).max()

    def run(self, first: int, count: int) -> npt.NDArray[np.float32]:
        """The elements from ``first`` on; what lies behind them must be as it was."""
        out = np.full(4 * count + 16, POISON, dtype=np.uint8)
        add_low_rank(
            np.uint64(self._kept.ctypes.data + 1 + first * self.width),
            self.code,
            first,
            count,
            self.columns,
            self.left,
            np.uint64(self._right.ctypes.data),
            self.scale,
            np.uint64(out.ctypes.data),
            np.full((2, TILE), np.nan, dtype=np.float32),
        )
        assert (out[-16:] == POISON).all()
        return out[:-16].view(np.float32)


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("rank", [1, 3, 4, 64, 257])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_low_rank_product_is_added(name: str, rank: int, shape: tuple[int, int]) -> None:
    case = Case(shape, rank, CODES[name])
    found = case.run(0, shape[0] * shape[1]).reshape(shape)
    np.testing.assert_allclose(found, case.wanted, atol=case.magnitude * rank * 2.0**-23)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_an_element_does_not_depend_on_the_run_that_it_is_in(data: Any) -> None:
    shape = data.draw(st.sampled_from(SHAPES))
    case = Case(shape, data.draw(st.sampled_from([1, 4, 7, 32])), data.draw(st.sampled_from([BF16, F32])))
    elements = shape[0] * shape[1]
    whole = case.run(0, elements)
    first = data.draw(st.integers(0, elements - 1))
    count = data.draw(st.integers(1, elements - first))
    assert case.run(first, count).tobytes() == whole[first : first + count].tobytes()


def test_the_products_are_added_in_the_order_of_the_rank() -> None:
    """In float32, one after the other: the largest first or last are two different sums."""
    case = Case((1, 1), 6, F32, scale=1.0)
    total = np.float32(0)
    for k in range(6):
        total += np.float32(case.left[0, k] * case._right[0, k, 0])
    weight = case._kept[1:].view(np.float32)[0]
    assert case.run(0, 1)[0] == np.float32(weight + total)
