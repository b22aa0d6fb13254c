"""Runs a population layer by layer in one pass over the sources; no candidate is ever whole in memory."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from ..candidate import Subject, candidates_only
from ..late import library
from ..runner import RUNNERS, Outcome, Runner, RunOptions
from ..scoring.requests import Request


def run(
    subjects: Sequence[Subject], requests: Sequence[Request], options: RunOptions
) -> Generator[Outcome, None, None]:
    """Answer ``requests`` for all subjects, as :func:`alloyd_daemon.streaming.sweep.sweep` says."""
    for name in ("torch", "transformers"):
        library(name, user="the runner 'stream'", extra="score")
    from ..streaming.ready import make_ready
    from ..streaming.sweep import LayerInput, sweep

    ready = make_ready(candidates_only(subjects, runner="stream"), requests, options)
    yield from ready.notes()
    for each in sweep(ready):
        if not isinstance(each, LayerInput):
            yield each


RUNNERS.register(
    "stream",
    Runner(
        name="stream",
        summary="layer by layer, a whole population in one pass over the sources; likelihoods only",
        run=run,
        generates=False,
        at_once=True,
        quantises=("nf4", "fp4", "int8", "any llama.cpp type, such as Q4_K_M"),
    ),
)
