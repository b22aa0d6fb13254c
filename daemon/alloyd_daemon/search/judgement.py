"""Trials on a split that chose nothing: each one's figures with intervals, and one held against others in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..evaluator import ItemScore, Task
from ..scoring.paired import compare
from ..scoring.report import comparison_fields, figure_fields
from ..scoring.summary import metrics_of, summarise
from .history import History
from .trial import Trial


class Judgement:
    """What a record holds of ``rung``, which asks all items of ``tasks``; each trial's scores are read once."""

    def __init__(self, history: History, rung: int, tasks: Sequence[Task]) -> None:
        self._history = history
        self._rung = rung
        self._tasks = tasks
        self._seen: dict[int, list[list[ItemScore]]] = {}

    def figures(self, trial: int) -> list[dict[str, Any]]:
        """A trial's figures by task and metric; none of a task that it did not answer to the end.

        ``number`` is the task's, from 1: splits name their tasks differently, and have them in one order.
        """
        return [
            {"task": task.name, "number": number, **figure_fields(figure)}
            for number, (task, items) in enumerate(zip(self._tasks, self._items(trial), strict=True), start=1)
            if len(items) == len(task.items)
            for figure in summarise(task.metrics, items)
        ]

    def comparisons(self, first: int, second: int) -> list[dict[str, Any]]:
        """``second`` against ``first`` by task and metric, on the items that both answered."""
        found = []
        rows = zip(self._tasks, self._items(first), self._items(second), strict=True)
        for number, (task, one, other) in enumerate(rows, start=1):
            for metric in metrics_of(task.metrics, [*one, *other]):
                pair = compare(metric, one, other)
                if pair is not None:
                    found.append({"task": task.name, "number": number, **comparison_fields(pair)})
        return found

    def models(self, trials: Sequence[Trial]) -> list[dict[str, Any]]:
        """Each trial's number, name and figures; a duplicate's are those of the trial that it is one ``of``."""
        return [
            {
                "trial": each.number,
                "name": each.name,
                "of": each.of,
                "figures": self.figures(each.of or each.number),
            }
            for each in trials
        ]

    def against(self, winner: int, others: Sequence[Trial]) -> list[dict[str, Any]]:
        """The winner held against each of ``others`` but its own duplicates."""
        return [
            {
                "trial": each.number,
                "name": each.name,
                "comparisons": self.comparisons(each.of or each.number, winner),
            }
            for each in others
            if winner not in (each.number, each.of)
        ]

    def _items(self, trial: int) -> list[list[ItemScore]]:
        if trial not in self._seen:
            kept = self._history.scores(trial, self._rung)
            self._seen[trial] = [
                # In the order of the task, so that every trial's items are resampled alike.
                [kept[number][item.id] for item in task.items if item.id in kept.get(number, {})]
                for number, task in enumerate(self._tasks)
            ]
        return self._seen[trial]


def opened_figures(
    history: History, rung: int, tasks: Sequence[Task], *, winner: Trial, others: Sequence[Trial]
) -> dict[str, Any]:
    """What the opened test showed, as it stands on record: ``models``, the winner first, and it ``against`` each."""
    judgement = Judgement(history, rung, tasks)
    rest = [each for each in others if each.number != winner.number]
    return {"models": judgement.models([winner, *rest]), "against": judgement.against(winner.number, rest)}
