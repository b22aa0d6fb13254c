"""The rungs of a search: which items each has, what was seen of the best, and who may go on.

A rung below the top is a guess of the rung above. The first candidates climb all rungs whatever they score, and a rung
whose order of them says nothing about the next rung's is switched off.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from alloyd.search_schema import Rung

from ..evaluator import Task
from .correlation import Correlation, correlation
from .objective import Array, Goal, Place, Scores, Sheet
from .pareto import front
from .racing import estimate, level, surely_worse

CALIBRATE_ONE: Final = 4
"""Trials that answer everything on a ladder of one rung, so that the incumbent is not just the first."""
CALIBRATE_SEVERAL: Final = 12
"""Trials that climb all of several rungs, to see which of these predict."""


@dataclass(frozen=True, slots=True)
class Level:
    """One rung as it is climbed: its number, what the spec says, and its items."""

    number: int
    rung: Rung
    places: tuple[Place, ...]
    ranks: tuple[int, ...]


@dataclass(slots=True)
class _Seen:
    """A trial that answered everything: its losses at the top, and its sheet on each level that was asked for."""

    losses: tuple[float, ...]
    scores: Callable[[int], Scores]
    sheets: dict[int, Sheet] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settled:
    """How well rung ``rung`` predicts rung ``next``, and whether it is kept for that."""

    rung: int
    next: int
    correlation: Correlation
    kept: bool


class Ladder:
    """The rungs of one search, and what was seen on them; a function of spec, seed and what it is told in order.

    Which items a rung of fewer than all has is drawn by ``seed``, the same for every candidate, and each such set holds
    the smaller ones. Of thousands of trials only those are held that others are held against.
    """

    def __init__(
        self, rungs: Sequence[Rung], tasks: Sequence[Task], goal: Goal, *, seed: int, confidence: float
    ) -> None:
        self.goal = goal
        self.confidence = confidence
        used = {target.task for target in goal.targets}
        self.levels = tuple(
            Level(number, rung, *_places(rung, tasks, used, seed)) for number, rung in enumerate(rungs)
        )
        self.off: set[int] = set()
        self._seen: dict[int, _Seen] = {}
        self._leaders: list[int] = []
        self._settled = len(self.levels) == 1

    @property
    def calibrating(self) -> int:
        """Trials, from number 1, that climb all rungs."""
        return CALIBRATE_ONE if len(self.levels) == 1 else CALIBRATE_SEVERAL

    @property
    def active(self) -> tuple[Level, ...]:
        """The levels that are climbed, lowest first; the top is always one."""
        return tuple(each for each in self.levels if each.number not in self.off)

    @property
    def top(self) -> Level:
        """The level whose losses count."""
        return self.levels[-1]

    @property
    def best(self) -> int | None:
        """The trial of the lowest loss that answered everything; of several objectives, the first of the front."""
        return self._leaders[0] if self._leaders else None

    def take(self, trial: int, losses: tuple[float, ...], scores: Callable[[int], Scores]) -> None:
        """Take in a trial that answered all items of the top; ``scores`` gives those of a level when it is needed."""
        self._seen[trial] = _Seen(losses, scores)
        if all(map(math.isfinite, losses)):
            ranked = sorted([*self._leaders, trial], key=lambda each: (self._seen[each].losses, each))
            first = front([self._seen[each].losses for each in ranked]) if self.goal.several else (0,)
            self._leaders = [ranked[place] for place in first]
        held = {*self._leaders, *(() if self._settled else range(1, self.calibrating + 1))}
        self._seen = {each: seen for each, seen in self._seen.items() if each in held}

    def order(self, at: Level) -> list[int]:
        """In which order the items of a level are asked: as they were drawn."""
        return sorted(range(len(at.places)), key=at.ranks.__getitem__)

    def leads(self, at: Level, scores: Scores, columns: Sequence[int]) -> Array | None:
        """What the items ``columns`` of a level add to a candidate's lead over the best trial, float64 [columns].

        ``None`` where there is no such trial, or there are several objectives.
        """
        best = self.best
        if best is None or self.goal.several:
            return None
        sheet = self.goal.sheet(scores, [at.places[each] for each in columns])
        gains: Array = self.goal.gains(sheet, self._sheet(best, at), columns)[0]
        return gains

    def behind(self, at: Level, members: Mapping[int, Scores], columns: Sequence[int], look: int) -> set[int]:
        """Which of ``members``, who race side by side, are surely worse than the one ahead on the items ``columns``."""
        leads = {each: self.leads(at, scores, columns) for each, scores in members.items()}
        known = {each: lead for each, lead in leads.items() if lead is not None}
        if len(known) < 2:
            return set()
        ahead = max(known, key=lambda each: (float(known[each].sum()), -each))
        return {
            each
            for each, lead in known.items()
            if surely_worse(lead - known[ahead], self._alpha(look, 2), self._population(at))
        }

    def drops(
        self, at: Level, scores: Scores, columns: Sequence[int], look: int, *, alone: bool = True
    ) -> bool:
        """Whether a candidate is surely worse than an incumbent on the items ``columns`` of a level.

        Of several objectives: worse than one trial of the front in each of them. A candidate that is not ``alone`` is
        held against the one :meth:`behind` which it may be, too.
        """
        if not self._leaders:
            return False
        sheet = self.goal.sheet(scores, [at.places[each] for each in columns])
        alpha = self._alpha(look, len(self._leaders) + (not alone))
        for leader in self._leaders:
            gains = self.goal.gains(sheet, self._sheet(leader, at), columns)
            if all(surely_worse(row, alpha, self._population(at)) for row in gains):
                return True
        return False

    def _alpha(self, look: int, rivals: int) -> float:
        return level(self.confidence, look) / rivals

    def _population(self, at: Level) -> int | None:
        """How many items those of a level are a part of.

        Quantised weights are not those that all items will be put to: nothing that they say is the whole truth.
        """
        return len(self.top.places) if at.rung.quantise == self.top.rung.quantise else None

    def estimate(self, at: Level, scores: Scores, columns: Sequence[int]) -> tuple[float, ...]:
        """The losses at the top that a dropped candidate is told to have, as :func:`racing.estimate` guesses them."""
        best = self.best
        assert best is not None
        sheet = self.goal.sheet(scores, [at.places[each] for each in columns])
        gains = self.goal.gains(sheet, self._sheet(best, at), columns)
        share = len(columns) / len(at.places)
        losses = self._seen[best].losses
        return tuple(estimate(loss, row, share) for loss, row in zip(losses, gains, strict=True))

    def settle(self, told: int) -> list[Settled]:
        """What the rungs predict, once: when the first trials, of which ``told`` are told, have climbed them all."""
        if self._settled or told < self.calibrating:
            return []
        self._settled = True
        found = []
        for lower, upper in zip(self.levels, self.levels[1:], strict=False):
            seen = self._correlate(lower, upper)
            kept = seen.kendall_low is None or seen.kendall_low > 0
            if not kept:
                self.off.add(lower.number)
            found.append(Settled(lower.number, upper.number, seen, kept))
        return found

    def _correlate(self, lower: Level, upper: Level) -> Correlation:
        """How alike two levels order the first trials; of several objectives, by their sum."""
        both = [trial for trial in self._seen if trial <= self.calibrating]
        first, second = (
            [sum(self.goal.losses(self._sheet(trial, at))) for trial in both] for at in (lower, upper)
        )
        return correlation(first, second)

    def _sheet(self, trial: int, at: Level) -> Sheet:
        seen = self._seen[trial]
        if at.number not in seen.sheets:
            seen.sheets[at.number] = self.goal.sheet(seen.scores(at.number), at.places)
        return seen.sheets[at.number]


def _places(
    rung: Rung, tasks: Sequence[Task], used: set[int], seed: int
) -> tuple[tuple[Place, ...], tuple[int, ...]]:
    """The items of a rung in the order of tasks and files, and the rank that each was drawn at."""
    drawn: list[tuple[bytes, Place]] = []
    for number, task in enumerate(tasks):
        if number not in used:
            continue
        keyed = sorted((_draw(seed, number, item.id), item.id) for item in task.items)
        kept = {item for _, item in keyed[: rung.items]}
        drawn += [
            (_draw(seed, number, each.id), Place(number, each.id)) for each in task.items if each.id in kept
        ]
    by_draw = sorted(range(len(drawn)), key=lambda each: drawn[each][0])
    ranks = [0] * len(drawn)
    for rank, place in enumerate(by_draw):
        ranks[place] = rank
    return tuple(place for _, place in drawn), tuple(ranks)


def _draw(seed: int, task: int, item: str) -> bytes:
    return hashlib.blake2b(
        f"{seed}\0{task}\0{item}".encode("utf-8", "backslashreplace"), digest_size=16
    ).digest()
