"""Takes trials up the ladder: rung by rung, block by block where a rung races, until each is dropped or through."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field

from alloyd.errors import AlloydError
from alloyd.jobs import Note, Progress

from ..candidate import Candidate
from .ladder import Ladder, Level
from .objective import Place
from .scorer import Scorer


@dataclass(slots=True)
class Climber:
    """A trial on its way: ``dropped`` holds its estimated losses, ``error`` what it was lost to.

    ``items`` counts what it was asked by rung; what it had answered below, with weights of the same type, is not asked
    again and not counted. ``waiting``: how many of them are not answered yet. ``apart``: processes died while it was
    run with others; it runs by itself, so that another death points at one of them.
    """

    trial: int
    candidate: Candidate
    items: dict[int, int] = field(default_factory=dict)
    waiting: int = 0
    apart: bool = False
    dropped: tuple[float, ...] | None = None
    error: AlloydError | None = None

    @property
    def goes_on(self) -> bool:
        """Whether there is more to ask it."""
        return self.dropped is None and self.error is None


def climb(
    climbers: Sequence[Climber], ladder: Ladder, scorer: Scorer
) -> Generator[Progress | Note, None, None]:
    """Take ``climbers`` to the top, or to where they fall; a function of ladder and scores.

    Raises AlloydError for what concerns all of them.
    """
    below: list[Level] = []
    for level in ladder.active:
        members = [each for each in climbers if each.goes_on]
        if not members:
            return
        runner = scorer.runner_of([each.candidate for each in members], level.rung.quantise)
        for part in [members] if runner.at_once else [[each] for each in members]:
            yield from _rung(part, level, below, ladder, scorer)
        below.append(level)


def _rung(
    members: Sequence[Climber], level: Level, below: Sequence[Level], ladder: Ladder, scorer: Scorer
) -> Generator[Progress | Note, None, None]:
    alike = [each for each in below if each.rung.quantise == level.rung.quantise]
    order = ladder.order(level) if level.rung.race else list(range(len(level.places)))
    step = level.rung.block if level.rung.race else len(order)
    history = scorer.history
    going = list(members)
    carried = {place for lower in alike for place in lower.places}
    for lower in alike:
        for each in going:
            history.carry(each.trial, lower.number, level.number, level.places)
    for look, start in enumerate(range(0, len(order), step), start=1):
        block = [level.places[each] for each in order[start : start + step]]
        for each in going:
            # Counted from the rungs below alone, so that a stop does not change what a trial has cost.
            asked = sum(place not in carried for place in block)
            each.items[level.number] = each.items.get(level.number, 0) + asked
            each.waiting = asked
        yield from _block(going, block, level, scorer)
        seen = order[: start + step]
        going = [each for each in going if each.goes_on]
        if level is ladder.top and len(seen) == len(order):
            return
        scores = {each.trial: history.scores(each.trial, level.number) for each in going}
        behind = ladder.behind(level, scores, seen, look)
        for each in going:
            if each.trial <= ladder.calibrating:
                continue
            own, alone = scores[each.trial], len(going) == 1
            if each.trial in behind or ladder.drops(level, own, seen, look, alone=alone):
                each.dropped = ladder.estimate(level, own, seen)
        going = [each for each in going if each.goes_on]
        if not going:
            return


def _block(
    going: Sequence[Climber], block: Sequence[Place], level: Level, scorer: Scorer
) -> Generator[Progress | Note, None, None]:
    """Have all of ``going`` answer ``block``: together, but for those that run ``apart``, who come after them."""
    together = [each for each in going if not each.apart]
    yield from _ask(together, block, level, scorer)
    for each in going:
        if not each.apart:
            continue
        if scorer.lacks(each.trial, block, rung=level.number):
            scorer.history.blame(each.trial, [other.trial for other in together])
            yield from _ask([each], block, level, scorer)
        else:
            each.error = scorer.history.lost(each.trial, level.number)
            each.waiting = 0


def _ask(
    part: Sequence[Climber], block: Sequence[Place], level: Level, scorer: Scorer
) -> Generator[Progress | Note, None, None]:
    if not part:
        return
    members = {each.trial: each.candidate for each in part}
    lost = yield from scorer.score(members, block, rung=level.number, quantise=level.rung.quantise)
    for each in part:
        each.error = lost.get(each.trial)
        each.waiting = 0
    yield Progress(len(block), len(block), "items")


def settled_text(rung: int, following: int, figures: Mapping[str, float | None], *, kept: bool) -> str:
    """A sentence on how well one rung predicts the next."""
    tau, low, high = (figures[key] for key in ("kendall", "kendall_low", "kendall_high"))
    if tau is None or low is None or high is None:
        return (
            f"rung {rung + 1}: too few candidates tell whether it predicts rung {following + 1}; it is kept"
        )
    said = (
        f"rung {rung + 1} orders candidates as rung {following + 1} does with Kendall's tau {tau:.2f} "
        f"({low:.2f} to {high:.2f})"
    )
    return f"{said}; it is {'kept' if kept else 'switched off: it may say nothing'}"
