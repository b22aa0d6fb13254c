"""What each task vector of a tensor keeps, as the argument arrays of a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from alloyd_kernels.sparsify.kinds import CUT, DRAW, DROP, KEEP


@dataclass(frozen=True, slots=True)
class Sparsifier:
    """Which elements of one task vector stay; see ``alloyd_kernels.sparsify``."""

    kind: int = KEEP
    threshold: int = 0
    leaf: int = 0
    quota: int = 0
    key: int = 0

    @staticmethod
    def keep() -> Sparsifier:
        """Every element stays."""
        return Sparsifier()

    @staticmethod
    def drop() -> Sparsifier:
        """Nothing stays."""
        return Sparsifier(kind=DROP)

    @staticmethod
    def cut(threshold: int, leaf: int, quota: int) -> Sparsifier:
        """Magnitudes above a threshold stay, and the lowest-indexed of its equals."""
        return Sparsifier(kind=CUT, threshold=threshold, leaf=leaf, quota=quota)

    @staticmethod
    def draw(density: float, *, seed: int, tensor: str, position: int) -> Sparsifier:
        """Each element stays with probability ``density``, by a draw that depends on these values and its
        index only."""
        threshold = min(max(round(density * 2**32), 0), 2**32)
        if threshold == 0:
            return Sparsifier.drop()
        if threshold == 2**32:
            return Sparsifier.keep()
        digest = blake2b(f"{seed}\0{tensor}\0{position}".encode(), digest_size=8).digest()
        return Sparsifier(kind=DRAW, threshold=threshold, key=int.from_bytes(digest, "little"))


@dataclass(frozen=True, slots=True)
class SparsifierArrays:
    """The same for all task vectors of a tensor: int64 [n] each, ``keys`` uint64 [n]."""

    kinds: npt.NDArray[np.int64]
    thresholds: npt.NDArray[np.int64]
    leaves: npt.NDArray[np.int64]
    quotas: npt.NDArray[np.int64]
    keys: npt.NDArray[np.uint64]

    @staticmethod
    def of(sparsifiers: Sequence[Sparsifier]) -> SparsifierArrays:
        return SparsifierArrays(
            np.array([each.kind for each in sparsifiers], dtype=np.int64),
            np.array([each.threshold for each in sparsifiers], dtype=np.int64),
            np.array([each.leaf for each in sparsifiers], dtype=np.int64),
            np.array([each.quota for each in sparsifiers], dtype=np.int64),
            np.array([each.key for each in sparsifiers], dtype=np.uint64),
        )
