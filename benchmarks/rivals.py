"""What others search with, re-implemented from their documented settings, and the plain baselines, over one ground.

A rival proposes recipes and is told the losses; every one of its candidates answers all items of the search papers, as
its original has it. It is stopped at a budget of items, and hands in the candidate that scored best.

- mergekit-evolve (mergekit 0.1.5, `mergekit/evo`): genome [layer groups, models, filters + 1, parameters]; weights
  start at 1/n, densities at 1; weight -> |x|, density -> min(|x|, 1); `normalize` on by default for ties and dare_ties;
  CMA-ES without bounds, sigma0 1/6, default population; dtype bfloat16.
- mergenetic (its scripts): pymoo's GA, population 7, simulated binary crossover and polynomial mutation, integers 0..10
  that stand for tenths; one weight, and for ties and dare one density, a model.
- random: uniform in the genome of our spec. grid: task arithmetic, the finest even grid that the budget allows.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from zoo_ground import Array, Ground, Paper, PlainRecipe, by_layer

from alloyd_daemon.search.genome import of_units
from alloyd_daemon.search.space import Space

MODELS: Final = ("math", "lang")
GROUPS: Final = 2
FILTERS: Final = ("self_attn", "mlp", None)


@dataclass(slots=True)
class Found:
    """The best candidate of a search, its loss on the search papers, and what the search cost."""

    recipe: PlainRecipe
    loss: float
    candidates: int
    items: int
    seconds: float
    losses: list[float] = field(default_factory=list)


class Rival(Protocol):
    """One way to search."""

    def ask(self) -> Sequence[PlainRecipe]:
        """The next recipes; none means that it is done."""

    def tell(self, losses: Sequence[float]) -> None:
        """What they were worth."""


def run(rival: Rival, ground: Ground, papers: Sequence[Paper], items: int) -> Found:
    """Search until ``items`` are scored: a candidate that would go beyond is not scored."""
    each = sum(one.items for one in papers)
    started, spent = time.perf_counter(), 0
    losses: list[float] = []
    best: tuple[float, PlainRecipe] = (float("inf"), {})
    while room := (items - spent) // each:
        asked = list(rival.ask())
        recipes = asked[:room]
        if not recipes:
            break
        found = loss(ground, recipes, papers)
        spent += each * len(recipes)
        losses += list(found)
        for value, recipe in zip(found, recipes, strict=True):
            best = min(best, (float(value), recipe), key=lambda one: one[0])
        if len(recipes) < len(asked):
            break
        rival.tell(list(found))
    return Found(best[1], best[0], len(losses), spent, time.perf_counter() - started, losses)


def loss(ground: Ground, recipes: Sequence[PlainRecipe], papers: Sequence[Paper]) -> Array:
    """One less the mean over papers of the share of right items, float64 [recipes]."""
    return 1 - np.mean([ground.table(recipes, each).mean(axis=1) for each in papers], axis=0)


class MergekitEvolve:
    """CMA-ES over mergekit-evolve's genome; ``method`` is task_arithmetic, ties or dare_ties."""

    def __init__(self, ground: Ground, method: str, seed: int, *, normalize: bool | None = None) -> None:
        from cmaes import CMA

        self._ground = ground
        self._method = method
        self._parameters = ("weight",) if method == "task_arithmetic" else ("weight", "density")
        self._normalize = method != "task_arithmetic" if normalize is None else normalize
        self._seed = seed
        self._shape = (GROUPS, len(MODELS), len(FILTERS), len(self._parameters))
        start = np.ones(self._shape)
        start[..., 0] = 1 / len(MODELS)
        self._cma = CMA(mean=start.ravel(), sigma=1 / 6, seed=seed)
        self._asked: list[Array] = []

    def ask(self) -> list[PlainRecipe]:
        self._asked = [self._cma.ask() for _ in range(self._cma.population_size)]
        return [self.recipe(each.reshape(self._shape)) for each in self._asked]

    def tell(self, losses: Sequence[float]) -> None:
        self._cma.tell(list(zip(self._asked, losses, strict=True)))

    def recipe(self, genome: Array) -> PlainRecipe:
        """The recipe of a genome [groups, models, filters, parameters], decoded as mergekit-evolve does."""
        values = np.abs(genome)
        values[..., 1:] = np.minimum(values[..., 1:], 1)
        parameters = {
            model: {
                parameter: [
                    ({} if part is None else {"filter": part})
                    | {"value": by_layer(values[:, number, place, index])}
                    for place, part in enumerate(FILTERS)
                ]
                for index, parameter in enumerate(self._parameters)
            }
            for number, model in enumerate(MODELS)
        }
        more: dict[str, Any] = {} if self._method == "task_arithmetic" else {"normalize": self._normalize}
        if self._method == "dare_ties":
            more["seed"] = self._seed
        return self._ground.merge(self._method, parameters, **more)


