"""How a search got better: each improvement, with what had been spent when it came."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .pareto import Losses, front, hypervolume
from .trial import Trial

Interval = Callable[[Trial], tuple[float, float] | None]
"""The 95 % interval of a trial's loss on the items that it was asked; ``None`` where there is none."""


def convergence(trials: Sequence[Trial], interval: Interval) -> list[dict[str, Any]]:
    """A step for each trial whose loss is the lowest so far, with ``candidates``, ``items`` and ``seconds`` until then.

    Only losses of trials that were scored to their end count, for others are estimates. A duplicate improves nothing.
    """
    steps: list[dict[str, Any]] = []
    best = float("inf")
    for trial, spent in _spent(trials):
        if trial.state != "scored" or trial.losses is None or not trial.losses[0] < best:
            continue
        best = trial.losses[0]
        low, high = interval(trial) or (None, None)
        steps.append({**spent, "trial": trial.number, "loss": best, "low": low, "high": high})
    return steps


def front_convergence(trials: Sequence[Trial], reference: Losses) -> list[dict[str, Any]]:
    """A step for each trial that the front grew by: the ``hypervolume`` then, against ``reference``."""
    steps: list[dict[str, Any]] = []
    kept: list[tuple[float, ...]] = []
    volume = 0.0
    for trial, spent in _spent(trials):
        if trial.state != "scored" or trial.losses is None:
            continue
        together = [*kept, trial.losses]
        kept = [together[place] for place in front(together)]
        if trial.losses not in kept:
            continue
        grown = hypervolume(kept, reference)
        if grown > volume:
            volume = grown
            steps.append({**spent, "trial": trial.number, "hypervolume": volume})
    return steps


def items_by_rung(trials: Sequence[Trial]) -> dict[int, int]:
    """The items that were asked in all, by rung."""
    found: dict[int, int] = {}
    for trial in trials:
        for rung, count in trial.items.items():
            found[rung] = found.get(rung, 0) + count
    return dict(sorted(found.items()))


def _spent(trials: Sequence[Trial]) -> Iterator[tuple[Trial, dict[str, Any]]]:
    """Each trial with what was spent on the search split when it had been scored."""
    candidates, items, seconds = 0, 0, 0.0
    for trial in trials:
        candidates += trial.state not in ("asked", "duplicate")
        items += sum(count for rung, count in trial.items.items() if rung >= 0)
        seconds += trial.seconds
        yield trial, {"candidates": candidates, "items": items, "seconds": seconds}
