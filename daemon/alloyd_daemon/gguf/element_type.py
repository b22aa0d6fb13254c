"""The element types of a GGUF tensor, as ggml numbers them: a value, so that plans need no library."""

from __future__ import annotations

from dataclasses import dataclass
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


F32: Final = ElementType(0, "F32", 1, 4)
