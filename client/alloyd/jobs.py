"""What can be asked of the daemon and what it answers: specs, jobs, events, and what a job reports."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

import msgspec
from msgspec import Struct

from .errors import UsageError
from .recipe_schema import Form

SHARD_SIZE = 5_000_000_000


class MergeSpec(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="merge"):
    """Merge models as ``recipe`` (YAML text) says and write a checkpoint to ``out``.

    Paths are absolute; relative model paths of the recipe start at ``base_dir``. ``memory`` (bytes) and
    ``threads`` default to the daemon's settings. ``reader`` is ``auto``, ``mmap`` or ``pread``. ``form`` is what the
    output is stored as, whatever the recipe's ``out`` says. ``roots``, here and in other specs, are folders outside of
    which the job may touch nothing; the daemon sets them for a remote key or a watch folder. Empty, there is no bound.
    """

    recipe: str
    base_dir: str
    out: str
    memory: int | None = None
    threads: int | None = None
    shard_size: int = SHARD_SIZE
    reader: str = "auto"
    lenient: bool = False
    force: bool = False
    recipe_name: str = ""
    form: Form | None = None
    roots: tuple[str, ...] = ()


class PlanSpec(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="plan"):
    """Everything :class:`MergeSpec` would do, without moving a byte; ``out`` may be empty."""

    recipe: str
    base_dir: str
    out: str = ""
    memory: int | None = None
    threads: int | None = None
    shard_size: int = SHARD_SIZE
    reader: str = "auto"
    lenient: bool = False
    force: bool = False
    recipe_name: str = ""
    form: Form | None = None
    roots: tuple[str, ...] = ()


class VerifySpec(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="verify"):
    """Read the checkpoint at ``path`` again and compare it with its manifest."""

    path: str
    roots: tuple[str, ...] = ()


class Subject(Struct, frozen=True, forbid_unknown_fields=True):
    """What is scored: ``path`` (a checkpoint folder or a GGUF file, absolute; or a model's name), or ``recipe`` (text).

    ``name`` is what people call it; names, and relative model paths of the recipe, start at ``base_dir``.
    """

    name: str
    path: str = ""
    recipe: str = ""
    base_dir: str = ""


class ScoreSpec(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="score"):
    """Score each of ``subjects`` on ``tasks``: ``EVALUATOR:SOURCE``, or a JSONL file whose keys tell its kind.

    ``runner`` says how models are run; ``auto`` chooses. ``quantise`` names the type that weights are quantised to
    first, ``options`` are those of evaluators, by name. ``memory`` (bytes) and ``threads`` default to the daemon's
    settings, ``batch_size`` and ``limit`` (the first items of each task) to what runner and task hold.
    """

    subjects: tuple[Subject, ...]
    tasks: tuple[str, ...]
    runner: str = "auto"
    quantise: str | None = None
    options: dict[str, str] = {}
    limit: int | None = None
    batch_size: int | None = None
    memory: int | None = None
    threads: int | None = None
    roots: tuple[str, ...] = ()


class SearchSpec(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="search"):
    """Search for the best recipe as ``spec`` (YAML text, see :mod:`alloyd.search_schema`) says.

    Relative paths of the spec start at ``base_dir``; ``name`` is the spec's file, for messages. What is given beside
    the spec stands in place of what it says: ``seed``, the budgets ``candidates``, ``items`` and ``seconds``,
    ``optimiser``, ``mode``, ``runner``. ``continues``: the job whose record this one goes on from, with a larger
    budget.
    """

    spec: str
    base_dir: str
    name: str = ""
    seed: int | None = None
    candidates: int | None = None
    items: int | None = None
    seconds: float | None = None
    optimiser: str | None = None
    mode: Literal["deterministic", "async"] | None = None
    runner: str | None = None
    continues: str = ""
    memory: int | None = None
    threads: int | None = None
    roots: tuple[str, ...] = ()


class OpenTestSpec(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="open_test"):
    """Open the locked test of the job ``search``, once: its winner and its baselines are scored on the test split."""

    search: str
    memory: int | None = None
    threads: int | None = None
    roots: tuple[str, ...] = ()


class RebuildSpec(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="rebuild"):
    """Make the output again whose manifest lies in the folder ``path``, into ``out``, and publish it if it is the same.

    Relative model paths of its recipe start at ``base_dir``. ``imatrix`` is the importance matrix, where it had one.
    ``memory`` (bytes) and ``threads`` default to the daemon's settings; ``reader`` is ``auto``, ``mmap`` or ``pread``.
    """

    path: str
    out: str
    base_dir: str
    imatrix: str | None = None
    memory: int | None = None
    threads: int | None = None
    reader: str = "auto"
    roots: tuple[str, ...] = ()


class KinshipSpec(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="kinship"):
    """How alike ``models`` are that were made from ``base``: folders (absolute) or names, which start at ``base_dir``.

    ``memory`` (bytes) and ``threads`` default to the daemon's settings; ``reader`` is ``auto``, ``mmap`` or ``pread``.
    """

    base: str
    models: tuple[str, ...]
    base_dir: str = ""
    memory: int | None = None
    threads: int | None = None
    reader: str = "auto"
    roots: tuple[str, ...] = ()


Spec = MergeSpec | PlanSpec | VerifySpec | ScoreSpec | SearchSpec | OpenTestSpec | KinshipSpec | RebuildSpec
SPECS: dict[str, type[Spec]] = {
    "merge": MergeSpec,
    "plan": PlanSpec,
    "verify": VerifySpec,
    "score": ScoreSpec,
    "search": SearchSpec,
    "open_test": OpenTestSpec,
    "kinship": KinshipSpec,
    "rebuild": RebuildSpec,
}

KEPT = ("merge", "score", "search", "open_test", "rebuild")
"""Kinds whose work is worth going on with: a stop keeps it, and the same spec again continues it."""


Order = Literal["newest", "next"]
"""In which order jobs are listed: the newest, oldest of them first; or those first that are to be begun first."""


class JobState(StrEnum):
    """Where a job stands; the last three are final (a failed job may be resumed, which tries it again)."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens by itself."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class Planned(Struct, frozen=True, tag_field="report", tag="planned"):
    """What will be read, written and needed; see docs/protocol.md for the keys of ``summary``."""

    summary: dict[str, Any]


class Progress(Struct, frozen=True, tag_field="report", tag="progress"):
    """``done`` of ``total`` units; ``what`` names the present piece of work (a tensor, a file, a model)."""

    done: int
    total: int
    unit: Literal["bytes", "items"] = "bytes"
    what: str = ""


class Note(Struct, frozen=True, tag_field="report", tag="note"):
    """A sentence for the user that is kept with the job."""

    level: Literal["info", "warning"]
    text: str


class Finished(Struct, frozen=True, tag_field="report", tag="finished"):
    """The result; exactly one, the last report of a job."""

    result: dict[str, Any]


Report = Planned | Progress | Note | Finished


class Pace(Struct, frozen=True):
    """Progress with its speed: ``rate`` in units per second and ``eta`` in seconds, ``None`` until known."""

    done: int
    total: int
    unit: str
    what: str
    rate: float | None = None
    eta: float | None = None


class Job(Struct, frozen=True):
    """A job as the daemon knows it. ``reason`` says why it is where it is; times are UTC.

    ``owner`` submitted it: ``local``, or the name of a key. Of queued jobs the one of the highest ``priority`` is
    first, among equals that of the lowest ``rank``. ``after`` are the jobs that must be done first. A ``quarantined``
    job has crashed too often to be begun again unasked.
    """

    id: str
    kind: str
    state: JobState
    created: datetime
    started: datetime | None = None
    ended: datetime | None = None
    out: str = ""
    reason: str = ""
    attempts: int = 0
    spec: dict[str, Any] = {}
    summary: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    progress: Pace | None = None
    owner: str = "local"
    priority: int = 0
    rank: int = 0
    after: tuple[str, ...] = ()
    quarantined: bool = False


class Event(Struct, frozen=True):
    """Something that happened to ``job``, or with an empty ``job`` to the daemon or a watched folder.

    ``seq`` rises by one with every stored event of a home; 0 marks a progress tick, which is published only.
    ``kind`` is ``state``, ``planned``, ``note`` or ``progress``, and without a job ``daemon`` or ``watch``; ``body`` is
    described in docs/protocol.md.
    """

    seq: int
    job: str
    kind: str
    at: datetime
    body: dict[str, Any]


class Sample(Struct, frozen=True):
    """What a job's processes used ``t`` seconds after it first started.

    ``resident`` and ``private`` memory in bytes at that moment; ``read`` and ``written`` bytes from and to storage
    (what the page cache saved is not in them) and ``cpu`` seconds since the start, all attempts together. ``run``
    counts the processes that worked at it, one after the other: between two the job was paused, or its daemon away.
    """

    t: float
    resident: int
    private: int
    read: int
    written: int
    cpu: float
    run: int = 1


def spec_fields(spec: Spec) -> dict[str, Any]:
    """``spec`` as plain data, its kind included.

    Raises
    ------
    UsageError
        A path or text that is not UTF-8, which no message can hold.
    """
    plain: dict[str, Any] = msgspec.to_builtins(spec)
    for key, value in plain.items():
        for each in _texts(value):
            if not _is_text(each):
                raise UsageError(
                    f"{key} is not text in UTF-8: {each!a}",
                    hint="Rename it, or name it by a link.",
                    key=key,
                )
    return plain


def _texts(value: Any) -> Iterator[str]:
    """Every text in plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _texts(key)
            yield from _texts(each)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
