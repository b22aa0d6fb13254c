"""The streamed forward: one pass over the sources in which every candidate's layers are merged, run and dropped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import torch

from alloyd.errors import AlloydError, JobError, OutputError
from alloyd.jobs import Note, Progress

from .. import faults
from ..engine.in_memory import Population, population
from ..runner import Answered, Lost, Outcome
from ..scoring.encoding import SpanScore
from .activations import Activations
from .ahead import Tensors, merged_parts
from .answers import scores_of
from .arguments import ArgumentCache
from .needs import ARGUMENTS, confined
from .ready import Ready
from .resume import keep, kept
from .schedule import Flow, Part

KEEP_AFTER: Final = 60.0
"""Seconds of work after which activations are kept on disk at the next layer's end."""


@dataclass(frozen=True, slots=True)
class LayerInput:
    """What enters layer ``layer`` of each of ``candidates``: ``hidden`` [rows, width, hidden] of one batch, on the CPU,
    of whose rows the first ``lengths`` tokens are no padding. It is not to be changed."""

    candidates: tuple[int, ...]
    layer: int
    batch: int
    hidden: torch.Tensor
    lengths: tuple[int, ...]


def sweep(
    ready: Ready, capture: Collection[int] | None = None
) -> Generator[Outcome | LayerInput, None, None]:
    """Answer the requests of every candidate; candidates whose figures are no numbers are lost, the others go on.

    With ``capture`` nothing is answered and nothing kept: what enters those layers is handed out, and the run ends with
    the last of them. Closing the generator stops the work; what the next run goes on from was kept at the end of a
    layer, at least once in about a minute.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(ready.options.threads)
    try:
        run = _Run(ready, capture)
        chosen = [confined(each, ready.needs.merging, ready.options.threads) for each in ready.candidates]
        try:
            with population(chosen, ready.options.findings) as opened:
                yield from run.outcomes(opened)
        finally:
            run.activations.close()
    finally:
        torch.set_num_threads(threads)


NOT_FINITE: Final = (
    "Its merged weights overflow, or a source has such values: try smaller weights, or score the sources."
)


class _NotFinite(Exception):
    """A batch came out with a value that is no number."""


class _Run:
    """A run under way; ``waiting`` are the flows that have still to use activations, by their key."""

    def __init__(self, ready: Ready, capture: Collection[int] | None) -> None:
        self.ready = ready
        self.capture = capture
        self.activations = self._fresh()
        self.arguments = ArgumentCache(ready.groups, ARGUMENTS)
        self.lost: dict[int, AlloydError] = {}
        self.spans: dict[str, dict[int, SpanScore]] = {}
        self.waiting: dict[str, list[Flow]] = {}
        self.handed_out: set[str] = set()
        self.done = 0
        self.total = sum(self._tokens(each) for each in ready.schedule.parts)
        self.items = sum(map(len, ready.unknown))

    def outcomes(self, opened: Population) -> Generator[Outcome | LayerInput, None, None]:
        ready = self.ready
        parts = ready.schedule.parts
        step = 0
        if self.capture is None:
            step = yield from self._resume()
        else:
            deepest = max(self.capture, default=-1)
            parts = tuple(each for each in parts if each.is_first or -1 < each.number <= deepest)
        self.done = sum(self._tokens(each) for each in parts if each.step < step)
        parts = tuple(each for each in parts if each.step >= step)
        for flow in (flow for part in parts for flow in part.flows if flow.source):
            self.waiting.setdefault(flow.source, []).append(flow)
        keeps, kept_at = self.capture is None, time.monotonic()
        merged = merged_parts(
            parts, ready.groups, opened.members, wanted=self._is_wanted, ahead=ready.needs.ahead
        )
        for number, tensors in merged:
            part = parts[number]
            if part.step > step:
                step = part.step
                if keeps and time.monotonic() - kept_at >= KEEP_AFTER:
                    keeps = yield from self._keep(step)
                    kept_at = time.monotonic()
                faults.reach("stream-step")
            yield from self._part(part, tensors)
            del tensors
            opened.leave(ready.schedule.done_after(part))

    def _part(self, part: Part, tensors: Tensors | JobError) -> Generator[Outcome | LayerInput, None, None]:
        """One part on all its activations; what is wrong with its weights loses its candidates alone."""
        try:
            if isinstance(tensors, JobError):
                raise tensors
            compute = self._computing(part, tensors)
        except JobError as error:
            yield from self._lose(part.candidates, error.message, error.hint)
            return
        for flow in part.flows:
            if self.capture is not None and part.number in self.capture:
                yield from self._captured(part, flow.source)
            try:
                for batch in self._batches_of(flow):
                    compute(flow, batch)
                    self.done += self.ready.groups[part.group].batches[batch].tokens
                    yield self._progress(part)
            except _NotFinite:
                problem = f"{_place(part)} gives values that are not finite"
                yield from self._lose(flow.candidates, problem, NOT_FINITE)
            except torch.OutOfMemoryError as error:
                problem = f"{_place(part)} does not fit on the device ({' '.join(str(error).split())})"
                yield from self._lose(flow.candidates, problem, "Give a smaller batch size.")
            if part.is_last:
                yield from self._answers(part, flow)
            if flow.source:
                self.waiting[flow.source].remove(flow)
                self._tidy()

    def _computing(self, part: Part, tensors: Tensors) -> Callable[[Flow, int], None]:
        """What runs one batch of a flow through the part. Raises JobError for weights that cannot be quantised."""
        group = self.ready.groups[part.group]
        anatomy = group.anatomy

        @torch.no_grad()
        def embed(flow: Flow, batch: int) -> None:
            self._put(flow, batch, anatomy.embed(anatomy.inputs(group.batches[batch]), tensors))

        @torch.no_grad()
        def through_layer(flow: Flow, batch: int) -> None:
            hidden = self._input(flow, batch)
            self._put(flow, batch, layer(hidden, self.arguments.of(part.group, batch)[part.number]))

        @torch.no_grad()
        def score(flow: Flow, batch: int) -> None:
            found = scores_of(
                group.batches[batch],
                self._input(flow, batch),
                lambda hidden: anatomy.logits(hidden, tensors),
                anatomy.vocabulary,
            )
            if any(math.isnan(each.logprob) for each in found.values()):
                raise _NotFinite
            self.spans.setdefault(flow.result, {}).update(found)

        if part.is_first:
            return embed
        if part.is_last:
            return score
        layer = anatomy.layer(part.number, tensors)
        return through_layer

    def _input(self, flow: Flow, batch: int) -> torch.Tensor:
        """A flow's activations on the device; held no longer where no other flow uses them."""
        others = any(self._is_live(each) for each in self.waiting[flow.source] if each is not flow)
        hidden = (
            self.activations.get(flow.source, batch) if others else self.activations.take(flow.source, batch)
        )
        return hidden.to(self.ready.device, non_blocking=True)

    def _put(self, flow: Flow, batch: int, hidden: torch.Tensor) -> None:
        if not bool(torch.isfinite(hidden).all()):
            raise _NotFinite
        self.activations.put(flow.result, batch, hidden.cpu())

    def _answers(self, part: Part, flow: Flow) -> Iterator[Answered]:
        answers = self.ready.groups[part.group].encoded.likelihoods(self.spans.pop(flow.result, {}))
        for candidate in flow.candidates:
            if candidate not in self.lost:
                for request in sorted(self.ready.unknown[candidate] & set(answers)):
                    yield Answered(candidate, request, answers[request])

    def _captured(self, part: Part, source: str) -> Iterator[LayerInput]:
        """What enters the part, once for all that it enters."""
        if source in self.handed_out:
            return
        self.handed_out.add(source)
        flows = [each for each in self.waiting[source] if self._is_live(each)]
        candidates = tuple(
            sorted(number for each in flows for number in each.candidates if number not in self.lost)
        )
        batches = self.ready.groups[part.group].batches
        for batch in sorted({batch for each in flows for batch in self._batches_of(each)}):
            hidden = self.activations.get(source, batch)
            yield LayerInput(candidates, part.number, batch, hidden, batches[batch].lengths)

    def _lose(self, candidates: Iterable[int], problem: str, hint: str) -> Iterator[Lost]:
        for number in candidates:
            if number not in self.lost and self.ready.batches[number]:
                name = self.ready.candidates[number].name
                self.lost[number] = JobError(f"candidate '{name}': {problem}", hint=hint)
                yield Lost(number, self.lost[number])
        self._tidy()

    def _tidy(self) -> None:
        """Drop activations that no candidate will use any more."""
        for key in {key for key, _ in self.activations.entries()}:
            flows = self.waiting.get(key, ())
            if not any(self._is_live(each) for each in flows):
                self.activations.drop(key)

    def _is_live(self, flow: Flow) -> bool:
        return any(each not in self.lost and self.ready.batches[each] for each in flow.candidates)

    def _is_wanted(self, part: Part) -> bool:
        return any(self._is_live(flow) for flow in part.flows)

    def _batches_of(self, flow: Flow) -> list[int]:
        """The batches that the flow's candidates are still asked for."""
        alive = (self.ready.batches[each] for each in flow.candidates if each not in self.lost)
        return sorted(frozenset().union(*alive))

    def _tokens(self, part: Part) -> int:
        batches = self.ready.groups[part.group].batches
        return sum(batches[each].tokens for flow in part.flows for each in self._batches_of(flow))

    def _progress(self, part: Part) -> Progress:
        where = "embeddings" if part.is_first else "scores" if part.is_last else f"layer {part.number}"
        return Progress(self.items * self.done // max(1, self.total), self.items, "items", where)

    def _fresh(self) -> Activations:
        needs, options = self.ready.needs, self.ready.options
        return Activations(room=needs.in_memory, spill=needs.spilled, folder=options.scratch)

    def _keep(self, step: int) -> Generator[Outcome, None, bool]:
        """Keep the activations; whether to try again later."""
        lost = {number: error.to_dict() for number, error in self.lost.items()}
        try:
            keep(
                self.ready.options.scratch,
                self.activations,
                identity=self.ready.identity,
                step=step,
                lost=lost,
            )
        except OutputError as error:
            yield Note(
                "warning", f"{error.message}: if this run is killed it starts again from its beginning"
            )
            return False
        return True

    def _resume(self) -> Generator[Outcome, None, int]:
        """Take up what an earlier run kept; the step to go on from."""
        found = kept(self.ready.options.scratch, self.ready.identity)
        if found is None:
            return 0
        self.lost = {number: AlloydError.from_dict(error) for number, error in found.table.lost.items()}
        parts = [each for each in self.ready.schedule.parts if each.step >= found.table.step]
        made = {flow.result for part in parts for flow in part.flows}
        needed = {
            (flow.source, batch)
            for part in parts
            for flow in part.flows
            if flow.source not in made
            for batch in self._batches_of(flow)
        }
        try:
            for key, batch, hidden in found.tensors():
                if (key, batch) in needed:
                    self.activations.put(key, batch, hidden)
                    needed.discard((key, batch))
        except (ValueError, OSError):
            needed.add(("", -1))
        if needed:
            self.lost = {}
            self.activations.close()
            self.activations = self._fresh()
            return 0
        yield Note("info", f"going on after {found.table.step - 1} layers, where an earlier run was stopped")
        for number, error in self.lost.items():
            yield Lost(number, error)
        return found.table.step


def _place(part: Part) -> str:
    return f"layer {part.number}" if part.number >= 0 else "its embeddings" if part.is_first else "its head"
