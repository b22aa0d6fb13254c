"""Racing: when a candidate may be dropped, the order of items, and what a dropped one is told to be worth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, hypergeom, t

from alloyd_daemon.search import racing
from alloyd_daemon.search.correlation import correlation


def test_all_looks_together_spend_less_than_what_may_go_wrong() -> None:
    spent = [racing.level(0.95, look) for look in range(1, 2000)]
    assert spent[0] == pytest.approx(0.025)
    assert sum(spent) < 0.05


@given(
    wins=st.integers(0, 30), losses=st.integers(0, 30), ties=st.integers(0, 50), unseen=st.integers(0, 300)
)
def test_right_and_wrong_answers_are_told_apart_by_the_sign_test_without_replacement(
    wins: int, losses: int, ties: int, unseen: int
) -> None:
    gains = np.array([0.01] * wins + [-0.01] * losses + [0.0] * ties)
    seen, telling = len(gains), wins + losses
    half = max(losses, math.ceil(telling * (seen + unseen) / (2 * seen))) if telling else 0
    p = float(hypergeom.cdf(wins, 2 * half, half, telling)) if telling else 1.0
    for alpha in (0.2, 0.05, 0.001):
        if abs(p - alpha) > 1e-9:
            said = racing.surely_worse(gains, alpha, seen + unseen)
            assert said == ((p <= alpha or not unseen) and losses > wins)


@given(wins=st.integers(0, 30), losses=st.integers(0, 30))
def test_of_endlessly_many_items_it_is_the_exact_sign_test(wins: int, losses: int) -> None:
    gains = np.array([1.0] * wins + [-1.0] * losses)
    p = binomtest(wins, wins + losses, 0.5, alternative="less").pvalue if wins + losses else 1.0
    for alpha in (0.2, 0.05, 0.001):
        if abs(p - alpha) > 1e-9:
            assert racing.surely_worse(gains, alpha, None) == (p <= alpha and losses > wins)


def test_what_all_items_have_said_is_sure() -> None:
    assert racing.surely_worse(np.array([-1.0] * 3 + [1.0] * 2), 0.2, 5)
    assert racing.surely_worse(np.array([-1.0, -2.0, 0.5, -0.25, 1.0]), 0.01, 5)


def test_other_gains_are_judged_by_students_t() -> None:
    gains = np.random.default_rng(3).normal(-0.3, 1.0, 40)
    n = len(gains)
    upper = gains.mean() + t.ppf(0.99, n - 1) * gains.std(ddof=1) * np.sqrt((1 - n / 100) / n)
    assert racing.upper_bound(gains, 0.01, 100) == pytest.approx(upper)
    assert racing.surely_worse(gains - 2, 0.01, 100)
    assert not racing.surely_worse(gains + 2, 0.01, 100)
    assert not racing.surely_worse(np.array([-1.0, -2.0, -3.0, 0.0, 0.0]), 0.05, 100)


def test_a_candidate_as_good_as_the_incumbent_is_seldom_dropped() -> None:
    dice = np.random.default_rng(1)
    dropped = 0
    for _ in range(400):
        gains = dice.choice([-0.01, 0.0, 0.01], size=300, p=[0.15, 0.7, 0.15])
        dropped += any(
            racing.surely_worse(gains[: look * 25], racing.level(0.95, look), 3000) for look in range(1, 13)
        )
    assert dropped / 400 <= 0.05


def test_what_is_unseen_is_expected_to_go_on_as_the_seen() -> None:
    assert racing.estimate(-0.9, np.array([-0.1, -0.1]), 0.5) == pytest.approx(-0.5)


def test_a_replayed_race_finds_the_winner_with_fewer_items() -> None:
    dice = np.random.default_rng(5)
    skills = dice.permutation(np.concatenate([np.linspace(0.2, 0.6, 60), [0.9, 0.75]]))
    hardness = dice.random(400)
    losses = -(hardness[None] < skills[:, None]).astype(float) / 400
    found = racing.replay(losses, block=25, confidence=0.95)
    assert found.winner == int(losses.sum(axis=1).argmin()) == int(skills.argmax())
    assert sum(found.asked) < 0.5 * losses.size
    assert len(found.estimates) == 62
    together = racing.replay_together(losses, block=25, confidence=0.95)
    assert together.winner == found.winner
    assert sum(together.asked) < sum(found.asked)
    for ways in (racing.replay, racing.replay_together):
        with pytest.raises(ValueError, match="no candidates"):
            ways(np.zeros((0, 3)), block=1, confidence=0.95)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=12))
def test_rank_correlations_are_those_of_scipy(pairs: list[tuple[int, int]]) -> None:
    from scipy.stats import kendalltau, spearmanr

    first, second = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    found = correlation(first, second)
    if len(set(first)) < 2 or len(set(second)) < 2:
        assert found.kendall is None
        assert found.spearman is None
        return
    assert found.kendall == pytest.approx(float(kendalltau(first, second)[0]))
    assert found.spearman == pytest.approx(float(spearmanr(first, second)[0]))
    assert found.kendall_low is not None
    assert found.kendall_high is not None
    assert found.kendall_low <= found.kendall_high


def test_too_few_candidates_have_no_correlation() -> None:
    assert correlation([1.0, 2.0], [1.0, 2.0]).kendall is None
