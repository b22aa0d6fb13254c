"""On functions whose minimum is known every numeric optimiser does better than points at random."""

from __future__ import annotations

import random
import statistics

import pytest

from alloyd_daemon.optimiser import OPTIMISERS
from alloyd_daemon.search.genome import Genome, Point
from alloyd_daemon.search.pareto import hypervolume
from optimisers.ground import (
    Loss,
    Run,
    best_of,
    bits,
    ellipsoid,
    mixed,
    problem_of,
    rastrigin,
    reals,
    rosenbrock,
    sphere,
    zdt1,
)

SEEDS = range(5)


def _noisy() -> Loss:
    """A sphere seen through noise that is a tenth of its range near the middle; the same for the same point."""

    def loss(point: Point) -> tuple[float, ...]:
        return (sphere(point)[0] + random.Random(repr(sorted(point.items()))).gauss(0, 1),)

    return loss


def _true(name: str, genome: Genome, loss: Loss, truth: Loss, budget: int, seed: int) -> float:
    """The true loss of the point that looked best."""
    kind = OPTIMISERS.get(name)
    run = Run(kind, problem_of(kind, genome, seed=seed), loss)
    while run.trials < budget and run.step(min(run.optimiser.batch, budget - run.trials)):
        pass
    best = min((each for told in run.told for each in told), key=lambda each: each.losses or (1e9,))
    return (truth(best.point) or (1e9,))[0]


@pytest.mark.parametrize(
    ("function", "genome", "budget", "share"),
    [
        (sphere, reals(6), 200, {"cma-es": 0.05, "de": 0.3, "nsga2": 0.3}),
        (ellipsoid, reals(6), 300, {"cma-es": 0.1, "de": 0.2, "nsga2": 0.3}),
        (rosenbrock, reals(4, -2, 2), 300, {"cma-es": 0.5, "de": 0.7, "nsga2": 0.9}),
        (rastrigin, reals(6), 400, {"cma-es": 0.8, "de": 0.8, "nsga2": 0.5}),
        (mixed, reals(4) + bits(8), 300, {"cma-es": 0.1, "de": 0.3, "nsga2": 0.3}),
        (mixed, bits(40), 400, {"cma-es": 0.3, "de": 0.3, "nsga2": 0.3}),
    ],
    ids=["sphere", "ellipsoid", "rosenbrock", "rastrigin", "mixed", "onemax"],
)
def test_populations_beat_chance(
    function: Loss, genome: Genome, budget: int, share: dict[str, float]
) -> None:
    chance = statistics.median(best_of("random", genome, function, budget, seed) for seed in SEEDS)
    for name, most in share.items():
        found = statistics.median(best_of(name, genome, function, budget, seed) for seed in SEEDS)
        assert found <= most * chance, name


@pytest.mark.parametrize(
    ("function", "genome", "model", "seeds", "most"),
    [
        (sphere, reals(4), "gp", 2, 0.1),
        (mixed, reals(2) + bits(4), "gp", 2, 0.2),
        (sphere, reals(4), "forest", 2, 0.7),
        (mixed, reals(2) + bits(4), "forest", 7, 0.7),
    ],
    ids=["sphere-gp", "mixed-gp", "sphere-forest", "mixed-forest"],
)
def test_a_model_of_the_losses_beats_chance_with_few_points(
    function: Loss, genome: Genome, model: str, seeds: int, most: float
) -> None:
    chance = statistics.median(best_of("random", genome, function, 25, seed) for seed in range(seeds))
    found = statistics.median(
        best_of("bayes", genome, function, 25, seed, {"model": model}) for seed in range(seeds)
    )
    assert found <= most * chance


@pytest.mark.parametrize("name", ["cma-es", "de", "nsga2"])
def test_noise_is_seen_through(name: str) -> None:
    genome, loss = reals(4), _noisy()
    chance = statistics.median(_true("random", genome, loss, sphere, 250, seed) for seed in SEEDS)
    assert statistics.median(_true(name, genome, loss, sphere, 250, seed) for seed in SEEDS) <= 0.6 * chance


def test_a_front_is_wider_and_nearer_than_that_of_chance() -> None:
    genome, reference = reals(6, 0.0, 1.0), (1.1, 6.0)
    volumes: dict[str, list[float]] = {}
    for name in ("random", "nsga2"):
        kind = OPTIMISERS.get(name)
        for seed in SEEDS:
            plain = {"model": "none"} if name == "nsga2" else {}
            run = Run(kind, problem_of(kind, genome, plain, objectives=2, seed=seed), zdt1)
            while run.trials < 300:
                run.step(20)
            losses = [each.losses for told in run.told for each in told if each.losses]
            volumes.setdefault(name, []).append(hypervolume(losses, reference))
    # The whole front with this reference spans 1.1 x 6 less what lies under 1 - sqrt(x): 6.23.
    assert max(volumes["random"]) < min(volumes["nsga2"])
    assert statistics.median(volumes["nsga2"]) > 5.3


def test_a_model_finds_with_a_tenth_of_the_points_more_of_a_front() -> None:
    genome, reference = reals(6, 0.0, 1.0), (1.1, 6.0)
    kind = OPTIMISERS.get("nsga2")
    volumes: dict[str, list[float]] = {}
    for model, points in (("none", 300), ("auto", 30)):
        for seed in range(3):
            run = Run(kind, problem_of(kind, genome, {"model": model}, objectives=2, seed=seed), zdt1)
            while run.trials < points:
                run.step()
            losses = [each.losses for told in run.told for each in told if each.losses]
            volumes.setdefault(model, []).append(hypervolume(losses, reference))
    assert max(volumes["none"]) < min(volumes["auto"])


@pytest.mark.parametrize("strategy", ["rand/1", "best/1", "current-to-best/1"])
def test_every_strategy_of_differential_evolution_finds_the_middle(strategy: str) -> None:
    found = statistics.median(
        best_of("de", reals(3), sphere, 300, seed, {"strategy": strategy}) for seed in SEEDS
    )
    assert found < 0.2


def test_cma_es_starts_anew_where_it_has_ended() -> None:
    kind = OPTIMISERS.get("cma-es")
    for restarts, most in (("none", 1), ("ipop", 99), ("bipop", 99)):
        run = Run(kind, problem_of(kind, reals(1), {"restarts": restarts}), rastrigin)
        while run.trials < 400:
            run.step()
        runs = {each.how.partition(",")[0] for asked in run.asked for each in asked}
        assert len(runs) <= most
        assert restarts == "none" or len(runs) > 1


def test_cma_es_begins_at_the_best_that_it_was_told() -> None:
    kind = OPTIMISERS.get("cma-es")
    run = Run(kind, problem_of(kind, reals(4), {"sigma": 0.01}), sphere)
    known = [{f"x{number}": value for number in range(4)} for value in (-4.0, 4.0, -3.0)]
    run.optimiser.tell([run.outcome(point) for point in known])
    for each in run.step(20):
        assert all(abs(float(value) - 4.0) < 0.6 for value in each.point.values())
