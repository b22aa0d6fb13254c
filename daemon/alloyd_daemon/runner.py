"""What a runner is (a way to put candidates to their questions) and the door it registers at."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from alloyd.errors import AlloydError
from alloyd.jobs import Note, Progress

from .candidate import Subject
from .engine.findings import FindingCache
from .plugins import Door
from .scoring.requests import Answer, Request
from .warm import Warm


@dataclass(frozen=True, slots=True)
class Answered:
    """``answer`` of candidate number ``candidate`` to request number ``request``."""

    candidate: int
    request: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class Lost:
    """A candidate that cannot be scored (NaN, out of memory, a crashed engine); the others go on."""

    candidate: int
    error: AlloydError


Outcome = Progress | Note | Answered | Lost


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How candidates are run.

    Parameters
    ----------
    scratch:
        A folder of the job's own: what a later run of the same job continues from (activations, say) and files
        that memory has no room for. It is removed when the job has ended.
    memory:
        Private bytes to stay within.
    threads:
        Threads to compute with.
    batch_size:
        Requests that are run together; ``None`` leaves it to the runner. It can move a score by rounding, so scores
        that are to be compared use the same one.
    quantise:
        The type that weights are quantised to (``nf4``, ``int8``, ``Q4_K``...), or ``None`` for the candidate's own.
    known:
        (candidate, request) pairs that an earlier run answered. Batches are composed as if there were none, and a
        batch whose answers are all known is passed over, so that a continued run computes the same figures.
    settings:
        What people set with ``--option KEY=VALUE``. A runner reads the keys it knows; whoever asks refuses the others.
    findings:
        What was measured of sources before, and where to keep what is measured now.
    where:
        Names a request in messages, such as file and line.
    seconds:
        How long the run may take. Whoever asks gives it up when they are over; a runner that waits for another process
        gives that up by itself, for it may hang. ``None``: as long as it takes.
    warm:
        Where a runner leaves what the next run may go on with, and finds what the last one left; ``None``: nowhere.
    """

    scratch: Path
    memory: int
    threads: int
    batch_size: int | None = None
    quantise: str | None = None
    known: frozenset[tuple[int, int]] = frozenset()
    settings: Mapping[str, str] = field(default_factory=dict)
    findings: FindingCache | None = None
    where: Callable[[int], str] = field(default="request {}".format)
    seconds: float | None = None
    warm: Warm | None = None


Run = Callable[[Sequence[Subject], Sequence[Request], RunOptions], Generator[Outcome, None, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """One way to run candidates.

    ``run`` yields answers as they come, in any order, and progress in items (an item is one request of one
    candidate); closing it stops the work and keeps in ``scratch`` what a later run can use. It raises AlloydError
    for what concerns all candidates, and yields :class:`Lost` for what concerns one. ``generates`` says whether it
    answers prompts; ``quantises`` names types that it takes, and ``check_type`` raises AlloydError for a name that is
    no other one (``None``: there are no others); ``at_once`` whether a population is run together; ``reads`` the
    keys of ``RunOptions.settings`` that it knows, with what each is for.
    """

    name: str
    summary: str
    run: Run
    generates: bool
    at_once: bool = False
    quantises: tuple[str, ...] = ()
    check_type: Callable[[str], object] | None = None
    reads: Mapping[str, str] = field(default_factory=dict)


RUNNERS: Final[Door[Runner]] = Door("runner", "alloyd_daemon.runners")
