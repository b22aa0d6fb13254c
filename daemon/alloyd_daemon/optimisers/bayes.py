"""Bayesian optimisation: a Gaussian process or a forest learns the losses and says where improvement is expected."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from typing import Any

from ..optimiser import OPTIMISERS, OptimiserKind, Option, Problem, Proposal, Told
from ..search.design import latin_hypercube
from ..search.genome import Genome, Point, Value, first_point, of_units
from ..search.known import Known, varying
from ..search.libraries import global_luck_kept, need, one_thread
from ..search.losses import loss_of, worse_than

# Fitting a Gaussian process takes the cube of the points: at 300 about a second.
MOST_POINTS = 300
# A Gaussian process has a length for each coordinate to learn; a forest does not mind how many there are.
MOST_COORDINATES = 20
# A forest has no gradient: as in SMAC, the best of so many random points and neighbours of so many good ones is taken.
CANDIDATES = 500
PARENTS = 10


class Bayes:
    """scikit-optimize's optimiser, made anew at each question from all that was told.

    Real genes are in their unit cube; categories are coordinates of 0 and 1. Several points at a time are asked for one
    after the other, each pretended to have been told the best loss so far (constant liar, Ginsbourger et al. 2010); so
    are those that were asked for earlier and not yet told.

    Losses far above the rest (over the third quartile by more than three halves of what lies between it and the first)
    count as that bound, failed points as a little worse than all: how bad a broken model is should not be learnt.
    """

    def __init__(self, problem: Problem) -> None:
        need("bayes", "skopt", "sklearn", "threadpoolctl")
        self._genome = problem.genome
        self._free = varying(problem.genome)
        self._fixed = first_point(problem.genome)
        self._options = problem.options
        self._seed = problem.seed
        self._batch = max(1, problem.batch)
        self._known: Known[Point] = Known(problem.genome)
        self._told: list[tuple[Point, float | None]] = []
        self._asks = problem.asked

    @property
    def batch(self) -> int:
        """As many as are scored at a time: every loss told makes the next point better."""
        return self._batch

    def ask(self, count: int) -> list[Proposal]:
        """``count`` points, each where most improvement is expected; none where the whole space is known."""
        seed = self._seed + self._asks
        self._asks += 1
        dice = random.Random(seed)
        scored = sum(loss is not None for _, loss in self._told)
        if len(self._told) < int(self._options["initial"]) or not scored:
            return self._spread(count, dice)
        with one_thread(), global_luck_kept(), warnings.catch_warnings():
            # It warns of twins, which are seen to below, and of kernels at their bounds, which is no news to anyone.
            warnings.simplefilter("ignore")
            return self._improve(count, dice)

    def tell(self, told: Sequence[Told]) -> None:
        """Points, whoever proposed them, are all learnt from."""
        for each in told:
            self._known.settle(each.point)
            self._told.append((each.point, loss_of(each)))

    def _spread(self, count: int, dice: random.Random) -> list[Proposal]:
        proposals: list[Proposal] = []
        # One for the whole run, whoever made it anew and however many are asked for at a time.
        initial = int(self._options["initial"])
        design = latin_hypercube(initial, len(self._free), random.Random(self._seed))[
            max(0, len(self._known) - 1) :
        ]
        while len(proposals) < count and not self._known.used_up:
            if self._fixed in self._known:
                point = self._known.fresh(lambda: self._at(design.pop(0) if design else self._random(dice)))
            else:
                point = dict(self._fixed)
            proposals.append(self._propose(point, "spread"))
        return proposals

    def _improve(self, count: int, dice: random.Random) -> list[Proposal]:
        learner = self._learner(dice.getrandbits(31))
        points, losses = self._lessons()
        lie = min(losses)
        waiting = self._known.waiting
        learner.tell(
            [self._coordinates(point) for point in [*points, *waiting]], losses + [lie] * len(waiting)
        )
        proposals: list[Proposal] = []
        while len(proposals) < count and not self._known.used_up:
            if proposals:
                learner.tell(self._coordinates(proposals[-1].point), lie)
            best = self._best(learner, dice)
            if best in self._known:
                best = self._known.fresh(lambda: self._at(self._random(dice)))
            proposals.append(self._propose(best, str(self._options["acquisition"])))
        return proposals

    def _best(self, learner: Any, dice: random.Random) -> dict[str, Value]:
        """Where the learner expects most: by the gradient of a Gaussian process, else the best of many candidates."""
        if learner.acq_optimizer == "lbfgs":
            return self._point(learner.ask())
        from skopt import acquisition

        model, losses = learner.models[-1], learner.yi
        promising = sorted(range(len(losses)), key=lambda at: (losses[at], at))[:PARENTS]
        units = [self._random(dice) for _ in range(CANDIDATES)]
        for _ in range(CANDIDATES):
            told = self._point(learner.Xi[dice.choice(promising)])
            units.append(self._near([gene.unit_of(told[gene.name]) for gene in self._free], dice))
        points = [of_units(self._free, each) for each in units]
        places = learner.space.transform([self._coordinates(point) for point in points])
        if self._options["acquisition"] == "LCB":
            worth = -acquisition.gaussian_lcb(places, model)
        elif self._options["acquisition"] == "PI":
            worth = acquisition.gaussian_pi(places, model, min(losses))
        else:
            worth = acquisition.gaussian_ei(places, model, min(losses))
        order = sorted(range(len(points)), key=lambda at: (-float(worth[at]), at))
        fresh = (points[at] for at in order if {**self._fixed, **points[at]} not in self._known)
        return {**self._fixed, **next(fresh, points[order[0]])}

    def _near(self, units: list[float], dice: random.Random) -> list[float]:
        """A neighbour: about two genes are others, numbers by a tenth of their range, categories by any choice."""
        chosen = {dice.randrange(len(units)), dice.randrange(len(units))}
        for at in chosen:
            category = self._free[at].kind == "category"
            units[at] = dice.random() if category else min(1.0, max(0.0, dice.gauss(units[at], 0.1)))
        return units

    def _lessons(self) -> tuple[list[Point], list[float]]:
        """The points to learn from, and what they count as: if there are many, the best and the latest of them."""
        told = self._told
        good = sorted(loss for _, loss in told if loss is not None)
        lower, upper = good[len(good) // 4], good[3 * len(good) // 4]
        fence = upper + 1.5 * (upper - lower)
        failed = worse_than(min(loss, fence) for loss in good)
        counted = [failed if loss is None else min(loss, fence) for _, loss in told]
        chosen = range(len(told))
        if len(told) > MOST_POINTS:
            half = MOST_POINTS // 2
            older = sorted(chosen[:-half], key=lambda at: (counted[at], at))[:half]
            return self._chosen([*sorted(older), *chosen[-half:]], counted)
        return self._chosen(chosen, counted)

    def _chosen(self, chosen: Sequence[int], counted: list[float]) -> tuple[list[Point], list[float]]:
        return [self._told[at][0] for at in chosen], [counted[at] for at in chosen]

    def _learner(self, seed: int) -> Any:
        from skopt import Optimizer
        from skopt.space import Categorical, Integer, Real
        from skopt.utils import cook_estimator

        dimensions: list[Any] = []
        for gene in self._free:
            if gene.kind == "category":
                dimensions.append(Categorical([str(at) for at in range(len(gene.choices))]))
            elif gene.kind == "integer":
                dimensions.append(Integer(int(gene.low), int(gene.high)))
            else:
                dimensions.append(Real(0.0, 1.0))
        model = self._options["model"]
        if model == "auto":
            wide = sum(max(1, len(gene.choices)) for gene in self._free) > MOST_COORDINATES
            model = "forest" if wide else "gp"
        if model == "gp":
            settings = {"n_restarts_optimizer": 0, "random_state": seed}
            estimator = cook_estimator("GP", space=dimensions, **settings)
        else:
            # Whole trees: leaves of several points, the library's default, draw the mean of the best to that of all.
            estimator = cook_estimator("ET", n_estimators=50, min_samples_leaf=1, random_state=seed)
        return Optimizer(
            dimensions,
            base_estimator=estimator,
            n_initial_points=0,
            acq_func=self._options["acquisition"],
            acq_optimizer_kwargs={"n_points": 2000 if model == "gp" else 1},
            random_state=seed,
            avoid_duplicates=False,
            model_queue_size=1,
        )

    def _coordinates(self, point: Point) -> list[Any]:
        return [
            str(gene.choices.index(point[gene.name]))
            if gene.kind == "category"
            else int(point[gene.name])
            if gene.kind == "integer"
            else min(1.0, max(0.0, gene.unit_of(point[gene.name])))
            for gene in self._free
        ]

    def _point(self, coordinates: Sequence[Any]) -> dict[str, Value]:
        point = dict(self._fixed)
        for gene, coordinate in zip(self._free, coordinates, strict=True):
            if gene.kind == "category":
                point[gene.name] = gene.choices[int(coordinate)]
            elif gene.kind == "integer":
                point[gene.name] = int(coordinate)
            else:
                point[gene.name] = gene.of_unit(float(coordinate))
        return point

    def _propose(self, point: dict[str, Value], how: str) -> Proposal:
        self._known.propose(point, point)
        return Proposal(point, how=how)

    def _at(self, units: Sequence[float]) -> dict[str, Value]:
        return {**self._fixed, **of_units(self._free, units)}

    def _random(self, dice: random.Random) -> list[float]:
        return [dice.random() for _ in self._free]


def _suits(genome: Genome, objectives: int) -> float:
    if any(gene.kind == "text" for gene in genome):
        return 0.0
    return 0.8 if len(varying(genome)) <= 8 else 0.3


OPTIMISERS.register(
    "bayes",
    OptimiserKind(
        name="bayes",
        summary="a model of the losses (Gaussian process or forest) says where improvement is expected",
        reference="https://scikit-optimize.readthedocs.io",
        make=Bayes,
        why="it learns most from few candidates",
        suits=_suits,
        replay="history",
        options={
            "model": Option(
                default="auto",
                choices=("auto", "gp", "forest"),
                about="what learns the losses; auto: a Gaussian process up to 20 coordinates, else a forest",
            ),
            "acquisition": Option(
                default="EI",
                choices=("EI", "LCB", "PI"),
                about="expected improvement, lower confidence bound, probability of improvement",
            ),
            "initial": Option(
                default=10, low=1, high=10000, about="points that are told before anything is learnt"
            ),
        },
    ),
)
