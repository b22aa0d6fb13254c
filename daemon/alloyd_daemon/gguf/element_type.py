"""The element types of a GGUF tensor, as ggml numbers them: a value, so that plans need no library."""

from __future__ import annotations

from dataclasses import dataclass


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


F32 = ElementType(0, "F32", 1, 4)
