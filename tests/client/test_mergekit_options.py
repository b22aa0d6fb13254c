"""What a user of mergekit says, and is told to say instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from alloyd import cli
from alloyd.errors import RecipeError
from alloyd.mergekit_options import INSTEAD, instead
from alloyd.recipe import load
from alloyd.search_reader import read

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"


@pytest.mark.parametrize("said", [["--cuda"], ["--out-shard-size", "2B"], ["--no-copy-tokenizer"]])
def test_an_option_of_mergekit_is_answered_with_what_to_do(
    said: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["merge", "a.yaml", "out", *said]) == 2
    told = capfd.readouterr().err.splitlines()
    assert told == [f"error: 'alloy merge' does not know '{said[0]}'", f"hint: {instead(said[0])}"]


def test_other_unknown_options_get_the_nearest(capfd: pytest.CaptureFixture[str]) -> None:
    assert instead("--memroy") == ""
    assert cli.main(["merge", "a.yaml", "out", "--memroy", "1GB"]) == 2
    assert "Did you mean '--memory'?" in capfd.readouterr().err


def test_none_of_them_is_an_option_here_and_the_page_has_all() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for option in INSTEAD:
        assert f"`{option}" in page
        assert option not in cli.parser().format_help()


def test_a_spec_that_is_merged_and_a_recipe_that_is_searched_are_told_apart() -> None:
    with pytest.raises(RecipeError, match="this is a search spec, not a recipe") as spec:
        load("recipe: {merge_method: linear}\ntasks: {search: [a]}\n")
    assert spec.value.hint == "'alloy search FILE' runs it."
    with pytest.raises(RecipeError, match="this is a recipe, not a search spec") as recipe:
        read("merge_method: linear\nmodels: [{model: a}]\n")
    assert "under 'recipe'" in recipe.value.hint
