"""ggml's own encoder and decoder of quantised rows, by ctypes from the llama_cpp package."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .element_type import ElementType


def types() -> Mapping[str, ElementType]:
    """Every element type that can be encoded, by its name in capitals.

    Raises
    ------
    RecipeError
        llama_cpp is not installed, or is not the version whose numbers are known.
    """
    raise NotImplementedError


def quantize(
    kind: ElementType,
    values: NDArray[np.float32],
    out: memoryview | NDArray[np.uint8],
    importance: NDArray[np.float32] | None = None,
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
        Float32 of ``columns``.

    Raises
    ------
    ValueError
        An argument that ggml would abort on.
    """
    raise NotImplementedError


def dequantize(kind: ElementType, data: memoryview | NDArray[np.uint8], out: NDArray[np.float32]) -> None:
    """Decode ``out.size`` elements of ``kind`` from ``data`` into ``out``."""
    raise NotImplementedError
