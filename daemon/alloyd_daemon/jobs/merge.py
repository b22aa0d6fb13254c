"""The job `merge`: plan, stream, publish; resumes where an earlier run of the same job stopped."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from alloyd.jobs import Finished, MergeSpec, Report

from ..engine.document import discard_documents, make_all
from ..job import JOBS, Context, JobKind


def run(spec: MergeSpec, context: Context) -> Generator[Report, None, None]:
    """Merge every document of the recipe; the result is that of the last, with those before it under ``before``."""
    yield Finished((yield from make_all(spec, home=context.home, settings=context.settings)))


def discard(spec: MergeSpec, _: Context) -> None:
    """Remove what a cancelled merge staged; outputs that were published stay."""
    discard_documents(Path(spec.out), spec.recipe, lenient=spec.lenient)


JOBS.register("merge", JobKind(spec=MergeSpec, run=run, discard=discard))
