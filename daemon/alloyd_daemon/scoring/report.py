"""What a score found, for people and scripts: each model's figures, and every model paired with the first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..evaluator import ItemScore, Metric
from .paired import Comparison, compare
from .run import Questions, Scored
from .summary import Figure, metrics_of, summarise


def report(questions: Questions, scored: Mapping[str, Scored], runners: Mapping[str, str]) -> dict[str, Any]:
    """The result of a job, as docs/protocol.md has it. ``scored`` and ``runners`` go by the names of the models.

    Models are compared with the first of them that was scored.
    """
    whole = [name for name, one in scored.items() if one.error is None]
    metrics = [
        metrics_of(posed.task.metrics, _all_items(scored, number))
        for number, posed in enumerate(questions.tasks)
    ]
    return {
        "tasks": [
            {
                "name": name,
                "evaluator": posed.task.evaluator,
                "items": len(posed.task.items),
                "metrics": [{"name": each.name, "better": each.better} for each in metrics[number]],
            }
            for number, (name, posed) in enumerate(zip(questions.names, questions.tasks, strict=True))
        ],
        "models": [
            {
                "name": name,
                "runner": runners[name],
                "error": one.error.to_dict() if one.error is not None else None,
                "scores": [
                    {"task": task, **figure_fields(figure)}
                    for number, task in enumerate(questions.names)
                    if one.error is None
                    for figure in summarise(metrics[number], one.items[number])
                ],
            }
            for name, one in scored.items()
        ],
        "comparisons": [
            {"model": name, "against": whole[0], "task": task, **each}
            for name in whole[1:]
            for number, task in enumerate(questions.names)
            for each in _compared(metrics[number], scored[whole[0]], scored[name], number)
        ],
    }


def left_out(questions: Questions, scored: Mapping[str, Scored]) -> dict[str, list[str]]:
    """By task, what some items have a value of and others have not, so that no figure can be made of it."""
    found: dict[str, list[str]] = {}
    for number, (name, posed) in enumerate(zip(questions.names, questions.tasks, strict=True)):
        scores = _all_items(scored, number)
        kept = {each.name for each in metrics_of((), scores)}
        some = dict.fromkeys(value for each in scores for value in each.values if value not in kept)
        if some and not posed.task.metrics:
            found[name] = list(some)
    return found


def _all_items(scored: Mapping[str, Scored], task: int) -> list[ItemScore]:
    """The scores of task number ``task`` of every model that was scored."""
    return [each for one in scored.values() if one.error is None for each in one.items[task]]


def figure_fields(figure: Figure) -> dict[str, Any]:
    """A figure as results hold it."""
    return {
        "metric": figure.metric.name,
        "value": figure.value,
        "low": figure.low,
        "high": figure.high,
        "n": figure.n,
        "interval": figure.interval,
    }


def _compared(metrics: tuple[Metric, ...], first: Scored, second: Scored, task: int) -> list[dict[str, Any]]:
    pairs = (compare(metric, first.items[task], second.items[task]) for metric in metrics)
    return [comparison_fields(each) for each in pairs if each is not None]


def comparison_fields(one: Comparison) -> dict[str, Any]:
    """A comparison as results hold it."""
    return {
        "metric": one.metric.name,
        "difference": one.difference,
        "low": one.low,
        "high": one.high,
        "wins": one.wins,
        "losses": one.losses,
        "ties": one.ties,
        "p": one.p,
        "n": one.n,
        "verdict": one.verdict,
    }
