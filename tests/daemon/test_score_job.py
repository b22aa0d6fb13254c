"""The job `score`: every item on record, an interval on every mean, and no model scored twice after a stop."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from alloyd.errors import AlloydError, TaskError, UsageError
from alloyd.jobs import Finished, Progress, ScoreSpec
from alloyd_daemon.evaluator import EVALUATORS, ItemScore
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.settings import Settings
from alloyd_daemon.task import Task

ITEMS = [{"id": str(place), "prompt": f"{place} + 1 :", "answer": str(place + 1)} for place in range(5)]


@pytest.fixture
def task(tmp_path: Path) -> str:
    path = tmp_path / "sums.search.jsonl"
    path.write_text("\n".join(json.dumps(item) for item in ITEMS), encoding="utf-8")
    return str(path)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(home=tmp_path / "home", settings=Settings(), job_id="j1")


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models that exact match is asked to score; it answers at once, wrong on the second item."""
    asked: list[str] = []

    def answers(
        model_dir: Path, task: Task, *, batch_size: int | None = None, limit: int | None = None
    ) -> Iterator[ItemScore]:
        asked.append(model_dir.name)
        for item in task.items[:limit]:
            yield ItemScore(item.id, int(item.id != "1"), "said")

    EVALUATORS.open()
    monkeypatch.setitem(EVALUATORS._found, "exact_match", answers)
    return asked


def test_scores_come_with_intervals_and_a_record_of_every_item(
    task: str, context: Context, scored: list[str]
) -> None:
    reports = list(JOBS.get("score").run(ScoreSpec(models=("a", "b"), task=task), context))
    assert [each.done for each in reports if isinstance(each, Progress)][-1] == 10
    result = reports[-1]
    assert isinstance(result, Finished)
    assert result.result["task"] == "sums.search"
    first = result.result["models"][0]
    assert (first["name"], first["score"], first["n"]) == ("a", 0.8, 5)
    assert 0 < first["low"] < 0.8 < first["high"] < 1
    records = [json.loads(line) for line in Path(result.result["items"]).read_text().splitlines()]
    assert [(each["model"], each["id"], each["score"]) for each in records[:2]] == [
        ("a", "0", 1),
        ("a", "1", 0),
    ]
    assert len(records) == 10


def test_a_stopped_score_goes_on_with_the_model_it_was_at(
    task: str, context: Context, scored: list[str]
) -> None:
    spec = ScoreSpec(models=("a", "b"), task=task)
    job = JOBS.get("score")
    running = job.run(spec, context)
    for report in running:
        if isinstance(report, Progress) and report.done == 7:
            running.close()
            break
    stopped = list(job.run(spec, context))
    assert scored == ["a", "b", "b"]
    fresh = list(job.run(spec, Context(context.home, context.settings, "j2")))
    assert isinstance(stopped[-1], Finished)
    assert isinstance(fresh[-1], Finished)
    assert stopped[-1].result["models"] == fresh[-1].result["models"]


def test_a_cancelled_score_leaves_nothing(task: str, context: Context, scored: list[str]) -> None:
    spec = ScoreSpec(models=("a",), task=task, limit=2)
    job = JOBS.get("score")
    list(job.run(spec, context))
    assert job.discard is not None
    job.discard(spec, context)
    assert not [path for path in context.home.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"models": ()}, UsageError, "one model or more"),
        ({"models": ("a", "a")}, UsageError, "each named once"),
        ({"limit": 0}, UsageError, "limit must be at least 1"),
        ({"task": "/nowhere.jsonl"}, TaskError, "cannot read the task file"),
        ({"evaluator": "exact_macth"}, AlloydError, "unknown evaluator"),
    ],
)
def test_a_senseless_spec_is_refused_before_work(
    changes: dict[str, object],
    error: type[AlloydError],
    said: str,
    task: str,
    context: Context,
    scored: list[str],
) -> None:
    spec = ScoreSpec(**({"models": ("a",), "task": task} | changes))  # type: ignore[arg-type]
    with pytest.raises(error, match=said):
        list(JOBS.get("score").run(spec, context))
    assert scored == []
