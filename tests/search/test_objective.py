"""Losses and gains: what items are worth to a search."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd.errors import RecipeError, TaskError
from alloyd.search_schema import Objective
from alloyd_daemon.evaluator import Item, ItemScore, Metric, Task
from alloyd_daemon.search.objective import Goal, Place, Target, goal_of

ACCURACY = Metric("score")
BITS = Metric("bits_per_byte", "lower", "nats", "bytes", "bits")
PERPLEXITY = Metric("perplexity", "lower", "nats", "words", "exp")
PLACES = [*(Place(0, str(each)) for each in range(4)), *(Place(1, str(each)) for each in range(3))]

values = st.lists(st.floats(0, 8), min_size=7, max_size=7)


def scores(numbers: list[float]) -> dict[int, dict[str, ItemScore]]:
    found: dict[int, dict[str, ItemScore]] = {0: {}, 1: {}}
    for place, number in zip(PLACES, numbers, strict=True):
        weight = 1.0 + int(place.item)
        found[place.task][place.item] = ItemScore(
            place.item, {"score": number, "nats": number, "bytes": 2 * weight, "words": weight}
        )
    return found


def test_losses_are_figures_that_are_better_when_lower() -> None:
    goal = Goal((Target(0, ACCURACY, 2.0), Target(1, BITS, 0.5)), several=True)
    sheet = goal.sheet(scores([1, 0, 1, 1, 2, 4, 6]), PLACES)
    assert goal.losses(sheet) == pytest.approx((-1.5, 0.5 * 12 / 12 / math.log(2)))
    together = Goal(goal.targets)
    assert together.losses(sheet) == pytest.approx((sum(goal.losses(sheet)),))
    assert (goal.objectives, together.objectives) == (2, 1)


@given(values, values)
def test_gains_of_all_items_are_the_difference_of_losses(one: list[float], other: list[float]) -> None:
    for several in (False, True):
        goal = Goal((Target(0, ACCURACY, 2.0), Target(1, BITS, 0.5)), several)
        mine, theirs = (goal.sheet(scores(each), PLACES) for each in (one, other))
        gains = goal.gains(mine, theirs, range(len(PLACES)))
        differences = np.array(goal.losses(theirs)) - np.array(goal.losses(mine))
        assert gains.sum(axis=1) == pytest.approx(differences)
        some = [2, 5]
        part = goal.gains(mine.part(some), theirs, some)
        assert part == pytest.approx(gains[:, some])


def test_gains_of_a_perplexity_are_right_to_the_first_order() -> None:
    goal = Goal((Target(1, PERPLEXITY, 1.0),))
    mine, theirs = (goal.sheet(scores([0, 0, 0, 0, *each]), PLACES) for each in ([1, 2, 3], [1, 2, 3.001]))
    gains = goal.gains(mine, theirs, range(len(PLACES)))
    assert gains.sum() == pytest.approx(goal.losses(theirs)[0] - goal.losses(mine)[0], rel=1e-3)


def task(name: str, *metrics: Metric) -> Task:
    return Task(name, "gold_answer", metrics, (Item("1", "{}", "f, line 1", None),))


def test_an_objective_names_a_task_and_one_of_its_metrics() -> None:
    tasks = [task("a", ACCURACY, BITS), task("b")]
    goal = goal_of([Objective(), Objective(task=2, metric="mine", weight=3)], tasks, several=False)
    assert goal.targets == (Target(0, ACCURACY, 1.0), Target(1, Metric("mine"), 3.0))
    assert Goal.of_plain(json.loads(json.dumps(goal.plain()))) == goal
    with pytest.raises(RecipeError, match="an objective is of task 3"):
        goal_of([Objective(task=3)], tasks, several=False)
    with pytest.raises(RecipeError, match="has no metric 'bits_per_bite'") as refused:
        goal_of([Objective(metric="bits_per_bite")], tasks, several=False)
    assert "bits_per_byte" in refused.value.hint
    with pytest.raises(RecipeError, match="two objectives are the score of task 1"):
        goal_of([Objective(), Objective(metric="score")], tasks, several=True)


def test_an_item_without_the_metric_is_named() -> None:
    goal = Goal((Target(0, Metric("absent"), 1.0),))
    with pytest.raises(TaskError, match="item 0 has no value of the metric 'absent'"):
        goal.sheet(scores([0.0] * 7), PLACES)
