"""A candidate's merged tensors in memory, made on demand: what is scored without ever being written."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from alloyd.jobs import Progress

from ..checkpoints.checkpoint import Tensor
from ..checkpoints.header import ALIGNMENT
from ..checkpoints.journal import Block
from ..checkpoints.reader import Reader, open_reader
from .findings import FindingCache
from .merge import merge
from .plan import TensorPlan, tensor_identity
from .sink import Sink

if TYPE_CHECKING:
    from ..candidate import Candidate


@dataclass(frozen=True, slots=True)
class Merged:
    """One merged tensor: safetensors dtype code, shape, and its bytes (uint8 [nbytes], at the start of a page)."""

    dtype: str
    shape: tuple[int, ...]
    data: npt.NDArray[np.uint8]


class Weights:
    """The tensors of one candidate. Not safe for use by several threads at once."""

    def __init__(
        self, candidate: Candidate, readers: Sequence[_Kept], findings: FindingCache | None = None
    ) -> None:
        self.candidate = candidate
        self._findings = findings
        self._plan = candidate.prepared.plan
        self._readers = readers
        self._tensors = {each.name: each for each in self._plan.tensors}
        self._digests: dict[str, str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Every tensor's name, in the plan's order."""
        return tuple(self._tensors)

    def plan_of(self, name: str) -> TensorPlan:
        """How the tensor ``name`` is merged; KeyError where there is none."""
        return self._tensors[name]

    def digest(self, name: str) -> str:
        """What the tensor's bytes follow from: two tensors of equal digest are equal, whatever candidate has them."""
        if name not in self._digests:
            place = self._tensors[name].slot
            prints = self.candidate.prepared.fingerprints
            text = tensor_identity(self._tensors[name], self._plan.outline.assignments[place], prints)
            self._digests[name] = blake3(text.encode()).hexdigest()
        return self._digests[name]

    def of(self, names: Collection[str]) -> dict[str, Merged]:
        """Merge the tensors ``names``, together.

        Raises AlloydError as :func:`engine.merge.merge` does.
        """
        wanted = [self._tensors[name] for name in names]
        sink = _MemorySink(wanted)
        for _ in self.pour(names, sink):
            pass
        return {each.name: Merged(each.dtype, each.shape, sink.data[each.slot]) for each in wanted}

    def pour(self, names: Collection[str], sink: Sink) -> Generator[Progress, None, None]:
        """Merge the tensors ``names`` into ``sink``, block by block, and yield progress in bytes.

        Raises AlloydError as :func:`engine.merge.merge` does.
        """
        wanted = tuple(self._tensors[name] for name in names)
        plan = replace(self._plan, tensors=wanted)
        yield from merge(plan, self._readers, sink, self._findings, digests=False)

    def drop(self, name: str) -> None:
        """Give back the page cache of the tensor's sources, where nothing was cached before."""
        for model, tensor in self._tensors[name].sources:
            self._readers[model].inner.release(tensor, 0, tensor.nbytes, drop=True)

    def each(self) -> Iterator[tuple[str, Merged]]:
        """Every tensor, one at a time in the plan's order: no two are held at once."""
        for name in self._tensors:
            yield from self.of((name,)).items()


class _MemorySink:
    """Takes blocks into one buffer a tensor."""

    def __init__(self, tensors: Iterable[TensorPlan]) -> None:
        self.data = {each.slot: _aligned(each.nbytes) for each in tensors}

    def open(self) -> tuple[Block, ...]:
        return ()

    def put(self, block: Block, data: memoryview) -> None:
        self.data[block.tensor][block.start : block.stop] = np.frombuffer(data, dtype=np.uint8)

    def checkpoint(self) -> None:
        pass


def _aligned(nbytes: int) -> npt.NDArray[np.uint8]:
    room = np.empty(nbytes + ALIGNMENT, dtype=np.uint8)
    skip = -room.__array_interface__["data"][0] % ALIGNMENT
    return room[skip : skip + nbytes]


class Population:
    """Candidates that share readers of the sources they have in common.

    A candidate's merge gives its mapping of a source back, and keeps the page cache, for the next candidate comes by;
    :meth:`leave` gives the page cache back too, where nothing was cached before. What was measured of a source for one
    candidate is known to all, through ``findings``.
    """

    def __init__(
        self, candidates: Sequence[Candidate], open_door: contextlib.ExitStack, findings: FindingCache
    ) -> None:
        shared: dict[object, Reader] = {}
        self.members: list[Weights] = []
        for candidate in candidates:
            readers: list[_Kept] = []
            one = candidate.prepared
            for checkpoint, seen, door in zip(one.checkpoints, one.fingerprints, one.doors, strict=True):
                key = (checkpoint.path, checkpoint.adapter, seen, door)
                if key not in shared:
                    shared[key] = open_door.enter_context(open_reader(checkpoint, door))
                readers.append(_Kept(shared[key]))
            self.members.append(Weights(candidate, readers, findings))

    def leave(self, names: Iterable[str]) -> None:
        """No candidate asks for ``names`` again."""
        for name in names:
            for member in self.members:
                if name in member.names:
                    member.drop(name)


@contextlib.contextmanager
def population(
    candidates: Sequence[Candidate], findings: FindingCache | None = None
) -> Generator[Population, None, None]:
    """Open the sources of ``candidates`` for as long as the context lasts; without ``findings``, what is measured
    lasts as long.
    """
    with contextlib.ExitStack() as stack:
        yield Population(candidates, stack, FindingCache() if findings is None else findings)


class _Kept(Reader):
    """A reader whose pages stay in the page cache when they are given back."""

    def __init__(self, inner: Reader) -> None:
        self.inner = inner
        self.door = inner.door
        self.checkpoint = inner.checkpoint

    def view(self, tensor: Tensor, start: int, stop: int, into: memoryview | None = None) -> memoryview:
        return self.inner.view(tensor, start, stop, into)

    def copies(self, tensor: Tensor) -> bool:
        return self.inner.copies(tensor)

    def prefetch(self, tensor: Tensor, start: int, stop: int) -> None:
        self.inner.prefetch(tensor, start, stop)

    def release(self, tensor: Tensor, start: int, stop: int, *, drop: bool = True) -> None:
        self.inner.release(tensor, start, stop, drop=False)

    def close(self) -> None:
        """The inner reader is shared: whoever opened it closes it."""
