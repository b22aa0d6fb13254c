"""What came out of a search, as one JSON: everything that a table, a page or a replay needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from alloyd.search_schema import SearchFile

from ..checkpoints.durable import replace_file
from ..evaluator import ItemScore, Metric, Task
from ..scoring.paired import compare
from ..scoring.report import comparison_fields, figure_fields
from ..scoring.summary import metrics_of, summarise
from .convergence import Interval, convergence, front_convergence, items_by_rung
from .genome import Gene
from .history import History
from .importance import Importance, importance
from .lineage import ancestors, data_of, versions
from .pareto import front, hypervolume, reference_point
from .trial import VALIDATION, Trial

SCHEMA: Final = 1
RESULTS: Final = "results.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What a search is of, as far as its record does not say so.

    ``genomes``: one a phase. ``optimiser``: name, options, and why it was chosen. ``splits``: the tasks of each split.
    ``interval``: that of a trial's loss on the search split, where there is one objective.
    """

    job: str
    spec: SearchFile
    genomes: tuple[tuple[Gene, ...], ...]
    optimiser: Mapping[str, Any]
    splits: Mapping[str, tuple[Task, ...]]
    interval: Interval


def results(history: History, searched: Searched, *, winner: int | None) -> dict[str, Any]:
    """The whole of a search as plain data; docs/search.md says what each key is. Nothing is scored for it."""
    trials = history.trials()
    spec = searched.spec
    tasks = searched.splits["validation"]
    validated = _Validated(history, tasks)
    baselines = [each for each in trials if each.origin != "optimiser" and each.state != "failed"]
    opening = history.opening()
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "job": searched.job,
        "name": spec.name,
        "spec": msgspec.to_builtins(spec),
        "optimiser": dict(searched.optimiser),
        "genes": [[_gene(gene) for gene in genome] for genome in searched.genomes],
        "objectives": _objectives(spec, tasks),
        "winner": None,
        "baselines": [
            {"trial": each.number, "name": each.name, "validation": validated.figures(each.number)}
            for each in baselines
        ],
        "finalists": [
            {"trial": each.number, "name": each.name, "validation": validated.figures(each.number)}
            for each in trials
            if each.items.get(VALIDATION) and each.origin == "optimiser"
        ],
        "test": None if opening is None else {"opened": opening.at, "by": opening.job, **opening.figures},
        "trials": [_row(each) for each in trials],
        "convergence": convergence(trials, searched.interval) if spec.goal == "one" else [],
        "pareto": _pareto(trials) if spec.goal == "pareto" else None,
        "importance": [_importance(each) for each in _importances(trials, searched)],
        "rungs": [dict(each.data) for each in history.entries("rung")],
        "spent": _spent(trials),
        "notes": [{"at": each.at, **each.data} for each in history.entries("note")],
        "kinship": history.fact("kinship"),
        "lineage": {
            "seed": spec.seed,
            "data": data_of(searched.splits),
            "versions": versions(),
            "ancestors": [],
        },
    }
    if winner is not None:
        best = next(each for each in trials if each.number == winner)
        found["winner"] = {
            "trial": best.number,
            "name": best.name,
            "origin": best.origin,
            "genes": None if best.point is None else dict(best.point),
            "recipe": best.recipe,
            "validation": validated.figures(winner),
            "against": [
                {
                    "trial": each.number,
                    "name": each.name,
                    "comparisons": validated.comparisons(each.number, winner),
                }
                for each in baselines
                if each.number != winner
            ],
        }
        found["lineage"]["ancestors"] = [_row(each) for each in ancestors(trials, winner)]
    return found


