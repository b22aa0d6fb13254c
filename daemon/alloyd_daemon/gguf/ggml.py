"""ggml's own encoder and decoder of quantised rows, by ctypes from the llama_cpp package.

ggml aborts the process where an argument is not as it expects. Everything it could abort on is checked here first:
row lengths, an importance that a type cannot do without, values that are not finite or too large to square.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alloyd.errors import SourceError

from .element_type import TYPES, ElementType
from .library import ggml_base

LARGEST: Final = 1e6
"""No weight of a model that works is larger; the encoders square values, and abort or write nonsense on overflow."""

ROUNDS_TO_INFINITY: Final = 65520.0
"""The least magnitude that is infinite as float16."""

LARGEST_IMPORTANCE: Final = 1e12
"""No activation that a model computes has a larger mean square; beyond it some encoders abort."""

_NOT_ENCODED: Final = frozenset(("I8", "I16", "I32", "I64", "F64"))
_PLAIN: Final = frozenset(("F32", "F16", "BF16"))
_NEED_IMPORTANCE: Final = frozenset(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS"))


class _Traits(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("block", ctypes.c_int64),
        ("block_interleave", ctypes.c_int64),
        ("size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.c_void_p),
        ("from_float_ref", ctypes.c_void_p),
    )


_TO_FLOAT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


@functools.cache
def types() -> Mapping[str, ElementType]:
    """Every element type that can be encoded and means the same to the library, by its name in capitals.

    Raises
    ------
    RecipeError
        llama_cpp is not installed or does not load.
    """
    library = _functions()
    return MappingProxyType(
        {
            kind.name: kind
            for kind in TYPES.values()
            if kind.name not in _NOT_ENCODED
            and (library.ggml_type_name(kind.code) or b"").decode().upper() == kind.name
            and (library.ggml_blck_size(kind.code), library.ggml_type_size(kind.code))
            == (kind.block, kind.size)
        }
    )


def needs_importance(kind: ElementType) -> bool:
    """Whether rows of ``kind`` cannot be encoded well without an importance; ggml aborts on some of them."""
    return kind.name in _NEED_IMPORTANCE


def quantize(
    kind: ElementType,
    values: NDArray[np.float32],
    out: memoryview | NDArray[np.uint8],
    importance: NDArray[np.float32] | None = None,
    *,
    tensor: str = "",
) -> int:
    """Encode rows into ``out`` and return how many bytes were written. Releases the interpreter's lock.

    Parameters
    ----------
    kind:
        One of :func:`types`.
    values:
        C-contiguous float32 of (rows, columns); columns are a multiple of ``kind.block``.
    out:
        Writable bytes, at least ``kind.size_of(values.size)``.
    importance:
        Float32 of ``columns``: how much an error in each column weighs.
    tensor:
        The tensor's name, for messages.

    Raises
    ------
    SourceError
        A value that is not finite or is beyond LARGEST, where ``kind`` is quantised; a finite one that would be
        infinite as F16.
    ValueError
        Arrays or lengths that do not fit each other: a fault of the caller, not of a user.
    """
    if values.ndim != 2 or values.dtype != np.float32 or not values.flags.c_contiguous:
        raise ValueError("values must be C-contiguous float32 of (rows, columns)")
    rows, columns = values.shape
    if columns % kind.block:
        raise ValueError(f"rows of {columns} do not fill blocks of {kind.block} ({kind.name})")
    target = np.frombuffer(out, dtype=np.uint8)
    size = kind.size_of(values.size)
    if not target.flags.writeable or target.nbytes < size:
        raise ValueError(f"{size} writable bytes are needed, {target.nbytes} were given")
    if importance is None:
        if needs_importance(kind):
            raise ValueError(f"{kind.name} cannot be encoded without an importance")
    elif importance.shape != (columns,) or importance.dtype != np.float32:
        raise ValueError(f"importance must be float32 of {columns}")
    elif not 0 <= float(importance.min()) <= float(importance.max()) <= LARGEST_IMPORTANCE:
        raise ValueError(f"importance must be from 0 to {LARGEST_IMPORTANCE:.0e}")
    if not size:
        return 0
    if kind.name not in _PLAIN:
        _check_values(values, kind, tensor)
    elif kind.name == "F16":
        _check_half(values, tensor)
    weights = None if importance is None else np.ascontiguousarray(importance)
    library = _functions()
    written: int = library.ggml_quantize_chunk(
        kind.code,
        values.ctypes.data,
        target.ctypes.data,
        0,
        rows,
        columns,
        None if weights is None else weights.ctypes.data,
    )
    if kind.name not in _PLAIN and not library.ggml_validate_row_data(kind.code, target.ctypes.data, written):
        raise SourceError(
            f"{tensor or 'a tensor'} has values that {kind.name} cannot hold",
            hint="Look for weights far larger than the others, or choose F16, BF16 or F32.",
            tensor=tensor,
        )
    return written


def dequantize(kind: ElementType, data: memoryview | NDArray[np.uint8], out: NDArray[np.float32]) -> None:
    """Decode ``out.size`` elements of ``kind`` from ``data`` into ``out``.

    Raises
    ------
    ValueError
        Arrays that do not fit each other.
    """
    source = np.frombuffer(data, dtype=np.uint8)
    if out.dtype != np.float32 or not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError("out must be writable C-contiguous float32")
    if source.nbytes < kind.size_of(out.size):
        raise ValueError(f"{kind.size_of(out.size)} bytes are needed, {source.nbytes} were given")
    if kind.name == "F32":
        out.reshape(-1)[:] = source[: out.nbytes].view(np.float32)
        return
    decode = _decoder(kind.code)
    decode(source.ctypes.data, out.ctypes.data, out.size)


def _check_values(values: NDArray[np.float32], kind: ElementType, tensor: str) -> None:
    # NaN fails both comparisons; two reductions read the block faster than one pass that makes a mask.
    if float(values.max()) <= LARGEST and float(values.min()) >= -LARGEST:
        return
    finite = bool(np.isfinite(values).all())
    found = f"values beyond {LARGEST:.0e}" if finite else "values that are not finite numbers"
    raise SourceError(
        f"{tensor or 'a tensor'} has {found}, which {kind.name} cannot hold",
        hint="Look for the source that is damaged, or choose F16, BF16 or F32.",
        tensor=tensor,
    )


def _check_half(values: NDArray[np.float32], tensor: str) -> None:
    """Refuse finite values that would become infinite; what is infinite or NaN already stays what it is."""
    if float(values.max()) < ROUNDS_TO_INFINITY and float(values.min()) > -ROUNDS_TO_INFINITY:
        return
    magnitudes = np.abs(values)
    if bool(((magnitudes >= ROUNDS_TO_INFINITY) & (magnitudes < np.inf)).any()):
        raise SourceError(
            f"{tensor or 'a tensor'} has values beyond 65504, which F16 cannot hold",
            hint="Look for the source that is damaged, or choose BF16 or F32.",
            tensor=tensor,
        )


@functools.cache
def _functions() -> Any:
    library = ggml_base()
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = (
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_void_p,
    )
    library.ggml_validate_row_data.restype = ctypes.c_bool
    library.ggml_validate_row_data.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    library.ggml_blck_size.restype = ctypes.c_int64
    library.ggml_blck_size.argtypes = (ctypes.c_int,)
    library.ggml_type_size.restype = ctypes.c_size_t
    library.ggml_type_size.argtypes = (ctypes.c_int,)
    library.ggml_type_name.restype = ctypes.c_char_p
    library.ggml_type_name.argtypes = (ctypes.c_int,)
    library.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)
    library.ggml_get_type_traits.argtypes = (ctypes.c_int,)
    return library


@functools.cache
def _decoder(code: int) -> Any:
    traits = _functions().ggml_get_type_traits(code).contents
    if not traits.to_float:
        raise ValueError(f"ggml has no decoder of type {code}")
    return _TO_FLOAT(traits.to_float)
