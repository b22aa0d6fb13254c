"""Histograms and tie counts of magnitudes in plain numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..dtypes import LEAF


def magnitude_bits(delta: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """The bits of |delta| as float32: ordered as magnitudes are; int64 [n]."""
    return np.abs(delta.astype(np.float32)).view(np.int32).astype(np.int64)


def coarse_histogram(bits: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Counts by the upper 15 of the 31 magnitude bits; int64 [32768]."""
    return np.bincount(bits >> 16, minlength=32768)


def fine_histogram(bits: npt.NDArray[np.int64], coarse: int) -> npt.NDArray[np.int64]:
    """Counts by the lower 16 bits of those whose upper bits are ``coarse``; int64 [65536]."""
    return np.bincount(bits[bits >> 16 == coarse] & 0xFFFF, minlength=65536)


def tie_counts(bits: npt.NDArray[np.int64], threshold: int) -> npt.NDArray[np.int64]:
    """How many elements of each leaf have exactly these bits; int64 [leaves]."""
    return np.add.reduceat((bits == threshold).astype(np.int64), np.arange(0, len(bits), LEAF))


def bracket_counts(
    bits: npt.NDArray[np.int64], low: int, high: int
) -> tuple[int, int, int, int, npt.NDArray[np.int64]]:
    """(above high, equal to high, strictly inside, equal to a different low) and the bits inside, in element order."""
    inside = bits[(bits > low) & (bits < high)]
    at_low = int((bits == low).sum()) if low != high else 0
    return int((bits > high).sum()), int((bits == high).sum()), len(inside), at_low, inside


def ranked(bits: npt.NDArray[np.int32], ranks: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """What stands at each rank, 0 the smallest, among those that are not negative."""
    return np.sort(bits[bits >= 0])[ranks]
