"""What an evaluator is (a stream of scored items), how scores are summed up, and the door it registers at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from .intervals import wilson_interval
from .plugins import Door
from .task import Task


@dataclass(frozen=True, slots=True)
class ItemScore:
    """One item's score, 0 or 1, and what the model wrote."""

    id: str
    score: int
    output: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The mean of `n` item scores and its 95 % Wilson interval, all in [0, 1]."""

    mean: float
    low: float
    high: float
    n: int


class Evaluator(Protocol):
    """Scores one checkpoint on one task, item by item, in the order of the task.

    Parameters
    ----------
    model_dir:
        A complete checkpoint folder with its tokenizer.
    batch_size:
        Items that are run together; ``None`` leaves it to the evaluator. It can move a score by rounding, so
        scores that are to be compared use the same one.
    limit:
        Score only the first `limit` items.
    """

    def __call__(
        self, model_dir: Path, task: Task, *, batch_size: int | None = None, limit: int | None = None
    ) -> Iterator[ItemScore]: ...


EVALUATORS: Final[Door[Evaluator]] = Door("evaluator", "alloyd_daemon.evaluators")


def summarise(scores: Iterable[ItemScore]) -> Summary:
    """Mean and 95 % Wilson interval of item scores; ValueError for none, or for a score other than 0 or 1."""
    values = [each.score for each in scores]
    if any(value not in (0, 1) for value in values):
        raise ValueError("an item's score must be 0 or 1")
    if not values:
        raise ValueError("no item was scored")
    low, high = wilson_interval(sum(values), len(values))
    return Summary(sum(values) / len(values), low, high, len(values))
