"""The element types of a GGUF tensor, as ggml numbers them: plain values, so that reading a file needs no library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

WEIGH_WHOLE_ROWS: Final = frozenset(("Q4_0", "Q4_1", "Q5_0", "Q5_1"))
"""Types whose encoder, where it is given an importance, scales it by the mean square of the whole row."""


@dataclass(frozen=True, slots=True)
class ElementType:
    """One ggml type: ``block`` elements are encoded together into ``size`` bytes."""

    code: int
    """ggml's number, which the file stores."""
    name: str
    """The GGUF name in capitals: ``F32``, ``Q4_K``, ``IQ4_XS``."""
    block: int
    size: int

    def size_of(self, elements: int) -> int:
        """Bytes of ``elements`` elements.

        Raises
        ------
        ValueError
            They do not fill whole blocks.
        """
        blocks, rest = divmod(elements, self.block)
        if rest:
            raise ValueError(f"{elements} elements of {self.name} do not fill blocks of {self.block}")
        return blocks * self.size


TYPES: Final[Mapping[int, ElementType]] = MappingProxyType(
    {
        code: ElementType(code, name, block, size)
        for code, name, block, size in (
            (0, "F32", 1, 4),
            (1, "F16", 1, 2),
            (2, "Q4_0", 32, 18),
            (3, "Q4_1", 32, 20),
            (6, "Q5_0", 32, 22),
            (7, "Q5_1", 32, 24),
            (8, "Q8_0", 32, 34),
            (10, "Q2_K", 256, 84),
            (11, "Q3_K", 256, 110),
            (12, "Q4_K", 256, 144),
            (13, "Q5_K", 256, 176),
            (14, "Q6_K", 256, 210),
            (16, "IQ2_XXS", 256, 66),
            (17, "IQ2_XS", 256, 74),
            (18, "IQ3_XXS", 256, 98),
            (19, "IQ1_S", 256, 50),
            (20, "IQ4_NL", 32, 18),
            (21, "IQ3_S", 256, 110),
            (22, "IQ2_S", 256, 82),
            (23, "IQ4_XS", 256, 136),
            (24, "I8", 1, 1),
            (25, "I16", 1, 2),
            (26, "I32", 1, 4),
            (27, "I64", 1, 8),
            (28, "F64", 1, 8),
            (29, "IQ1_M", 256, 56),
            (30, "BF16", 1, 2),
            (34, "TQ1_0", 256, 54),
            (35, "TQ2_0", 256, 66),
            (39, "MXFP4", 32, 17),
            (40, "NVFP4", 64, 36),
            (41, "Q1_0", 128, 18),
        )
    }
)
"""Every type a file may have, by its number (ggml.h of llama.cpp; a test holds them to the library)."""

F32: Final = TYPES[0]
