"""A point of a parameter space is one recipe to mergekit and to alloyd: filters part the tensors alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from alloyd.search_reader import read
from alloyd_daemon.search.model_shape import ModelShape
from alloyd_daemon.search.spaces.parameters import ParameterSpace
from alloyd_daemon.search.template import opened
from alloyd_daemon.settings import Settings
from checkpoint_factory import read_checkpoint
from parity import other_tool
from parity.comparison import excess
from parity.conftest import HALF_TIED

SPEC = """
recipe:
  merge_method: linear
  models:
    - {model: ONE, parameters: {weight: {low: -1, high: 2, layers: 3, components: [attention, norms, mlp]}}}
    - model: TWO
      parameters:
        weight:
          - {filter: "1.", value: {low: -1, high: 2, components: [_proj, weight]}}
          - {value: [{low: -1, high: 2}, {low: -1, high: 2}]}
    - {model: FAR, parameters: {weight: {low: -1, high: 2, layers: 4}}}
  parameters: {normalize: false}
  dtype: float32
tasks: {search: a, validation: b}
budget: {candidates: 1}
"""
FAMILIES = ("llama", "gpt2", HALF_TIED)


@pytest.fixture(scope="module")
def recipes(families: dict[str, dict[str, Path]]) -> dict[str, str]:
    """By family: the recipe of a point at which no two genes have one value."""
    found = {}
    for family in FAMILIES:
        text = SPEC if family != "gpt2" else SPEC.replace("_proj", "c_")
        for name, folder in families[family].items():
            text = text.replace(f"model: {name}", f"model: {folder}")
        template, checkpoints = opened(read(text).recipe or {}, base_dir=Path("/"), settings=Settings())
        space = ParameterSpace(template, ModelShape.of(checkpoints))
        count = len(space.genome)
        point = {
            gene.name: gene.of_unit((place + 1) / (count + 1)) for place, gene in enumerate(space.genome)
        }
        assert count >= 15
        found[family] = yaml.safe_dump(space.recipe(point), sort_keys=False)
    return found


@pytest.fixture(scope="module")
def theirs(recipes: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By family: what mergekit made of the recipe."""
    python = other_tool.needed("mergekit")
    workspace = tmp_path_factory.mktemp("mergekit-searched")
    outs = {family: workspace / family for family in recipes}
    complaints = other_tool.run(python, {outs[family]: recipes[family] for family in recipes}, workspace)
    assert not any(complaints.values()), complaints
    return outs


@pytest.mark.parametrize("family", FAMILIES)
def test_a_point_is_one_recipe_to_both(
    family: str, recipes: dict[str, str], theirs: dict[str, Path], alloyd_merge: Callable[[str], Path]
) -> None:
    ours = read_checkpoint(alloyd_merge(recipes[family]))
    expected = read_checkpoint(theirs[family])
    assert sorted(ours) == sorted(expected)
    worst = {name: float(excess(ours[name], expected[name]).max(initial=0)) for name in expected}
    assert not {name: figure for name, figure in worst.items() if figure > 1}
