"""The Pareto front and its hypervolume, against what can be counted by hand and by brute force."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloyd_daemon.search.pareto import front, hypervolume, reference_point

LOSSES = st.lists(st.tuples(*[st.integers(0, 6).map(float)] * 3), max_size=20)


def dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


@given(LOSSES)
@settings(max_examples=60, deadline=None)
def test_the_front_is_what_nothing_dominates(losses: list[tuple[float, ...]]) -> None:
    wanted = [
        place for place, each in enumerate(losses) if not any(dominates(other, each) for other in losses)
    ]
    assert front(losses) == tuple(wanted)


def test_points_that_are_not_finite_are_on_no_front() -> None:
    assert front([(math.nan, 0.0), (1.0, 1.0), (-math.inf, 2.0)]) == (1,)
    assert front([]) == front([(math.inf, 0.0)]) == ()


def test_a_hypervolume_that_can_be_counted() -> None:
    # Two rectangles of 2 x 1 and 1 x 2 that share a square.
    assert hypervolume([(0.0, 1.0), (1.0, 0.0)], (2.0, 2.0)) == pytest.approx(3.0)
    assert hypervolume([(0.0, 1.0), (1.0, 0.0), (1.0, 1.0)], (2.0, 2.0)) == pytest.approx(3.0)
    assert hypervolume([(3.0, 0.0)], (2.0, 2.0)) == 0.0
    assert hypervolume([], (2.0, 2.0)) == 0.0


def test_every_finite_point_is_within_its_reference() -> None:
    losses = [(1.0, 5.0), (2.0, 5.0), (math.nan, 0.0)]
    reference = reference_point(losses)
    assert all(a < b for each in losses[:2] for a, b in zip(each, reference, strict=True))
    assert hypervolume(losses[:2], reference) > 0
    with pytest.raises(ValueError, match="finite"):
        reference_point([(math.inf, 0.0)])
