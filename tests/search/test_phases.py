"""What a spec searches: refused before work where there is nothing to find."""

from __future__ import annotations

from pathlib import Path

import pytest

from alloyd.errors import RecipeError
from alloyd.search_reader import read
from alloyd_daemon.job import Context
from alloyd_daemon.search.phases import phases_of
from alloyd_daemon.settings import Settings

ROOT = Path(__file__).parents[2]
SPEC = """
recipe:
  merge_method: task_arithmetic
  base_model: zoo/models/base
  models: [{model: zoo/models/math, parameters: {weight: %s}}, {model: zoo/models/lang, parameters: {weight: 1}}]
tasks: {search: a, validation: b}
budget: {items: 1}
"""


@pytest.mark.parametrize(("weight", "more"), [("1", ""), ("1", "path: {after: true}\n")])
def test_a_recipe_without_a_knob_leaves_nothing_to_search(weight: str, more: str, tmp_path: Path) -> None:
    context = Context(home=tmp_path, settings=Settings(), job_id="search-1")
    with pytest.raises(RecipeError, match="has no knob") as caught:
        phases_of(read(SPEC % weight + more), base_dir=ROOT, folder=tmp_path, context=context, memory=1 << 30)
    assert "{low: 0, high: 1}" in caught.value.hint


def test_a_path_over_a_recipe_without_a_knob_is_a_search(tmp_path: Path) -> None:
    context = Context(home=tmp_path, settings=Settings(), job_id="search-1")
    found = phases_of(
        read(SPEC % "1" + "path: {}\n"), base_dir=ROOT, folder=tmp_path, context=context, memory=1 << 30
    )
    assert found.genomes[0]
