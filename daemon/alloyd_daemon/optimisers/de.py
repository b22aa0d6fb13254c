"""Differential evolution: members of a population move along the differences between others."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ..optimiser import OPTIMISERS, OptimiserKind, Option, Problem, Proposal, Told
from ..search.design import latin_hypercube
from ..search.genome import Genome, Value, first_point, of_units
from ..search.known import Known, varying
from ..search.losses import loss_of


@dataclass(frozen=True, slots=True)
class Member:
    """One of the population: its point, where that is in the unit cube (numbers only), its loss and its trial."""

    point: dict[str, Value]
    units: dict[str, float]
    loss: float | None
    trial: int

    def beaten_by(self, other: Member) -> bool:
        """Whether ``other`` is at least as good; so a population crosses plateaus."""
        return self.loss is None or (other.loss is not None and other.loss <= self.loss)

    @property
    def order(self) -> tuple[bool, float, int]:
        """Sorts the best first, failed ones last, the older of equals first."""
        return self.loss is None, self.loss or 0.0, self.trial


class DifferentialEvolution:
    """Storn and Price's scheme over the unit cube: mutant, binomial crossover, replacement of the target by its trial.

    A generation is over when as many trials were told as there are members; until then all trials are made from the
    population it began with, in the order of the targets, however many are asked for. A mutant outside [0, 1] is put
    half way between its base vector and the bound.

    A category has no differences, so one is made of two members by chance: where they agree, the mutant has what its
    base vector has; where they do not, it has another choice than that with probability F.
    """

    def __init__(self, problem: Problem) -> None:
        self._genome = problem.genome
        self._free = varying(problem.genome)
        self._fixed = first_point(problem.genome)
        self._strategy = str(problem.options["strategy"])
        self._factor = float(problem.options["F"])
        self._rate = float(problem.options["CR"])
        # Three others and a target are the least of which differences can be made.
        self._size = max(4, int(problem.options["population"]) or min(16, max(10, 2 * len(self._free))))
        self._dice = random.Random(problem.seed)
        self._known: Known[int] = Known(problem.genome)
        self._members: list[Member] = []
        self._next: list[Member] = []
        self._asked = 0
        self._outcomes = 0
        self._generation = 0
        self._design = latin_hypercube(self._size, len(self._free), self._dice)

    @property
    def batch(self) -> int:
        """The population."""
        return self._size

    def ask(self, count: int) -> list[Proposal]:
        """Members of the first population while there is none, then trials; none where the whole space is known."""
        proposals: list[Proposal] = []
        while len(proposals) < count and not self._known.used_up:
            if len(self._members) < self._size:
                point, target, parents = self._first(), -1, tuple[int, ...]()
                how = "first population"
            else:
                target = self._asked % self._size
                parents, point = self._trial(target)
                how = f"{self._strategy}, generation {self._generation + 1}"
            self._asked += 1
            self._known.propose(point, target)
            proposals.append(Proposal(point, parents=parents, how=how))
        return proposals

    def tell(self, told: Sequence[Told]) -> None:
        """Trials replace their targets if they are no worse; a stranger replaces the worst member, if it is better."""
        for each in told:
            strange = each.point not in self._known
            target = self._known.settle(each.point)
            units = {
                gene.name: gene.unit_of(each.point[gene.name])
                for gene in self._free
                if gene.kind != "category"
            }
            member = Member(dict(each.point), units, loss_of(each), each.trial)
            if len(self._members) < self._size:
                if strange or target is not None:
                    self._members.append(member)
                    if len(self._members) == self._size:
                        self._begin()
                continue
            if target is None or target < 0:
                target = max(range(self._size), key=lambda at: self._next[at].order)
                if not strange or member.order >= self._next[target].order:
                    continue
            else:
                self._outcomes += 1
            if self._next[target].beaten_by(member):
                self._next[target] = member
            if self._outcomes >= self._size:
                self._members = list(self._next)
                self._begin()

    def _begin(self) -> None:
        self._next = list(self._members)
        self._asked = self._outcomes = 0
        self._generation += 1

    def _first(self) -> dict[str, Value]:
        """Where the search begins, then a Latin hypercube, then points at random."""
        if self._fixed not in self._known:
            return dict(self._fixed)

        def draw() -> dict[str, Value]:
            units = self._design.pop() if self._design else [self._dice.random() for _ in self._free]
            return {**self._fixed, **of_units(self._free, units)}

        return self._known.fresh(draw)

    def _trial(self, target: int) -> tuple[tuple[int, ...], dict[str, Value]]:
        parents: list[tuple[int, ...]] = []

        def draw() -> dict[str, Value]:
            made_of, point = self._crossed(target)
            parents.append(made_of)
            return point

        point = self._known.fresh(draw)
        return parents[-1], point

    def _crossed(self, target: int) -> tuple[tuple[int, ...], dict[str, Value]]:
        members = self._members
        own = members[target]
        best = min(members, key=lambda member: member.order)
        others = self._dice.sample([at for at in range(self._size) if at != target], 3)
        one, two, three = (members[at] for at in others)
        base, pulls = {
            "rand/1": (one, [(two, three)]),
            "best/1": (best, [(one, two)]),
            "current-to-best/1": (own, [(best, own), (one, two)]),
        }[self._strategy]
        point = dict(own.point)
        sure = self._dice.randrange(len(self._free))
        for number, gene in enumerate(self._free):
            if number != sure and self._dice.random() >= self._rate:
                continue
            if gene.kind == "category":
                value = base.point[gene.name]
                for plus, minus in pulls:
                    if plus.point[gene.name] != minus.point[gene.name] and self._dice.random() < self._factor:
                        value = self._dice.choice([each for each in gene.choices if each != value])
                point[gene.name] = value
            else:
                start = base.units[gene.name]
                unit = start + self._factor * sum(
                    plus.units[gene.name] - minus.units[gene.name] for plus, minus in pulls
                )
                if not 0 <= unit <= 1:
                    unit = (start + (0.0 if unit < 0 else 1.0)) / 2
                point[gene.name] = gene.of_unit(unit)
        made_of = {own.trial, base.trial, *(each.trial for pair in pulls for each in pair)}
        return tuple(sorted(made_of)), point


def _suits(genome: Genome, objectives: int) -> float:
    free = varying(genome)
    if any(gene.kind == "text" for gene in genome):
        return 0.0
    return 0.5 if any(gene.kind != "category" for gene in free) else 0.3


OPTIMISERS.register(
    "de",
    OptimiserKind(
        name="de",
        summary="a population whose members move along differences between others",
        reference="https://doi.org/10.1023/A:1008202821328",
        make=DifferentialEvolution,
        why="it needs no model of the space",
        suits=_suits,
        options={
            "strategy": Option(
                default="current-to-best/1",
                choices=("rand/1", "best/1", "current-to-best/1"),
                about="base and differences of a mutant; crossover is binomial",
            ),
            "F": Option(default=0.5, low=0.05, high=2.0, about="factor on differences"),
            "CR": Option(default=0.9, low=0.0, high=1.0, about="share of genes that come from the mutant"),
            "population": Option(
                default=0, low=0, high=10000, about="members, at least 4; 0: two a gene, from 10 to 16"
            ),
        },
    ),
)
