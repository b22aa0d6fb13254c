"""Paths over layers: any point is a recipe that plans, or one clear error; a path and a merge at once are both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alloyd.errors import AlloydError, PlanError, Problems, RecipeError, ShapeMismatch
from alloyd.jobs import PlanSpec
from alloyd.search_schema import DataFlow
from alloyd_daemon.candidate import Candidate, from_recipe
from alloyd_daemon.checkpoints.checkpoint import Checkpoint, open_checkpoint
from alloyd_daemon.engine.in_memory import population
from alloyd_daemon.search.genome import Gene, Genome, Point, check, first_point, of_units
from alloyd_daemon.search.space import PlainRecipe, Space
from alloyd_daemon.search.spaces.data_flow import DataFlowSpace
from alloyd_daemon.search.spaces.hybrid import HybridSpace
from alloyd_daemon.settings import Settings
from checkpoint_factory import NUMPY_DTYPES, Model, config, write_checkpoint, write_family

Values = dict[str, Any]


def candidate(recipe: PlainRecipe, home: Path) -> Candidate:
    """What a plain recipe becomes in a search."""
    spec = PlanSpec(recipe=json.dumps(recipe), base_dir="/")
    return from_recipe(spec, name="point", home=home, settings=Settings())


def tensors_of(one: Candidate) -> Values:
    """Every merged tensor, in float64."""
    with population([one]) as people:
        merged = dict(people.members[0].each())
    return {
        name: each.data[: each.data.nbytes]
        .view(NUMPY_DTYPES[each.dtype])
        .reshape(each.shape)
        .astype(np.float64)
        for name, each in merged.items()
    }


def opened(folders: list[Path]) -> list[Checkpoint]:
    return [open_checkpoint(each) for each in folders]


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_family(tmp_path_factory.mktemp("llama"), Model(layers=4, dtype="F32"), step=0.5)


@pytest.fixture(scope="module")
def gemmas(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    model = Model(architecture="gemma2", layers=3, dtype="F32")
    return write_family(tmp_path_factory.mktemp("gemma"), model, step=0.5)


def test_a_search_begins_with_the_first_model_itself(llamas: list[Path], tmp_path: Path) -> None:
    space = DataFlowSpace(DataFlow(repeat=3, scale=(0.5, 2.0), sign=True), opened(llamas))
    recipe = space.recipe(first_point(space.genome))
    assert recipe == {
        "merge_method": "passthrough",
        "slices": [{"sources": [{"model": str(llamas[0]), "layer_range": [0, 4]}]}],
    }


def test_a_search_for_shorter_models_begins_with_one(llamas: list[Path]) -> None:
    space = DataFlowSpace(DataFlow(longest=3), opened(llamas))
    assert [(hop.model, hop.layer) for hop in space.path(first_point(space.genome))] == [
        (0, 0),
        (0, 1),
        (0, 3),
    ]


def test_genes_are_an_indicator_for_each_place_that_is_free_and_a_scale_for_each(llamas: list[Path]) -> None:
    space = DataFlowSpace(DataFlow(repeat=2, first=1, last=2, scale=(0.5, 2.0)), opened(llamas))
    takes = [gene for gene in space.genome if gene.name.startswith("take.")]
    scales = [gene for gene in space.genome if gene.name.startswith("scale.")]
    assert len(scales) == 2 * 3 * 4
    assert len(takes) == len(scales) - 3
    assert all((gene.kind, gene.low, gene.high) == ("integer", 0, 1) for gene in takes)
    assert all(gene.log and gene.first == 1.0 for gene in scales)
    assert [gene.name for gene in takes if gene.first] == ["take.base.1.r1"]


@pytest.mark.parametrize("family", ["llamas", "gemmas"])
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_point_is_a_recipe_that_plans_or_one_clear_error(
    family: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folders = request.getfixturevalue(family)
    scaled = data.draw(st.booleans())
    depth = 4 if family == "llamas" else 3
    flow = DataFlow(
        repeat=data.draw(st.integers(1, 3)),
        first=data.draw(st.integers(1, depth - 1)),
        last=1,
        scale=(0.05, 20.0) if scaled else None,
        sign=scaled and data.draw(st.booleans()),
        longest=data.draw(st.none() | st.integers(depth, 12)),
    )
    space = DataFlowSpace(flow, opened(folders))
    size = len(space.genome)
    point = of_units(space.genome, data.draw(st.lists(st.floats(0, 1), min_size=size, max_size=size)))
    try:
        recipe = space.recipe(point)
    except RecipeError as refused:
        error = refused
    else:
        error = None
    if error is not None:
        assert error.facts["key"] in ("path.longest", "path.scale")
        return
    assert recipe == space.recipe(dict(reversed(point.items())))
    hops = space.path(point)
    assert len(hops) <= (flow.longest or 3 * depth * flow.repeat)
    one = candidate(recipe, tmp_path_factory.getbasetemp())
    assert not one.warnings
    assert one.config["num_hidden_layers"] == len(hops)
    (stack,) = one.prepared.plan.outline.stacks
    names = [model.path for model in one.prepared.plan.outline.models]
    assert [(names[model], layer) for model, layer in stack.origins] == [
        (folders[hop.model], hop.layer) for hop in hops
    ]
    if family == "gemmas":
        kinds = config(Model(architecture="gemma2", layers=depth))["layer_types"]
        assert one.config["layer_types"] == [kinds[hop.layer] for hop in hops]


def test_an_indicator_without_a_scale_changes_no_weight(llamas: list[Path], tmp_path: Path) -> None:
    space = DataFlowSpace(DataFlow(repeat=2), opened(llamas))
    point = dict(first_point(space.genome)) | {"take.tune-0.2.r1": 1, "take.base.1.r2": 1}
    found = tensors_of(candidate(space.recipe(point), tmp_path))
    base, tune = (tensors_of(candidate(_alone(each), tmp_path)) for each in llamas[:2])
    name = "model.layers.{}.mlp.down_proj.weight"
    for place, (source, layer) in enumerate(
        [(base, 0), (base, 1), (base, 2), (tune, 2), (base, 1), (base, 3)]
    ):
        np.testing.assert_array_equal(found[name.format(place)], source[name.format(layer)])
    np.testing.assert_array_equal(found["lm_head.weight"], base["lm_head.weight"])


def _alone(folder: Path) -> PlainRecipe:
    return {"merge_method": "passthrough", "models": [{"model": str(folder)}]}


def test_gains_less_one_are_flipped_and_divided_as_gains(gemmas: list[Path], tmp_path: Path) -> None:
    space = DataFlowSpace(DataFlow(scale=(0.05, 4.0), sign=True), opened(gemmas))
    point = dict(first_point(space.genome)) | {"scale.base.1": -4.0}
    found = tensors_of(candidate(space.recipe(point), tmp_path))
    whole = tensors_of(candidate(_alone(gemmas[0]), tmp_path))
    layer = "model.layers.1."
    for name in ("input_layernorm", "pre_feedforward_layernorm"):
        gain = 1 + whole[f"{layer}{name}.weight"]
        np.testing.assert_allclose(1 + found[f"{layer}{name}.weight"], -gain, rtol=1e-5)
    for name in ("post_attention_layernorm", "post_feedforward_layernorm"):
        gain = 1 + whole[f"{layer}{name}.weight"]
        np.testing.assert_allclose(1 + found[f"{layer}{name}.weight"], gain / -4, rtol=1e-5)
    np.testing.assert_allclose(1 + found["model.norm.weight"], -1 - whole["model.norm.weight"], rtol=1e-5)
    for name in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
        np.testing.assert_array_equal(found[layer + name], whole[layer + name])


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        (DataFlow(first=0), "at least 1"),
        (DataFlow(last=0), "at least 1"),
        (DataFlow(first=3, last=2), "5 layers"),
        (DataFlow(repeat=0), "repeat"),
        (DataFlow(longest=3, last=3), "always taken"),
        (DataFlow(scale=(0.01, 2)), "0.05"),
        (DataFlow(scale=(2, 0.5)), "in order"),
        (DataFlow(scale=(0.5, float("inf"))), "in order"),
        (DataFlow(scale=(float("nan"), 2.0)), "in order"),
        (DataFlow(sign=True), "needs path.scale"),
    ],
)
def test_numbers_that_no_path_can_have(flow: DataFlow, said: str, llamas: list[Path]) -> None:
    with pytest.raises(RecipeError, match=said):
        DataFlowSpace(flow, opened(llamas))


def test_paths_that_are_too_long_or_too_loud(llamas: list[Path]) -> None:
    space = DataFlowSpace(DataFlow(repeat=3, longest=4, scale=(0.05, 20.0)), opened(llamas))
    every = {gene.name: 1 if gene.kind == "integer" else 20.0 for gene in space.genome}
    with pytest.raises(RecipeError, match=r"36 hops, and path\.longest is 4"):
        space.recipe(every)
    loud = DataFlowSpace(DataFlow(repeat=3, scale=(0.05, 20.0)), opened(llamas))
    with pytest.raises(RecipeError, match="multiply to"):
        loud.recipe(every)


def test_models_that_cannot_follow_one_another(llamas: list[Path], tmp_path: Path) -> None:
    wide = write_checkpoint(tmp_path / "wide", Model(layers=4, hidden=64))
    heads = write_checkpoint(tmp_path / "heads", Model(layers=4, heads=8, kv_heads=4))
    other = write_checkpoint(tmp_path / "other", Model(architecture="qwen3", layers=4))
    with pytest.raises(AlloydError) as raised:
        DataFlowSpace(DataFlow(), opened([llamas[0], wide, heads, other]))
    assert isinstance(raised.value, Problems)
    problems = raised.value.problems
    assert any(isinstance(each, ShapeMismatch) and "wide" in each.message for each in problems)
    assert any("num_attention_heads" in each.message for each in problems)
    assert any("Qwen3ForCausalLM" in each.message for each in problems)


def test_an_architecture_without_a_fold_takes_paths_and_refuses_scales(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "one", Model(layers=3))
    text = (folder / "config.json").read_text().replace("LlamaForCausalLM", "HomemadeForCausalLM")
    (folder / "config.json").write_text(text)
    assert DataFlowSpace(DataFlow(repeat=2), opened([folder])).genome
    with pytest.raises(PlanError, match="HomemadeForCausalLM") as raised:
        DataFlowSpace(DataFlow(scale=(0.5, 2.0)), opened([folder]))
    assert "LlamaForCausalLM" in raised.value.hint


def test_what_configs_say_differently_is_told(llamas: list[Path], tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "far", Model(layers=4, dtype="F32"))
    text = (folder / "config.json").read_text().replace("10000.0", "500000.0")
    (folder / "config.json").write_text(text)
    (warning,) = DataFlowSpace(DataFlow(), opened([llamas[0], folder])).warnings
    assert "rope_theta" in warning


def test_what_goes_by_a_layers_number_is_told(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "one", Model(architecture="gpt2", layers=3))
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | {"scale_attn_by_inverse_layer_idx": True}))
    (warning,) = DataFlowSpace(DataFlow(repeat=2), opened([folder])).warnings
    assert "scale_attn_by_inverse_layer_idx" in warning


class Knobs:
    """A parameter space by hand: a recipe that a function makes from the values of some weights."""

    def __init__(self, names: tuple[str, ...], make: Any) -> None:
        self.genome: Genome = tuple(Gene(name=name, low=-2.0, high=2.0) for name in names)
        self._make = make

    def recipe(self, point: Point) -> PlainRecipe:
        assert set(point) == {gene.name for gene in self.genome}
        found: PlainRecipe = self._make(point)
        return found


def task_arithmetic(folders: list[Path]) -> Space:
    def make(point: Point) -> PlainRecipe:
        by_layer = [
            {"filter": "layers.1.", "value": point["one"]},
            {"filter": "mlp", "value": point["mlp"]},
            {"filter": "embed_tokens", "value": 0.25},
            {"value": 0.5},
        ]
        return {
            "merge_method": "task_arithmetic",
            "base_model": str(folders[0]),
            "dtype": "float32",
            "parameters": {"lambda": 0.9},
            "models": [
                {"model": str(folders[1]), "parameters": {"weight": by_layer}},
                {"model": str(folders[2]), "parameters": {"weight": [0.2, point["mlp"]]}},
            ],
        }

    return Knobs(("one", "mlp"), make)


def linear(folders: list[Path]) -> Space:
    def make(point: Point) -> PlainRecipe:
        return {
            "merge_method": "linear",
            "dtype": "float32",
            "models": [
                {
                    "model": str(folders[1]),
                    "parameters": {"weight": [{"filter": "mlp", "value": point["mlp"]}, {"value": 1}]},
                },
                {"model": str(folders[2]), "parameters": {"weight": 3}},
            ],
        }

    return Knobs(("mlp",), make)


@pytest.mark.parametrize("family", ["llamas", "gemmas"])
@pytest.mark.parametrize("make", [task_arithmetic, linear])
def test_a_hybrid_is_a_path_over_the_merge(
    family: str, make: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folders = request.getfixturevalue(family)
    flow = DataFlow(repeat=2, scale=(0.05, 4.0), sign=True)
    parameters = make(folders)
    hybrid = HybridSpace(parameters, flow, opened(folders[1:]))
    values = {"one": -0.7, "mlp": 1.6}
    knobs = {gene.name: values[gene.name] for gene in parameters.genome}
    point = dict(first_point(hybrid.genome)) | knobs
    point |= {"take.tune-0.1.r1": 1, "scale.tune-0.1.r1": -1.5, "take.merge.1.r2": 1, "scale.merge.1.r2": 0.5}
    point |= {"take.tune-1.2.r2": 1, "scale.merge.0.r1": 1.25}
    check(hybrid.genome, point)
    one = candidate(hybrid.recipe(point), tmp_path)
    assert not one.warnings
    found = tensors_of(one)

    # The same in two steps: the merge by itself, its layers along the path, each tensor changed by hand.
    merged = tensors_of(candidate(parameters.recipe(knobs), tmp_path))
    tunes = [tensors_of(candidate(_alone(each), tmp_path)) for each in folders[1:]]
    sources = (merged, *tunes)
    hops = hybrid.path(point)
    # A gain of Gemma is one more than what is stored.
    more = 1.0 if family == "gemmas" else 0.0
    for place, hop in enumerate(hops):
        start = f"model.layers.{hop.layer}."
        for name, whole in sources[hop.model].items():
            if not name.startswith(start):
                continue
            rest = name.removeprefix(start)
            expected = whole
            if "post" in rest and more:
                expected = (more + whole) / hop.total - more
            elif "norm" in rest:
                expected = (more + whole) * np.sign(hop.total) - more
            elif ("o_proj" in rest or "down_proj" in rest) and not more:
                expected = whole / hop.total
            np.testing.assert_allclose(
                found[f"model.layers.{place}.{rest}"],
                expected,
                rtol=1e-4,
                atol=1e-6,
                err_msg=f"{place} {rest}",
            )
    for name, whole in merged.items():
        if ".layers." not in name:
            flip = hops[-1].total < 0 and name == "model.norm.weight"
            expected = -(more + whole) - more if flip else whole
            np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-6, err_msg=name)
    assert hops[-1].total < 0


@settings(deadline=None, max_examples=10)
@given(st.data())
def test_any_point_of_a_hybrid_plans(
    llamas: list[Path], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    flow = DataFlow(repeat=2, scale=(0.3, 3.0), sign=True)
    hybrid = HybridSpace(task_arithmetic(llamas), flow, opened(llamas[1:]))
    size = len(hybrid.genome)
    point = of_units(hybrid.genome, data.draw(st.lists(st.floats(0, 1), min_size=size, max_size=size)))
    one = candidate(hybrid.recipe(point), tmp_path_factory.getbasetemp())
    assert not one.warnings
    assert one.config["num_hidden_layers"] == len(hybrid.path(point))


def test_weights_that_add_up_to_nothing_are_no_average(llamas: list[Path]) -> None:
    hybrid = HybridSpace(linear(llamas), DataFlow(), opened(llamas[1:]))
    hybrid.recipe(dict(first_point(hybrid.genome)) | {"mlp": -2.0})
    zero = Knobs(("mlp",), lambda point: _weighted(llamas, point["mlp"], 1.0))
    space = HybridSpace(zero, DataFlow(), opened(llamas[1:]))
    with pytest.raises(RecipeError, match="add up to 0"):
        space.recipe(dict(first_point(space.genome)) | {"mlp": -1.0})


def _weighted(folders: list[Path], *weights: Any) -> PlainRecipe:
    models = [
        {"model": str(folder), "parameters": {"weight": weight}}
        for folder, weight in zip(folders[1:], weights, strict=True)
    ]
    return {"merge_method": "linear", "models": models}


def test_slices_and_paths_exclude_each_other(llamas: list[Path]) -> None:
    sliced = {
        "merge_method": "passthrough",
        "slices": [{"sources": [{"model": str(llamas[1]), "layer_range": [0, 4]}]}],
    }
    with pytest.raises(RecipeError, match="slices"):
        HybridSpace(Knobs(("w",), lambda point: sliced), DataFlow(), opened(llamas[1:]))


def test_a_hybrid_begins_with_the_merge_itself(llamas: list[Path], tmp_path: Path) -> None:
    parameters = task_arithmetic(llamas)
    hybrid = HybridSpace(parameters, DataFlow(scale=(0.5, 2.0)), opened(llamas[1:]))
    point = first_point(hybrid.genome)
    found = tensors_of(candidate(hybrid.recipe(point), tmp_path))
    merged = tensors_of(candidate(parameters.recipe(first_point(parameters.genome)), tmp_path))
    assert found.keys() == merged.keys()
    for name, whole in merged.items():
        np.testing.assert_allclose(found[name], whole, rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_merge_that_is_no_weighted_sum_is_refused_by_name(llamas: list[Path]) -> None:
    def ties(point: Point) -> PlainRecipe:
        return {
            "merge_method": "ties",
            "base_model": str(llamas[0]),
            "models": [{"model": str(llamas[1]), "parameters": {"weight": point["w"], "density": 0.5}}],
        }

    with pytest.raises(RecipeError, match="ties") as raised:
        HybridSpace(Knobs(("w",), ties), DataFlow(), opened(llamas[1:]))
    assert "after: true" in raised.value.hint
    operators = Knobs(("one", "mlp"), lambda point: task_arithmetic(llamas).recipe(point))
    operators.genome += (
        Gene(name="merge_method", kind="category", choices=("task_arithmetic", "dare_ties")),
    )
    with pytest.raises(RecipeError, match="dare_ties"):
        HybridSpace(operators, DataFlow(), opened(llamas[1:]))
