"""The default optimiser follows from the shape of the space and says why; a named one has to fit."""

from __future__ import annotations

import pytest

from alloyd.errors import RecipeError
from alloyd.search_schema import OptimiserChoice
from alloyd_daemon.optimiser import OPTIMISERS
from alloyd_daemon.search.choose import choose
from alloyd_daemon.search.genome import Gene
from alloyd_daemon.search.options import check_options
from optimisers.ground import bits, reals

AUTO = OptimiserChoice()


@pytest.mark.parametrize(
    ("genome", "objectives", "name"),
    [
        (reals(1), 1, "cma-es"),
        (reals(6), 1, "cma-es"),
        (reals(40), 1, "cma-es"),
        (reals(4) + bits(8), 1, "cma-es"),
        (bits(192), 1, "cma-es"),
        (bits(6), 1, "bayes"),
        (reals(4), 2, "nsga2"),
        (bits(4), 3, "nsga2"),
    ],
)
def test_the_default_follows_from_the_space(genome: tuple[Gene, ...], objectives: int, name: str) -> None:
    chosen = choose(AUTO, genome, objectives)
    assert chosen.kind.name == name
    assert chosen.options == check_options(chosen.kind, {})
    assert chosen.why.endswith(chosen.kind.why)


def test_the_reason_counts_the_genes() -> None:
    whole = (Gene(name="rank", kind="integer", low=1, high=4),)
    assert choose(AUTO, reals(6)).why.startswith("for 6 real numbers: ")
    mixed = choose(AUTO, reals(1) + whole + bits(2))
    assert mixed.why.startswith("for 1 real number, 1 whole number and 2 choices: ")
    assert choose(AUTO, bits(3), 2).why.startswith("for 3 choices and 2 objectives: ")


def test_what_is_named_is_taken_with_its_options() -> None:
    for name, kind in OPTIMISERS.items():
        if kind.space is None:
            assert choose(OptimiserChoice(name=name), reals(2), 2 if kind.several else 1).kind is kind
    given = choose(OptimiserChoice(name="de", options={"F": 0.8}), reals(2))
    assert given.options["F"] == 0.8
    with pytest.raises(RecipeError, match="no option 'f'"):
        choose(OptimiserChoice(name="de", options={"f": 0.8}), reals(2))


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(RecipeError) as refused:
        choose(OptimiserChoice(name="cmaes"), reals(2))
    assert "cma-es" in refused.value.hint


@pytest.mark.parametrize("name", [name for name, kind in OPTIMISERS.items() if not kind.several])
def test_a_front_needs_an_optimiser_that_keeps_one(name: str) -> None:
    with pytest.raises(RecipeError, match=name) as refused:
        choose(OptimiserChoice(name=name), reals(2), 2)
    assert "nsga2" in refused.value.hint


@pytest.mark.parametrize("name", ["auto", "cma-es"])
def test_a_search_in_which_nothing_varies_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="nothing varies") as refused:
        choose(OptimiserChoice(name=name), (Gene(name="method", kind="category", choices=("ties",)),))
    assert "knob" in refused.value.hint


@pytest.mark.parametrize("name", ["auto", "de"])
def test_texts_are_for_those_who_write_them(name: str) -> None:
    with pytest.raises(RecipeError):
        choose(OptimiserChoice(name=name), (*reals(2), Gene(name="program", kind="text")))
