"""One output tensor in the making: its program's stages, then its blend (if any), block by block."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from alloyd.errors import SourceError
from alloyd_kernels.dtypes import CODES, LEAF

from ..checkpoints.digest import PieceDigests, piece_digests
from ..checkpoints.header import ALIGNMENT
from ..checkpoints.journal import Block as DoneBlock
from ..checkpoints.reader import Reader
from ..stages import Stage, Sweep
from .blends import Blend
from .block import Block, Scratch
from .findings import FindingCache, answered
from .plan import TensorPlan
from .sink import Sink

WINDOW = 64 * 1024 * 1024
"""Bytes of a source that may stay mapped behind the cursor, and that are asked for ahead of it."""


STRIP = 8 * LEAF
"""Elements that are blended and then digested while a cache still holds them: a few MiB of sources and output."""


class Worker:
    """One worker's number, scratch and buffers; buffers grow to the largest block and are used again."""

    def __init__(self, number: int, sources: int, rows: int = 0) -> None:
        self.number = number
        self.scratch = Scratch(sources, rows)
        self._out = np.empty(0, dtype=np.uint8)
        self._into = [np.empty(0, dtype=np.uint8) for _ in range(sources)]

    def out(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """A buffer for an output block, at the start of a page."""
        if len(self._out) < nbytes:
            room = np.empty(nbytes + ALIGNMENT, dtype=np.uint8)
            skip = -room.__array_interface__["data"][0] % ALIGNMENT
            self._out = room[skip : skip + nbytes]
        return self._out[:nbytes]

    def into(self, position: int, nbytes: int) -> memoryview:
        """A buffer for a block of the source at ``position``."""
        if len(self._into[position]) < nbytes:
            self._into[position] = np.empty(nbytes, dtype=np.uint8)
        return self._into[position][:nbytes].data


class Cursor:
    """How far a sweep has come: everything before the first block that is still in hand is behind it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_hand: set[int] = set()
        self._reached = 0
        self._behind = 0

    def take(self, first: int, reach: int) -> bool:
        """Take the block at element ``first`` in hand, unless it is over ``reach`` elements ahead of another one."""
        with self._lock:
            if first - min(self._in_hand, default=first) > reach:
                return False
            self._in_hand.add(first)
            return True

    def finish(self, first: int, stop: int) -> tuple[int, int]:
        """A block is done; the elements that came to be behind the cursor by that."""
        with self._lock:
            self._in_hand.discard(first)
            self._reached = max(self._reached, stop)
            begin = self._behind
            self._behind = max(begin, min(self._in_hand, default=self._reached))
            return begin, self._behind


class TensorRun:
    """Moves through begin -> sweeps -> blend; the schedule sees ``pending``, ``outstanding`` and ``finished``."""

    def __init__(
        self,
        plan: TensorPlan,
        done: Iterable[DoneBlock],
        readers: Sequence[Reader],
        sink: Sink,
        workers: int,
        *,
        findings: FindingCache | None,
        marks: Sequence[bytes | None],
        digests: bool,
        contents: bool,
    ) -> None:
        """``contents``: take the digests of what is read; ``digests``: of what is written, too."""
        self.plan = plan
        self.pending: deque[int] = deque()
        self.outstanding = 0
        self.finished = False
        self._readers = readers
        self._sink = sink
        self._workers = workers
        self._findings = findings
        self._marks = marks
        self._digests = digests
        self._contents = contents
        self._done = {
            first
            for block in done
            for first in range(block.start // plan.width, block.stop // plan.width, plan.block)
        }
        self._program: Generator[Stage, Any, Blend | None] | None = None
        self._sweep: Sweep | None = None
        self._blend: Blend | None = None
        self._codes = np.array([CODES.get(tensor.dtype, -1) for _, tensor in plan.sources], dtype=np.int64)
        self._out_code = CODES.get(plan.dtype, -1)
        self._widths = [tensor.nbytes // plan.elements if plan.elements else 0 for _, tensor in plan.sources]
        self._large = any(tensor.nbytes > WINDOW for _, tensor in plan.sources)
        self._reach = WINDOW // 2 // max(1, *self._widths)
        self._cursor = Cursor()
        # What moves on disk: of a tensor that an adapter changes that is less than what it is computed to.
        self._moved = [
            tensor.stored[0].nbytes // plan.elements if plan.elements else 0 for _, tensor in plan.sources
        ]
        self._counted = 0

    @property
    def cost(self) -> int:
        """Bytes this tensor moves: every sweep's reads and the writes."""
        return self.plan.read_once * self.plan.passes + self.plan.nbytes

    @property
    def uncounted(self) -> int:
        """Bytes of the cost that no finished task accounted for (sweeps that were not needed, blocks already there)."""
        return self.cost - self._counted

    def cost_of(self, first: int) -> int:
        """Bytes that the task at ``first`` moved; called under the schedule's lock."""
        count = min(self.plan.block, self.plan.elements - first)
        moved = sum(width * count for width in self._moved) + (count * self.plan.width if self._blend else 0)
        self._counted += moved
        return moved

    def next(self) -> int | None:
        """The next pending block, taken in hand; ``None`` when there is none, or it would run too far ahead."""
        if not self.pending or (self._large and not self._cursor.take(self.pending[0], self._reach)):
            return None
        return self.pending.popleft()

    def begin(self) -> None:
        """Start the program; afterwards there are pending blocks, or the tensor is finished."""
        if len(self._done) * self.plan.block >= self.plan.elements:
            self.finished = True
            return
        if not self.plan.verbatim:
            steps = self.plan.method.program(self.plan.operands)
            self._program = answered(steps, self._findings, self._marks)
            self._step(None)
        else:
            self._fill()

    def advance(self) -> None:
        """Go on after the last block of a sweep."""
        if self._sweep is not None:
            sweep, self._sweep = self._sweep, None
            if self._large:
                self._release(0, self.plan.elements, drop=False)
            self._step(sweep.resolve())
            return
        self._release(0, self.plan.elements, drop=True)
        self.finished = True

    def _step(self, result: Any) -> None:
        assert self._program is not None
        try:
            stage = self._program.send(result)
            self._sweep = stage.begin(self.plan.elements, self._workers)
        except StopIteration as end:
            self._blend = end.value
            if self._blend is None:
                self._release(0, self.plan.elements, drop=True)
                self.finished = True
                return
        self._fill()

    def _fill(self) -> None:
        self._cursor = Cursor()
        starts = range(0, self.plan.elements, self.plan.block)
        wanted = [first for first in starts if self._sweep is not None or first not in self._done]
        self.outstanding = len(wanted)
        self.pending.extend(wanted)

    def work(self, first: int, worker: Worker) -> DoneBlock | None:
        """Do the block at element ``first`` of the present sweep; the finished block, when it was the blend."""
        count = min(self.plan.block, self.plan.elements - first)
        self._ask_ahead(first)
        if self._sweep is not None:
            views = self._views(first, count, worker, range(len(self.plan.sources)))
            self._sweep.measure(self._block(first, count, views), worker.number, worker.scratch)
            finished = None
        else:
            finished = self._write(first, count, worker)
        if self._large:
            self._release(*self._cursor.finish(first, first + count), drop=finished is not None)
        return finished

    def _release(self, begin: int, end: int, *, drop: bool) -> None:
        """Give back elements [begin, end) of every source."""
        for (model, tensor), width in zip(self.plan.sources, self._widths, strict=True):
            self._readers[model].release(tensor, begin * width, end * width, drop=drop)

    def _write(self, first: int, count: int, worker: Worker) -> DoneBlock:
        plan = self.plan
        start = first * plan.width
        source = self._copied()
        if source is not None:
            views = self._views(
                first, count, worker, range(len(plan.sources)) if plan.verbatim else (source,)
            )
            if plan.verbatim:
                self._check_equal(views)
            data = worker.out(count * plan.width).data
            data[:] = views[source]
            copied = piece_digests(data) if self._contents else ()
            pieces = copied if self._digests else ()
            inputs = tuple((position, copied) for position in views) if self._contents else ()
            facts: dict[str, int] = {}
        else:
            assert self._blend is not None
            views = self._views(first, count, worker, range(len(plan.sources)))
            out = worker.out(count * plan.width)
            block = self._block(first, count, views, out.__array_interface__["data"][0])
            data = out.data
            if self._contents:
                strange, pieces, inputs = self._blend_and_digest(block, views, data, worker)
            else:
                strange, pieces, inputs = self._blend.write(block, worker.scratch), (), ()
            facts = {"non_finite": strange} if strange else {}
        done = DoneBlock(plan.slot, start, start + count * plan.width, pieces, inputs, facts)
        self._sink.put(done, data)
        return done

    def _blend_and_digest(
        self, block: Block, views: Mapping[int, memoryview], out: memoryview, worker: Worker
    ) -> tuple[int, tuple[bytes, ...], tuple[tuple[int, tuple[bytes, ...]], ...]]:
        """Blend strip by strip and digest each: how many elements are strange, the output's pieces, the inputs'."""
        assert self._blend is not None
        written = PieceDigests()
        read = {position: PieceDigests() for position in views}
        widths = np.array(self._widths, dtype=np.uint64)
        strange = 0
        for begin in range(0, block.count, STRIP):
            count = min(STRIP, block.count - begin)
            part = block.part(begin, count, widths, self.plan.width)
            strange += self._blend.write(part, worker.scratch)
            for position, view in views.items():
                width = self._widths[position]
                read[position].add(view[begin * width : (begin + count) * width])
            if self._digests:
                written.add(out[begin * self.plan.width : (begin + count) * self.plan.width])
        return strange, written.finish(), tuple((each, pieces.finish()) for each, pieces in read.items())

    def _copied(self) -> int | None:
        """The source whose bytes are the output's, or ``None``."""
        if self.plan.verbatim:
            return 0
        assert self._blend is not None
        position = self._blend.copies
        return (
            position
            if position is not None and self.plan.sources[position][1].dtype == self.plan.dtype
            else None
        )

    def _views(
        self, first: int, count: int, worker: Worker, positions: Iterable[int]
    ) -> dict[int, memoryview]:
        views = {}
        for position in positions:
            model, tensor = self.plan.sources[position]
            width = self._widths[position]
            reader = self._readers[model]
            into = worker.into(position, count * width) if reader.copies(tensor) else None
            views[position] = reader.view(tensor, first * width, (first + count) * width, into)
        return views

    def _block(self, first: int, count: int, views: dict[int, memoryview], out: int = 0) -> Block:
        addresses = np.array(
            [
                np.frombuffer(views[each], dtype=np.uint8).__array_interface__["data"][0]
                for each in range(len(views))
            ],
            dtype=np.uint64,
        )
        return Block(first, count, addresses, self._codes, out, self._out_code)

    def _ask_ahead(self, first: int) -> None:
        for (model, tensor), width in zip(self.plan.sources, self._widths, strict=True):
            ahead = (first + self.plan.block) * width
            if ahead < tensor.nbytes:
                self._readers[model].prefetch(tensor, ahead, min(ahead + WINDOW // 4, tensor.nbytes))

    def _check_equal(self, views: dict[int, memoryview]) -> None:
        for position, view in views.items():
            if view != views[0]:
                _, tensor = self.plan.sources[position]
                raise SourceError(
                    f"tensor '{self.plan.name}' ({tensor.dtype}) is no float and differs between the sources",
                    hint="Leave it to one model: give it a passthrough slice, or make the copies equal.",
                    tensor=self.plan.name,
                )
