"""Decode a tile of any float type to float32 and encode it back, rounded once to nearest even."""

from __future__ import annotations

import numpy as np

from ..compiled import compiled
from ..dtypes import BF16, F8_E4M3, F8_E5M2, F16, F32, F64
from .native import (
    bits_of,
    load_f32,
    load_f64,
    load_u8,
    load_u16,
    magnitude_bits,
    narrow_bf16,
    narrow_half,
    store_f32,
    store_f64,
    store_u8,
    store_u16,
    widen_bf16,
    widen_half,
)
from .reference import fp8_values

_E4M3 = fp8_values(F8_E4M3)
_E5M2 = fp8_values(F8_E5M2)
_INFINITY = np.int32(0x7F800000)
# By element-type code: the least float32 magnitude bits that become infinite or NaN when they are encoded.
_OVERFLOW = np.array([0x7F7F8000, 0x477FF000, 0x7F800000, 0x7F800000, 0x43E80001, 0x47700000], dtype=np.int32)


@compiled
def load_tile(address, code, start, count, row):  # type: ignore[no-untyped-def]
    """Decode ``count`` elements from element ``start`` of the tensor at ``address`` into ``row`` (float32)."""
    if code == BF16:
        for i in range(count):
            row[i] = widen_bf16(load_u16(address, start + i))
    elif code == F16:
        for i in range(count):
            row[i] = widen_half(load_u16(address, start + i))
    elif code == F32:
        for i in range(count):
            row[i] = load_f32(address, start + i)
    elif code == F64:
        for i in range(count):
            row[i] = np.float32(load_f64(address, start + i))
    elif code == F8_E4M3:
        for i in range(count):
            row[i] = _E4M3[load_u8(address, start + i)]
    else:
        for i in range(count):
            row[i] = _E5M2[load_u8(address, start + i)]


@compiled
def encode_fp8(value, mantissa, bias, largest, overflow):  # type: ignore[no-untyped-def]
    """The 8 bits of the nearest fp8 with ``mantissa`` bits; beyond ``largest`` comes ``overflow``."""
    magnitude = magnitude_bits(value)
    sign = np.uint32((bits_of(value) >> np.uint32(24)) & np.uint32(0x80))
    if magnitude > _INFINITY:
        return np.uint8(sign | np.uint32(0x7F))
    exponent = (magnitude >> np.int32(23)) - np.int32(127)
    # Below the smallest normal the step stops shrinking.
    step = max(exponent, np.int32(1) - np.int32(bias)) - np.int32(mantissa)
    scaled = np.float64(abs(value)) * 2.0 ** np.float64(-step)
    whole = np.rint(scaled)
    code = np.int64(whole)
    if step + np.int32(mantissa) > np.int32(1) - np.int32(bias):
        code += np.int64(step + np.int32(mantissa) + np.int32(bias) - np.int32(1)) << np.int64(mantissa)
    if code > largest:
        code = np.int64(overflow)
    return np.uint8(sign | np.uint32(code))


@compiled
def store_tile(row, count, address, code, start):  # type: ignore[no-untyped-def]
    """Encode ``count`` float32 of ``row`` to element ``start`` on; returns how many are NaN or infinite there."""
    strange = np.int32(0)
    overflow = _OVERFLOW[code]
    if code == BF16:
        for i in range(count):
            strange += np.int32(magnitude_bits(row[i]) >= overflow)
            store_u16(address, start + i, narrow_bf16(row[i]))
        return np.int64(strange)
    for i in range(count):
        strange += np.int32(magnitude_bits(row[i]) >= overflow)
    if code == F16:
        for i in range(count):
            store_u16(address, start + i, narrow_half(row[i]))
    elif code == F32:
        for i in range(count):
            store_f32(address, start + i, row[i])
    elif code == F64:
        for i in range(count):
            store_f64(address, start + i, np.float64(row[i]))
    elif code == F8_E4M3:
        for i in range(count):
            store_u8(address, start + i, encode_fp8(row[i], 3, 7, 0x7E, 0x7F))
    else:
        for i in range(count):
            store_u8(address, start + i, encode_fp8(row[i], 2, 15, 0x7B, 0x7C))
    return np.int64(strange)
