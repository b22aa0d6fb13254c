"""What people set of an optimiser is read strictly, and the page lists it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alloyd.errors import Problems, RecipeError
from alloyd_daemon.optimiser import OPTIMISERS, OptimiserKind, Option
from alloyd_daemon.search.options import check_options, expected

OPTIONS = [(kind, name) for _, kind in OPTIMISERS.items() for name in kind.options]
PAGE = Path(__file__).parents[2] / "docs" / "optimisers.md"


@pytest.mark.parametrize("name", OPTIMISERS.names())
def test_nothing_given_is_all_defaults(name: str) -> None:
    kind = OPTIMISERS.get(name)
    assert check_options(kind, {}) == {each: option.default for each, option in kind.options.items()}
    assert check_options(kind, check_options(kind, {})) == check_options(kind, {})


@pytest.mark.parametrize(("kind", "name"), OPTIONS, ids=lambda each: getattr(each, "name", each))
def test_a_value_that_makes_no_sense_is_refused_by_name(kind: OptimiserKind, name: str) -> None:
    option = kind.options[name]
    wrong: list[object] = [None, [], float("nan"), float("inf"), "some"]
    if option.low is not None:
        wrong.append(option.low - 1)
    if option.high is not None:
        wrong.append(option.high + 1)
    if not isinstance(option.default, bool):
        wrong.append(True)
    for value in wrong:
        with pytest.raises(RecipeError, match=f"'{name}'") as refused:
            check_options(kind, {name: value})
        assert expected(option) in refused.value.hint


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one() -> None:
    with pytest.raises(RecipeError) as refused:
        check_options(OPTIMISERS.get("cma-es"), {"sigmas": 0.1})
    assert refused.value.hint == "Did you mean 'sigma'?"


def test_an_optimiser_without_options_says_so() -> None:
    with pytest.raises(RecipeError) as refused:
        check_options(OPTIMISERS.get("random"), {"sigma": 0.1})
    assert refused.value.hint == "It has none."


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(Problems) as refused:
        check_options(OPTIMISERS.get("de"), {"F": "much", "CR": 2, "strategy": "best"})
    assert len(refused.value.problems) == 3


def test_numbers_take_the_type_of_the_default() -> None:
    options = check_options(OPTIMISERS.get("de"), {"F": 1, "population": 12.0})
    assert (options["F"], options["population"]) == (1.0, 12)
    assert type(options["F"]) is float
    assert type(options["population"]) is int


def test_what_is_expected_is_said_in_words() -> None:
    assert expected(Option(default=1, about="", low=0)) == "a whole number, at least 0"
    assert expected(Option(default=1.0, about="", high=2)) == "a number, at most 2"
    assert expected(Option(default=1.0, about="")) == "a number"
    assert expected(Option(default="", about="")) == "text"


def test_the_page_lists_every_optimiser_and_option_with_its_default() -> None:
    page = PAGE.read_text(encoding="utf-8")
    kinds = dict(re.findall(r"^\| `([\w-]+)` \| ([^|]+?) \|", page.partition("## Options")[0], re.MULTILINE))
    assert kinds == {name: kind.summary for name, kind in OPTIMISERS.items()}
    rows = re.findall(
        r"^\| `([\w-]+)` \| `(\w+)` \| `([^`]*)` \| ([^|]*?) \| ([^|]*?) \|$", page, re.MULTILINE
    )
    assert {(of, name, default, values, about) for of, name, default, values, about in rows} == {
        (kind.name, name, _said(option.default), expected(option), option.about)
        for kind in (kind for _, kind in OPTIMISERS.items())
        for name, option in kind.options.items()
    }


def _said(default: object) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)
