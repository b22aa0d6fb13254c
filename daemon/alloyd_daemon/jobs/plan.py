"""The job `plan`: everything a merge would do, without moving a byte."""

from __future__ import annotations

from collections.abc import Generator

from alloyd.jobs import Finished, PlanSpec, Report

from ..engine.prepare import prepare
from ..job import JOBS, Context, JobKind


def run(spec: PlanSpec, context: Context) -> Generator[Report, None, None]:
    """The result is the summary of the last document, with those before it under ``before``."""
    summaries = [each.summary() for each in prepare(spec, home=context.home, settings=context.settings)]
    yield Finished({**summaries[-1], "before": summaries[:-1]})


JOBS.register("plan", JobKind(spec=PlanSpec, run=run))
