"""NSGA-II: a population of trade-offs, sorted by who dominates whom and kept apart by crowding distance."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from ..optimiser import OPTIMISERS, OptimiserKind, Option, Problem, Proposal, Told
from ..search.design import latin_hypercube
from ..search.genome import Gene, Genome, Value, first_point, of_units
from ..search.known import Known, varying
from ..search.libraries import need
from ..search.losses import losses_of, worse_than


class Nsga2:
    """pymoo's algorithm: tournament, simulated binary crossover and polynomial mutation of numbers, uniform crossover
    and redrawing of categories, survival by rank and crowding.

    The first population is where the search begins and a Latin hypercube. Offspring come from the last population that
    is whole, however many are asked for; when as many as a population were told, strangers among them, the best of
    both are the next one. A failed point is worse than all others in every objective.
    """

    def __init__(self, problem: Problem) -> None:
        need("nsga2", "pymoo")
        self._genome = problem.genome
        self._free = varying(problem.genome)
        self._fixed = first_point(problem.genome)
        self._objectives = problem.objectives
        self._size = max(4, int(problem.options["population"]))
        self._dice = random.Random(problem.seed)
        self._design = latin_hypercube(self._size, len(self._free), self._dice)
        self._known: Known[None] = Known(problem.genome)
        self._good: list[tuple[float, ...]] = []
        self._news: list[Any] = []
        self._offspring: list[Any] = []
        self._generation = 0
        self._algorithm = _algorithm(self._free, problem.objectives, self._size, self._dice.getrandbits(31))

    @property
    def batch(self) -> int:
        """The population."""
        return self._size

    def ask(self, count: int) -> list[Proposal]:
        """Members of the first population while there is none, then offspring; none where the whole space is known."""
        proposals: list[Proposal] = []
        while len(proposals) < count and not self._known.used_up:
            parents: list[tuple[int, ...]] = [()]
            how = f"generation {self._generation}" if self._generation else "first population"
            if self._fixed not in self._known:
                point = dict(self._fixed)
            else:
                point = self._known.fresh(lambda made_of=parents: self._draw(made_of))  # type: ignore[misc]
            self._known.propose(point, None)
            proposals.append(Proposal(point, parents=parents[-1], how=how))
        return proposals

    def tell(self, told: Sequence[Told]) -> None:
        """One generation at a time, in the order in which points are told."""
        for each in told:
            self._known.settle(each.point)
            losses = losses_of(each)
            if losses is not None:
                self._good.append(losses)
            self._news.append(self._individual(each, losses))
            if len(self._news) >= self._size:
                self._advance()

    def _draw(self, parents: list[tuple[int, ...]]) -> dict[str, Value]:
        """The next of the design or the offspring; by chance where mating makes nothing new."""
        if not self._generation:
            units = self._design.pop() if self._design else [self._dice.random() for _ in self._free]
            return {**self._fixed, **of_units(self._free, units)}
        if not self._offspring:
            born = self._algorithm.infill()
            self._algorithm.termination.force_termination = False
            self._offspring = [] if born is None else list(born)[::-1]
        if not self._offspring:
            parents.append(())
            return {**self._fixed, **of_units(self._free, [self._dice.random() for _ in self._free])}
        child = self._offspring.pop()
        parents.append(child.get("parents"))
        return {**self._fixed, **{gene.name: _value(gene, child.X[gene.name]) for gene in self._free}}

    def _advance(self) -> None:
        from pymoo.core.population import Population

        worst = [worse_than(column) for column in zip(*self._good, strict=True)] or [1.0] * self._objectives
        members = list(self._algorithm.pop) if self._generation else []
        for each in (*members, *self._news):
            if each.get("failed"):
                each.set("F", _array(worst))
        self._algorithm.advance(infills=Population.create(*self._news))
        self._news = []
        # What was not asked for has parents that may have died.
        self._offspring = []
        self._generation += 1

    def _individual(self, told: Told, losses: tuple[float, ...] | None) -> Any:
        from pymoo.core.individual import Individual

        made = Individual(X={gene.name: _variable_of(gene, told.point[gene.name]) for gene in self._free})
        made.set("F", _array(losses or [math.inf] * self._objectives))
        made.set("failed", losses is None)
        made.set("trial", told.trial)
        return made


def _algorithm(genome: Genome, objectives: int, size: int, seed: int) -> Any:
    from pymoo.algorithms.moo.nsga2 import NSGA2, binary_tournament
    from pymoo.core import variable
    from pymoo.core.mixed import MixedVariableDuplicateElimination, MixedVariableMating
    from pymoo.core.problem import Problem as Shape
    from pymoo.core.termination import NoTermination
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.crossover.ux import UX
    from pymoo.operators.mutation.bitflip import BFM
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.mutation.rm import ChoiceRandomMutation
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.selection.tournament import TournamentSelection

    class Mating(MixedVariableMating):  # type: ignore[misc]
        """Remembers of each child the trials that it is made of, which pymoo does not."""

        def _do(
            self, problem: Any, pop: Any, n_offsprings: int, random_state: Any = None, **other: Any
        ) -> Any:
            pairs = self.selection(
                problem, pop, math.ceil(n_offsprings / 2), 2, random_state=random_state, **other
            )
            born = super()._do(problem, pairs, n_offsprings, parents=True, random_state=random_state, **other)
            # Crossover gives the first child of every pair, and then the second of every pair.
            for number, child in enumerate(born):
                trials = {int(parent.get("trial")) for parent in pairs[number % len(pairs)]}
                child.set("parents", tuple(sorted(trials)))
            return born

    # About one gene of a child mutates, of whatever type the genes are.
    rate = 1 / max(1, len(genome))
    twins = MixedVariableDuplicateElimination()
    algorithm = NSGA2(
        pop_size=size,
        mating=Mating(
            selection=TournamentSelection(func_comp=binary_tournament),
            crossover={
                variable.Real: SBX(eta=15, prob=0.9),
                variable.Integer: SBX(eta=15, prob=0.9, vtype=float, repair=RoundingRepair()),
                variable.Binary: UX(),
                variable.Choice: UX(),
            },
            mutation={
                variable.Real: PM(eta=20, prob_var=rate),
                variable.Integer: PM(eta=20, prob_var=rate, vtype=float, repair=RoundingRepair()),
                variable.Binary: BFM(prob_var=rate),
                variable.Choice: ChoiceRandomMutation(prob_var=rate),
            },
            eliminate_duplicates=twins,
            n_max_iterations=10,
        ),
        eliminate_duplicates=twins,
        seed=seed,
    )
    made: dict[str, Any] = {}
    for gene in genome:
        if gene.size == 2:
            made[gene.name] = variable.Binary()
        elif gene.kind == "category":
            made[gene.name] = variable.Choice(options=list(range(len(gene.choices))))
        elif gene.kind == "integer":
            made[gene.name] = variable.Integer(bounds=(int(gene.low), int(gene.high)))
        else:
            made[gene.name] = variable.Real(bounds=(0.0, 1.0))
    algorithm.setup(Shape(vars=made, n_obj=objectives), termination=NoTermination())
    return algorithm


def _variable_of(gene: Gene, value: Value) -> bool | int | float:
    """``value`` as pymoo's variable has it."""
    if gene.size == 2:
        return gene.unit_of(value) > 0.5
    if gene.kind == "category":
        return gene.choices.index(value)
    return int(value) if gene.kind == "integer" else gene.unit_of(value)


def _value(gene: Gene, variable: Any) -> Value:
    """The inverse of :func:`_variable_of`."""
    if gene.size == 2:
        return gene.of_unit(0.75 if variable else 0.25)
    if gene.kind == "category":
        return gene.choices[int(variable)]
    return int(variable) if gene.kind == "integer" else gene.of_unit(float(variable))


def _array(losses: Sequence[float]) -> Any:
    import numpy as np

    return np.array(losses, np.float64)


def _suits(genome: Genome, objectives: int) -> float:
    if any(gene.kind == "text" for gene in genome):
        return 0.0
    return 0.95 if objectives > 1 else 0.4


OPTIMISERS.register(
    "nsga2",
    OptimiserKind(
        name="nsga2",
        summary="a population of trade-offs between several objectives, of which none dominates another",
        reference="https://doi.org/10.1109/4235.996017",
        make=Nsga2,
        why="it keeps a front of trade-offs instead of one winner",
        suits=_suits,
        several=True,
        options={
            "population": Option(
                default=20, low=4, high=10000, about="members, and offspring of a generation"
            ),
        },
    ),
)
