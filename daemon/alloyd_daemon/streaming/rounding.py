"""Rounds merged weights to the values that a llama.cpp file of some type would hold, tensor by tensor."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch

from ..candidate import Candidate
from ..gguf import ggml
from ..gguf.layout import describe
from ..gguf.placement import Part

PIECE: Final = 1 << 20
"""Elements that are rounded at a time, if a row is not longer."""

_LLAMA_CPP: Final = re.compile(r"(?:I?Q|TQ|MXFP|NVFP|BF|F)\d.*", re.IGNORECASE)


def is_llama_cpp_type(name: str) -> bool:
    """Whether ``name`` looks like a type of llama.cpp, such as Q8_0, Q4_K_M, IQ4_XS."""
    return _LLAMA_CPP.fullmatch(name) is not None


class Rounding:
    """What a file of ``type_name`` holds of a candidate's tensors.

    Each tensor has the type that llama.cpp would choose for it, so that a mix such as Q4_K_M is one. llama.cpp keeps
    some rows in another order, which does not matter: every row is quantised by itself. ``warnings`` name the tensors
    whose rows do not fit the type.

    Raises RecipeError for an unknown type or where llama-cpp-python is not installed, PlanError for an architecture
    that llama.cpp does not have.
    """

    def __init__(self, candidate: Candidate, type_name: str) -> None:
        tensors = [(each.name, each.dtype, each.shape) for each in candidate.prepared.plan.tensors]
        layout = describe(tensors, candidate.config, candidate.folder, type_name, filename=candidate.name)
        self.warnings = tuple(layout.warnings)
        self._parts: dict[str, Sequence[Part]] = {each.source: each.parts for each in layout.placements}

    def apply(self, name: str, tensor: torch.Tensor) -> None:
        """Round ``tensor`` where it is.

        Raises SourceError for values that the type cannot hold.
        """
        for part in self._parts.get(name, ()):
            if part.type.name == "F32":
                continue
            rows = tensor.view(-1, part.row_length)[part.first_row : part.first_row + part.rows]
            step = max(1, PIECE // part.row_length)
            for start in range(0, part.rows, step):
                piece = rows[start : start + step]
                values = piece.float().numpy()
                encoded = np.empty(part.type.size_of(values.size), dtype=np.uint8)
                ggml.quantize(part.type, values, encoded, part.importance, tensor=name)
                decoded = np.empty_like(values)
                ggml.dequantize(part.type, encoded, decoded)
                piece.copy_(torch.from_numpy(decoded))
