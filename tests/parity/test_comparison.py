"""The yardstick itself: what it lets pass, and what it does not."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from parity.comparison import excess

BF16 = np.dtype(ml_dtypes.bfloat16)


def _bf16(*bits: int) -> NDArray[np.generic]:
    return np.array(bits, dtype=np.uint16).view(BF16)


@pytest.mark.parametrize("sign", [0, 0x8000])
def test_one_step_of_bf16_passes_and_two_do_not(sign: int) -> None:
    ours = _bf16(*(sign | bits for bits in (0x3F81, 0x3F82, 0x3C01, 0x3C02)))
    theirs = _bf16(*(sign | bits for bits in (0x3F80, 0x3F80, 0x3C00, 0x3C00)))
    assert (excess(ours, theirs) > 1).tolist() == [False, True, False, True]


def test_float32_is_held_to_a_share_of_the_largest() -> None:
    theirs = np.array([8.0, 1.0, -1.0], dtype=np.float32)
    step = np.float32(8.0 * 2.0**-15)
    assert (excess(theirs + step, theirs) <= 1).all()
    assert (excess(theirs + 2 * step, theirs) > 1).all()


def test_what_is_not_finite_must_be_the_same() -> None:
    theirs = np.array([np.nan, np.inf, -np.inf, 1.0], dtype=np.float32)
    assert not excess(theirs, theirs).any()
    assert (excess(np.array([1.0, 1.0, np.inf, np.nan], dtype=np.float32), theirs) > 1).all()


def test_what_is_left_out_counts_as_equal() -> None:
    theirs = np.array([1.0, 1.0], dtype=np.float32)
    ours = np.array([2.0, 2.0], dtype=np.float32)
    assert (excess(ours, theirs, np.array([True, False])) > 1).tolist() == [False, True]


def test_an_all_zero_tensor_admits_nothing_else() -> None:
    zero = np.zeros(3, dtype=np.float32)
    assert not excess(zero, zero).any()
    assert (excess(zero + np.float32(1e-30), zero) > 1).all()
