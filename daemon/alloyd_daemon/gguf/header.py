"""The head of a GGUF file as bytes, by the writer of the gguf package."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from .architecture import Writer
from .element_type import ElementType
from .library import gguf

ALIGNMENT: Final = 32
"""Every tensor, and the data as a whole, begins at a multiple of this (the default of the format)."""


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor of the file; ``shape`` is in the checkpoint's order (rows before columns)."""

    name: str
    type: ElementType
    shape: tuple[int, ...]
    offset: int
    """First byte in the file."""
    size: int
    """Bytes, without the zeros that pad to the next tensor."""


@dataclass(frozen=True, slots=True)
class Head:
    """Magic, metadata and tensor table padded to the first tensor; the tensors; bytes of the whole file."""

    data: bytes
    tensors: tuple[GgufTensor, ...]
    file_size: int


def new_writer(architecture: str) -> Writer:
    """A writer of metadata that has no file yet; ``architecture`` is llama.cpp's name."""
    return gguf().GGUFWriter(path=None, arch=architecture)


def render(writer: Writer, tensors: Sequence[tuple[str, ElementType, tuple[int, ...]]]) -> Head:
    """The head of a file with the metadata of ``writer`` and these tensors, one after the other.

    ``writer`` is used up by it.
    """
    kinds = gguf().GGMLQuantizationType
    offsets: list[int] = []
    end = 0
    for name, kind, shape in tensors:
        size = kind.size_of(int(np.prod(shape, dtype=object)))
        writer.add_tensor_info(name, shape, np.dtype(np.float32), size, raw_dtype=kinds(kind.code))
        offsets.append(end)
        end += size + -size % ALIGNMENT
    # The writer knows files only; what it writes here is metadata, a few MiB at most.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "head"
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        data = path.read_bytes()
    data += bytes(-len(data) % ALIGNMENT)
    placed = tuple(
        GgufTensor(name, kind, shape, len(data) + offset, kind.size_of(int(np.prod(shape, dtype=object))))
        for (name, kind, shape), offset in zip(tensors, offsets, strict=True)
    )
    return Head(data, placed, len(data) + end)
