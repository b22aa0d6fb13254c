"""An importance matrix: for each GGUF tensor the mean squared activation of each column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Imatrix:
    """Importance of the columns of every tensor it knows.

    ``weights`` maps a GGUF tensor name to float32 of (matrices, columns): one matrix, or one an expert.
    """

    weights: Mapping[str, NDArray[np.float32]]
    digest: str
    """BLAKE3 of the file, for plans and manifests."""


def read_imatrix(path: Path) -> Imatrix:
    """Read an importance matrix as llama.cpp writes it (GGUF, or the older ``.dat``).

    Raises
    ------
    SourceError
        The file is missing, cut short or is not an importance matrix.
    """
    raise NotImplementedError
