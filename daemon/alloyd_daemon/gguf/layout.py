"""What a GGUF file of a model will be, byte for byte except for the weights: pure, before anything is written.

    layout = describe(tensors, config, folder, "Q4_K_M", filename="merged.gguf")

A writer makes a file of ``layout.size`` zero bytes, writes ``layout.header`` at 0 and every constant at its offset, and
for every block of a source tensor encodes what ``layout.placements[n].extents(first, count)`` names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .element_type import ElementType
from .imatrix import Imatrix
from .placement import Placement

ALIGNMENT = 32
"""Every tensor, and the data as a whole, begins at a multiple of this (the default of the format)."""

SourceTensor = tuple[str, str, tuple[int, ...]]
"""Name in the checkpoint, safetensors dtype code of the values that arrive, shape."""


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
class Constant:
    """Bytes of a tensor that no source holds (frequencies of a scaled rotary embedding)."""

    tensor: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class GgufLayout:
    """A GGUF file without its weights. Bytes that belong to no header, constant or extent are zero."""

    header: bytes
    """Magic, metadata and tensor table, padded to the first tensor."""
    size: int
    """Bytes of the whole file."""
    tensors: tuple[GgufTensor, ...]
    placements: tuple[Placement, ...]
    """One for each source tensor, in the order they were given."""
    constants: tuple[Constant, ...]
    warnings: tuple[str, ...]
    """Sentences a user should read: types that fell back, no vocabulary..."""


def describe(
    tensors: Sequence[SourceTensor],
    config: Mapping[str, Any],
    folder: Path,
    type_name: str,
    *,
    filename: str,
    imatrix: Imatrix | None = None,
    name: str = "",
) -> GgufLayout:
    """Describe the GGUF file of a model.

    Parameters
    ----------
    tensors:
        The tensors of the checkpoint to be written: name, dtype code of the values as they will arrive, shape.
    config:
        The model's config.json.
    folder:
        The folder that holds the tokenizer's files (config.json there is not read).
    type_name:
        What ``llama-quantize`` calls the file's type: ``F16``, ``Q8_0``, ``Q4_K_M``, ``IQ4_XS``... in any case.
    filename:
        The file's name, for messages.
    imatrix:
        Importance of each column, for types that use it.
    name:
        ``general.name``; empty: the file has none.

    Raises
    ------
    PlanError
        Architecture, tensor, shape, tokenizer or type that llama.cpp cannot hold, or a type that needs an imatrix.
    SourceError
        Tokenizer files that cannot be read.
    RecipeError
        An unknown type name, or the extra ``alloyd[gguf]`` is not installed.
    """
    raise NotImplementedError
