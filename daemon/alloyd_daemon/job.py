"""What a kind of job is, the door it registers at, and what it is given to work with."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alloyd.jobs import Report

from .plugins import Door
from .settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    """Where a job runs: the daemon's home, its settings, and the job's own id."""

    home: Path
    settings: Settings
    job_id: str


@dataclass(frozen=True, slots=True)
class JobKind:
    """One kind of job.

    ``run`` yields reports, :class:`alloyd.jobs.Finished` last. Closing the generator stops the work: it must leave
    behind what a later run of the same spec can continue from. ``discard`` removes that again after a cancel.
    """

    spec: type[Any]
    run: Callable[[Any, Context], Generator[Report, None, None]]
    discard: Callable[[Any, Context], None] | None = None


JOBS: Door[JobKind] = Door("job", "alloyd_daemon.jobs")
