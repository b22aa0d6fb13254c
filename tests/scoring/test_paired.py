"""Two models on the same items."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd_daemon.evaluator import ItemScore, Metric
from alloyd_daemon.scoring.paired import compare, mcnemar

ACC = Metric("acc")
BITS = Metric("bits_per_byte", "lower", "nats", "bytes", "bits")


def shares(values: list[int], first: int = 0) -> list[ItemScore]:
    return [ItemScore(str(first + place), {"acc": float(each)}) for place, each in enumerate(values)]


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (0, 5, 0.0625),
        (0, 6, 0.03125),
        (2, 8, 0.109375),
        (8, 2, 0.109375),
        (5, 5, 1.0),
        # scipy.stats.binomtest(wins, wins + losses).pvalue, scipy 1.17.1
        (10, 25, 0.016673847800120715),
        (59, 41, 0.08862608011406758),
        (121, 59, 4.4344492637551645e-06),
        (20_000, 20_500, 0.013153825113144245),
    ],
)
def test_mcnemar_equals_known_values(wins: int, losses: int, p: float) -> None:
    assert mcnemar(wins, losses) == pytest.approx(p, rel=1e-9)


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_is_twice_the_tail(wins: int, losses: int) -> None:
    n = wins + losses
    tail = sum(comb(n, k) for k in range(min(wins, losses) + 1))
    assert mcnemar(wins, losses) == pytest.approx(min(1.0, 2 * tail / 2**n))
    assert mcnemar(wins, losses) == mcnemar(losses, wins)


def test_discordant_items_are_counted() -> None:
    found = compare(ACC, shares([1, 1, 0, 0, 0, 1]), shares([1, 0, 1, 1, 0, 1]))
    assert found is not None
    assert (found.wins, found.losses, found.ties, found.n, found.unpaired) == (2, 1, 3, 6, 0)
    assert (found.first, found.second) == (0.5, pytest.approx(4 / 6))
    assert found.difference == pytest.approx(1 / 6)
    assert found.p == 1.0
    assert found.verdict == "no clear difference"


def test_only_common_items_are_compared() -> None:
    found = compare(ACC, shares([1, 1, 0, 0]), shares([0, 1, 1, 1], first=2))
    assert found is not None
    assert (found.n, found.unpaired) == (2, 4)
    assert (found.first, found.second) == (0.0, 0.5)
    assert compare(ACC, shares([1]), shares([1], first=5)) is None


def test_a_clear_difference_is_called_one() -> None:
    worse, better = shares([0] * 30 + [1] * 70), shares([1] * 25 + [0] * 5 + [1] * 65 + [0] * 5)
    found = compare(ACC, worse, better)
    assert found is not None
    assert found.p == pytest.approx(mcnemar(25, 5))
    assert found.verdict == "better"
    back = compare(ACC, better, worse)
    assert back is not None
    assert back.verdict == "worse"
    assert (back.low, back.high) == pytest.approx((-(found.high or 0), -(found.low or 0)), abs=0.02)


def test_pairing_sees_what_two_intervals_hide() -> None:
    random = np.random.default_rng(3)
    sizes = random.integers(20, 400, 60)
    hard = random.uniform(0.2, 2.0, 60)
    first = [
        ItemScore(str(k), {"nats": float(hard[k] * sizes[k]), "bytes": float(sizes[k])}) for k in range(60)
    ]
    second = [
        ItemScore(str(k), {"nats": float((hard[k] - 0.02) * sizes[k]), "bytes": float(sizes[k])})
        for k in range(60)
    ]
    found = compare(BITS, first, second)
    assert found is not None
    assert found.p is None
    assert found.difference == pytest.approx(-0.02 / np.log(2))
    assert (found.wins, found.losses) == (60, 0)
    assert found.verdict == "better"


def test_one_item_has_a_difference_without_an_interval() -> None:
    found = compare(ACC, shares([0]), shares([1]))
    assert found is not None
    assert (found.difference, found.low, found.high) == (1.0, None, None)
    assert found.verdict == "no clear difference"
