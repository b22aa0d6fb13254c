"""Scores as text for people: what will be run, each model's figures, every model against the first. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .columns import columns
from .units import format_size


def run_lines(summary: Mapping[str, Any]) -> list[str]:
    """What a score is about to do."""
    lines = [
        f"  {'runner':<8} {each['runner']}: {', '.join(each['models'])}" for each in summary.get("runs", [])
    ]
    lines += [
        f"  {'task':<8} {each['name']} ({each['evaluator']}, {each['items']} items)"
        for each in summary.get("tasks", [])
    ]
    if summary.get("memory"):
        lines.append(f"  {'memory':<8} {format_size(summary['memory'])} at most")
    return lines


def scores_table(result: Mapping[str, Any]) -> list[str]:
    """A line for every model, task and metric, with its 95 % interval, and how it differs from the first model."""
    models, tasks = result.get("models", []), result.get("tasks", [])
    against = next((each["name"] for each in models if each.get("error") is None), "")
    compared = {(each["model"], each["task"], each["metric"]): each for each in result.get("comparisons", [])}
    rows: list[tuple[str, ...]] = []
    order = {(task["name"], metric["name"]): place for place, (task, metric) in enumerate(_metrics(tasks))}
    scores = [(model["name"], each) for model in models for each in model["scores"]]
    for name, each in sorted(scores, key=lambda score: order[score[1]["task"], score[1]["metric"]]):
        pair = compared.get((name, each["task"], each["metric"]))
        rows.append(
            (
                name,
                *((each["task"],) if len(tasks) > 1 else ()),
                each["metric"],
                figure(each["value"]),
                interval(each),
                str(each["n"]),
                *((difference(pair),) if compared else ()),
            )
        )
    head = (
        "MODEL",
        *(("TASK",) if len(tasks) > 1 else ()),
        "METRIC",
        "SCORE",
        "95% INTERVAL",
        "ITEMS",
        *((f"AGAINST {against}",) if compared else ()),
    )
    lost = [each for each in models if each.get("error") is not None]
    return [*(columns([head, *rows]) if rows else []), *(line for each in lost for line in _lost(each))]


def _metrics(tasks: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    return ((task, metric) for task in tasks for metric in task["metrics"])


def _lost(model: Mapping[str, Any]) -> Iterator[str]:
    yield f"{model['name']} could not be scored: {model['error'].get('message', '')}"
    if model["error"].get("hint"):
        yield f"hint: {model['error']['hint']}"


def figure(value: float, sign: str = "") -> str:
    """Four decimals, where they say anything beside what stands before the point."""
    return f"{value:{sign}.4f}" if abs(value) < 1000 else f"{value:{sign},.1f}"


def interval(each: Mapping[str, Any]) -> str:
    """From where to where, or a dash."""
    return "-" if each.get("low") is None else f"{figure(each['low'])} to {figure(each['high'])}"


def difference(pair: Mapping[str, Any] | None) -> str:
    """A paired difference with its interval and verdict, or a dash."""
    if pair is None:
        return "-"
    interval = (
        "" if pair.get("low") is None else f" ({figure(pair['low'], '+')} to {figure(pair['high'], '+')})"
    )
    return f"{figure(pair['difference'], '+')}{interval} {pair['verdict']}"
