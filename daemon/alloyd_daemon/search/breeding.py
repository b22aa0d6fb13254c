"""Children of points in the unit cube and the survival of the best of several objectives, by pymoo's operators."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .genome import Gene

Array = NDArray[np.float64]


class Breeding:
    """NSGA-II's parts over the unit cube of ``genes``: who survives, and children of those that do.

    Parents by tournaments of rank and crowding; children by simulated binary crossover and polynomial mutation of
    numbers, uniform crossover and redrawing of categories; about one gene of a child mutates.

    Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II", 2002.
    """

    def __init__(self, genes: Sequence[Gene], objectives: int, seed: int) -> None:
        from pymoo.core.problem import Problem

        self._problem = Problem(n_var=len(genes), n_obj=objectives, xl=0.0, xu=1.0)
        self._algorithm = _algorithm(genes, seed)
        self._algorithm.setup(self._problem)

    def survivors(self, units: Array, losses: Array, count: int) -> Any:
        """The ``count`` best by rank, then by the room around them, as pymoo's population; ``at`` is their place.

        ``units``: float64 [points, genes]; ``losses``: float64 [points, objectives], finite.
        """
        from pymoo.core.population import Population

        return self._survive(Population.new("X", units, "F", losses, "at", np.arange(len(units))), count)

    def children(self, population: Any, count: int) -> tuple[Array, list[tuple[int, ...]]]:
        """At most ``count`` new units, none a twin of a member, and the places of each one's parents."""
        born = self._born(population, count)
        return born.get("X").reshape(len(born), -1), [each.get("parents") for each in born]

    def evolved(self, units: Array, judge: Callable[[Array], Array], size: int, generations: int) -> Array:
        """The at most ``size`` units to which ``units`` evolve where ``judge`` says what losses are."""
        from pymoo.core.population import Population

        population = self.survivors(units, judge(units), size)
        for _ in range(generations):
            born = self._born(population, size)
            if not len(born):
                break
            born.set("F", judge(born.get("X").astype(np.float64)))
            population = self._survive(Population.merge(population, born), size)
        found: Array = population.get("X").astype(np.float64)
        return found

    def _born(self, population: Any, count: int) -> Any:
        algorithm = self._algorithm
        dice = algorithm.random_state
        return algorithm.mating.do(self._problem, population, count, algorithm=algorithm, random_state=dice)

    def _survive(self, everybody: Any, count: int) -> Any:
        algorithm = self._algorithm
        return algorithm.survival.do(
            self._problem,
            everybody,
            n_survive=min(count, len(everybody)),
            algorithm=algorithm,
            random_state=algorithm.random_state,
        )


def snapped(genes: Sequence[Gene], units: Array) -> Array:
    """``units`` with those of choices and whole numbers in the middle of what leads to the same value."""
    found = np.clip(units, 0.0, 1.0)
    for place, gene in enumerate(genes):
        if math.isfinite(gene.size):
            found[:, place] = (_cells(found[:, place], int(gene.size)) + 0.5) / gene.size
    return found


def _cells(column: Array, size: int) -> Array:
    cells: Array = np.minimum(np.floor(column * size), size - 1)
    return cells


def _algorithm(genes: Sequence[Gene], seed: int) -> Any:
    from pymoo.algorithms.moo.nsga2 import NSGA2, binary_tournament
    from pymoo.core.duplicate import DefaultDuplicateElimination
    from pymoo.core.mating import Mating
    from pymoo.core.repair import Repair
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.crossover.ux import UX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.selection.tournament import TournamentSelection

    categories = np.array([gene.kind == "category" for gene in genes], bool)
    finite = [(place, int(gene.size)) for place, gene in enumerate(genes) if math.isfinite(gene.size)]

    class Crossing(SBX):  # type: ignore[misc]
        """Categories go to one child or the other; there is nothing between them."""

        def _do(self, problem: Any, X: Array, *args: Any, random_state: Any = None, **other: Any) -> Array:
            born: Array = super()._do(problem, X, *args, random_state=random_state, **other)
            swapped = UX()._do(problem, X, random_state=random_state)
            born[:, :, categories] = swapped[:, :, categories]
            return born

    class Mutation(PM):  # type: ignore[misc]
        """What mutates becomes another value: a category any other, a whole number at least its neighbour."""

        def _do(self, problem: Any, X: Array, *args: Any, random_state: Any = None, **other: Any) -> Array:
            before = snapped(genes, X)
            after: Array = super()._do(problem, before, *args, random_state=random_state, **other)
            for place, size in finite:
                old, new = before[:, place], after[:, place]
                cells, moved = _cells(old, size), new != old
                if genes[place].kind == "category":
                    others = (cells + random_state.integers(1, size, len(cells))) % size
                else:
                    moved &= _cells(new, size) == cells
                    way = np.where(new < old, -1, 1)
                    others = np.where((cells + way < 0) | (cells + way >= size), cells - way, cells + way)
                new[moved] = (others[moved] + 0.5) / size
            return after

    class Snap(Repair):  # type: ignore[misc]
        def _do(self, problem: Any, X: Array, **other: Any) -> Array:
            return snapped(genes, X)

    class Remembering(Mating):  # type: ignore[misc]
        """Remembers of each child the places of its parents, which pymoo does not."""

        def _do(
            self, problem: Any, pop: Any, n_offsprings: int, random_state: Any = None, **other: Any
        ) -> Any:
            pairs = self.selection(
                problem, pop, math.ceil(n_offsprings / 2), 2, random_state=random_state, **other
            )
            born = super()._do(problem, pop, n_offsprings, parents=pairs, random_state=random_state, **other)
            # Crossover gives the first child of every pair, and then the second of every pair.
            for number, child in enumerate(born):
                child.set("parents", tuple(parent.get("at") for parent in pairs[number % len(pairs)]))
            return born

    twins = DefaultDuplicateElimination()
    return NSGA2(
        mating=Remembering(
            selection=TournamentSelection(func_comp=binary_tournament),
            crossover=Crossing(eta=15, prob=0.9),
            mutation=Mutation(eta=20, prob_var=1 / max(1, len(genes))),
            repair=Snap(),
            eliminate_duplicates=twins,
            n_max_iterations=10,
        ),
        seed=seed,
    )