class Mergenetic:
    """pymoo's GA as mergenetic's scripts set it up: population 7, tenths."""

    def __init__(self, ground: Ground, method: str, seed: int, candidates: int) -> None:
        from pymoo.algorithms.soo.nonconvex.ga import GA
        from pymoo.core.problem import Problem
        from pymoo.operators.crossover.sbx import SBX
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.repair.rounding import RoundingRepair
        from pymoo.operators.sampling.rnd import IntegerRandomSampling
        from pymoo.termination import get_termination

        self._ground = ground
        self._method = method
        self._seed = seed
        self._parameters = ("weight",) if method == "task_arithmetic" else ("weight", "density")
        self._shape = (len(MODELS), len(self._parameters))
        genes = int(np.prod(self._shape))
        self._problem = Problem(n_var=genes, n_obj=1, xl=0, xu=10, vtype=int)
        self._algorithm = GA(
            pop_size=7,
            sampling=IntegerRandomSampling(),
            crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
            mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
            eliminate_duplicates=True,
        )
        self._algorithm.setup(
            self._problem, termination=get_termination("n_eval", candidates + 7), seed=seed, verbose=False
        )
        self._population: Any = None

    def ask(self) -> list[PlainRecipe]:
        if not self._algorithm.has_next():
            return []
        self._population = self._algorithm.ask()
        if self._population is None:
            return []
        return [self.recipe(each.reshape(self._shape) / 10) for each in self._population.get("X")]

    def tell(self, losses: Sequence[float]) -> None:
        self._population.set("F", np.asarray(losses)[:, None])
        for each in self._population:
            each.evaluated.update({"F", "G", "H"})
        self._algorithm.tell(infills=self._population)

    def recipe(self, genome: Array) -> PlainRecipe:
        """The recipe of a genome [models, parameters] in tenths; a density of 0 is 0.1, which empties nothing."""
        values = {
            model: {
                parameter: float(max(genome[number, index], 0.1) if index else genome[number, index])
                for index, parameter in enumerate(self._parameters)
            }
            for number, model in enumerate(MODELS)
        }
        more = {"seed": self._seed} if self._method.startswith("dare") else {}
        return self._ground.merge(self._method, values, **more)


class Listed:
    """Recipes that were written down before, so many at a time."""

    def __init__(self, recipes: Iterator[PlainRecipe], batch: int = 12) -> None:
        self._recipes = recipes
        self._batch = batch

    def ask(self) -> list[PlainRecipe]:
        return list(itertools.islice(self._recipes, self._batch))

    def tell(self, losses: Sequence[float]) -> None:
        pass


def random(space: Space, seed: int) -> Listed:
    """Uniform points of a space's unit cube."""
    draws = np.random.Generator(np.random.PCG64(seed))
    genome = space.genome
    return Listed(
        space.recipe(of_units(genome, [float(each) for each in draws.random(len(genome))]))
        for _ in itertools.count()
    )


def grid(
    ground: Ground, models: Sequence[str], candidates: int, low: float = 0.0, high: float = 1.5
) -> Listed:
    """Task arithmetic at the points of the finest grid of one weight a model that has at most ``candidates``."""
    steps = int(candidates ** (1 / len(models)) + 1e-9)
    ways = itertools.product(np.linspace(low, high, steps), repeat=len(models))
    return Listed(
        ground.merge(
            "task_arithmetic",
            {model: {"weight": float(weight)} for model, weight in zip(models, way, strict=True)},
        )
        for way in ways
    )


def untuned(ground: Ground, models: Sequence[str]) -> dict[str, PlainRecipe]:
    """Parents, the uniform soup, and TIES and DARE-TIES as one would first write them."""
    dense = {model: {"weight": 1.0, "density": 0.5} for model in models}
    return {
        **{name: ground.alone(name) for name in ("base", *models)},
        "uniform soup": ground.merge("linear", {model: {"weight": 1.0} for model in models}),
        "ties": ground.merge("ties", dense),
        "dare_ties": ground.merge("dare_ties", dense),
        "task_arithmetic 1": ground.merge("task_arithmetic", {model: {"weight": 1.0} for model in models}),
    }
