"""What a search makes smaller: losses from item scores, and what each item adds to the difference of two models.

A figure is a sum of values over a sum of weights (:class:`alloyd_daemon.evaluator.Metric`), so an item's part in a
difference is known as soon as the item is: that is what lets a candidate be judged by some of the items.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alloyd.errors import RecipeError, TaskError, did_you_mean
from alloyd.search_schema import Objective

from ..evaluator import ItemScore, Metric, Task

Array = NDArray[np.float64]
Scores = Mapping[int, Mapping[str, ItemScore]]
"""Item scores by number of task and id of item."""


@dataclass(frozen=True, slots=True)
class Place:
    """One item of one of the tasks, by the number of the task and the item's id."""

    task: int
    item: str


@dataclass(frozen=True, slots=True)
class Target:
    """One figure that counts: a metric of task number ``task``, times ``weight``."""

    task: int
    metric: Metric
    weight: float


@dataclass(frozen=True, slots=True)
class Sheet:
    """What the targets are made of at some places: ``values`` and ``weights``, float64 [targets, places], 0 at a place
    that is of another task."""

    values: Array
    weights: Array

    def part(self, columns: Sequence[int]) -> Sheet:
        """Some of the places."""
        chosen = list(columns)
        return Sheet(self.values[:, chosen], self.weights[:, chosen])


@dataclass(frozen=True, slots=True)
class Goal:
    """The targets of a search: one loss, the sum of all, or where ``several`` one loss each."""

    targets: tuple[Target, ...]
    several: bool = False

    @property
    def objectives(self) -> int:
        """How many losses there are."""
        return len(self.targets) if self.several else 1

    def sheet(self, scores: Scores, places: Sequence[Place]) -> Sheet:
        """What ``scores`` hold at ``places``. Raises TaskError for an item without a metric's value."""
        values = np.zeros((len(self.targets), len(places)))
        weights = np.zeros_like(values)
        for row, target in enumerate(self.targets):
            kept = scores.get(target.task, {})
            for column, place in enumerate(places):
                if place.task == target.task:
                    values[row, column] = _value(kept[place.item], target.metric)
                    weights[row, column] = _weight(kept[place.item], target.metric)
        return Sheet(values, weights)

    def figures(self, sheet: Sheet) -> Array:
        """Each target's metric over all places, float64 [targets]."""
        ratios = sheet.values.sum(axis=1) / sheet.weights.sum(axis=1)
        return np.array(
            [_scaled(target.metric, ratio) for target, ratio in zip(self.targets, ratios, strict=True)]
        )

    def losses(self, sheet: Sheet) -> tuple[float, ...]:
        """The losses over all places; lower is better."""
        parts = self._signs() * self.figures(sheet)
        return tuple(map(float, parts)) if self.several else (float(parts.sum()),)

    def gains(self, sheet: Sheet, reference: Sheet, columns: Sequence[int]) -> Array:
        """By how much each of ``columns`` makes ``sheet`` better than ``reference``, float64 [objectives, columns].

        Summed over all places it is the reference's loss less the sheet's: exactly where weights are equal and the
        metric is a ratio, in the first order otherwise. ``sheet`` has the places ``columns``, ``reference`` all.
        """
        chosen = reference.part(columns)
        total = reference.weights.sum(axis=1, keepdims=True)
        ratios = reference.values.sum(axis=1, keepdims=True) / total
        parts = (sheet.values - chosen.values - ratios * (sheet.weights - chosen.weights)) / total
        slopes = np.array(
            [
                _slope(target.metric, float(ratio[0]))
                for target, ratio in zip(self.targets, ratios, strict=True)
            ]
        )
        gains: Array = -(self._signs() * slopes)[:, None] * parts
        return gains if self.several else gains.sum(axis=0, keepdims=True)

    def _signs(self) -> Array:
        signs = [each.weight if each.metric.better == "lower" else -each.weight for each in self.targets]
        return np.array(signs, np.float64)

    def plain(self) -> dict[str, Any]:
        """The goal as plain data, for the record."""
        return asdict(self)

    @staticmethod
    def of_plain(data: Mapping[str, Any]) -> Goal:
        """The inverse of :meth:`plain`."""
        targets = tuple(
            Target(each["task"], Metric(**each["metric"]), each["weight"]) for each in data["targets"]
        )
        return Goal(targets, data["several"])


def goal_of(objectives: Iterable[Objective], tasks: Sequence[Task], *, several: bool) -> Goal:
    """The goal that a spec's objectives make over its tasks.

    Raises RecipeError for a task or metric that is not there.
    """
    targets: list[Target] = []
    for each in objectives:
        if not 1 <= each.task <= len(tasks):
            raise RecipeError(
                f"an objective is of task {each.task}, and there are {len(tasks)}",
                hint="Tasks are counted from 1, in the order of the splits.",
                key="objectives",
            )
        task = tasks[each.task - 1]
        known = {metric.name: metric for metric in task.metrics}
        if each.metric is None:
            metric = task.metrics[0] if task.metrics else Metric("score")
        elif each.metric in known or not known:
            metric = known.get(each.metric, Metric(each.metric))
        else:
            raise RecipeError(
                f"task {each.task} ({task.name}) has no metric '{each.metric}'",
                hint=did_you_mean(each.metric, known),
                key="objectives",
            )
        if any((one.task, one.metric) == (each.task - 1, metric) for one in targets):
            raise RecipeError(
                f"two objectives are the {metric.name} of task {each.task}",
                hint="Keep one of them.",
                key="objectives",
            )
        targets.append(Target(each.task - 1, metric, float(each.weight)))
    return Goal(tuple(targets), several)


def _value(score: ItemScore, metric: Metric) -> float:
    name = metric.value or metric.name
    if name not in score.values:
        raise TaskError(
            f"item {score.id} has no value of the metric '{metric.name}' that the search is for",
            hint=f"It has {', '.join(score.values)}.",
        )
    return float(score.values[name])


def _weight(score: ItemScore, metric: Metric) -> float:
    return float(score.values[metric.weight]) if metric.weight else 1.0


def _scaled(metric: Metric, ratio: float) -> float:
    if metric.scale == "exp":
        return math.exp(min(ratio, 700.0))
    return ratio / math.log(2) if metric.scale == "bits" else ratio


def _slope(metric: Metric, ratio: float) -> float:
    if metric.scale == "exp":
        return math.exp(min(ratio, 700.0))
    return 1 / math.log(2) if metric.scale == "bits" else 1.0
