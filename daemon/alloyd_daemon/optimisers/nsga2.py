"""NSGA-II: a population of trade-offs, sorted by who dominates whom and kept apart by crowding distance."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ..optimiser import OPTIMISERS, OptimiserKind, Option, Problem, Proposal, Told
from ..search.design import latin_hypercube
from ..search.genome import Genome, Point, Value, first_point, of_units, units_of
from ..search.known import Known, varying
from ..search.libraries import need
from ..search.losses import losses_of, worse_than

if TYPE_CHECKING:
    from ..search.breeding import Array

# Fitting takes the cube of the points, and where so many are known a population does without.
MOST_POINTS: Final = 200
# A Gaussian process has a length for each coordinate to learn.
MOST_COORDINATES: Final = 40
# The population that evolves on the model, and for how long: 4,000 predictions cost less than one candidate.
IMAGINED: Final = 100
GENERATIONS: Final = 40
# How many standard deviations better than expected a point is taken to be: untried ones are worth a look.
HOPE: Final = 0.5

Draft = tuple[Sequence[float], tuple[int, ...], str]
"""Units of a point that may be proposed, the trials that it is made of, and how."""


class Nsga2:
    """NSGA-II by pymoo's operators, made anew at each question from all that was told: its archive.

    The first population is where the search begins and a Latin hypercube. Then the best of the archive by rank and
    crowding are the parents. Of several objectives few points are known at first, and a population learns little from
    so few: Gaussian processes learn the losses, NSGA-II evolves a large population on them, and what is asked for is,
    in turn, the point that should add most to the hypervolume of the front, and the one that should be the best in one
    of the objectives. With ``model: none``, or where much is known, children of the parents are asked for.

    A failed point is worse than all others in every objective.

    The model is as in Bradford, Schweidtmann and Lapkin, "Efficient multiobjective optimization employing Gaussian
    processes, spectral sampling and a genetic algorithm", J. Global Optimization 71 (2018), with a lower confidence
    bound in the place of the sampled functions.
    """

    def __init__(self, problem: Problem) -> None:
        need("nsga2", "pymoo", "sklearn", "threadpoolctl")
        self._genome = problem.genome
        self._free = varying(problem.genome)
        self._fixed = first_point(problem.genome)
        self._objectives = problem.objectives
        self._model = problem.options["model"]
        self._size = max(4, int(problem.options["population"]))
        self._seed = problem.seed
        self._known: Known[Point] = Known(problem.genome)
        self._told: list[Told] = []
        self._asks = problem.asked

    @property
    def batch(self) -> int:
        """The population; with a model, for each objective an end of the front and a point between."""
        return 2 * self._objectives if self._whole and self._learns else self._size

    def ask(self, count: int) -> list[Proposal]:
        """Members of the first population while there is none, then new ones; none where the whole space is known."""
        dice = random.Random(self._seed + self._asks)
        self._asks += 1
        drafts: deque[Draft] = deque()
        if self._free and count > 0:
            drafts.extend(self._drafts(count, dice))
        proposals: list[Proposal] = []
        while len(proposals) < count and not self._known.used_up:
            drawn: list[Draft] = [((), (), "first population")]

            def draw(drawn: list[Draft] = drawn) -> dict[str, Value]:
                chance: Draft = ([dice.random() for _ in self._free], (), "chance")
                drawn.append(drafts.popleft() if drafts else chance)
                return {**self._fixed, **of_units(self._free, drawn[-1][0])}

            first = self._fixed not in self._known
            point = dict(self._fixed) if first else self._known.fresh(draw)
            self._known.propose(point, point)
            _, parents, how = drawn[-1]
            proposals.append(Proposal(point, parents=parents, how=how))
        return proposals

    def tell(self, told: Sequence[Told]) -> None:
        """Points, whoever proposed them, are all of the archive."""
        for each in told:
            self._known.settle(each.point)
            self._told.append(each)

    @property
    def _whole(self) -> bool:
        """Whether there is a population."""
        return len(self._told) >= self._size and any(losses_of(each) for each in self._told)

    @property
    def _learns(self) -> bool:
        if self._model != "auto":
            return self._model == "gp"
        width = sum(max(1, len(gene.choices)) for gene in self._free)
        few = len(self._told) <= MOST_POINTS and width <= MOST_COORDINATES
        return self._objectives > 1 and few

    def _drafts(self, count: int, dice: random.Random) -> list[Draft]:
        if not self._whole:
            # One for the whole run, whoever made it anew and however many are asked for at a time.
            design = latin_hypercube(self._size, len(self._free), random.Random(self._seed))
            return [(units, (), "first population") for units in design[max(0, len(self._known) - 1) :]]
        units, losses = self._archive()
        imagined = self._imagined(units, losses, count, dice) if self._learns else []
        return imagined or self._children(units, losses, count, dice)

    def _archive(self) -> tuple[Array, Array]:
        """All that was told: units [points, genes] and losses [points, objectives]."""
        import numpy as np

        found = [losses_of(each) for each in self._told]
        good = [each for each in found if each is not None]
        failed = tuple(worse_than(column) for column in zip(*good, strict=True))
        units = [units_of(self._free, each.point) for each in self._told]
        return np.array(units, np.float64), np.array([each or failed for each in found], np.float64)

    def _children(self, units: Array, losses: Array, count: int, dice: random.Random) -> list[Draft]:
        from ..search.breeding import Breeding

        breeding = Breeding(self._free, self._objectives, dice.getrandbits(31))
        born, parents = breeding.children(breeding.survivors(units, losses, self._size), count)
        return [
            (child.tolist(), tuple(sorted({self._told[at].trial for at in places})), "offspring")
            for child, places in zip(born, parents, strict=True)
        ]

    def _imagined(self, units: Array, losses: Array, count: int, dice: random.Random) -> list[Draft]:
        """What evolves on a model of the losses; nothing where that is known already."""
        import numpy as np

        from ..search.breeding import Breeding, snapped
        from ..search.pareto import front
        from ..search.surrogate import Surrogate

        model = Surrogate(self._free, units, losses, dice.getrandbits(31))
        breeding = Breeding(self._free, self._objectives, dice.getrandbits(31))

        def hoped(places: Array) -> Array:
            means, deviations = model.predict(places)
            return means - HOPE * deviations

        parents = [each.get("at") for each in breeding.survivors(units, losses, self._size)]
        others = latin_hypercube(IMAGINED, len(self._free), dice)
        start = snapped(self._free, np.concatenate([units[parents], np.array(others)]))
        pool = breeding.evolved(start, hoped, IMAGINED, GENERATIONS)
        new = [each for each in pool if float(np.abs(units - each).max(axis=1).min()) > 1e-6]
        if not new:
            return []
        pool = np.stack(new)
        # A front of scores is one of lucky scores; the model's is not.
        held = model.predict(units)[0]
        held = held[list(front(held.tolist()))]
        waiting = [units_of(self._free, each) for each in self._known.waiting]
        if waiting:
            held = np.concatenate([held, model.predict(np.array(waiting, np.float64))[0]])
        chosen = _chosen(hoped(pool), model.predict(pool)[0], held, count)
        return [(pool[at].tolist(), (), how) for at, how in chosen]


def _chosen(hoped: Array, expected: Array, held: Array, count: int) -> list[tuple[int, str]]:
    """Which of a pool are asked for, and why; each is taken to be worth what is ``expected`` when the next is chosen.

    ``hoped``, ``expected``: losses of the pool, [points, objectives]; ``held``: those that are known.
    """
    from ..search.pareto import hypervolume, reference_point

    known: list[Sequence[float]] = held.tolist()
    worst = reference_point(known)
    chosen: list[tuple[int, str]] = []
    left = list(range(len(hoped)))
    for number in range(min(count, len(left))):
        turn, end = divmod(number, 2)
        objective = turn % hoped.shape[1]
        if end:
            best = min(left, key=lambda at: (float(hoped[at, objective]), at))
        else:
            best = max(left, key=lambda at: (hypervolume([*known, hoped[at].tolist()], worst), -at))
        left.remove(best)
        known.append(expected[best].tolist())
        chosen.append((best, f"model, objective {objective + 1}" if end else "model, hypervolume"))
    return chosen


def _suits(genome: Genome, objectives: int) -> float:
    if any(gene.kind == "text" for gene in genome):
        return 0.0
    return 0.95 if objectives > 1 else 0.4


OPTIMISERS.register(
    "nsga2",
    OptimiserKind(
        name="nsga2",
        summary="a population of trade-offs between several objectives, of which none dominates another",
        reference="https://doi.org/10.1109/4235.996017, https://doi.org/10.1007/s10898-018-0609-2 (model)",
        make=Nsga2,
        why="it keeps a front of trade-offs instead of one winner",
        suits=_suits,
        several=True,
        replay="history",
        options={
            "population": Option(
                default=20, low=4, high=10000, about="members that are parents, and points to begin with"
            ),
            "model": Option(
                default="auto",
                choices=("auto", "gp", "none"),
                about="what says which points are worth scoring: Gaussian processes of the losses, or nothing; "
                "auto: gp for several objectives, up to 200 points and 40 coordinates",
            ),
        },
    ),
)
