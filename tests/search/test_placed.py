"""A baseline has genes where its recipe is a point of the space, and none where it only looks like one."""

from __future__ import annotations

from typing import Any

import pytest

from alloyd.recipe import ModelRef
from alloyd_daemon.search.baselines import baselines
from alloyd_daemon.search.placed import place_of, weights_of
from search.test_parameter_space import space

TWO = """
merge_method: {method}
base_model: base
models:
  - {{model: a, parameters: {{weight: {a}{more}}}}}
  - {{model: b, parameters: {{weight: {b}{more}}}}}
"""
WIDE = "{low: 0, high: 1.5, layers: 2, components: [attention, mlp]}"
A, B, BASE = ModelRef("a"), ModelRef("b"), ModelRef("base")
SOURCES = {A: 0, B: 0}


def _found(a: str = WIDE, b: str = WIDE, method: str = "task_arithmetic", more: str = "") -> dict[str, Any]:
    held, _ = baselines({"a": A, "b": B}, ("base", BASE), {})
    here = space(TWO.format(method=method, a=a, b=b, more=more))
    found = {}
    for each in held:
        weights = weights_of(each.recipe, SOURCES, BASE)
        found[each.name] = None if weights is None else place_of(here, weights)
    return found


def test_sources_soups_and_the_grid_are_points() -> None:
    found = _found()
    assert found["ties"] is found["dare_ties"] is None
    for name, of_a, of_b in (
        ("a", 1, 0),
        ("b", 0, 1),
        ("base", 0, 0),
        ("uniform soup", 0.5, 0.5),
        ("task_arithmetic 0.6", 0.6, 0.6),
    ):
        assert found[name]
        for gene, value in found[name].items():
            assert value == (of_a if gene.startswith("weight[a]") else of_b)


def test_a_gene_that_both_share_is_one_value() -> None:
    found = _found(a="{low: 0, high: 1, name: w}", b="{low: 0, high: 1, name: w}")
    assert found["task_arithmetic 0.8"] == {"w": 0.8}
    assert found["a"] is None


@pytest.mark.parametrize(
    ("a", "b"), [("{low: 0.3, high: 1}", WIDE), (WIDE, "1"), (WIDE, "0.1")], ids=["bounds", "fixed", "never"]
)
def test_what_the_ranges_do_not_hold_is_no_point(a: str, b: str) -> None:
    assert _found(a=a, b=b)["task_arithmetic 0.2"] is None


def test_the_method_may_be_a_gene() -> None:
    found = _found(method="{choices: [ties, task_arithmetic]}")
    assert found["a"]["merge_method"] == "task_arithmetic"


def test_of_another_method_no_baseline_is_a_point() -> None:
    assert not any(_found(method="ties", more=", density: 0.5").values())


def test_only_sums_of_task_vectors_have_weights() -> None:
    entry = {"model": "a", "parameters": {"weight": [0.1, 0.2]}}
    assert weights_of({"merge_method": "task_arithmetic", "models": [entry]}, SOURCES, BASE) is None
    other = {"model": "c"}
    assert weights_of({"merge_method": "passthrough", "models": [other]}, SOURCES, BASE) is None
