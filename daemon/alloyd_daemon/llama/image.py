"""A GGUF file that becomes one candidate after another: only tensors that differ are merged, quantised and written.

The file has no name: it lies in memory (a memfd), or on disk where memory has no room for it, and is gone with the last
process that has it open. llama.cpp maps it, so that what is written into it is seen by a model that is loaded already.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from types import TracebackType

from alloyd.errors import DiskFull
from alloyd.jobs import Progress
from alloyd.units import format_size

from ..checkpoints.journal import Block
from ..checkpoints.libc import allocate
from ..engine.in_memory import Weights
from ..engine.plan import TensorPlan
from ..gguf.encoder import Encoder, chunks
from ..gguf.layout import GgufLayout
from ..gguf.placement import Placement


class Image:
    """One such file of ``layout``.

    Raises
    ------
    DiskFull
        There is no room for it.
    """

    def __init__(self, layout: GgufLayout, folder: Path, *, in_memory: bool) -> None:
        self.layout = layout
        self._held: dict[str, str] = {}
        self.handle = -1
        where = "memory" if in_memory else str(folder)
        try:
            self.handle = _nameless(None if in_memory else folder)
            os.ftruncate(self.handle, layout.size)
            allocate(self.handle, layout.size)
            _write(self.handle, 0, memoryview(layout.header))
            for constant in layout.constants:
                _write(self.handle, constant.offset, memoryview(constant.data))
        except OSError as error:
            self.close()
            raise DiskFull(
                f"{where} has no room for a candidate of {format_size(layout.size)}: {error.strerror}",
                hint="Quantise to a smaller type, or make room.",
                path=where,
            ) from error

    def __enter__(self) -> Image:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1

    @property
    def path(self) -> str:
        """The file's name for a process that was given the descriptor."""
        return f"/proc/self/fd/{self.handle}"

    def become(self, weights: Weights) -> Generator[Progress, None, int]:
        """Make the file the candidate of ``weights``, whose tensors are those of the layout in the same order.

        Yields progress in bytes and returns how many bytes of merged tensors were written.

        Raises
        ------
        SourceError
            A value that the tensor's type cannot hold.
        AlloydError
            Whatever the merge raises; what the file holds of the tensors in hand is then unknown, and is written anew.
        """
        plans = {name: weights.plan_of(name) for name in weights.names}
        placements = dict(zip(plans, self.layout.placements, strict=True))
        digests = {name: weights.digest(name) for name in plans if placements[name].parts}
        changed = [name for name, digest in digests.items() if self._held.get(name) != digest]
        for name in changed:
            self._held.pop(name, None)
        if not changed:
            return 0
        sink = _QuantisingSink(
            self.handle, [plans[name] for name in changed], [placements[name] for name in changed]
        )
        yield from weights.pour(changed, sink)
        self._held |= {name: digests[name] for name in changed}
        return sum(plans[name].nbytes for name in changed)


def _nameless(folder: Path | None) -> int:
    """A descriptor of an empty file that has no name: on the disk of ``folder``, or in memory."""
    if folder is None:
        return os.memfd_create("alloyd candidate", os.MFD_CLOEXEC)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.dup(file.fileno())


class _QuantisingSink:
    """Quantises each block as it comes, in the merge's own threads, and writes it to its places."""

    def __init__(self, handle: int, plans: Sequence[TensorPlan], placements: Sequence[Placement]) -> None:
        self._handle = handle
        self._encoder = Encoder()
        self._tensors = {
            plan.slot: pair for plan, pair in zip(plans, zip(plans, placements, strict=True), strict=True)
        }

    def open(self) -> tuple[Block, ...]:
        return ()

    def put(self, block: Block, data: memoryview) -> None:
        plan, placement = self._tensors[block.tensor]
        first = block.start // plan.width
        for extent in chunks(placement, first, first + data.nbytes // plan.width):
            at = (extent.first - first) * plan.width
            mine = data[at : at + extent.elements * plan.width]
            _write(
                self._handle, extent.offset, self._encoder.encode(extent, mine, plan.dtype, tensor=plan.name)
            )

    def checkpoint(self) -> None:
        pass


def _write(handle: int, offset: int, view: memoryview) -> None:
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written
