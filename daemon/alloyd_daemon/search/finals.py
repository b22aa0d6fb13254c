"""The end of a search: the best, and all that they are held against, on whole splits at full precision."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from alloyd.errors import AlloydError, SourceChanged
from alloyd.jobs import Note, Progress

from ..scoring.run import Posed
from .history import History
from .objective import Place
from .pareto import front
from .scorer import Scorer
from .search_task import SearchTask
from .standing import as_part
from .time_limit import TimeLimit
from .trial import VALIDATION, Trial


def finals(task: SearchTask, history: History) -> Generator[Progress | Note, None, int | None]:
    """Score the finalists on validation, on record; returns the winner: the trial of the lowest loss there, if any.

    Raises AlloydError for what concerns all of them, SourceChanged where a source is not what it was.
    """
    chosen = finalists(task, history.trials())
    history.forgive(VALIDATION)
    answered = yield from answer_all(
        task, history, task.validation, chosen, rung=VALIDATION, split="validation"
    )
    places = places_of(task.validation)
    losses: dict[int, tuple[float, ...]] = {}
    for each in answered:
        sheet = task.goal.sheet(history.scores(each.number, VALIDATION), places)
        losses[each.number] = task.goal.losses(sheet)
    check_sources(task, history, [each.number for each in chosen], VALIDATION)
    winner = min(losses, key=lambda each: (sum(losses[each]), each)) if losses else None
    said = {str(each): losses[each] for each in losses}
    history.set_fact("finals", {"winner": winner, "losses": said})
    return winner


def places_of(posed: Sequence[Posed]) -> list[Place]:
    """Every item of some tasks."""
    return [Place(number, item.id) for number, each in enumerate(posed) for item in each.task.items]


def answer_all(
    task: SearchTask,
    history: History,
    posed: tuple[Posed, ...],
    trials: Sequence[Trial],
    *,
    rung: int,
    split: str,
) -> Generator[Progress | Note, None, list[Trial]]:
    """Have ``trials`` answer every item of a split at full precision, on record; returns those that did.

    What one was lost to is told in a note. Raises AlloydError for what concerns all of them.
    """
    scorer = Scorer(history, posed, task.runner, task.options, TimeLimit(None))
    places = places_of(posed)
    answered: list[Trial] = []
    for place, trial in enumerate(trials):
        try:
            candidate = task.plan(trial.recipe, trial.name)
            running = scorer.score({trial.number: candidate}, places, rung=rung, quantise=None)
            what = f"{split}, {place + 1} of {len(trials)}: {trial.name}"
            lost = yield from as_part(running, place, len(trials), len(places), what)
        except AlloydError as error:
            lost = {trial.number: error}
        if trial.number in lost:
            yield Note("warning", f"{trial.name} has no {split} score: {lost[trial.number]}")
            continue
        history.count(trial.number, rung, len(places))
        answered.append(trial)
    return answered


def finalists(task: SearchTask, trials: Sequence[Trial]) -> list[Trial]:
    """The best that answered everything, and every baseline that did not fail, in the order of their numbers."""
    scored = [each for each in trials if each.state == "scored" and each.losses is not None]
    ranked = sorted(scored, key=lambda each: (sum(each.losses or ()), each.number))
    chosen = {each.number for each in ranked[: task.finalists]}
    if task.goal.several:
        chosen |= {ranked[place].number for place in front([each.losses or () for each in ranked])}
    chosen |= {
        each.number for each in trials if each.origin != "optimiser" and each.state in ("scored", "dropped")
    }
    return [each for each in sorted(trials, key=lambda each: each.number) if each.number in chosen]


def check_sources(task: SearchTask, history: History, trials: Sequence[int], rung: int | None = None) -> None:
    """Raise SourceChanged where a source did, having dropped what ``trials`` scored with it."""
    try:
        task.check_sources()
    except SourceChanged:
        history.forget(trials, rung)
        raise
