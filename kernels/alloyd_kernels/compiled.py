"""The decorator of every CPU kernel: native code, made by numba at first use, called without numba from then on.

numba needs over half a second before it can do anything, more than many a job takes; so the machine code it makes is
kept as an object file, which llvmlite loads in milliseconds and ctypes calls with the interpreter's lock released. The
files lie in a folder named after a digest of all kernel sources (kernels are inlined into each other), numba's version
and the processor. The folder is this user's own: what lies there is executed.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

_CHECK = 16
_SCALARS: dict[str, Any] = {
    "int64": ctypes.c_int64,
    "uint64": ctypes.c_uint64,
    "float32": ctypes.c_float,
    "float64": ctypes.c_double,
    "bool": ctypes.c_uint8,
    "int32": ctypes.c_int32,
    "uint32": ctypes.c_uint32,
    "uint16": ctypes.c_uint16,
    "uint8": ctypes.c_uint8,
}

_KINDS: dict[type, str] = {int: "int64", float: "float64", bool: "bool"} | {
    np.dtype(name).type: name for name in _SCALARS
}
# Looked up, because a dtype takes longer to say its name than a small kernel takes to run.
_ARRAYS = {
    (char, dimensions): f"{np.dtype(char).name}:{dimensions}"
    for char in np.typecodes["AllInteger"] + "fd?"
    for dimensions in range(1, 5)
}


class NotPortable(Exception):
    """What numba made of a kernel cannot be called, or cannot live, without numba."""


class Native:
    """A few LLVM instructions that kernels can call; ``build`` of (llvmlite.ir, builder, arguments) makes them."""

    def __init__(self, signature: str, build: Callable[[Any, Any, Any], Any]) -> None:
        self.signature = signature
        self.build = build
        self.__doc__ = build.__doc__


def native(signature: str) -> Callable[[Callable[[Any, Any, Any], Any]], Any]:
    """Make a :class:`Native` of a function that builds it; ``signature`` as numba writes it."""
    return lambda build: Native(signature, build)


class Kernel:
    """A function over arrays, scalars and raw addresses that runs as native code; every other kernel may call it."""

    def __init__(self, function: FunctionType) -> None:
        self.function = function
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self._ways: dict[tuple[str, ...], Callable[[Sequence[Any]], Any]] = {}
        self._lock = threading.Lock()

    def __call__(self, *arguments: Any) -> Any:
        kinds = tuple([_kind(each) for each in arguments])
        way = self._ways.get(kinds)
        if way is None:
            with self._lock:
                way = self._ways.get(kinds) or self._ways.setdefault(kinds, _way(self, kinds))
        return way(arguments)


def compiled(function: Any) -> Any:
    """Compile a kernel; without a folder to keep it in, each process compiles its own."""
    return Kernel(function)


_making: list[str] = []


def is_compiling() -> bool:
    """Whether a kernel is being compiled now, in whichever thread; it takes seconds, once on a machine."""
    return bool(_making)


def _kind(value: Any) -> str:
    """The type of an argument as numba writes it; arrays are ``dtype:dimensions``."""
    if type(value) is np.ndarray:
        return _ARRAYS[value.dtype.char, value.ndim]
    return _KINDS[type(value)]


def _way(kernel: Kernel, kinds: tuple[str, ...]) -> Callable[[Sequence[Any]], Any]:
    """A function of the arguments that calls the kernel's native code for arguments of these kinds."""
    try:
        symbol, result, code = _code(kernel, kinds)
    except NotPortable:
        from .compiling import dispatcher_of

        dispatcher = dispatcher_of(kernel)
        return lambda arguments: dispatcher(*arguments)
    address = _load(symbol, code)
    types = [ctypes.c_void_p, ctypes.c_void_p]
    for kind in kinds:
        types += _array_types(kind) if ":" in kind else [_SCALARS[kind]]
    call = ctypes.CFUNCTYPE(ctypes.c_int32, *types)(address)
    slot = _SCALARS[result] if result != "none" else ctypes.c_void_p
    converters = [_flat if ":" in kind else (float if kind.startswith("float") else int) for kind in kinds]

    def way(arguments: Sequence[Any]) -> Any:
        found, error = slot(), ctypes.c_void_p()
        flat: list[Any] = [ctypes.addressof(found), ctypes.addressof(error)]
        for convert, value in zip(converters, arguments, strict=True):
            if convert is _flat:
                flat += _flat(value)
            else:
                flat.append(convert(value))
        if call(*flat):
            raise ArithmeticError(f"the kernel {kernel.__name__} failed")
        return None if result == "none" else found.value

    return way


def _array_types(kind: str) -> list[Any]:
    """What numba passes of an array: owner, parent, elements, bytes of one, data, then shape and strides."""
    sizes = [ctypes.c_int64] * (2 * int(kind.partition(":")[2]))
    return [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_void_p,
        *sizes,
    ]


def _flat(array: Any) -> tuple[Any, ...]:
    if not array.flags.c_contiguous:
        raise ValueError("a kernel takes contiguous arrays")
    return (None, None, array.size, array.itemsize, array.ctypes.data, *array.shape, *array.strides)


def _code(kernel: Kernel, kinds: tuple[str, ...]) -> tuple[str, str, bytes]:
    """Symbol, kind of result and object file of a kernel, from the folder or made now."""
    folder = _folder()
    name = blake2b(
        f"{kernel.function.__module__}.{kernel.__name__}({','.join(kinds)})".encode(), digest_size=12
    )
    file = None if folder is None else folder / f"{kernel.__name__}-{name.hexdigest()}.kernel"
    if file is not None:
        try:
            data = file.read_bytes()
            if blake2b(data[_CHECK:], digest_size=_CHECK).digest() == data[:_CHECK]:
                head, _, code = data[_CHECK:].partition(b"\n")
                symbol, result = head.decode().split()
                return symbol, result, code
        except OSError:
            pass
    from .compiling import compile_kernel

    _making.append(name.hexdigest())
    try:
        symbol, result, code = compile_kernel(kernel, kinds)
    finally:
        _making.remove(name.hexdigest())
    if file is not None:
        data = f"{symbol} {result}\n".encode() + code
        fresh = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        try:
            fresh.write_bytes(blake2b(data, digest_size=_CHECK).digest() + data)
            fresh.replace(file)
        except OSError:
            fresh.unlink(missing_ok=True)
    return symbol, result, code


_linked: list[Any] = []
_linking = threading.Lock()


def _load(symbol: str, code: bytes) -> int:
    """Link an object file into this process; the address of its function, which stays for good."""
    import llvmlite.binding as llvm

    with _linking:
        if not _linked:
            llvm.initialize_native_target()
            llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        _linked.append(engine)
        return int(engine.get_function_address(symbol))


@cache
def _folder() -> Path | None:
    """A folder that only this user can write, or ``None``."""
    root = os.environ.get("NUMBA_CACHE_DIR") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "alloyd"
    )
    folder = Path(root) / f"kernels-{_digest()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return None
    mine = status.st_uid == os.geteuid() and not status.st_mode & 0o022
    return folder if mine and os.access(folder, os.W_OK | os.X_OK) else None


def _digest() -> str:
    import llvmlite.binding as llvm

    processor = f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"
    digest = blake2b(processor.encode() + b"\0" + _numba_version(), digest_size=8)
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _numba_version() -> bytes:
    """What tells one numba from another, found without loading it."""
    found = find_spec("numba")
    file = Path(found.origin).with_name("_version.py") if found is not None and found.origin else None
    if file is not None and file.is_file():
        return file.read_bytes()
    from importlib.metadata import version  # takes longer to load than everything else here

    return version("numba").encode()
