"""Where merged blocks go, as the merge sees it; ``checkpoints/sink.py`` has the one on disk."""

from __future__ import annotations

from typing import Protocol

from ..checkpoints.journal import Block


class Sink(Protocol):
    """Takes blocks of output tensors (by slot number) from any thread, and remembers which are done."""

    def open(self) -> tuple[Block, ...]:
        """Make ready; the blocks that are already there."""

    def put(self, block: Block, data: memoryview) -> None:
        """Store a block, whose bytes are ``data``, and remember it."""

    def checkpoint(self) -> None:
        """Force all that was written to disk."""
