"""The memory budget: what a merge's process needs before, per worker and per tensor, and how many workers fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from alloyd.errors import MemoryTooSmall

MIB: Final = 1024 * 1024

FIXED: Final = 160 * MIB
"""Allowed for the process with its libraries loaded, kernels compiled and no tensor in flight."""

PER_OUTPUT_PIECE: Final = 200
"""Bytes kept in memory for each 4 MiB piece that was read or written: its digest and what holds it."""

TENSORS_AHEAD: Final = 3
"""Tensors that may be begun while the first of them is still being finished, so that no worker waits."""


class Demand(Protocol):
    """What one tensor needs of memory."""

    @property
    def pieces(self) -> int:
        """Digests of 4 MiB that are kept to the end."""

    def worker_bytes(self, *, buffered: bool) -> int:
        """Private bytes of one worker."""

    def state_bytes(self, workers: int) -> int:
        """Private bytes of the tensor's measurements while it is in flight."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a merge was granted: worker threads, tensors in flight at once, and the private bytes they peak at."""

    threads: int
    tensors: int
    peak: int


def allot(
    tensors: Sequence[Demand], *, memory: int, threads: int, buffered: bool, libraries: int = 0
) -> Budget:
    """The most workers and tensors in flight that fit into ``memory`` bytes.

    ``buffered`` says that sources are read into buffers (``pread``) and not mapped; ``libraries`` are private bytes of
    those that a plain merge does not load.

    Raises
    ------
    MemoryTooSmall
        Not even one worker on one tensor fits; names the least that does.
    """
    digests = sum(each.pieces for each in tensors) * PER_OUTPUT_PIECE + libraries
    for workers in range(threads, 0, -1):
        for ahead in range(TENSORS_AHEAD if workers > 1 else 1, 0, -1):
            peak = _peak(tensors, workers, ahead, buffered=buffered) + digests
            if peak <= memory:
                return Budget(workers, ahead, peak)
    least = _peak(tensors, 1, 1, buffered=buffered) + digests
    raise MemoryTooSmall(
        f"this merge needs {-(-least // MIB)} MiB of memory and was given {memory / MIB:.4g} MiB",
        hint=f"Give it --memory {-(-least // MIB)}MiB or more.",
        least=least,
        memory=memory,
    )


def _peak(tensors: Sequence[Demand], workers: int, ahead: int, *, buffered: bool) -> int:
    """Private bytes at the worst moment with so many workers and tensors in flight."""
    per_worker = max((each.worker_bytes(buffered=buffered) for each in tensors), default=0)
    largest = sorted((each.state_bytes(workers) for each in tensors), reverse=True)[:ahead]
    return FIXED + workers * per_worker + sum(largest)
