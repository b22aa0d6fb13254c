"""What people read: plans, jobs, events, scores, progress."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd import render, render_scores, units
from alloyd.jobs import Event, Job, JobState, Pace
from alloyd.render_live import Lines, describe

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SUMMARY: dict[str, Any] = {
    "name": None,
    "out": "/data/out",
    "method": "ties",
    "tensors": 201,
    "parameters": 850_000_000,
    "bytes_read": 5_100_000_000,
    "bytes_write": 1_700_000_000,
    "passes": 3,
    "peak_memory": 420_000_000,
    "memory": 512 * 2**20,
    "disk_needed": 1_700_000_000,
    "disk_free": 92_000_000_000,
    "seconds": 7.2,
    "threads": 2,
    "reader": "mmap",
    "dtype": "BF16",
    "shards": 1,
    "models": [
        {"name": name, "path": f"/models/{name}", "bytes": 1_700_000_000} for name in ("math", "code", "base")
    ],
    "warnings": ["licences differ"],
}


def job(**fields: Any) -> Job:
    return Job(**{"id": "merge-1", "kind": "merge", "state": JobState.QUEUED, "created": NOW, **fields})


def test_a_plan_in_short() -> None:
    assert render.plan_lines(SUMMARY) == [
        "  method   ties",
        "  models   math, code, base (5.1 GB)",
        "  tensors  201 (850M parameters), BF16, 1 file",
        "  read     5.1 GB in 3 passes",
        "  write    1.7 GB",
        "  memory   420 MB at most of 537 MB",
        "  disk     1.7 GB needed, 92.0 GB free",
        "  time     about 7.2 s",
        "  out      /data/out",
        "warning: licences differ",
    ]


def test_a_plan_in_full_names_paths_and_means() -> None:
    text = "\n".join(render.plan_lines(SUMMARY, full=True))
    for word in ("/models/math", "threads  2", "reader   mmap"):
        assert word in text


def test_a_plan_of_which_little_is_known_is_no_crash() -> None:
    assert render.plan_lines({}) == []
    assert render.plan_lines({**SUMMARY, "out": None, "disk_free": None, "seconds": None})


def test_jobs_in_a_table() -> None:
    running = job(state=JobState.RUNNING, out="/o", progress=Pace(25, 100, "bytes", "x", 2e9, 61.0))
    failed = job(id="score-22", state=JobState.FAILED, error={"message": "no such task"})
    waiting = job(out="/p", reason="waits for merge-1")
    assert render.jobs_table([running, failed, waiting], now=NOW + timedelta(seconds=90)) == [
        "JOB       STATE    DONE   SPEED     LEFT    CREATED     WHAT",
        "merge-1   running  25.0%  2.0 GB/s  1m 01s  1m 30s ago  /o",
        "score-22  failed   -      -         -       1m 30s ago  no such task",
        "merge-1   queued   -      -         -       1m 30s ago  /p (waits for merge-1)",
    ]


def test_a_job_in_full() -> None:
    whole = job(
        state=JobState.DONE, started=NOW, ended=NOW, attempts=2, summary=SUMMARY, result={"digest": "ab", "before": []},
        spec={"kind": "merge", "recipe": "a: 1\nb: 2\n", "out": "/o", "memory": None, "force": False},
    )  # fmt: skip
    lines = [*render.job_lines(whole), *render.recipe_lines(whole)]
    assert lines[0] == "merge-1"
    assert "  digest         ab" in lines
    assert lines[-3:] == ["recipe", "  a: 1", "  b: 2"]
    assert not any("before" in line or "memory   None" in line for line in lines)


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("state", {"state": "running", "reason": ""}, "running"),
        ("state", {"state": "failed", "reason": "", "error": {"message": "why"}}, "failed: why"),
        ("note", {"level": "warning", "text": "beware"}, "warning: beware"),
        ("planned", SUMMARY, "planned: read 5.1 GB, write 1.7 GB"),
        ("progress", {"done": 1, "total": 4, "what": "w"}, "25.0% w"),
        ("new kind", {"a": 1}, "{'a': 1}"),
    ],
)
def test_events_as_lines(kind: str, body: dict[str, Any], text: str) -> None:
    assert render.event_line(Event(7, "merge-1", kind, NOW, body)).endswith(f"merge-1      {text}")


def scores(
    *metrics: str, value: float = 0.5, low: float | None = 0.4, task: str = "t"
) -> list[dict[str, Any]]:
    high = None if low is None else 0.6
    return [
        {"task": task, "metric": name, "value": value, "low": low, "high": high, "n": 100} for name in metrics
    ]


def test_scores_of_one_model_with_their_intervals() -> None:
    tasks = [{"name": "t", "metrics": [{"name": "acc"}, {"name": "acc_norm"}]}]
    models = [{"name": "a", "error": None, "scores": scores("acc", "acc_norm")}]
    assert render_scores.scores_table({"models": models, "tasks": tasks, "comparisons": []}) == [
        "MODEL  METRIC    SCORE   95% INTERVAL      ITEMS",
        "a      acc       0.5000  0.4000 to 0.6000  100",
        "a      acc_norm  0.5000  0.4000 to 0.6000  100",
    ]


def test_scores_of_several_models_task_by_task_against_the_first_that_was_scored() -> None:
    tasks = [{"name": "t", "metrics": [{"name": "acc"}]}, {"name": "u", "metrics": [{"name": "acc"}]}]
    both = [*scores("acc"), *scores("acc", task="u", low=None)]
    models = [
        {"name": "broken", "error": {"message": "its logits are NaN", "hint": "Mend it."}, "scores": []},
        {"name": "a", "error": None, "scores": both},
        {"name": "b", "error": None, "scores": both},
    ]
    pair = {
        "model": "b",
        "against": "a",
        "metric": "acc",
        "difference": 0.0,
        "verdict": "no clear difference",
    }
    pairs = [
        {**pair, "task": "t", "low": -0.1, "high": 0.1},
        {**pair, "task": "u", "low": None, "high": None},
    ]
    assert render_scores.scores_table({"models": models, "tasks": tasks, "comparisons": pairs}) == [
        "MODEL  TASK  METRIC  SCORE   95% INTERVAL      ITEMS  AGAINST a",
        "a      t     acc     0.5000  0.4000 to 0.6000  100    -",
        "b      t     acc     0.5000  0.4000 to 0.6000  100    +0.0000 (-0.1000 to +0.1000) no clear difference",
        "a      u     acc     0.5000  -                 100    -",
        "b      u     acc     0.5000  -                 100    +0.0000 no clear difference",
        "broken could not be scored: its logits are NaN",
        "hint: Mend it.",
    ]


def test_large_figures_are_short() -> None:
    models = [
        {"name": "a", "error": None, "scores": [{**scores("p")[0], "value": 147539.9762, "high": 262561.36}]}
    ]
    tasks = [{"name": "t", "metrics": [{"name": "p"}]}]
    [_, line] = render_scores.scores_table({"models": models, "tasks": tasks, "comparisons": []})
    assert line == "a      p       147,540.0  0.4000 to 262,561.4  100"


def test_a_score_in_full_shows_models_recipes_and_figures() -> None:
    result = {
        "models": [{"name": "a", "error": None, "scores": scores("acc")}],
        "tasks": [{"name": "t", "metrics": [{"name": "acc"}]}],
        "comparisons": [],
        "items": "/home/scores/score-1.jsonl",
    }
    spec = {
        "kind": "score",
        "subjects": [
            {"name": "a", "path": "/models/a", "recipe": ""},
            {"name": "r.yaml", "path": "", "recipe": "merge_method: ties\n"},
        ],
        "tasks": ["/t.jsonl"],
        "options": {"pattern": "x"},
    }
    summary = {
        "runs": [{"runner": "resident", "models": ["a", "r.yaml"]}],
        "tasks": [{"name": "t", "evaluator": "exact_match", "items": 7}],
        "memory": 10**9,
    }
    whole = job(id="score-1", kind="score", state=JobState.DONE, spec=spec, result=result, summary=summary)
    lines = [*render.job_lines(whole), *render.recipe_lines(whole)]
    for line in (
        "  items          /home/scores/score-1.jsonl",
        "  a      acc     0.5000  0.4000 to 0.6000  100",
        "  runner   resident: a, r.yaml",
        "  task     t (exact_match, 7 items)",
        "  models         /models/a, r.yaml",
        "  tasks          /t.jsonl",
        "  options        pattern=x",
        "recipe r.yaml",
        "  merge_method: ties",
    ):
        assert line in lines
    assert render.jobs_table([whole], now=NOW)[1].endswith("/t.jsonl")
    event = Event(7, "score-1", "planned", NOW, summary)
    assert render.event_line(event).endswith("planned: resident runs a, r.yaml")


def test_what_a_check_found() -> None:
    found = {"path": "/m", "tensors": 9, "bytes_read": 2_000_000, "manifest": True}
    assert render.verified(found) == "/m: all 9 tensors (2.0 MB) are as the manifest says"
    assert "no manifest" in render.verified({**found, "manifest": False})


@given(st.integers(0, 10**15))
def test_counts_are_short(number: int) -> None:
    assert len(units.format_count(number)) <= 7


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    for done in range(1001):
        lines.update({"done": done, "total": 1000, "unit": "bytes", "what": "w", "rate": 100.0, "eta": 9.0})
    lines.close()
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "0.0%  0 B of 1.0 kB  100 B/s  9.0 s left  w",
        "100.0%  1.0 kB of 1.0 kB  100 B/s  9.0 s left  w",
    ]
    assert describe({"done": 0, "total": 0, "unit": "items"}) == "-  0 of 0"


def test_facts_of_a_job_have_units_and_say_nothing_where_nothing_was() -> None:
    result = {"out": "/o", "bytes_written": 4858368, "seconds": 33.187, "resumed_blocks": 0, "non_finite": 3}
    spec = {"kind": "merge", "memory": 536870912, "shard_size": 5 * 10**9, "roots": [], "out": "/o"}
    lines = render.job_lines(job(state=JobState.DONE, out="/o", result=result, spec=spec))
    assert lines[4:] == [
        "  out            /o",
        "  written        4.9 MB",
        "  took           33 s",
        "  not finite     3 values are NaN or infinite",
        "asked",
        "  memory         537 MB",
        "  shard size     5.0 GB",
    ]


def test_models_of_a_plan_stand_under_each_other() -> None:
    models = [{"name": "tune-0", "bytes": 10, "path": "/a"}, {"name": "base", "bytes": 2000, "path": "/b"}]
    assert render.plan_lines({"models": models}, full=True) == [
        "  models   2 (2.0 kB)",
        "           tune-0  10 B    /a",
        "           base    2.0 kB  /b",
    ]


def test_kinship_and_scores_among_jobs_say_what_they_are_of() -> None:
    kin = job(id="kinship-1", kind="kinship", out="", spec={"base": "/m/base", "models": ["/m/a", "/m/b"]})
    made = job(out="/m/made")
    lines = render.jobs_table([kin, made], now=NOW, short=lambda path: path.removeprefix("/m/"))
    assert lines[1].endswith("  a, b")
    assert lines[2].endswith("  made")


def test_kinship_among_jobs_is_its_table_with_what_a_dash_means() -> None:
    pair = {"models": ["a", "b"], "cosine": 0.25, "pearson": 0.2, "euclidean": 3.0}
    part = {"layer": 0, "parameters": 2000, "pairs": [{"cosine": None, "pearson": None, "euclidean": 1.0}]}
    result = {"base": "m", "models": [], "pairs": [pair], "layers": [part], "parameters": 2000}
    lines = render.job_lines(job(id="kinship-1", kind="kinship", state=JobState.DONE, result=result))
    assert "  a      b    +0.2500  +0.2000  3" in lines
    assert "  0      -        2K" in lines
    assert "  -: there at least one of the two is as the base was" in lines