def write_results(folder: Path, found: Mapping[str, Any]) -> Path:
    """Put results where readers find them: the old ones or the new ones, whole."""
    path = folder / RESULTS
    replace_file(path, msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    return path


class _Validated:
    """The item scores of the validation split, read once a trial."""

    def __init__(self, history: History, tasks: Sequence[Task]) -> None:
        self._history = history
        self._tasks = tasks
        self._seen: dict[int, list[list[ItemScore]]] = {}

    def _items(self, trial: int) -> list[list[ItemScore]]:
        if trial not in self._seen:
            kept = self._history.scores(trial, VALIDATION)
            self._seen[trial] = [
                # In the order of the items, so that every trial's are resampled alike.
                [kept[number][item.id] for item in task.items if item.id in kept.get(number, {})]
                for number, task in enumerate(self._tasks)
            ]
        return self._seen[trial]

    def figures(self, trial: int) -> list[dict[str, Any]]:
        """A trial's figures; none where it was not scored on validation, or not to the end."""
        return [
            {"task": task.name, **figure_fields(figure)}
            for task, items in zip(self._tasks, self._items(trial), strict=True)
            if len(items) == len(task.items)
            for figure in summarise(task.metrics, items)
        ]

    def comparisons(self, first: int, second: int) -> list[dict[str, Any]]:
        """``second`` against ``first``, metric by metric, on the items of both."""
        found = []
        for task, one, other in zip(self._tasks, self._items(first), self._items(second), strict=True):
            for metric in metrics_of(task.metrics, [*one, *other]):
                pair = compare(metric, one, other)
                if pair is not None:
                    found.append({"task": task.name, **comparison_fields(pair)})
        return found


def _objectives(spec: SearchFile, tasks: Sequence[Task]) -> list[dict[str, Any]]:
    found = []
    for each in spec.objectives:
        task = tasks[each.task - 1]
        metrics = {metric.name: metric for metric in task.metrics}
        name = each.metric or next(iter(metrics), "")
        better = metrics.get(name, Metric(name)).better
        found.append({"task": task.name, "metric": name, "better": better, "weight": each.weight})
    return found


def _gene(gene: Gene) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(gene)
    return plain


def _row(trial: Trial) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "batch": trial.batch,
        "phase": trial.phase,
        "origin": trial.origin,
        "name": trial.name,
        "genes": None if trial.point is None else dict(trial.point),
        "parents": list(trial.parents),
        "how": trial.how,
        "state": trial.state,
        "losses": None if trial.losses is None else list(trial.losses),
        "of": trial.of,
        "error": None if trial.error is None else trial.error.to_dict(),
        "seconds": trial.seconds,
        "items": {str(rung): count for rung, count in sorted(trial.items.items())},
        "identity": trial.identity,
    }


def _spent(trials: Sequence[Trial]) -> dict[str, Any]:
    states = [each.state for each in trials]
    return {
        "candidates": sum(state not in ("asked", "duplicate") for state in states),
        "states": {state: states.count(state) for state in dict.fromkeys(states)},
        "items": {str(rung): count for rung, count in items_by_rung(trials).items()},
        "seconds": sum(each.seconds for each in trials),
    }


def _pareto(trials: Sequence[Trial]) -> dict[str, Any]:
    scored = [each for each in trials if each.state == "scored" and each.losses is not None]
    losses = [each.losses or () for each in scored]
    if not scored:
        return {"front": [], "reference": None, "hypervolume": 0.0, "convergence": []}
    reference = reference_point(losses)
    return {
        "front": [scored[place].number for place in front(losses)],
        "reference": list(reference),
        "hypervolume": hypervolume(losses, reference),
        "convergence": front_convergence(trials, reference),
    }


def _importances(trials: Sequence[Trial], searched: Searched) -> list[tuple[int, int, Importance]]:
    """Of each phase and each objective, over all trials with a loss: an estimate of a dropped one counts, too."""
    found = []
    for phase, genome in enumerate(searched.genomes):
        told = [
            each
            for each in trials
            if each.phase == phase
            and each.losses is not None
            and each.state in ("scored", "dropped")
            and each.point is not None
            and set(each.point) >= {gene.name for gene in genome}
        ]
        for number in range(len(told[0].losses or ()) if told else 0):
            points = [each.point or {} for each in told]
            losses = [(each.losses or ())[number] for each in told]
            found.append((phase, number, importance(genome, points, losses, seed=searched.spec.seed)))
    return found


def _importance(one: tuple[int, int, Importance]) -> dict[str, Any]:
    phase, objective, found = one
    return {"phase": phase, "objective": objective, **msgspec.to_builtins(found)}
