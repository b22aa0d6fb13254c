"""Stories of jobs to make pages of: a search and a merge that have ended, with hostile names in them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from alloyd.jobs import Event, Job, JobState, Sample
from alloyd.page.story import Story
from alloyd_daemon.search.results import results
from search.finished_search import make, searched

HOSTILE = "<img src=x onerror=alert(1)>'\"&amp;\u202e</script><script>alert(1)//"
NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def search_story(folder: Path) -> Story:
    """A search over a handful of trials, its results made as the daemon makes them."""
    with make(folder / "history.db") as history:
        found: dict[str, Any] = msgspec.to_builtins(results(history, searched(), winner=5))
    found["spec"]["name"] = HOSTILE
    found["baselines"][0]["name"] = HOSTILE
    for trial in found["trials"]:
        trial["name"] = HOSTILE if trial["origin"] == "baseline" else trial["name"]
    job = _job("search", {"spec": f"recipe: # {HOSTILE}\n", "name": f"{HOSTILE}.yaml"})
    return Story(
        job=job,
        told=NOW,
        home="/home/you",
        events=_events(job),
        results=found,
        samples=_samples(),
        log=HOSTILE,
    )


def merge_story() -> Story:
    """A merge with its plan, its result and a log."""
    spec = {
        "recipe": f"merge_method: ties # {HOSTILE}\n",
        "recipe_name": HOSTILE,
        "out": f"/models/{HOSTILE}",
    }
    summary = {
        "method": "ties",
        "out": f"/models/{HOSTILE}",
        "tensors": 201,
        "parameters": 850_000_000,
        "bytes_read": 5_100_000_000,
        "bytes_swept": 15_300_000_000,
        "bytes_write": 1_700_000_000,
        "passes": 3,
        "peak_memory": 420_000_000,
        "memory": 512 * 2**20,
        "seconds": 7.2,
        "dtype": "BF16",
        "models": [
            {"name": name, "path": f"/models/{name}", "bytes": 1_700_000_000} for name in (HOSTILE, "code")
        ],
        "warnings": [f"the licences of {HOSTILE} and code differ"],
    }
    result = {
        "out": f"/models/{HOSTILE}",
        "bytes_written": 1_700_000_000,
        "seconds": 9.0,
        "digest": "ab" * 32,
        "tensors": 201,
    }
    job = msgspec.structs.replace(
        _job("merge", spec), summary=summary, result=result, out=f"/models/{HOSTILE}"
    )
    return Story(
        job=job, told=NOW, home="/home/you", events=_events(job), samples=_samples(), log=f"{HOSTILE}\n" * 3
    )


def _job(kind: str, spec: dict[str, Any]) -> Job:
    return Job(
        id=f"{kind}-3",
        kind=kind,
        state=JobState.DONE,
        created=NOW - timedelta(minutes=3),
        started=NOW - timedelta(minutes=2),
        ended=NOW,
        attempts=1,
        spec=spec,
    )


def _events(job: Job) -> tuple[Event, ...]:
    bodies: tuple[tuple[str, dict[str, Any]], ...] = (
        ("state", {"state": "queued", "reason": ""}),
        ("state", {"state": "running", "reason": ""}),
        ("note", {"level": "warning", "text": HOSTILE}),
        ("state", {"state": "done", "reason": ""}),
    )
    return tuple(
        Event(place, job.id, kind, NOW - timedelta(minutes=4 - place), body)
        for place, (kind, body) in enumerate(bodies, start=1)
    )


def _samples() -> tuple[Sample, ...]:
    return tuple(
        Sample(
            float(second),
            200_000_000 + 3_000_000 * (second % 40),
            150_000_000 + 2_000_000 * (second % 40),
            40_000_000 * second,
            13_000_000 * second,
            1.8 * second,
        )
        for second in range(120)
    )
