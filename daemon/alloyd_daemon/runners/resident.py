"""The runner `resident`: one model at a time in memory, run by transformers; candidates that are alike share it."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from alloyd.errors import AlloydError, SourceError
from alloyd.jobs import Note, Progress

from ..candidate import Candidate, Subject, candidates_only
from ..causal_lm import loading
from ..causal_lm.questions import questions_of
from ..causal_lm.warm import WarmModel, check_memory
from ..engine.in_memory import population
from ..runner import RUNNERS, Answered, Lost, Outcome, Runner, RunOptions
from ..scoring.requests import Prompt, Request


def run(
    subjects: Sequence[Subject], requests: Sequence[Request], options: RunOptions
) -> Generator[Outcome, None, None]:
    """Run one candidate after the other; see :class:`alloyd_daemon.runner.Runner`.

    Raises
    ------
    UsageError
        torch, transformers or the quantiser's library is not installed; a subject is a GGUF file.
    MemoryTooSmall
        A candidate does not fit into ``options.memory``.
    TaskError, SourceError
        A request does not fit into a candidate's context; a candidate has no config or tokenizer.
    """
    candidates = candidates_only(subjects, runner="resident")
    torch = loading.library("torch")
    torch.set_num_threads(min(options.threads, loading.processors()))
    least = max(check_memory(candidate, options.quantise, options.memory) for candidate in candidates)
    questions = questions_of(
        candidates, requests, batch_size=options.batch_size, where=options.where, warm=options.warm
    )
    model = _model(options, writes=any(isinstance(each, Prompt) for each in requests), least=least)
    total = len(candidates) * len(requests)
    with population(candidates, options.findings) as opened:
        for number, (candidate, asked) in enumerate(zip(candidates, questions, strict=True)):
            answered = {request for place, request in options.known if place == number}
            before = number * len(requests)
            yield Progress(before + len(answered), total, "items", candidate.name)
            if len(answered) == len(requests):
                continue
            known = frozenset(answered)
            try:
                told = model.become(candidate, opened.members[number], asked.tokenizer)
                yield from (Note("warning", f"{candidate.name}: {text}") for text in told)
                for request, answer in asked.answers(model.model, known):
                    answered.add(request)
                    yield Answered(number, request, answer)
                    yield Progress(before + len(answered), total, "items", candidate.name)
            except AlloydError as error:
                model.forget()
                yield Lost(number, error)
            except (MemoryError, RuntimeError) as error:
                model.forget()
                yield Lost(number, _failed(candidate, error))


def _model(options: RunOptions, *, writes: bool, least: int) -> WarmModel:
    """The model that an earlier run left, or a new one."""
    if options.warm is None:
        return WarmModel(options.quantise, writes=writes)
    return options.warm.get(
        ("resident", options.quantise, writes),
        lambda: WarmModel(options.quantise, writes=writes),
        end=WarmModel.forget,
        nbytes=least,
        room=options.memory,
    )


def _failed(candidate: Candidate, error: Exception) -> SourceError:
    """The error of a model that torch could not run: out of memory, on a GPU or not, or shapes that do not match."""
    reason = " ".join(str(error).split()) or type(error).__name__
    short = "memory" in reason or isinstance(error, MemoryError)
    return SourceError(
        f"{candidate.name} cannot be run: {reason}",
        hint="Give it a smaller --batch-size, or quantise it." if short else "Is it a causal language model?",
        path=str(candidate.folder),
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
