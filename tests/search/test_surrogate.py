"""A model of the losses: near what it was told, unsure elsewhere, deaf to noise, broken points and the machine."""

from __future__ import annotations

import random

import numpy as np
import pytest

from alloyd_daemon.search.genome import Gene
from alloyd_daemon.search.surrogate import Surrogate, coordinates

pytest.importorskip("sklearn")
GENES = (Gene(name="a"), Gene(name="b"), Gene(name="c"))


def _losses(units: np.ndarray) -> np.ndarray:
    return np.stack([((units - 0.4) ** 2).sum(axis=1), units[:, 0]], axis=1)


def test_it_learns_what_it_was_not_told() -> None:
    dice = np.random.default_rng(0)
    units, others = dice.random((40, 3)), dice.random((50, 3))
    told = _losses(units) + dice.normal(0, 0.02, (40, 2))
    means, deviations = Surrogate(GENES, units, told, 0).predict(others)
    for column in range(2):
        assert np.corrcoef(means[:, column], _losses(others)[:, column])[0, 1] > 0.97
    assert (deviations > 0).all()


def test_it_is_less_sure_far_from_what_it_was_told() -> None:
    units = np.random.default_rng(1).random((30, 3)) * 0.4
    model = Surrogate(GENES, units, _losses(units), 0)
    near, far = model.predict(np.array([[0.2, 0.2, 0.2], [1.0, 1.0, 1.0]]))[1]
    assert far[0] > near[0]


def test_one_broken_point_does_not_hide_the_rest() -> None:
    units = np.random.default_rng(2).random((40, 3))
    told = _losses(units)
    told[7] = 1e12
    means, _ = Surrogate(GENES, units, told, 0).predict(units)
    rest = [at for at in range(40) if at != 7]
    assert np.corrcoef(means[rest, 0], told[rest, 0])[0, 1] > 0.9


def test_equal_losses_and_one_point_are_no_trouble() -> None:
    units = np.random.default_rng(3).random((6, 3))
    for count in (1, 6):
        means, deviations = Surrogate(GENES, units[:count], np.full((count, 2), 0.5), 0).predict(units)
        assert np.allclose(means, 0.5)
        assert np.isfinite(deviations).all()


def test_global_luck_is_left_alone() -> None:
    random.seed(4)
    np.random.seed(4)
    before = random.getstate(), repr(np.random.get_state())
    units = np.random.default_rng(4).random((10, 3))
    Surrogate(GENES, units, _losses(units), 0)
    assert (random.getstate(), repr(np.random.get_state())) == before


def test_choices_are_not_in_an_order() -> None:
    genes = (Gene(name="method", kind="category", choices=("a", "b", "c")), Gene(name="weight"))
    found = coordinates(genes, np.array([[1 / 6, 0.2], [1.0, 0.4]]))
    assert found.tolist() == [[1, 0, 0, 0.2], [0, 0, 1, 0.4]]
