"""The runner `gguf`: llama.cpp scores quantised candidates and GGUF files, one after the other in one warm engine."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from ..candidate import Subject
from ..gguf.types import file_type
from ..llama.options import KEYS
from ..llama.run import run_subjects
from ..runner import RUNNERS, Outcome, Runner, RunOptions
from ..scoring.requests import Request


def run(
    subjects: Sequence[Subject], requests: Sequence[Request], options: RunOptions
) -> Generator[Outcome, None, None]:
    """Run one subject after the other; see :class:`alloyd_daemon.runner.Runner`.

    Raises
    ------
    UsageError
        llama-cpp-python is not installed, or an option has a value that it does not take.
    TaskError
        A request does not fit into a subject's context.
    """
    yield from run_subjects(subjects, requests, options)


RUNNERS.register(
    "gguf",
    Runner(
        name="gguf",
        summary="quantised candidates and GGUF files, run by llama.cpp",
        run=run,
        generates=True,
        check_type=file_type,
        reads=KEYS,
    ),
)
