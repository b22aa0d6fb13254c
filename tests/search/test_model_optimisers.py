"""Optimisers that know models: greedy soup, kinship, evolver; their spaces, and what makes them stop."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alloyd.errors import PlanError, RecipeError, UsageError
from alloyd.jobs import PlanSpec
from alloyd.recipe import ModelRef
from alloyd.search_schema import Budget, OptimiserChoice, SearchFile, Splits
from alloyd_daemon import candidate
from alloyd_daemon.job import Context
from alloyd_daemon.optimiser import OPTIMISERS, Optimiser, OptimiserKind, Problem, Proposal, Sources, Told
from alloyd_daemon.recipes.descent import Descent, read
from alloyd_daemon.search.genome import Point, check
from alloyd_daemon.search.phases import phases_of
from alloyd_daemon.search.space import Space
from alloyd_daemon.search.spaces.descents import DescentSpace
from alloyd_daemon.search.spaces.soups import SoupSpace, shares_of
from alloyd_daemon.settings import Settings
from checkpoint_factory import Model, write_family

KINDS = ("greedy-soup", "kinship", "evolver")
DIRECTIONS = np.array([[3.0, 0, 0.2, 0], [0, 2.0, 0, 0.1], [2.5, 0.3, 0, 0], [0, 0, 0, 1.0]])
WISH = np.array([1.4, 0.9, 0.0, 0.0])


def sources(models: int = 4, directions: np.ndarray[Any, Any] = DIRECTIONS) -> Sources:
    names = tuple(ModelRef(f"m{place}") for place in range(models))
    return Sources(names, ModelRef("base"), lambda: (directions[:models] @ directions[:models].T).tolist())


def start(
    name: str, *, seed: int = 0, given: Sources | None = None, **options: Any
) -> tuple[Optimiser, Space]:
    kind: OptimiserKind = OPTIMISERS.get(name)
    known = given or sources()
    assert kind.space is not None
    space = kind.space(known)
    chosen = _defaults(kind) | options
    return kind.make(Problem(genome=space.genome, seed=seed, options=chosen, sources=known)), space


def _defaults(kind: OptimiserKind) -> dict[str, Any]:
    return {key: option.default for key, option in kind.options.items()}


def soup_loss(space: Space) -> Callable[[Point], float]:
    """How far a soup is from what is wished."""
    return lambda point: float(
        np.linalg.norm(np.array(shares_of(space.genome, point)) @ DIRECTIONS[: len(space.genome)] - WISH)
    )


def weights_of(descent: Descent) -> np.ndarray[Any, Any]:
    """The model of a descent: eight weights for each direction, drawn over as the steps say."""
    made: list[np.ndarray[Any, Any]] = []
    models = np.repeat(DIRECTIONS, 8, axis=1)
    if not descent.steps:
        return models[descent.alone]
    for step in descent.steps:
        parent, begin, toward, away = (models[n] if model else made[n] for model, n in step.members)
        mask = np.random.default_rng(step.seed).random(32) < step.rate
        made.append(np.where(mask, begin + step.factor * (toward - away), parent))
    return made[-1]


def descent_loss(point: Point) -> float:
    return float(np.linalg.norm(weights_of(read(str(point["descent"]), 4)) - np.repeat(WISH, 8)))


def loss_for(name: str, space: Space) -> Callable[[Point], float]:
    return descent_loss if name == "evolver" else soup_loss(space)


def drive(
    optimiser: Optimiser,
    loss: Callable[[Point], float | None],
    budget: int,
    *,
    ask: int | None = None,
    told: Sequence[Told] = (),
) -> list[tuple[Proposal, float | None]]:
    """Ask and tell until the budget is spent or the optimiser is done."""
    trials: list[tuple[Proposal, float | None]] = []
    optimiser.tell(told)
    number = len(told)
    while len(trials) < budget:
        batch = optimiser.ask(min(ask or optimiser.batch, budget - len(trials)))
        if not batch:
            break
        answers = []
        for each in batch:
            value = loss(each.point)
            trials.append((each, value))
            answers.append(Told(number, each.point, None if value is None else (value,)))
            number += 1
        optimiser.tell(answers)
    return trials


@pytest.mark.parametrize("name", KINDS)
def test_points_are_of_the_space_and_repeat_with_the_seed(name: str) -> None:
    runs = []
    for seed in (5, 5, 6):
        optimiser, space = start(name, seed=seed)
        trials = drive(optimiser, loss_for(name, space), 40)
        for each, _ in trials:
            check(space.genome, each.point)
            assert space.recipe(each.point) == space.recipe(dict(each.point))
            json.dumps(space.recipe(each.point))
        for number, (each, _) in enumerate(trials):
            assert all(parent < number for parent in each.parents)
            assert each.how
        runs.append([(each.point, each.parents) for each, _ in trials])
    assert runs[0] == runs[1]
    if name == "evolver":
        assert runs[1] != runs[2]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("ask", [1, 3, 50])
def test_any_number_may_be_asked_for(name: str, ask: int) -> None:
    optimiser, space = start(name)
    trials = drive(optimiser, loss_for(name, space), 60, ask=ask)
    keys = [json.dumps(dict(each.point)) for each, _ in trials]
    assert len(set(keys)) == len(keys)
    best = min(value for _, value in trials if value is not None)
    assert best < min(value for each, value in trials[:4] if value is not None), "no better than a source"


@pytest.mark.parametrize("name", KINDS)
def test_failures_are_survived(name: str) -> None:
    optimiser, space = start(name)
    dice = random.Random(3)
    loss = loss_for(name, space)
    trials = drive(optimiser, lambda point: None if dice.random() < 0.4 else loss(point), 40)
    assert len(trials) > 4
    optimiser, space = start(name)
    assert len(drive(optimiser, lambda point: None, 40)) == 4


@pytest.mark.parametrize("name", KINDS)
def test_what_others_tried_is_taken_in(name: str) -> None:
    optimiser, space = start(name)
    loss = loss_for(name, space)
    if name == "evolver":
        points: list[dict[str, Any]] = [{"descent": f"m{each + 1}"} for each in range(4)]
        points.append({"descent": "m1<m2*0.5@1#0"})
    else:
        points = [
            {gene.name: float(place == each) for place, gene in enumerate(space.genome)} for each in range(4)
        ]
        points.append({gene.name: 1.0 for gene in space.genome})
    told = [Told(number, each, (loss(each),)) for number, each in enumerate(points)]
    trials = drive(optimiser, loss, 12, told=told)
    assert trials
    assert all(dict(each.point) not in points for each, _ in trials)
    assert trials[0][0].parents


def test_a_greedy_soup_is_that_of_the_paper() -> None:
    losses = {1: 0.5, 2: 0.3, 3: 0.4, 4: None}
    soups = {(2, 3): 0.3, (1, 2, 3): 0.35}
    optimiser, space = start("greedy-soup")

    def loss(point: Point) -> float | None:
        taken = tuple(place + 1 for place, gene in enumerate(space.genome) if point[gene.name])
        return losses[taken[0]] if len(taken) == 1 else soups[taken]

    trials = drive(optimiser, loss, 50)
    assert len(trials) == 6, "4 is left out, for it failed; 3 is kept, for the score did not drop"
    assert [each.parents for each, _ in trials[4:]] == [(1, 2), (0, 4)]
    assert optimiser.ask(3) == []


def test_a_greedy_soup_thinks_ahead_when_asked_for_more() -> None:
    optimiser, space = start("greedy-soup")
    loss = soup_loss(space)
    ahead = drive(start("greedy-soup", ahead=8)[0], loss, 50, ask=8)
    one_by_one = drive(start("greedy-soup")[0], loss, 50)
    assert {json.dumps(dict(each.point)) for each, _ in one_by_one} <= {
        json.dumps(dict(each.point)) for each, _ in ahead
    }
    assert len(one_by_one) == 7
    optimiser, _ = start("greedy-soup")
    singles = optimiser.ask(4)
    assert optimiser.ask(4) == [], "nothing can be said before the sources are told"
    optimiser.tell([Told(n, each.point, (loss(each.point),)) for n, each in enumerate(singles)])
    assert len(optimiser.ask(3)) == 1, "nothing is scored in vain"
    assert len(optimiser.ask(2)) == 2, "but who asks again is answered"
    assert len(optimiser.ask(100)) == 4, "2 + 4 + 8 ways end in 7 soups with the best model"
    assert optimiser.ask(1) == []


def test_kinship_averages_the_best_in_pairs_and_one_stranger() -> None:
    optimiser, space = start("kinship", top=2)
    loss = soup_loss(space)
    trials = drive(optimiser, loss, 6)
    gram = DIRECTIONS @ DIRECTIONS.T
    order = sorted(range(4), key=lambda each: trials[each][1] or 0.0)
    pair, stranger = trials[4][0], trials[5][0]
    assert pair.parents == tuple(sorted(order[:2]))
    cosines = {
        each: gram[order[0], each] / np.sqrt(gram[order[0], order[0]] * gram[each, each])
        for each in order[2:]
    }
    least = min(cosines, key=lambda each: cosines[each])
    assert stranger.parents == tuple(sorted((order[0], least)))
    assert f"{cosines[least]:.2f}" in stranger.how
    assert not any(
        "exploration" in each.how for each, _ in drive(start("kinship", explore=False)[0], loss, 20)
    )


def test_kinship_ends_when_the_best_are_alike() -> None:
    alike = np.array([[1.0, 0.1, 0, 0], [1.0, -0.1, 0, 0], [1.0, 0, 0.1, 0], [0, 0, 0, 1.0]])
    optimiser, space = start("kinship", given=sources(4, alike))
    assert len(drive(optimiser, soup_loss(space), 50)) == 4
    optimiser, space = start("kinship", given=sources(4, alike), saturation=1.0)
    assert len(drive(optimiser, soup_loss(space), 50)) > 10


def test_kinship_needs_a_base() -> None:
    def none() -> Sequence[Sequence[float]]:
        raise PlanError("no base_model")

    optimiser, _ = start("kinship", given=Sources((ModelRef("a"), ModelRef("b")), None, none))
    optimiser.tell([Told(n, each.point, (1.0 + n,)) for n, each in enumerate(optimiser.ask(2))])
    with pytest.raises(PlanError, match="no base_model"):
        optimiser.ask(1)


def test_a_source_that_equals_the_base_is_no_kin() -> None:
    some = DIRECTIONS.copy()
    some[3] = 0.0
    optimiser, space = start("kinship", given=sources(4, some), saturation=1.0)
    assert len(drive(optimiser, soup_loss(space), 20)) == 20


@pytest.mark.parametrize("difference", [False, True])
def test_an_evolver_improves_and_its_members_only_get_better(difference: bool) -> None:
    optimiser, _ = start("evolver", difference=difference, CR=0.9)
    trials = drive(optimiser, descent_loss, 160)
    sources_best = min(value for _, value in trials[:4] if value is not None)
    best = min(value for _, value in trials if value is not None)
    assert best < 0.8 * sources_best
    if not difference:
        weights = np.stack([weights_of(read(str(each.point["descent"]), 4)) for each, _ in trials])
        corners = np.repeat(DIRECTIONS, 8, axis=1)
        assert (weights <= corners.max(axis=0) + 1e-12).all(), "interpolation stays in the box of its members"


def test_a_population_larger_than_the_sources_begins_with_crossings() -> None:
    optimiser, _ = start("evolver", population=7)
    first = optimiser.ask(optimiser.batch)
    assert [each.how for each in first] == ["by itself"] * 4 + ["crossing"] * 3
    assert optimiser.ask(2) == []


def test_a_child_takes_its_parents_place_only_when_it_is_better() -> None:
    optimiser, _ = start("evolver", given=sources(2))
    one, two = optimiser.ask(2)
    optimiser.tell([Told(0, one.point, (1.0,)), Told(1, two.point, (2.0,))])
    (child,) = optimiser.ask(1)
    assert child.parents == (0, 1)
    optimiser.tell([Told(2, child.point, (1.0,))])
    assert all(2 not in each.parents for each in optimiser.ask(4)), "as good is not better"
    (better,) = optimiser.ask(1)
    optimiser.tell([Told(9, better.point, (0.5,))])
    assert any(9 in each.parents for each in optimiser.ask(4))


def test_what_cannot_be_searched_is_refused() -> None:
    with pytest.raises(UsageError, match="1 models"):
        start("evolver", given=sources(1))
    with pytest.raises(UsageError, match="3 members"):
        start("evolver", given=sources(3), difference=True)
    for name in ("evolver", "kinship"):
        kind = OPTIMISERS.get(name)
        with pytest.raises(UsageError, match="given none"):
            kind.make(Problem(genome=DescentSpace((ModelRef("a"), ModelRef("b"))).genome, options={}))


def test_a_soup_is_a_recipe() -> None:
    space = SoupSpace(tuple(map(ModelRef, ("org/a", "/models/b+c", "/models/d"))))
    names = [gene.name for gene in space.genome]
    assert space.recipe(dict.fromkeys(names, 0.5)) == {
        "merge_method": "linear",
        "models": [
            {"model": "org/a", "parameters": {"weight": 1.0}},
            {"model": {"model": {"path": "/models/b+c"}}, "parameters": {"weight": 1.0}},
            {"model": "/models/d", "parameters": {"weight": 1.0}},
        ],
        "parameters": {"normalize": True},
    }
    alone = space.recipe({names[0]: 0.0, names[1]: 0.0, names[2]: 0.3})
    assert alone == {"merge_method": "passthrough", "models": [{"model": "/models/d"}]}
    with pytest.raises(RecipeError, match="above 0"):
        space.recipe(dict.fromkeys(names, 0.0))


def test_a_descent_is_a_recipe_of_the_models_that_it_needs() -> None:
    space = DescentSpace(tuple(map(ModelRef, "abc")))
    assert space.recipe({"descent": "m1"}) == {"merge_method": "passthrough", "models": [{"model": "a"}]}
    assert space.recipe({"descent": "m3<m2*0.5@0.9#4"}) == {
        "merge_method": "evolver",
        "models": [{"model": "b"}, {"model": "c"}],
        "parameters": {"descent": "m2<m1*0.5@0.9#4"},
    }
    with pytest.raises(RecipeError, match="m4"):
        space.recipe({"descent": "m4"})
    with pytest.raises(RecipeError):
        space.recipe({"descent": ""})


@pytest.mark.parametrize("name", KINDS)
def test_what_stands_in_every_recipe_stands_in_these(name: str) -> None:
    kind = OPTIMISERS.get(name)
    assert kind.space is not None
    space = kind.space(Sources((ModelRef("a"), ModelRef("b")), None, list, {"dtype": "float32"}))
    optimiser = kind.make(Problem(genome=space.genome, options=_defaults(kind), sources=sources(2)))
    recipes = [space.recipe(each.point) for each, _ in drive(optimiser, loss_for(name, space), 3)]
    assert [each["dtype"] for each in recipes] == ["float32"] * 3
    assert {each["merge_method"] for each in recipes} > {"passthrough"}


def test_recipes_of_both_spaces_can_be_planned(tmp_path: Path) -> None:
    family = [ModelRef(str(each)) for each in write_family(tmp_path, Model(), tunes=2)]
    soup, descent = SoupSpace(family), DescentSpace(family)
    points: list[tuple[Space, Any]] = [
        (soup, dict.fromkeys((gene.name for gene in soup.genome), 1.0)),
        (descent, {"descent": "m1<m3*0.5@0.9#4"}),
        (descent, {"descent": "m2"}),
    ]
    for space, point in points:
        spec = PlanSpec(recipe=json.dumps(space.recipe(point)), base_dir="/")
        made = candidate.from_recipe(spec, name="c", home=tmp_path, settings=Settings())
        assert made.prepared.plan.tensors


@pytest.mark.parametrize("name", KINDS)
def test_a_search_gives_them_its_models_their_gram_and_its_dtype(name: str, tmp_path: Path) -> None:
    base, *models = (str(each) for each in write_family(tmp_path, Model(), tunes=3))
    recipe = {
        "merge_method": "task_arithmetic",
        "base_model": base,
        "models": [{"model": each, "parameters": {"weight": 1.0}} for each in models],
        "dtype": "float32",
        "out_dtype": "bfloat16",
    }
    tasks = Splits(search=("a.jsonl",), validation=("b.jsonl",))
    spec = SearchFile(
        tasks=tasks, budget=Budget(candidates=9), recipe=recipe, optimiser=OptimiserChoice(name=name)
    )
    context = Context(tmp_path, Settings(), "search-1")
    phases = phases_of(spec, base_dir=tmp_path, folder=tmp_path, context=context, memory=2**30)
    running = phases.makers[0](None)
    phase = None
    while phase is None:
        try:
            next(running)
        except StopIteration as end:
            phase = end.value
    problem = Problem(genome=phase.space.genome, options=phase.options, sources=phase.sources)
    trials = drive(phase.kind.make(problem), lambda point: float(len(str(point))), 6)
    assert len(trials) >= 4
    for each, _ in trials:
        recipe = phase.space.recipe(each.point)
        assert (recipe["dtype"], recipe["out_dtype"]) == ("float32", "bfloat16")
        made = candidate.from_recipe(
            PlanSpec(recipe=json.dumps(recipe), base_dir="/"), name="c", home=tmp_path, settings=Settings()
        )
        assert made.prepared.plan.tensors
