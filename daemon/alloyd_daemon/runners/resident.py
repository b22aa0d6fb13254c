"""The runner `resident`: one model at a time in memory, run by transformers; candidates that are alike share it.

A checkpoint is loaded by transformers. A recipe's model is built on the meta device and filled as it is merged; the
next recipe of the same shape is given only the tensors in which it differs.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from alloyd.errors import AlloydError, MemoryTooSmall, SourceError
from alloyd.jobs import Note, Progress

from ..candidate import Candidate, Subject, candidates_only
from ..causal_lm import generation, loading
from ..causal_lm.likelihood import span_scores
from ..engine.in_memory import Weights, population
from ..quantiser import quantiser
from ..resident import Resident
from ..runner import RUNNERS, Answered, Lost, Outcome, Runner, RunOptions
from ..scoring.encoding import Encoded, context_length, encode
from ..scoring.requests import Prompt, Request, Written
from ..streaming.packing import Batch, compose
from ..torch_bytes import torch_tensor

ALLOWED: Final = 900 * 1024 * 1024
"""Private bytes of the process with torch and transformers loaded, and of a batch's activations."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What one kind of candidate is asked: its tokenizer, the requests in its tokens, and the spans in batches."""

    tokenizer: Any
    room: int | None
    encoded: Encoded
    batches: tuple[Batch, ...]


def run(
    subjects: Sequence[Subject], requests: Sequence[Request], options: RunOptions
) -> Generator[Outcome, None, None]:
    """Run one candidate after the other; see :class:`alloyd_daemon.runner.Runner`.

    Raises
    ------
    UsageError
        torch, transformers or the quantiser's library is not installed.
    MemoryTooSmall
        A candidate's weights do not fit into ``options.memory``.
    TaskError, SourceError
        A request does not fit into a candidate's context; a candidate has no tokenizer.
    """
    candidates = candidates_only(subjects, runner="resident")
    torch = loading.library("torch")
    torch.set_num_threads(options.threads)
    _check_memory(candidates, options)
    asked = _asked(candidates, requests, options)
    total = len(candidates) * len(requests)
    done = 0
    model = _Model(options.quantise, writes=any(isinstance(each, Prompt) for each in requests))
    with population(candidates, options.findings) as members:
        for number, (candidate, weights) in enumerate(zip(candidates, members.members, strict=True)):
            known = {request for place, request in options.known if place == number}
            yield Progress(done + len(known), total, "items", candidate.name)
            answered = set(known)
            try:
                if len(known) < len(requests):
                    mine = asked[number]
                    yield from (
                        Note("warning", text) for text in model.become(candidate, weights, mine.tokenizer)
                    )
                    for outcome in _answers(model.model, mine, known, options.batch_size):
                        answered.add(outcome[0])
                        yield Answered(number, *outcome)
                        yield Progress(done + len(answered), total, "items", candidate.name)
            except AlloydError as error:
                model.forget()
                yield Lost(number, error)
            except (torch.OutOfMemoryError, MemoryError) as error:
                model.forget()
                yield Lost(number, _out_of_memory(candidate, error))
            done += len(requests)


def _asked(candidates: Sequence[Candidate], requests: Sequence[Request], options: RunOptions) -> list[_Asked]:
    """What each candidate is asked; those of one shape with one folder share it."""
    found: dict[tuple[str, str], _Asked] = {}
    asked = []
    for candidate in candidates:
        key = (str(candidate.folder), json.dumps(candidate.config, sort_keys=True))
        if key not in found:
            tokenizer = loading.load_tokenizer(candidate.folder)
            room = context_length(candidate.config)
            encoded = encode(requests, tokenizer, room, where=options.where)
            if encoded.prompts:
                generation.padding(tokenizer)  # told before work
            found[key] = _Asked(tokenizer, room, encoded, _batches(candidate, encoded, options.batch_size))
        asked.append(found[key])
    return asked


def _batches(candidate: Candidate, encoded: Encoded, batch_size: int | None) -> tuple[Batch, ...]:
    """The spans in the batches that the streamed forward has too; a model that it does not take shares no rows."""
    from ..streaming.anatomy import Anatomy  # needs torch

    try:
        anatomy = Anatomy(
            candidate.config, {each.name: each.shape for each in candidate.prepared.plan.tensors}
        )
    except AlloydError:
        return compose(encoded.spans, share=False, batch_size=batch_size)
    return compose(encoded.spans, share=anatomy.shares, window=anatomy.window, batch_size=batch_size)


