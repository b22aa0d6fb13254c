"""Gene importance: the gene that decides comes first, and nothing is said where nothing can be."""

from __future__ import annotations

import math
import random

import pytest

from alloyd_daemon.search import importance as forest
from alloyd_daemon.search.genome import Gene
from alloyd_daemon.search.importance import importance

GENOME = (
    Gene(name="weight", low=-1.0, high=1.0),
    Gene(name="method", kind="category", choices=("ties", "linear", "slerp")),
    Gene(name="idle", low=0.1, high=10.0, log=True),
)


def points(count: int, seed: int = 3) -> list[dict[str, float | str]]:
    draw = random.Random(seed)
    return [
        {
            "weight": draw.uniform(-1, 1),
            "method": draw.choice(("ties", "linear", "slerp")),
            "idle": 10 ** draw.uniform(-1, 1),
        }
        for _ in range(count)
    ]


def loss(point: dict[str, float | str]) -> float:
    return 2 * float(point["weight"]) ** 2 + (1.0 if point["method"] == "linear" else 0.0)


def test_what_decides_comes_first_and_what_is_idle_is_worth_nothing() -> None:
    asked = points(80)
    losses = [loss(each) for each in asked]
    found = importance(GENOME, asked, losses, seed=1)
    assert found.why_not == ""
    assert found.skill is not None
    assert 0.7 < found.skill <= 1
    assert [each.gene for each in found.genes] == ["weight", "method", "idle"]
    weight, method, idle = found.genes
    assert weight.mean > method.mean > 5 * max(0.0, idle.mean)
    assert all(each.spread > 0 for each in (weight, method))
    assert importance(GENOME, asked, losses, seed=1) == found


def test_of_very_many_points_a_sample_is_learnt_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forest of 10,000 trials in 200 genes takes many minutes, in which a search that has ended says nothing."""
    monkeypatch.setattr(forest, "MOST_POINTS", 60)
    asked = points(600)
    found = importance(GENOME, asked, [loss(each) for each in asked], seed=2)
    assert found.points == 60
    assert [each.gene for each in found.genes] == ["weight", "method", "idle"]


def test_failed_points_are_left_out() -> None:
    asked = points(40)
    losses = [math.inf if place % 2 else loss(each) for place, each in enumerate(asked)]
    assert importance(GENOME, asked, losses).points == 20


@pytest.mark.parametrize(
    ("count", "said"), [(19, "19 scored points are too few for 3 genes; 20 would do"), (30, "same loss")]
)
def test_too_little_to_learn_from_is_said(count: int, said: str) -> None:
    found = importance(GENOME, points(count), [1.0] * count)
    assert found.genes == ()
    assert said in found.why_not


def test_noise_has_no_important_gene() -> None:
    draw = random.Random(5)
    found = importance(GENOME, points(40), [draw.random() for _ in range(40)])
    assert found.genes == ()
    assert "cannot tell" in found.why_not
    assert found.skill is not None
    assert found.skill < 0.1


def test_texts_have_no_axis() -> None:
    found = importance((Gene(name="recipe", kind="text"),), [{"recipe": "x"}] * 30, [0.0] * 30)
    assert found.why_not == "no gene is a number or a choice"
