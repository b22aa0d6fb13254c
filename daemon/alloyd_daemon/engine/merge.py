"""The merge: streams every tensor of a plan through its stages and blend into a sink, as a generator of progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from alloyd.errors import SourceChanged
from alloyd.jobs import Progress
from alloyd_kernels.compiled import is_compiling

from ..checkpoints.digest import model_digest, tensor_digest
from ..checkpoints.fingerprint import file_marks
from ..checkpoints.journal import Block as DoneBlock
from ..checkpoints.reader import Reader
from .contents import lacks_digest, remember_digest
from .findings import FindingCache, tensor_mark
from .plan import Plan, TensorPlan
from .schedule import Schedule
from .sink import Sink
from .tensor_run import TensorRun, Worker

TICK = 0.1
"""Seconds between reports of progress."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What a finished merge knows: digests of the output's tensors and of those read of each source.

    ``tensors`` and each of ``sources`` are empty when no digests were taken.
    """

    tensors: Mapping[str, str]
    sources: Sequence[Mapping[str, str]]
    non_finite: Mapping[str, int]
    resumed_blocks: int
    seconds: float

    @property
    def digest(self) -> str:
        """One digest over all output tensors."""
        return model_digest(self.tensors)

    def source_digest(self, model: int) -> str:
        """One digest over the tensors that were read of a model."""
        return model_digest(self.sources[model])


@dataclass(slots=True)
class _Outcome:
    """What the workers hand to the generator, under the schedule's lock."""

    error: BaseException | None = None
    blocks: dict[int, list[DoneBlock]] = field(default_factory=dict)


def merge(
    plan: Plan,
    readers: Sequence[Reader],
    sink: Sink,
    findings: FindingCache | None = None,
    *,
    digests: bool = True,
) -> Generator[Progress, None, Merged]:
    """Merge and yield progress in bytes; closing the generator finishes the blocks in hand and checkpoints the sink.

    ``readers`` has one open reader per model of the plan. Blocks that ``sink`` already holds are not computed again.
    What ``findings`` knows of the sources is not measured again, and what is measured is kept there.
    Without ``digests`` what is written is not digested: for a sink whose blocks never outlive the process; and of what
    is read only what ``findings`` want.

    Raises
    ------
    SourceChanged
        A source became shorter, or a tensor that is used twice did not read the same twice.
    AlloydError
        Whatever a reader, a method or the sink raises; the sink keeps what was done.
    """
    started = time.monotonic()
    done = sink.open()
    outcome = _Outcome()
    for block in done:
        outcome.blocks.setdefault(block.tensor, []).append(block)
    files = [file_marks(each.checkpoint) if findings is not None else () for each in readers]
    unknown = {
        tensor.slot
        for tensor in plan.tensors
        if findings is not None
        and (digests or findings.contents)
        and any(lacks_digest(findings, files[model], each) for model, each in tensor.sources)
    }
    runs = [
        TensorRun(
            tensor,
            outcome.blocks.get(tensor.slot, ()),
            readers,
            sink,
            plan.budget.threads,
            findings=findings,
            marks=[tensor_mark(files[model], each) for model, each in tensor.sources]
            if findings is not None
            else (),
            digests=digests,
            contents=digests or tensor.slot in unknown,
        )
        for tensor in plan.tensors
    ]
    schedule = Schedule(runs, plan.budget.tensors)

    def labour(number: int) -> None:
        sources = max(len(each.sources) for each in plan.tensors)
        worker = Worker(number, sources, max(each.rows for each in plan.tensors))
        try:
            while (task := schedule.take()) is not None:
                finished = task.run.work(task.first, worker)
                if finished is not None:
                    with schedule.lock:
                        outcome.blocks.setdefault(finished.tensor, []).append(finished)
                schedule.finish(task)
        except BaseException as error:
            with schedule.lock:
                outcome.error = outcome.error or error
            schedule.stop()

    workers = [
        threading.Thread(target=labour, args=(number,), name=f"merge-{number}", daemon=True)
        for number in range(plan.budget.threads if runs else 0)
    ]
    for each in workers:
        each.start()
    try:
        while any(each.is_alive() for each in workers):
            schedule.wait(TICK)
            what = "compiling kernels, once" if is_compiling() else schedule.current
            yield Progress(done=schedule.bytes_done, total=schedule.bytes_total, what=what)
            if outcome.error is not None:
                break
    finally:
        schedule.stop()
        for each in workers:
            each.join()
        if outcome.error is not None or not schedule.complete:
            sink.checkpoint()
    if outcome.error is not None:
        raise outcome.error
    if findings is not None:
        # What an earlier process read, it read from files whose marks nobody knows any more.
        whole = [each for each in plan.tensors if each.slot in unknown - {block.tensor for block in done}]
        _remember(whole, outcome.blocks, readers, files, findings)
    yield Progress(done=schedule.bytes_total, total=schedule.bytes_total, what="publishing")
    return _summary(plan, outcome.blocks, len(done), time.monotonic() - started, digested=digests)


def _remember(
    tensors: Iterable[TensorPlan],
    blocks: Mapping[int, Iterable[DoneBlock]],
    readers: Sequence[Reader],
    marks: Sequence[Sequence[bytes | None]],
    findings: FindingCache,
) -> None:
    """Keep the digests of the sources of ``tensors``, as far as their files have the same ``marks`` as before."""
    same = [file_marks(each.checkpoint) == known for each, known in zip(readers, marks, strict=True)]
    for tensor in tensors:
        for position, pieces in _pieces_read(blocks.get(tensor.slot, ())).items():
            model, source = tensor.sources[position]
            if same[model]:
                remember_digest(findings, marks[model], source, tensor_digest(pieces))


def _pieces_read(blocks: Iterable[DoneBlock]) -> dict[int, list[bytes]]:
    """The digests of all pieces of a tensor's sources, by their positions."""
    pieces: dict[int, list[bytes]] = {}
    for block in sorted(blocks, key=lambda block: block.start):
        for position, digests in block.inputs:
            pieces.setdefault(position, []).extend(digests)
    return pieces


def _summary(
    plan: Plan, blocks: Mapping[int, Iterable[DoneBlock]], resumed: int, seconds: float, *, digested: bool
) -> Merged:
    tensors: dict[str, str] = {}
    sources: list[dict[str, str]] = [{} for _ in plan.outline.models]
    non_finite: dict[str, int] = {}
    for tensor in plan.tensors:
        ordered = sorted(blocks.get(tensor.slot, ()), key=lambda block: block.start)
        if strange := sum(block.facts.get("non_finite", 0) for block in ordered):
            non_finite[tensor.name] = strange
        if not digested:
            continue
        tensors[tensor.name] = tensor_digest(piece for block in ordered for piece in block.pieces)
        for position, whole in _pieces_read(ordered).items():
            model, source = tensor.sources[position]
            digest = tensor_digest(whole)
            if sources[model].setdefault(source.name, digest) != digest:
                name = plan.outline.models[model].name
                raise SourceChanged(
                    f"tensor '{source.name}' of {name} did not read the same twice",
                    hint="Something wrote to the model while it was merged; start the merge again.",
                    tensor=source.name,
                    model=name,
                )
    return Merged(tensors, sources, non_finite, resumed, seconds)