def _answers(
    model: Any, asked: _Asked, known: set[int], batch_size: int | None
) -> Generator[tuple[int, Any], None, None]:
    """(request, answer) as they come; a batch is run whole or, if every answer of it is known, not at all."""
    spans = asked.encoded.spans
    gathered = asked.encoded.gather()
    for batch in asked.batches:
        if all(spans[wanted.span].request in known for wanted in batch.wanted):
            continue
        for place, score in sorted(span_scores(model, batch).items()):
            whole = gathered.add(place, score)
            if whole is not None:
                yield spans[place].request, whole
    for prompts in generation.prompt_batches(asked.encoded.prompts, batch_size):
        if all(prompt.request in known for prompt in prompts):
            continue
        for prompt, text in zip(
            prompts, generation.write(model, asked.tokenizer, prompts, asked.room), strict=True
        ):
            yield prompt.request, Written(text)


@dataclass(slots=True)
class _Model:
    """The model in memory: what it was made for, and which tensors it holds."""

    quantise: str | None
    writes: bool
    model: Any = None
    _resident: Resident | None = None
    _config: str = ""
    _digests: dict[str, str] = field(default_factory=dict)

    def forget(self) -> None:
        """Drop the model: nobody knows what it holds."""
        self.model = self._resident = None
        self._digests = {}

    def become(self, candidate: Candidate, weights: Weights, tokenizer: Any) -> tuple[str, ...]:
        """Make ``model`` the candidate; returns what should be warned of."""
        if candidate.checkpoint is not None and self.quantise is None:
            self.forget()
            self._take(loading.load_model(candidate.checkpoint), tokenizer)
            return ()
        config = json.dumps(candidate.config, sort_keys=True)
        if self._resident is not None and config == self._config:
            self._resident.update(self._changed(weights))
            return ()
        self.forget()
        self._resident = Resident(
            candidate.config,
            quantiser=quantiser(self.quantise) if self.quantise else None,
            device=loading.device().type,
        )
        self._config = config
        self._resident.fill(self._changed(weights))
        model = self._resident.model
        if (candidate.folder / "generation_config.json").is_file():
            model.generation_config = loading.load_generation_config(candidate.folder)
        self._take(model, tokenizer)
        return self._resident.warnings

    def _take(self, model: Any, tokenizer: Any) -> None:
        self.model = model
        if self.writes:
            model.generation_config = generation.greedy(model, tokenizer)

    def _changed(self, weights: Weights) -> Generator[tuple[str, Any], None, None]:
        """The tensors in which the candidate differs from what is held, one at a time."""
        for name in weights.names:
            digest = weights.digest(name)
            if self._digests.get(name) != digest:
                merged = weights.of((name,))[name]
                yield name, torch_tensor(merged.data, merged.dtype, merged.shape)
                self._digests[name] = digest


def _check_memory(candidates: Sequence[Candidate], options: RunOptions) -> None:
    """Refuse a budget that a candidate's weights do not fit into; on a GPU they take none of it."""
    if loading.device().type != "cpu":
        return
    for candidate in candidates:
        least = ALLOWED + _weight_bytes(candidate, options.quantise)
        if least > options.memory:
            raise MemoryTooSmall(
                f"{candidate.name} needs {least:,} bytes of memory to be held whole; the budget is {options.memory:,}",
                hint="Give more with --memory, quantise it, or use --runner stream.",
                least=least,
            )


def _weight_bytes(candidate: Candidate, quantise: str | None) -> int:
    tensors = candidate.prepared.plan.tensors
    if quantise is None:
        return sum(each.nbytes for each in tensors)
    kept = quantiser(quantise)
    return sum(
        sum(part.nbytes for part in kept.stored(each.name, each.dtype, each.shape))
        if len(each.shape) == 2 and kept.refusal(each.shape) is None
        else each.nbytes
        for each in tensors
    )


def _out_of_memory(candidate: Candidate, error: BaseException) -> SourceError:
    return SourceError(
        f"{candidate.name} ran out of memory: {' '.join(str(error).split())}",
        hint="Give it a smaller --batch-size, or quantise it.",
    )


RUNNERS.register(
    "resident",
    Runner(
        name="resident",
        summary="one model at a time in memory, run by transformers",
        run=run,
        generates=True,
        quantises=("nf4", "fp4", "int8"),
    ),
)
