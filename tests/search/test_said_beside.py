"""What is said beside a spec stands in its place, and must make sense with the rest of it."""

from __future__ import annotations

from typing import Any

import pytest

from alloyd.errors import UsageError
from alloyd.jobs import SearchSpec
from alloyd.search_schema import Budget, OptimiserChoice, SearchFile, Splits
from alloyd_daemon.search.ready import beside

FILE = SearchFile(
    tasks=Splits(("a",), ("b",)),
    budget=Budget(candidates=9, items=100),
    optimiser=OptimiserChoice("de", {"scale": 0.5}),
)


def said(**fields: Any) -> SearchFile:
    return beside(FILE, SearchSpec("", "/", **fields))


def test_what_is_said_takes_the_place() -> None:
    assert said() == FILE
    changed = said(candidates=3, seed=7, runner="stream", mode="async", seconds=2.0)
    assert changed.budget == Budget(candidates=3, items=100, seconds=2.0)
    assert (changed.seed, changed.runner, changed.mode) == (7, "stream", "async")


def test_options_are_those_of_the_optimiser_that_has_them() -> None:
    assert said(optimiser="de").optimiser == FILE.optimiser
    assert said(optimiser="random").optimiser == OptimiserChoice("random")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"candidates": 0}, "a budget of 0 candidates is none"),
        ({"items": -1}, "a budget of -1 items is none"),
        ({"seconds": float("nan"), "mode": "async"}, "a budget of nan seconds is none"),
        ({"seconds": float("inf"), "mode": "async"}, "a budget of inf seconds is none"),
        ({"seed": -1}, "the seed must be a whole number from 0 to"),
        ({"seed": 2**63}, "the seed must be a whole number from 0 to"),
        ({"mode": "asink"}, "mode must be deterministic or async, not 'asink'"),
        ({"seconds": 5.0}, "cannot repeat itself after a kill"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        said(**fields)
