"""What the tests of optimisers stand on: genomes, closed-form losses, models that are only a Gram matrix, and a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from alloyd.recipe import ModelRef
from alloyd_daemon.optimiser import OPTIMISERS, Optimiser, OptimiserKind, Problem, Proposal, Sources, Told
from alloyd_daemon.search.genome import Gene, Genome, Point, Value
from alloyd_daemon.search.options import check_options

Loss = Callable[[Point], tuple[float, ...] | None]

CENTRE = 1.3


def reals(count: int, low: float = -5.0, high: float = 5.0) -> Genome:
    return tuple(Gene(name=f"x{number}", low=low, high=high) for number in range(count))


def bits(count: int) -> Genome:
    return tuple(Gene(name=f"b{number}", kind="category", choices=(False, True)) for number in range(count))


def numbers(point: Point) -> list[float]:
    return [float(value) for name, value in point.items() if name.startswith("x")]


def sphere(point: Point) -> tuple[float, ...]:
    return (sum((each - CENTRE) ** 2 for each in numbers(point)),)


def ellipsoid(point: Point) -> tuple[float, ...]:
    each = numbers(point)
    return (sum(10 ** (4 * at / (len(each) - 1)) * (x - CENTRE) ** 2 for at, x in enumerate(each)),)


def rosenbrock(point: Point) -> tuple[float, ...]:
    each = numbers(point)
    return (sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in pairwise(each)),)


def rastrigin(point: Point) -> tuple[float, ...]:
    waves = (x - CENTRE for x in numbers(point))
    return (sum(x * x - 10 * math.cos(2 * math.pi * x) + 10 for x in waves),)


def mixed(point: Point) -> tuple[float, ...]:
    """A sphere, and one more for every bit that is not set."""
    return (sphere(point)[0] + sum(not value for name, value in point.items() if name.startswith("b")),)


def zdt1(point: Point) -> tuple[float, ...]:
    """Zitzler, Deb and Thiele 2000: the front is 1 - sqrt(first objective), where all but the first gene are 0."""
    first, *others = numbers(point)
    distance = 1 + 9 * sum(others) / len(others)
    return first, distance * (1 - math.sqrt(first / distance))


def anything(point: Point) -> tuple[float, ...]:
    """A loss for any point of any genome: numbers as they are, all else by what it reads like."""
    return (
        sum(
            float(value) if isinstance(value, int | float) else sum(map(ord, value)) % 97
            for value in point.values()
        ),
    )


def sources() -> Sources:
    """Four models: two alike, one across, one against."""
    gram = (
        (1.0, 0.9, 0.1, -0.2),
        (0.9, 1.1, 0.2, -0.1),
        (0.1, 0.2, 2.0, 0.0),
        (-0.2, -0.1, 0.0, 1.5),
    )
    return Sources(
        models=tuple(map(ModelRef, ("math", "lang", "code", "talk"))),
        base=ModelRef("base"),
        gram=lambda: gram,
    )


def problem_of(
    kind: OptimiserKind,
    genome: Genome,
    options: Mapping[str, object] | None = None,
    *,
    seed: int = 0,
    objectives: int = 1,
    batch: int = 1,
    budget: int = 100,
) -> Problem:
    """A problem over ``genome``, or over the space that the kind makes for itself."""
    models = sources()
    return Problem(
        genome=kind.space(models).genome if kind.space else genome,
        objectives=objectives,
        seed=seed,
        batch=batch,
        budget=budget,
        options=check_options(kind, options or {}),
        sources=models,
    )


class Run:
    """One run: asks and tells as a search does, and keeps both."""

    def __init__(self, kind: OptimiserKind, problem: Problem, loss: Loss) -> None:
        self.kind = kind
        self.problem = problem
        self.optimiser = kind.make(problem)
        self.loss = loss
        self.asked: list[list[Proposal]] = []
        self.told: list[list[Told]] = []
        self.trials = 0

    def step(self, count: int | None = None) -> list[Proposal]:
        """Ask and tell once."""
        proposals = self.optimiser.ask(self.optimiser.batch if count is None else count)
        self.asked.append(proposals)
        told = [self.outcome(each.point) for each in proposals]
        self.told.append(told)
        self.optimiser.tell(told)
        return proposals

    def outcome(self, point: Point) -> Told:
        self.trials += 1
        return Told(self.trials, point, self.loss(point))

    def again(self) -> Optimiser:
        """The optimiser as it is rebuilt after a stop, in the way that its kind declares."""
        if self.kind.replay == "history":
            rebuilt = self.kind.make(replace(self.problem, asked=len(self.asked)))
            rebuilt.tell([each for told in self.told for each in told])
            return rebuilt
        rebuilt = self.kind.make(self.problem)
        for proposals, told in zip(self.asked, self.told, strict=True):
            assert rebuilt.ask(len(proposals)) == proposals
            rebuilt.tell(told)
        return rebuilt


def best_of(
    name: str,
    genome: Genome,
    loss: Loss,
    budget: int,
    seed: int,
    options: Mapping[str, Value] | None = None,
) -> float:
    """The least first loss among ``budget`` points."""
    kind = OPTIMISERS.get(name)
    run = Run(kind, problem_of(kind, genome, options, seed=seed, budget=budget), loss)
    while run.trials < budget and run.step(min(run.optimiser.batch, budget - run.trials)):
        pass
    return min(each.losses[0] for told in run.told for each in told if each.losses)


def points_of(told: Sequence[Sequence[Told]]) -> list[Point]:
    return [each.point for some in told for each in some]
