"""Scalar loads, stores and bit casts on raw addresses, as LLVM instructions that vectorise inside a loop."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_intrinsic: Any = intrinsic

_I16 = ir.IntType(16)
_I32 = ir.IntType(32)
_HALF = ir.HalfType()
_FLOAT = ir.FloatType()


def _loader(kind: Any, llvm: ir.Type, doc: str) -> Any:
    @_intrinsic
    def load(context: Any, address: Any, index: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], llvm.as_pointer())
            # Tensors need not be aligned: a header may end anywhere.
            return builder.load(builder.gep(pointer, [args[1]]), align=1)

        return kind(types.uint64, types.int64), build

    load.__doc__ = doc
    return load


def _storer(kind: Any, llvm: ir.Type, doc: str) -> Any:
    @_intrinsic
    def store(context: Any, address: Any, index: Any, value: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], llvm.as_pointer())
            builder.store(args[2], builder.gep(pointer, [args[1]]), align=1)
            return context.get_dummy_value()

        return types.void(types.uint64, types.int64, kind), build

    store.__doc__ = doc
    return store


load_u8 = _loader(types.uint8, ir.IntType(8), "The byte at ``address + index``.")
load_u16 = _loader(types.uint16, _I16, "The 16-bit word ``index`` words after ``address``.")
load_f32 = _loader(types.float32, _FLOAT, "The float32 ``index`` floats after ``address``.")
load_f64 = _loader(types.float64, ir.DoubleType(), "The float64 ``index`` doubles after ``address``.")
store_u8 = _storer(types.uint8, ir.IntType(8), "Write a byte.")
store_u16 = _storer(types.uint16, _I16, "Write a 16-bit word.")
store_f32 = _storer(types.float32, _FLOAT, "Write a float32.")
store_f64 = _storer(types.float64, ir.DoubleType(), "Write a float64.")


@_intrinsic
def bits_of(context: Any, value: Any) -> Any:
    """The 32 bits of a float32."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _I32)

    return types.uint32(types.float32), build


@_intrinsic
def float_of(context: Any, bits: Any) -> Any:
    """The float32 with these 32 bits."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _FLOAT)

    return types.float32(types.uint32), build


@_intrinsic
def widen_half(context: Any, bits: Any) -> Any:
    """The float32 value of the IEEE half with these 16 bits."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fpext(builder.bitcast(args[0], _HALF), _FLOAT)

    return types.float32(types.uint16), build


@_intrinsic
def narrow_half(context: Any, value: Any) -> Any:
    """The 16 bits of the nearest IEEE half, ties to even."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(builder.fptrunc(args[0], _HALF), _I16)

    return types.uint16(types.float32), build


@_intrinsic
def widen_bf16(context: Any, bits: Any) -> Any:
    """The float32 value of the bfloat16 with these 16 bits."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = builder.shl(builder.zext(args[0], _I32), ir.Constant(_I32, 16))
        return builder.bitcast(wide, _FLOAT)

    return types.float32(types.uint16), build


@_intrinsic
def narrow_bf16(context: Any, value: Any) -> Any:
    """The 16 bits of the nearest bfloat16, ties to even; a NaN stays a (quiet) NaN."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], _I32)
        high = builder.lshr(bits, ir.Constant(_I32, 16))
        odd = builder.and_(high, ir.Constant(_I32, 1))
        rounded = builder.add(builder.add(bits, ir.Constant(_I32, 0x7FFF)), odd)
        rounded = builder.lshr(rounded, ir.Constant(_I32, 16))
        quiet = builder.or_(high, ir.Constant(_I32, 0x40))
        is_nan = builder.fcmp_unordered("uno", args[0], args[0])
        return builder.trunc(builder.select(is_nan, quiet, rounded), _I16)

    return types.uint16(types.float32), build


@_intrinsic
def magnitude_bits(context: Any, value: Any) -> Any:
    """The bits of ``|value|`` as a signed 32-bit integer: ordered as the magnitudes are, NaN above infinity."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], _I32)
        return builder.and_(bits, ir.Constant(_I32, 0x7FFFFFFF))

    return types.int32(types.float32), build


__all__ = [
    "bits_of",
    "float_of",
    "load_f32",
    "load_f64",
    "load_u8",
    "load_u16",
    "magnitude_bits",
    "narrow_bf16",
    "narrow_half",
    "store_f32",
    "store_f64",
    "store_u8",
    "store_u16",
    "widen_bf16",
    "widen_half",
]
