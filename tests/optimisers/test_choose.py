"""The default optimiser follows from the shape of the space and says why; a named one has to fit."""

from __future__ import annotations

import pytest

from alloyd.errors import RecipeError, UsageError
from alloyd_daemon.optimiser import OPTIMISERS
from alloyd_daemon.search.choose import choose
from alloyd_daemon.search.genome import Gene
from optimisers.ground import bits, reals


@pytest.mark.parametrize(
    ("genome", "objectives", "budget", "name"),
    [
        (reals(6), 1, 400, "cma-es"),
        (reals(6), 1, None, "cma-es"),
        (reals(6), 1, 20, "bayes"),
        (reals(1), 1, 1000, "cma-es"),
        (reals(40), 1, 500, "cma-es"),
        (reals(40), 1, 50, "de"),
        (reals(4) + bits(8), 1, 500, "cma-es"),
        (bits(192), 1, 1000, "cma-es"),
        (bits(6), 1, 40, "bayes"),
        (reals(4), 2, 300, "nsga2"),
        (reals(4), 3, 10, "nsga2"),
    ],
)
def test_the_default_follows_from_the_space(
    genome: tuple[Gene, ...], objectives: int, budget: int | None, name: str
) -> None:
    chosen = choose("auto", genome, objectives=objectives, budget=budget)
    assert chosen.kind.name == name
    assert chosen.why.startswith(f"{name} for ")
    assert chosen.why.endswith(chosen.kind.why)


def test_the_reason_counts_the_genes() -> None:
    whole = (Gene(name="rank", kind="integer", low=1, high=4),)
    assert "6 real numbers: " in choose("auto", reals(6)).why
    assert "1 real number, 1 whole number and 2 choices: " in choose("auto", reals(1) + whole + bits(2)).why
    assert "3 choices and 2 objectives: " in choose("auto", bits(3), objectives=2).why
    assert "6 real numbers and 20 candidates: " in choose("auto", reals(6), budget=20).why


def test_what_is_named_is_taken() -> None:
    for name, kind in OPTIMISERS.items():
        if kind.space is None:
            chosen = choose(name, reals(2), objectives=2 if kind.several else 1)
            assert chosen.kind is kind
            assert "as asked" in chosen.why


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(RecipeError) as refused:
        choose("cmaes", reals(2))
    assert "cma-es" in refused.value.hint


@pytest.mark.parametrize("name", [name for name, kind in OPTIMISERS.items() if not kind.several])
def test_a_front_needs_an_optimiser_that_keeps_one(name: str) -> None:
    with pytest.raises(UsageError, match=name) as refused:
        choose(name, reals(2), objectives=2)
    assert "nsga2" in refused.value.hint


@pytest.mark.parametrize("name", ["auto", "cma-es"])
def test_a_search_in_which_nothing_varies_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="nothing varies") as refused:
        choose(name, (Gene(name="method", kind="category", choices=("ties",)),))
    assert "knob" in refused.value.hint


@pytest.mark.parametrize("name", ["auto", "de"])
def test_texts_are_for_those_who_write_them(name: str) -> None:
    with pytest.raises(UsageError):
        choose(name, (*reals(2), Gene(name="program", kind="text")))
