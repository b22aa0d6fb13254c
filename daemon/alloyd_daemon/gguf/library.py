"""llama.cpp's libraries from the llama_cpp package: loaded late, kept quiet, their log collected where it is wanted."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from alloyd.errors import RecipeError

_collecting = threading.RLock()
_lines: list[str] | None = None


@functools.cache
def llama() -> Any:
    """The module ``llama_cpp.llama_cpp`` (the C interface), which from now on writes nothing to stderr.

    Raises
    ------
    RecipeError
        llama_cpp is not installed or does not load.
    """
    _folder()
    try:
        import llama_cpp.llama_cpp as module
    except (ImportError, OSError, RuntimeError) as wrong:
        raise RecipeError(
            f"llama_cpp is installed but does not load: {wrong}",
            hint="Build it again: pip install --force-reinstall --no-cache-dir llama-cpp-python",
        ) from wrong
    module.llama_log_set(_CALLBACK, ctypes.c_void_p(0))
    return module


@functools.cache
def ggml_base() -> ctypes.CDLL:
    """The library that encodes and decodes rows; loads in milliseconds and starts no backend.

    Raises
    ------
    RecipeError
        llama_cpp is not installed or does not load.
    """
    folder = _folder() / "lib"
    # The numbered name is the one that libllama asks for: the same file is then mapped once.
    found = [*sorted(folder.glob("libggml-base.so.[0-9]")), *sorted(folder.glob("libggml-base.*"))]
    if not found:
        raise RecipeError(
            f"llama_cpp has no libggml-base in {folder}",
            hint="Install it again: pip install --force-reinstall llama-cpp-python",
        )
    try:
        return ctypes.CDLL(str(found[0]))
    except OSError as wrong:
        raise RecipeError(
            f"{found[0].name} does not load: {wrong}",
            hint="Build it again for this machine: pip install --force-reinstall --no-cache-dir llama-cpp-python",
        ) from wrong


def gguf() -> Any:
    """The package ``gguf``: names of keys and tensors, and the writer of metadata.

    Raises
    ------
    RecipeError
        It is not installed.
    """
    # This package bears the same name; an absolute import finds the one that is installed.
    try:
        import gguf as package
    except ModuleNotFoundError as absent:
        raise missing(absent.name or "gguf") from None
    return package


@contextmanager
def log_lines() -> Iterator[list[str]]:
    """Collect what llama.cpp logs meanwhile, one text a line; one collector at a time."""
    global _lines
    with _collecting:
        pieces: list[str] = []
        lines: list[str] = []
        _lines = pieces
        try:
            yield lines
        finally:
            _lines = None
            lines.extend("".join(pieces).splitlines())


def _on_log(level: int, text: bytes | None, data: int | None) -> None:
    if _lines is not None and text:
        _lines.append(text.decode("utf-8", "replace"))


# ctypes keeps no reference of its own to what C may call at any time.
_CALLBACK: Final = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(_on_log)


def _folder() -> Path:
    try:
        found = importlib.util.find_spec("llama_cpp")
    except (ImportError, ValueError):
        found = None
    if found is None or found.origin is None:
        raise missing("llama_cpp")
    return Path(found.origin).parent


def missing(library: str) -> RecipeError:
    """The error for a library of the extra that is absent."""
    return RecipeError(
        f"GGUF needs the library '{library}', which is not installed", hint="pip install 'alloyd[gguf]'"
    )
