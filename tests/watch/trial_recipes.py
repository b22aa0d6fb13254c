"""Throw-away jobs for the tests of watched folders: a `merge` that makes its output folder and notes down that it did,
and a `score` that finds a candidate better if its name says `good`, and cannot score one that says `broken`."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

from alloyd.jobs import Finished, MergeSpec, Report, ScoreSpec
from alloyd_daemon.job import Context, JobKind
from alloyd_daemon.plugins import Door


def merge(spec: MergeSpec, context: Context) -> Generator[Report, None, None]:
    out = Path(spec.out)
    out.mkdir(parents=True, exist_ok=True)
    handle = os.open(out.parent / "ran", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(handle, f"{spec.recipe_name} {context.job_id}\n".encode())
    os.close(handle)
    yield Finished({"out": spec.out})


def score(spec: ScoreSpec, context: Context) -> Generator[Report, None, None]:
    soup, candidate = spec.subjects
    assert Path(soup.path).is_dir()
    assert Path(candidate.path).is_dir()
    name = Path(candidate.path).name
    error = {"code": "E_SOURCE", "message": "it is broken"} if "broken" in name else None
    against = {"model": "candidate", "against": "soup", "task": "task"}
    verdict = "better" if "good" in name else "worse" if "bad" in name else "no clear difference"
    yield Finished(
        {
            "tasks": [{"name": "task", "metrics": [{"name": "accuracy"}, {"name": "other"}]}],
            "models": [{"name": "soup", "error": None}, {"name": "candidate", "error": error}],
            "comparisons": [
                {**against, "metric": "accuracy", "verdict": verdict},
                {**against, "metric": "other", "verdict": "worse"},
            ],
        }
    )


DOOR: Door[JobKind] = Door("job", "trial_recipes_have_no_folder")
DOOR.register("merge", JobKind(MergeSpec, merge))
DOOR.register("score", JobKind(ScoreSpec, score))
DOOR.open = lambda: None  # type: ignore[method-assign]
