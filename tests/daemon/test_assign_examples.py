"""Every example recipe lies over models shaped as the zoo's are, without an error or a warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from alloyd.recipe import in_order, load
from alloyd.recipe_file import read
from alloyd_daemon.merge_method import METHODS
from alloyd_daemon.recipes.assign import assign
from alloyd_daemon.recipes.outline import Model
from outlines import family

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "configs" / "recipes").glob("*.yaml"))
ZOO = family(layers=4, tied=True)


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: str(file.stem))
def test_an_example_lies_over_the_zoo(file: Path) -> None:
    for recipe, uses in in_order(load(read(file), name=file.name)):
        refs = recipe.referenced_models()
        assert all(each.path.startswith("zoo/models/") or each.path in uses for each in refs)
        models = [
            Model(str(each), Path("/") / each.path, each.lora and Path("/") / each.lora.path) for each in refs
        ]
        outline = assign(recipe, models, [ZOO.tensors] * len(refs), [ZOO.config] * len(refs))
        assert outline.warnings == ()
        assert len(outline.assignments) >= len(ZOO.tensors)


def test_the_common_methods_each_have_an_example() -> None:
    shown = {recipe.merge_method for file in RECIPES for recipe in load(read(file))}
    assert shown >= {"linear", "slerp", "task_arithmetic", "ties", "dare_linear", "dare_ties", "passthrough"}
    assert shown <= set(METHODS.names())
