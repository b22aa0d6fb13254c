"""The job `kinship`: how alike models of one base are, from one streamed pass over all of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator

from alloyd.errors import UsageError
from alloyd.jobs import Finished, KinshipSpec, Note, Planned, Report

from ..engine.findings import open_findings
from ..job import JOBS, Context, JobKind
from ..kinship.figures import SATURATED, figures
from ..kinship.measure import measure, sit
from ..recipes.models import as_given


def run(spec: KinshipSpec, context: Context) -> Generator[Report, None, None]:
    """Measure; nothing is written but the findings, from which a stopped run goes on."""
    if len(spec.models) < 2:
        raise UsageError("kinship is between models: name two or more", hint="alloy kinship --base BASE A B")
    sitting = sit(
        as_given(spec.base),
        [as_given(each) for each in spec.models],
        base_dir=spec.base_dir,
        home=context.home,
        settings=context.settings,
        memory=spec.memory,
        threads=spec.threads,
        reader=spec.reader,
    )
    budget = sitting.prepared.plan.budget
    yield Planned(
        {
            "bytes_read": sitting.bytes_read,
            "tensors": len(sitting.tensors),
            "threads": budget.threads,
            "peak_memory": budget.peak,
            "memory": sitting.prepared.memory,
        }
    )
    started = time.monotonic()
    with contextlib.closing(open_findings(context.home, context.settings.cache_bytes())) as findings:
        measured = yield from measure(sitting, findings)
    for warning in measured.warnings:
        yield Note("warning", warning)
    result = figures(measured)
    for one, other in result["saturated"]:
        yield Note(
            "warning",
            f"{one} and {other} moved the same way (cosine over {SATURATED}): merging them gains little",
        )
    yield Finished(result | {"seconds": round(time.monotonic() - started, 3)})


JOBS.register("kinship", JobKind(spec=KinshipSpec, run=run))
