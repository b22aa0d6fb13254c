"""What a search was for, and losses turned back into the figures that people know. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .wording import finite

Result = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Axis:
    """One loss of a search as people read it: ``title``, whether ``higher`` is better, and the loss's factor to it."""

    title: str
    higher: bool
    factor: float

    def value(self, loss: Any) -> float | None:
        """The figure of a loss, or ``None`` where there is none."""
        found = finite(loss)
        return None if found is None else found * self.factor

    def interval(self, low: Any, high: Any) -> tuple[float | None, float | None]:
        """The interval of a loss, as one of the figure: from low to high."""
        ends = [self.value(low), self.value(high)]
        if None in ends:
            return None, None
        first, last = sorted(each for each in ends if each is not None)
        return first, last

    def better(self, one: float, other: float) -> bool:
        """Whether ``one`` is better than ``other``."""
        return one > other if self.higher else one < other

    @property
    def direction(self) -> str:
        return "higher is better" if self.higher else "lower is better"


def axes(results: Result) -> list[Axis]:
    """One for each loss that a trial has: that of one objective, the sum of several, or each of several of a front."""
    objectives: Sequence[Result] = results.get("objectives") or ()
    if len(objectives) > 1 and results.get("pareto") is None:
        return [Axis("loss, all objectives together", False, 1.0)]
    return [_axis(each) for each in objectives]


def _axis(objective: Result) -> Axis:
    weight = finite(objective.get("weight")) or 1.0
    higher = objective.get("better") != "lower"
    # A negative weight turns the goal around, not the metric.
    return Axis(
        f"{bare(str(objective.get('task')))} {objective.get('metric')}",
        higher == (weight > 0),
        (-1.0 if higher else 1.0) / weight,
    )


def bare(task: str) -> str:
    """A task's name without that of its split, which several splits share."""
    for split in (".search", ".validation", ".test"):
        task = task.removesuffix(split)
    return task


def of(objective: Result, found: Sequence[Result]) -> Result | None:
    """What is of an objective's task and metric."""
    wanted = (objective.get("number"), objective.get("metric"))
    return next((each for each in found if (each.get("number"), each.get("metric")) == wanted), None)
