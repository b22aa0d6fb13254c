"""How a search stands while it runs, in a few words: how many candidates, on which rung, and the best so far."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import TypeVar

from alloyd.jobs import Note, Progress

from ..scoring.summary import Figure, summarise
from .objective import Goal, Scores
from .trial import Trial

T = TypeVar("T")


def standing(
    trials: Iterable[Trial], climbing: Mapping[int, Mapping[int, int]], *, most: int | None, rungs: int
) -> str:
    """Where a search is. ``climbing``: of the trials that are scored now, the items they were asked by rung; ``most``:
    the candidates of the budget.
    """
    known = list(trials)
    here = [each for each in known if each.number in climbing]
    held = all(each.origin != "optimiser" for each in here)
    told = sum((each.origin != "optimiser") == held and each.state != "asked" for each in known)
    total = sum(each.origin != "optimiser" for each in known) if held else most
    words = f"{told:,} of {total:,}" if total is not None else f"{told:,}"
    rung = max((number for items in climbing.values() for number in items), default=0)
    where = f", rung {rung + 1} of {rungs}" if rungs > 1 else ""
    return f"{words} {'baselines' if held else 'candidates'}{where}"


def best_so_far(best: Trial, goal: Goal, scores: Scores) -> str:
    """The best trial's figures, from its ``scores`` on the search split, with their 95 % intervals."""
    figures: list[Figure] = []
    for target in goal.targets:
        figures += summarise((target.metric,), list(scores.get(target.task, {}).values()))
    return f"best {best.name}: " + ", ".join(_figure(each) for each in figures)


def as_part(
    running: Generator[Progress | Note, None, T], place: int, parts: int, size: int, what: str
) -> Generator[Progress | Note, None, T]:
    """What ``running`` says, its progress being that of part number ``place`` of ``parts``, each of ``size`` items."""
    try:
        while True:
            said = next(running)
            if isinstance(said, Progress):
                share = said.done / said.total if said.total else 0.0
                said = Progress(place * size + int(share * size), parts * size, "items", what)
            yield said
    except StopIteration as end:
        found: T = end.value
        return found
    finally:
        running.close()


def _figure(figure: Figure) -> str:
    between = "" if figure.low is None else f" ({figure.low:.4g} to {figure.high:.4g})"
    return f"{figure.metric.name} {figure.value:.4g}{between}"
