"""numba's part in a kernel's life: from Python functions to an object file. Loaded only when there is none yet."""

from __future__ import annotations

import ctypes
from functools import cache
from types import FunctionType
from typing import Any

from llvmlite import binding as llvm
from llvmlite import ir
from numba import njit, types
from numba.core import sigutils
from numba.core.compiler import DEFAULT_FLAGS, compile_extra
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from .compiled import Kernel, Native, NotPortable

_LLVM = {
    "int64": "i64",
    "uint64": "i64",
    "int32": "i32",
    "uint32": "i32",
    "uint16": "i16",
    "uint8": "i8",
    "bool": "i8",
    "float32": "float",
    "float64": "double",
}


@cache
def intrinsic_of(native: Native) -> Any:
    """A :class:`Native` as numba knows it; it has one to three arguments."""
    arguments, result = sigutils.normalize_signature(native.signature)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        made = native.build(ir, builder, args)
        return context.get_dummy_value() if result == types.void else made

    def one(context: Any, a: Any) -> Any:
        return result(*arguments), build

    def two(context: Any, a: Any, b: Any) -> Any:
        return result(*arguments), build

    def three(context: Any, a: Any, b: Any, c: Any) -> Any:
        return result(*arguments), build

    make: Any = intrinsic
    return make((one, two, three)[len(arguments) - 1])


@cache
def dispatcher_of(kernel: Kernel) -> Any:
    """A kernel as numba knows it, for the kernels that call it."""
    return njit(nogil=True, _nrt=False)(_twin(kernel))


def _twin(kernel: Kernel) -> FunctionType:
    """The kernel's function with what it calls as numba knows it."""
    function = kernel.function
    names = dict(function.__globals__)
    for name in function.__code__.co_names:
        value = names.get(name)
        if isinstance(value, Kernel):
            names[name] = dispatcher_of(value)
        elif isinstance(value, Native):
            names[name] = intrinsic_of(value)
    twin = FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    twin.__module__ = function.__module__
    return twin


def compile_kernel(kernel: Kernel, kinds: tuple[str, ...]) -> tuple[str, str, bytes]:
    """Symbol, kind of result and object file of ``kernel`` for arguments of these kinds (see ``compiled``).

    Raises
    ------
    NotPortable
        This numba passes arguments in another way than ``compiled`` does, or its code needs numba beside it.
    """
    flags = DEFAULT_FLAGS.copy()
    flags.nrt = False  # nothing is allocated, so nothing is counted
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    typing, target = cpu_target.typing_context, cpu_target.target_context
    dispatcher_of(kernel)
    made = compile_extra(typing, target, _twin(kernel), tuple(_type(kind) for kind in kinds), None, flags, {})
    symbol = made.fndesc.llvm_func_name
    library = made.library
    library.get_pointer_to_function(symbol)
    result = str(made.signature.return_type)
    expected = ["ptr", "ptr"]
    for kind in kinds:
        name, _, dimensions = kind.partition(":")
        expected += (
            ["ptr", "ptr", "i64", "i64", "ptr"] + ["i64"] * (2 * int(dimensions))
            if dimensions
            else [_LLVM[name]]
        )
    found = [str(each.type) for each in library.get_function(symbol).arguments]
    if found != expected:
        raise NotPortable(f"this numba passes the arguments of {kernel.__name__} in an unknown way: {found}")
    process = ctypes.CDLL(None)
    for each in llvm.parse_assembly(library.get_llvm_str()).functions:
        if each.is_declaration and not each.name.startswith("llvm.") and not hasattr(process, each.name):
            raise NotPortable(
                f"the code of {kernel.__name__} needs {each.name}, which no process has by itself"
            )
    (code, _) = library.serialize_using_object_code()[2]
    return symbol, result, bytes(code)


def _type(kind: str) -> Any:
    name, _, dimensions = kind.partition(":")
    scalar = types.boolean if name == "bool" else getattr(types, name)
    return types.Array(scalar, int(dimensions), "C") if dimensions else scalar
