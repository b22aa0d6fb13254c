"""Figures and their intervals: what they are of, and that they hold what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd_daemon.evaluator import ItemScore, Metric
from alloyd_daemon.scoring.intervals import bootstrap_interval, wilson_interval
from alloyd_daemon.scoring.summary import figures, metrics_of, summarise

SHARE = Metric("acc")
BITS = Metric("bits_per_byte", "lower", "nats", "bytes", "bits")
PERPLEXITY = Metric("byte_perplexity", "lower", "nats", "bytes", "exp")


def scores_of(*values: dict[str, float]) -> list[ItemScore]:
    return [ItemScore(str(place), each) for place, each in enumerate(values)]


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 300, 0.0, 0.01264), (5, 300, 0.00714, 0.03841), (81, 263, 0.25525, 0.36621), (10, 10, 0.72247, 1.0)],
)
def test_wilson_intervals_equal_published_ones(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_wilson_interval_holds_its_share_and_mirrors(counts: tuple[int, int]) -> None:
    successes, trials = counts
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    assert wilson_interval(trials - successes, trials) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(
    ("successes", "trials", "confidence"), [(1, 0, 0.95), (-1, 3, 0.95), (4, 3, 0.95), (1, 3, 1.0)]
)
def test_no_interval_for_no_share(successes: int, trials: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"no share|confidence"):
        wilson_interval(successes, trials, confidence)


def test_a_share_has_wilson_s_interval() -> None:
    (figure,) = summarise([SHARE], scores_of({"acc": 1}, {"acc": 0}, {"acc": 1}))
    assert (figure.value, figure.n, figure.interval) == (2 / 3, 3, "wilson")
    assert (figure.low, figure.high) == wilson_interval(2, 3)


def test_weighted_figures_are_ratios_of_sums() -> None:
    scores = scores_of(
        {"nats": 10.0, "bytes": 20.0}, {"nats": 2.0, "bytes": 100.0}, {"nats": 5.0, "bytes": 7.0}
    )
    found = figures([BITS, PERPLEXITY], scores)
    assert found == {
        "bits_per_byte": pytest.approx(17 / 127 / math.log(2)),
        "byte_perplexity": pytest.approx(math.exp(17 / 127)),
    }
    for figure in summarise([BITS, PERPLEXITY], scores):
        assert figure.interval == "bootstrap"
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low <= figure.value <= figure.high
    bits, perplexity = summarise([BITS, PERPLEXITY], scores)
    # The same resampled items behind both: the interval of one is that of the other, scaled.
    assert perplexity.low == pytest.approx(2**bits.low if bits.low is not None else None)


def test_a_bootstrap_covers_the_mean_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        drawn = random.gamma(4.0, 1.0, 80)
        scores = scores_of(*({"logprob": float(each)} for each in drawn))
        (figure,) = summarise([Metric("logprob")], scores)
        assert figure.low is not None
        assert figure.high is not None
        covered += figure.low <= 4.0 <= figure.high
    assert 180 <= covered <= 198


def test_the_same_scores_have_the_same_interval_whatever_is_drawn_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(2).normal(size=50)
    whole = bootstrap_interval(lambda rows: values[rows].mean(axis=-1), 50)
    assert bootstrap_interval(lambda rows: values[rows].mean(axis=-1), 50) == whole
    monkeypatch.setattr("alloyd_daemon.scoring.intervals._AT_ONCE", 64)
    assert bootstrap_interval(lambda rows: values[rows].mean(axis=-1), 50) == whole
    with pytest.raises(ValueError, match="no items"):
        bootstrap_interval(lambda rows: rows.mean(axis=-1), 0)


def test_one_item_has_no_interval_and_none_has_no_figure() -> None:
    (figure,) = summarise([BITS], scores_of({"nats": 1.0, "bytes": 2.0}))
    assert (figure.low, figure.high, figure.interval) == (None, None, "none")
    assert summarise([BITS], []) == ()


def test_a_missing_value_is_named() -> None:
    with pytest.raises(ValueError, match="item 1 has no value for the metric 'bits_per_byte'"):
        summarise([BITS], scores_of({"nats": 1.0, "bytes": 2.0}, {"nats": 1.0}))


def test_metrics_that_only_the_scores_tell_are_those_that_all_have() -> None:
    scores = scores_of({"b": 1.0, "a": 0.5}, {"a": 0.25, "b": 0.0, "c": 3.0})
    assert metrics_of((), scores) == (Metric("b"), Metric("a"))
    assert metrics_of((SHARE,), scores) == (SHARE,)
    assert figures((), scores) == {"b": 0.5, "a": 0.375}
