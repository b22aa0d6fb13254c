"""Where merged blocks go, as the merge sees it; ``checkpoints/sink.py`` has the one on disk."""

from __future__ import annotations

from typing import Protocol

from ..checkpoints.journal import Block


class Sink(Protocol):
    """Takes blocks of output tensors (by slot number) from any thread, and remembers which are done."""

    def open(self) -> tuple[Block, ...]:
        """Make ready; the blocks that are already there."""

    def write(self, slot: int, start: int, data: memoryview) -> None:
        """Write ``data`` at byte ``start`` of a tensor."""

    def record(self, block: Block) -> None:
        """Remember a block whose bytes were written."""

    def checkpoint(self) -> None:
        """Force all that was written to disk."""
