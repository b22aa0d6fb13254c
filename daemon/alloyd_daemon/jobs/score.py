"""The job `score`: checkpoints on one task with one evaluator, every item kept, an interval on every mean."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

from alloyd.errors import UsageError
from alloyd.jobs import Finished, Progress, Report, ScoreSpec

from ..evaluator import EVALUATORS, ItemScore, summarise
from ..job import JOBS, Context, JobKind
from ..task import read_task


def _records(context: Context) -> Path:
    return context.home / "scores" / f"{context.job_id}.jsonl"


def _finished(path: Path, models: tuple[str, ...], ids: list[str]) -> dict[str, list[ItemScore]]:
    """The models that an earlier run of the job scored to the end."""
    found: dict[str, list[ItemScore]] = {model: [] for model in models}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        record = json.loads(line)
        found[record["model"]].append(ItemScore(record["id"], record["score"], record["output"]))
    return {model: scores for model, scores in found.items() if [each.id for each in scores] == ids}


def _keep(path: Path, scored: dict[str, list[ItemScore]]) -> None:
    """Replace the records in one step, so that a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".partial")
    with fresh.open("w", encoding="utf-8") as file:
        for model, scores in scored.items():
            for each in scores:
                record = {"model": model, "id": each.id, "score": each.score, "output": each.output}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def run(spec: ScoreSpec, context: Context) -> Generator[Report, None, None]:
    """Score each model in turn; the result's ``items`` names a JSONL file with one record for every item.

    A model is kept once all its items are scored, so that a run that was stopped continues with the next one:
    a model that is begun again is run in the same batches, and so gets the same scores.
    """
    evaluate = EVALUATORS.get(spec.evaluator)
    task = read_task(Path(spec.task))
    for name, value in (("limit", spec.limit), ("batch size", spec.batch_size)):
        if value is not None and value < 1:
            raise UsageError(f"the {name} must be at least 1, not {value}", hint=f"Leave the {name} out.")
    if len(set(spec.models)) != len(spec.models) or not spec.models:
        raise UsageError(
            "a score needs one model or more, each named once", hint="alloy score MODEL... --task FILE"
        )
    ids = [item.id for item in task.items[: spec.limit]]
    path = _records(context)
    scored = _finished(path, spec.models, ids)
    total = len(ids) * len(spec.models)
    done = len(ids) * len(scored)
    for model in spec.models:
        if model in scored:
            continue
        yield Progress(done, total, "items", model)
        scores: list[ItemScore] = []
        for each in evaluate(Path(model), task, batch_size=spec.batch_size, limit=spec.limit):
            scores.append(each)
            done += 1
            yield Progress(done, total, "items", model)
        scored[model] = scores
        _keep(path, scored)
    summaries = {model: summarise(scored[model]) for model in spec.models}
    yield Finished(
        {
            "evaluator": spec.evaluator,
            "task": task.name,
            "models": [
                {"name": model, "score": each.mean, "low": each.low, "high": each.high, "n": each.n}
                for model, each in summaries.items()
            ],
            "items": str(path),
        }
    )


def discard(spec: ScoreSpec, context: Context) -> None:
    """Remove what a cancelled score left behind."""
    path = _records(context)
    for each in (path, path.with_suffix(".partial")):
        each.unlink(missing_ok=True)


JOBS.register("score", JobKind(spec=ScoreSpec, run=run, discard=discard))
