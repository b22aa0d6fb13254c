"""Children of points stay in the cube, where genes have values, and change what they are said to change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloyd_daemon.search.breeding import Breeding, snapped
from alloyd_daemon.search.genome import Gene

pytest.importorskip("pymoo")

MIXED = (
    Gene(name="weight"),
    Gene(name="rank", kind="integer", low=1, high=4),
    Gene(name="method", kind="category", choices=("ties", "linear", "slerp")),
    Gene(name="on", kind="category", choices=(False, True)),
)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9))
def test_children_are_new_and_where_values_are(seed: int, count: int) -> None:
    dice = np.random.default_rng(seed)
    units = snapped(MIXED, dice.random((12, len(MIXED))))
    breeding = Breeding(MIXED, 2, seed % 2**31)
    born, parents = breeding.children(breeding.survivors(units, dice.random((12, 2)), 6), count)
    assert len(born) == len(parents) <= count
    assert (born == snapped(MIXED, born)).all()
    assert ((born >= 0) & (born <= 1)).all()
    assert all(0 <= at < 12 for each in parents for at in each)


def test_the_front_survives_and_then_the_second_rank() -> None:
    losses = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [1.0, 1.0]])
    units = np.linspace(0, 1, 4)[:, None]
    left = Breeding(MIXED[:1], 2, 0).survivors(units, losses, 3)
    assert {each.get("at") for each in left} == {0, 1, 3}


def test_twins_bear_nothing_but_mutants() -> None:
    bits = tuple(Gene(name=str(number), kind="category", choices=(0, 1)) for number in range(5))
    units = snapped(bits, np.zeros((4, 5)))
    breeding = Breeding(bits, 1, 0)
    born, _ = breeding.children(breeding.survivors(units, np.zeros((4, 1)), 4), 8)
    assert len(born)
    assert (born != units[0]).any(axis=1).all()


def test_what_evolves_comes_nearer_to_the_front() -> None:
    genes = tuple(Gene(name=str(number)) for number in range(4))

    def judge(units: np.ndarray) -> np.ndarray:
        far = ((units[:, 1:] - 0.3) ** 2).sum(axis=1)
        return np.stack([units[:, 0] + far, 1 - units[:, 0] + far], axis=1)

    start = np.random.default_rng(0).random((30, 4))
    found = Breeding(genes, 2, 0).evolved(start, judge, 30, 40)
    assert np.median(judge(found).sum(axis=1)) < 1.02 < np.min(judge(start).sum(axis=1))
