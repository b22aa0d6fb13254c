"""A throw-away `merge` for the tests of watched folders: it makes its output folder and notes down that it did."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

from alloyd.jobs import Finished, MergeSpec, Report
from alloyd_daemon.job import Context, JobKind
from alloyd_daemon.plugins import Door


def merge(spec: MergeSpec, context: Context) -> Generator[Report, None, None]:
    out = Path(spec.out)
    out.mkdir(parents=True, exist_ok=True)
    handle = os.open(out.parent / "ran", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(handle, f"{spec.recipe_name} {context.job_id}\n".encode())
    os.close(handle)
    yield Finished({"out": spec.out})


DOOR: Door[JobKind] = Door("job", "trial_recipes_have_no_folder")
DOOR.register("merge", JobKind(MergeSpec, merge))
DOOR.open = lambda: None  # type: ignore[method-assign]
