"""The job `merge`: plan, stream, publish; resumes where an earlier run of the same job stopped."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from alloyd import recipe as recipes
from alloyd.errors import OutputExists, SourceChanged
from alloyd.jobs import Finished, MergeSpec, Note, Planned, Report

from ..checkpoints.fingerprint import check_unchanged
from ..checkpoints.reader import open_reader
from ..checkpoints.sink import already_published, discard_staging
from ..engine.findings import open_findings
from ..engine.merge import Merged, merge
from ..engine.outputs import SIDE_BYTES
from ..engine.prepare import Prepared, again, prepare
from ..engine.publication import side_files
from ..engine.rates import remember
from ..job import JOBS, Context, JobKind


def run(spec: MergeSpec, context: Context) -> Generator[Report, None, None]:
    """Merge every document of the recipe; the result is that of the last, with those before it under ``before``."""
    results: list[dict[str, Any]] = []
    for planned in prepare(spec, home=context.home, settings=context.settings):
        one = planned
        if not all(checkpoint.prints for checkpoint in planned.checkpoints):
            one = again(planned, spec, context.settings)
        results.append((yield from _merge_one(one, spec, context)))
    yield Finished({**results[-1], "before": results[:-1]})


def _merge_one(one: Prepared, spec: MergeSpec, context: Context) -> Generator[Report, None, dict[str, Any]]:
    started = time.monotonic()
    out = one.out
    if out is None:
        raise ValueError("a merge needs an output")
    summary = one.summary()
    yield Planned(summary)
    for warning in one.warnings:
        yield Note("warning", warning)
    if already_published(out, one.plan.identity):
        return (yield from _already_there(out))
    with contextlib.ExitStack() as stack:
        findings = stack.enter_context(open_findings(context.home, context.settings.cache_bytes()))
        sink = one.format.sink(
            out, one.plan.layout, identity=one.plan.identity, force=spec.force, expected_side_bytes=SIDE_BYTES
        )
        stack.callback(sink.close)
        readers = [
            stack.enter_context(open_reader(checkpoint, door))
            for checkpoint, door in zip(one.checkpoints, one.doors, strict=True)
        ]
        try:
            merged = yield from merge(one.plan, readers, sink, findings)
            for checkpoint, seen in zip(one.checkpoints, one.fingerprints, strict=True):
                check_unchanged(checkpoint, seen)
        except OutputExists as exists:
            # Another process published this very merge while this one waited for its turn.
            if not exists.facts.get("published"):
                raise
            return (yield from _already_there(out))
        except SourceChanged:
            # What is staged mixes two states of a source: nothing may continue from it.
            sink.discard()
            raise
        files, warnings = side_files(one, merged, sink)
        for warning in warnings:
            yield Note("warning", warning)
        if merged.non_finite:
            yield Note("warning", _strange(merged))
        sink.publish(files)
    seconds = time.monotonic() - started
    if not merged.resumed_blocks:
        remember(context.home, one.rate, one.plan.bytes_sweep + one.plan.bytes_write, seconds)
    return {
        "out": str(out),
        "bytes_written": one.plan.bytes_write,
        "seconds": round(seconds, 3),
        "digest": merged.digest,
        "tensors": len(merged.tensors),
        "resumed_blocks": merged.resumed_blocks,
        "non_finite": sum(merged.non_finite.values()),
        "already_there": False,
    }


def _already_there(out: Path) -> Generator[Report, None, dict[str, Any]]:
    yield Note("info", f"{out} holds this very merge already; nothing was written")
    return {"out": str(out), "bytes_written": 0, "seconds": 0.0, "already_there": True}


def _strange(merged: Merged) -> str:
    names = list(merged.non_finite)
    return (
        f"{sum(merged.non_finite.values()):,} elements of {len(names)} tensors are NaN or infinite, "
        f"first in '{names[0]}'; look at the sources and at the recipe's weights"
    )


def discard(spec: MergeSpec, context: Context) -> None:
    """Remove what a cancelled merge staged; outputs that were published stay."""
    finals = [Path(spec.out)]
    with contextlib.suppress(Exception):
        named = [
            each.name for each in recipes.load(spec.recipe, lenient=spec.lenient) if each.name is not None
        ]
        finals += [Path(spec.out).with_name(f"{Path(spec.out).name}.parts") / name for name in named]
    for final in finals:
        discard_staging(final)


JOBS.register("merge", JobKind(spec=MergeSpec, run=run, discard=discard))
