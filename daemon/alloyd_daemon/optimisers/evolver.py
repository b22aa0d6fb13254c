"""Evolver (arXiv:2406.12208): a population of models; crossed one with another, a child must beat its parent."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from alloyd.errors import RecipeError, UsageError

from ..optimiser import OPTIMISERS, OptimiserKind, Option, Problem, Proposal, Told
from ..recipes.descent import MOST_STEPS, Descent, child, read
from ..search.losses import loss_of
from ..search.spaces.descents import DESCENT, DescentSpace

SEEDS = 2**31
TRIES = 20


@dataclass(slots=True)
class Member:
    """One of the population: how it came about, its loss (``None``: failed or not told), its trial (-1: not told)."""

    descent: Descent
    loss: float | None = None
    trial: int = -1


class Evolver:
    """The population begins as the sources (and crossings of two of them, where it is to be larger).

    A child goes ``F`` of the way from its parent to another member, or, with ``difference``, to a third plus ``F``
    times the difference of two more (DE/rand/1), at a share ``CR`` of the weights that a seed draws. It takes its
    parent's place if its loss is lower. What was told from elsewhere takes the place of the worst, if it is better.
    """

    def __init__(self, problem: Problem) -> None:
        if problem.sources is None:
            raise UsageError("the optimiser 'evolver' searches whole models, and was given none")
        self._models = len(problem.sources.models)
        self._factor = round(float(problem.options["F"]), 9)
        self._rate = round(float(problem.options["CR"]), 9)
        self._best = float(problem.options["best"])
        self._difference = bool(problem.options["difference"])
        size = max(int(problem.options["population"]), self._models)
        if self._models < 2 or (self._difference and size < 4):
            raise UsageError(
                f"the optimiser 'evolver' has {self._models} models and {size} members",
                hint="It needs two models; for differences four members: give it the option population.",
            )
        self._dice = random.Random(problem.seed)
        self._members = [Member(Descent(alone=model)) for model in range(self._models)]
        while len(self._members) < size:
            one, other = self._dice.sample(range(self._models), 2)
            self._members.append(
                Member(self._cross(self._members[one].descent, [self._members[other].descent]))
            )
        self._first = deque(range(size))
        self._waiting: dict[str, deque[int]] = {}
        self._turn = 0

    @property
    def batch(self) -> int:
        """The population."""
        return len(self._members)

    def ask(self, count: int) -> list[Proposal]:
        """Members that were not told yet, then children of those that were, each member in its turn."""
        proposals: list[Proposal] = []
        while self._first and len(proposals) < count:
            member = self._members[self._first.popleft()]
            if member.trial < 0:
                how = "crossing" if member.descent.steps else "by itself"
                proposals.append(self._proposal(member.descent, -1, (), how))
        while len(proposals) < count:
            made = self._child()
            if made is None:
                break
            proposals.append(made)
        return proposals

    def tell(self, told: Sequence[Told]) -> None:
        """A child takes its parent's place if it is better."""
        for each in told:
            text, loss = str(each.point[DESCENT]), loss_of(each)
            targets = self._waiting.get(text)
            target = targets.popleft() if targets else -1
            own = next((one for one in self._members if one.trial < 0 and str(one.descent) == text), None)
            if own is not None:
                own.loss, own.trial = loss, each.trial
                continue
            if loss is None:
                continue
            place = self._members[target] if target >= 0 else max(self._members, key=_worst_last)
            if place.trial >= 0 and (place.loss is None or loss < place.loss):
                try:
                    place.descent = read(text, self._models)
                except RecipeError:
                    continue  # of another search
                place.loss, place.trial = loss, each.trial

    def _child(self) -> Proposal | None:
        """A child of the next member that was told; ``None`` where there is none, or lines of descent are too long."""
        for _ in range(TRIES * len(self._members)):
            target = self._turn % len(self._members)
            self._turn += 1
            own = self._members[target]
            others = [
                each
                for each in self._members
                if each is not own
                and each.trial >= 0
                and each.loss is not None
                and each.descent != own.descent
            ]
            if own.trial < 0 or len(others) < (3 if self._difference else 1):
                continue
            chosen = self._dice.sample(others, 3) if self._difference else [self._reference(others)]
            descent = self._cross(own.descent, [each.descent for each in chosen])
            if len(descent.steps) > MOST_STEPS:
                continue
            parents = tuple(sorted({own.trial, *(each.trial for each in chosen)}))
            how = "difference" if self._difference else "towards another"
            return self._proposal(descent, target, parents, how)
        return None

    def _reference(self, others: Sequence[Member]) -> Member:
        if self._dice.random() < self._best:
            return min(others, key=_worst_last)
        return self._dice.choice(others)

    def _cross(self, parent: Descent, others: Sequence[Descent]) -> Descent:
        return child(parent, others, factor=self._factor, rate=self._rate, seed=self._dice.randrange(SEEDS))

    def _proposal(self, descent: Descent, target: int, parents: tuple[int, ...], how: str) -> Proposal:
        text = str(descent)
        if target >= 0:
            self._waiting.setdefault(text, deque()).append(target)
        return Proposal({DESCENT: text}, parents=parents, how=how)


def _worst_last(member: Member) -> tuple[bool, float, int]:
    return member.loss is None, member.loss or 0.0, member.trial


OPTIMISERS.register(
    "evolver",
    OptimiserKind(
        name="evolver",
        summary="a population of models that are crossed with each other, weight by weight",
        reference="arXiv:2406.12208",
        make=Evolver,
        why="models are to be mixed weight by weight",
        suits=lambda genome, objectives: 0.0,
        options={
            "F": Option(
                default=0.5, low=0.001, high=2.0, about="how far a child goes towards the other member"
            ),
            "CR": Option(default=0.5, low=0.001, high=1.0, about="share of the weights that go there"),
            "best": Option(
                default=0.5, low=0.0, high=1.0, about="how often the other member is the best, else any"
            ),
            "difference": Option(
                default=False,
                about="real differential evolution (rand/1), which leaves the box of its members",
            ),
            "population": Option(
                default=0, low=0, high=1000, about="members; 0: as many as there are sources"
            ),
        },
        space=lambda sources: DescentSpace(sources.models, sources.common),
    ),
)
