"""The job `verify`: read a checkpoint again and compare it with its manifest."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from alloyd.jobs import Finished, Note, Report, VerifySpec

from ..checkpoints.manifest import MANIFEST
from ..checkpoints.verify import verify
from ..job import JOBS, Context, JobKind


def run(spec: VerifySpec, context: Context) -> Generator[Report, None, None]:
    """Verify ``spec.path``; nothing is written, so stopping leaves nothing behind."""
    found = yield from verify(Path(spec.path))
    if not found.manifest:
        text = f"{found.path} has no {MANIFEST}: only headers and index were checked, not the weights"
        yield Note(level="warning", text=text)
    yield Finished(
        result={
            "path": str(found.path),
            "manifest": found.manifest,
            "tensors": found.tensors,
            "files": found.files,
            "bytes_read": found.bytes_read,
            "digest": found.digest,
        }
    )


JOBS.register("verify", JobKind(spec=VerifySpec, run=run))
