"""The documents of a recipe, from plans to published folders; goes on where an earlier run stopped."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from alloyd.errors import OutputExists, SourceChanged
from alloyd.jobs import MergeSpec, Note, Planned, Report

from ..checkpoints.fingerprint import check_unchanged
from ..checkpoints.manifest import MANIFEST, Manifest, parse_manifest
from ..checkpoints.reader import open_reader
from ..checkpoints.sink import already_published, discard_staging
from ..settings import Settings
from .finals import finals
from .findings import open_findings
from .merge import Merged, merge
from .outputs import SIDE_BYTES
from .prepare import Prepared, again, prepare
from .publication import side_files
from .rates import remember

Accept = Callable[[Path, Manifest], None]


def make_all(
    spec: MergeSpec, *, home: Path, settings: Settings, accept: Accept | None = None
) -> Generator[Report, None, dict[str, Any]]:
    """Merge every document of the recipe; returns the result of the last, with those before it under ``before``.

    ``accept`` sees where each goes and its manifest before it is published, and raises where it is not to be; what is
    staged is removed then.
    """
    results: list[dict[str, Any]] = []
    prepared = prepare(spec, home=home, settings=settings)
    for planned in prepared:
        one = planned
        if not all(checkpoint.prints for checkpoint in planned.checkpoints):
            one = again(planned, spec, settings)
        results.append((yield from _make(one, settings, force=spec.force, accept=accept)))
    return {**results[-1], "before": results[:-1]}


def _make(
    one: Prepared, settings: Settings, *, force: bool, accept: Accept | None
) -> Generator[Report, None, dict[str, Any]]:
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
        findings = stack.enter_context(open_findings(one.home, settings.cache_bytes()))
        sink = one.format.sink(
            out, one.plan.layout, identity=one.plan.identity, force=force, expected_side_bytes=SIDE_BYTES
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
        if accept is not None:
            try:
                accept(out, parse_manifest(files[MANIFEST], file=MANIFEST))
            except BaseException:
                sink.discard()
                raise
        sink.publish(files)
    seconds = time.monotonic() - started
    if not merged.resumed_blocks:
        remember(one.home, one.rate, one.plan.bytes_sweep + one.plan.bytes_write, seconds)
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


def discard_documents(out: Path, text: str, *, lenient: bool) -> None:
    """Remove what unfinished documents of the recipe ``text`` staged; outputs that were published stay."""
    for final in finals(out, text, lenient=lenient):
        discard_staging(final)
