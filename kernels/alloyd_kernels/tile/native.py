"""Scalar loads, stores and bit casts on raw addresses, as LLVM instructions that vectorise inside a loop."""

from __future__ import annotations

from typing import Any

from ..compiled import native


def _llvm(ir: Any, kind: str) -> Any:
    return {
        "uint8": ir.IntType(8),
        "uint16": ir.IntType(16),
        "float32": ir.FloatType(),
        "float64": ir.DoubleType(),
    }[kind]


def _loader(kind: str, doc: str) -> Any:
    def load(ir: Any, builder: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], _llvm(ir, kind).as_pointer())
        # Tensors need not be aligned: a header may end anywhere.
        return builder.load(builder.gep(pointer, [args[1]]), align=1)

    load.__doc__ = doc
    return native(f"{kind}(uint64, int64)")(load)


def _storer(kind: str, doc: str) -> Any:
    def store(ir: Any, builder: Any, args: Any) -> None:
        pointer = builder.inttoptr(args[0], _llvm(ir, kind).as_pointer())
        builder.store(args[2], builder.gep(pointer, [args[1]]), align=1)

    store.__doc__ = doc
    return native(f"void(uint64, int64, {kind})")(store)


load_u8 = _loader("uint8", "The byte at ``address + index``.")
load_u16 = _loader("uint16", "The 16-bit word ``index`` words after ``address``.")
load_f32 = _loader("float32", "The float32 ``index`` floats after ``address``.")
load_f64 = _loader("float64", "The float64 ``index`` doubles after ``address``.")
store_u8 = _storer("uint8", "Write a byte.")
store_u16 = _storer("uint16", "Write a 16-bit word.")
store_f32 = _storer("float32", "Write a float32.")
store_f64 = _storer("float64", "Write a float64.")


@native("uint32(float32)")
def bits_of(ir: Any, builder: Any, args: Any) -> Any:
    """The 32 bits of a float32."""
    return builder.bitcast(args[0], ir.IntType(32))


@native("float32(uint32)")
def float_of(ir: Any, builder: Any, args: Any) -> Any:
    """The float32 with these 32 bits."""
    return builder.bitcast(args[0], ir.FloatType())


@native("float32(uint16)")
def widen_half(ir: Any, builder: Any, args: Any) -> Any:
    """The float32 value of the IEEE half with these 16 bits."""
    return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())


@native("uint16(float32)")
def narrow_half(ir: Any, builder: Any, args: Any) -> Any:
    """The 16 bits of the nearest IEEE half, ties to even."""
    return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), ir.IntType(16))


@native("float32(uint16)")
def widen_bf16(ir: Any, builder: Any, args: Any) -> Any:
    """The float32 value of the bfloat16 with these 16 bits."""
    word = ir.IntType(32)
    return builder.bitcast(builder.shl(builder.zext(args[0], word), ir.Constant(word, 16)), ir.FloatType())


@native("uint16(float32)")
def narrow_bf16(ir: Any, builder: Any, args: Any) -> Any:
    """The 16 bits of the nearest bfloat16, ties to even; a NaN stays a (quiet) NaN."""
    word = ir.IntType(32)
    bits = builder.bitcast(args[0], word)
    high = builder.lshr(bits, ir.Constant(word, 16))
    odd = builder.and_(high, ir.Constant(word, 1))
    rounded = builder.add(builder.add(bits, ir.Constant(word, 0x7FFF)), odd)
    rounded = builder.lshr(rounded, ir.Constant(word, 16))
    quiet = builder.or_(high, ir.Constant(word, 0x40))
    is_nan = builder.fcmp_unordered("uno", args[0], args[0])
    return builder.trunc(builder.select(is_nan, quiet, rounded), ir.IntType(16))


@native("int32(float32)")
def magnitude_bits(ir: Any, builder: Any, args: Any) -> Any:
    """The bits of ``|value|`` as a signed 32-bit integer: ordered as the magnitudes are, NaN above infinity."""
    word = ir.IntType(32)
    return builder.and_(builder.bitcast(args[0], word), ir.Constant(word, 0x7FFFFFFF))


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
