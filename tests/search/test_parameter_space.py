"""Parameter space: every tensor gets exactly its gene's value, through the resolution that merges use."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd.errors import AlloydError, Problems
from alloyd.recipe import ModelRef
from alloyd.search_reader import read
from alloyd_daemon.recipes.outline import Outline
from alloyd_daemon.search.genome import Gene, Value, first_point
from alloyd_daemon.search.model_shape import ModelShape
from alloyd_daemon.search.spaces.parameters import ParameterSpace
from checkpoint_factory import ARCHITECTURES
from outlines import LLAMA, Checkpoint, family, lay

SPEC = "\ntasks: {search: a.jsonl, validation: b.jsonl}\nbudget: {candidates: 10}\n"
KNOB = "{low: 0.25, high: 4}"
TWO = """
merge_method: %s
base_model: base
models:
  - {model: a, parameters: {weight: %s}}
  - {model: b, parameters: {weight: 1}}
"""


def template(text: str) -> dict[str, Any]:
    indented = "".join(f"  {line}\n" for line in text.strip().splitlines())
    recipe = read(f"recipe:\n{indented}{SPEC}").recipe
    assert recipe is not None
    return recipe


def space(text: str, checkpoints: Mapping[str, Checkpoint] | None = None) -> ParameterSpace:
    found = template(text)
    names = dict.fromkeys(re.findall(r"(?:model|base_model): (\w+)", text))
    return ParameterSpace(
        found, ModelShape.of({ModelRef(name): (checkpoints or {}).get(name, LLAMA) for name in names})
    )


def problems(text: str, checkpoints: Mapping[str, Checkpoint] | None = None) -> list[AlloydError]:
    with pytest.raises(AlloydError) as caught:
        space(text, checkpoints)
    return list(caught.value.problems) if isinstance(caught.value, Problems) else [caught.value]


def problem(text: str, checkpoints: Mapping[str, Checkpoint] | None = None) -> AlloydError:
    found = problems(text, checkpoints)
    assert len(found) == 1, [each.message for each in found]
    return found[0]


def names(space: ParameterSpace) -> list[str]:
    return [gene.name for gene in space.genome]


def gene(space: ParameterSpace, name: str) -> Gene:
    (found,) = (each for each in space.genome if each.name == name)
    return found


def laid(
    space: ParameterSpace, point: Mapping[str, Value], checkpoints: Mapping[str, Checkpoint] | None = None
) -> Outline:
    return lay(json.dumps(space.recipe(point)), checkpoints)


def spread(space: ParameterSpace) -> dict[str, Value]:
    """A point at which no two genes have one value."""
    count = len(space.genome)
    return {each.name: each.of_unit((place + 1) / (count + 1)) for place, each in enumerate(space.genome)}


def values(outline: Outline, parameter: str = "weight", model: int = 0) -> dict[str, Any]:
    """The value of a parameter for every tensor: that of input ``model``, or the shared one."""
    found = {}
    for each in outline.assignments:
        of_input = next((one for one in each.inputs if one.model == model), None)
        if of_input is not None and parameter in of_input.parameters:
            found[of_input.tensor] = of_input.parameters[parameter]
        elif parameter in each.shared:
            found[each.name] = each.shared[parameter]
    return found


LAYER = re.compile(r"(?:layers|\.h|^h)\.(\d+)\.")
COMPONENTS = {
    "norms": re.compile(r"norm|\bln_"),
    "attention": re.compile(r"attn\."),
    "mlp": re.compile(r"mlp\."),
    "embeddings": re.compile(r"embed|wte|wpe|lm_head"),
}


def label(name: str, names: list[str], layers: int, groups: int | None, components: tuple[str, ...]) -> str:
    """What the gene of the tensor ``name`` is called after its parameter, found without any of the space's code."""

    def component(name: str) -> str:
        kind = next(key for key, pattern in COMPONENTS.items() if pattern.search(name))
        return next(
            (each for each in components if each == kind or (each not in COMPONENTS and each in name)), "rest"
        )

    own = component(name) if components else ""
    grouped = groups is not None and any(
        LAYER.search(each) for each in names if not components or component(each) == own
    )
    text = f".{own}" if own else ""
    if not grouped or groups is None:
        return text
    runs = [[n for n in range(layers) if n * groups // layers == group] for group in range(groups)]
    match = LAYER.search(name)
    if match:
        run = next(each for each in runs if int(match[1]) in each)
    else:
        run = runs[0] if re.search(r"embed_tokens|wte|wpe", name) else runs[-1]
    return f".layer {run[0]}{text}" if len(run) == 1 else f".layers {run[0]}-{run[-1]}{text}"


@given(
    architecture=st.sampled_from(ARCHITECTURES),
    layers=st.integers(1, 14),
    groups=st.none() | st.integers(1, 14),
    components=st.lists(
        st.sampled_from(["attention", "mlp", "norms", "embeddings", "_proj", "0.", "1.", "weight"]),
        unique=True,
        max_size=4,
    ),
    whole=st.booleans(),
    within=st.sampled_from([None, "mlp", "1.", "norm"]),
)
def test_every_tensor_gets_the_value_of_its_gene(
    architecture: str, layers: int, groups: int | None, components: list[str], whole: bool, within: str | None
) -> None:
    checkpoint = family(architecture, layers)
    more = {} if groups is None else {"layers": groups}
    knob = {"low": 0.25, "high": 4, **more, **({"components": components} if components else {})}
    setting = json.dumps(knob if within is None else [{"filter": within, "value": knob}, {"value": 9}])
    text = TWO % ("task_arithmetic", setting)
    if whole:
        text = f"{TWO % ('task_arithmetic', 1)}parameters: {{weight: {setting}}}".replace("{weight: 1}", "{}")
    models = dict.fromkeys(("base", "a", "b"), checkpoint)
    try:
        searched = space(text, models)
    except AlloydError:
        # Components without a tensor, and more groups than layers, are refused; other tests hold that to its words.
        return
    point = spread(searched)
    found = values(laid(searched, point, models))
    inside = [name for name in found if within is None or within in name]
    kinds = {name: label(name, inside, layers, groups, tuple(components)) for name in inside}
    owner = ("weight" if whole else "weight[a]") + (f".{within}" if within else "")
    assert {owner + each for each in kinds.values()} == set(names(searched))
    assert found == {name: point[owner + kinds[name]] if name in kinds else 9.0 for name in found}
    assert set(found) == set(checkpoint.tensors)


def test_genes_are_called_so_that_people_know_them() -> None:
    text = TWO % ("ties", "{low: 0, high: 2, start: 0.5, layers: 2, components: [attention, mlp]}")
    searched = space(
        f"{text}parameters: {{lambda: {{low: -1, high: 1}}, normalize: {{choices: [true, false]}}}}"
    )
    assert names(searched) == [
        "weight[a].layers 0-1.attention",
        "weight[a].layers 0-1.mlp",
        "weight[a].layers 0-1.rest",
        "weight[a].layers 2-3.attention",
        "weight[a].layers 2-3.mlp",
        "weight[a].layers 2-3.rest",
        "lambda",
        "normalize",
    ]
    assert gene(searched, "weight[a].layers 2-3.mlp").start == 0.5
    assert (gene(searched, "lambda").low, gene(searched, "lambda").high) == (-1, 1)
    assert gene(searched, "normalize").choices == (True, False)


def test_components_without_layers_need_one_filter_each() -> None:
    searched = space(TWO % ("ties", "{low: 0, high: 1, components: [attention, mlp, norms]}"))
    recipe = searched.recipe(spread(searched))
    filters = [each.get("filter") for each in recipe["models"][0]["parameters"]["weight"]]
    assert filters.count(None) == 1
    assert filters[-1] is None
    assert {"self_attn.", "mlp."} <= set(filters)
    assert len(filters) <= 6


def test_a_knob_alone_is_a_plain_value_and_what_is_no_knob_stays() -> None:
    searched = space((TWO % ("ties", KNOB)) + "dtype: float32\nseed: 7\n")
    assert searched.recipe({"weight[a]": 0.5}) == {
        "merge_method": "ties",
        "base_model": "base",
        "models": [
            {"model": "a", "parameters": {"weight": 0.5}},
            {"model": "b", "parameters": {"weight": 1}},
        ],
        "dtype": "float32",
        "seed": 7,
    }


def test_points_of_gradients_are_genes() -> None:
    searched = space(TWO % ("ties", "[{low: 0, high: 1}, 0.5, {low: 0, high: 1}]"))
    assert names(searched) == ["weight[a].1 of 3", "weight[a].3 of 3"]
    found = values(laid(searched, {"weight[a].1 of 3": 0.0, "weight[a].3 of 3": 1.0}))
    assert found["model.layers.0.mlp.up_proj.weight"] == 0.0
    assert found["model.layers.3.mlp.up_proj.weight"] == 1.0
    within = space(
        TWO % ("ties", "[{filter: mlp, value: [{low: 0, high: 1}, 0]}, {value: {low: 2, high: 3}}]")
    )
    assert names(within) == ["weight[a].mlp.1 of 2", "weight[a].rest"]


def test_knobs_of_one_name_are_one_gene() -> None:
    knob = "{low: 0.1, high: 1, layers: 2, name: strength}"
    searched = space((TWO % ("ties", knob)).replace("{weight: 1}", f"{{weight: {knob}}}"))
    assert names(searched) == ["strength.layers 0-1", "strength.layers 2-3"]
    outline = laid(searched, spread(searched))
    assert values(outline, model=0) == values(outline, model=1)


def test_models_of_one_name_are_told_apart() -> None:
    text = TWO % ("ties", KNOB)
    text = text.replace("model: a,", "model: x/m,").replace(
        "model: b, parameters: {weight: 1}", f"model: y/m, parameters: {{weight: {KNOB}}}"
    )
    found = ParameterSpace(
        template(text), ModelShape.of(dict.fromkeys(map(ModelRef, ("base", "x/m", "y/m")), LLAMA))
    )
    assert [each.name for each in found.genome] == ["weight[x/m]", "weight[y/m]"]


SLICED = """
merge_method: %s
%sslices:
  - sources:
      - {model: a, layer_range: [0, 4], parameters: {weight: %s}}
      - {model: b, layer_range: [0, 4], parameters: {weight: 1}}
  - sources:
      - {model: a, layer_range: [2, 6], parameters: {weight: %s}}
      - {model: b, layer_range: [4, 8], parameters: {weight: 2}}
%s
"""


def test_layers_of_a_slice_are_grouped_within_it() -> None:
    models = dict.fromkeys("ab", family(layers=8))
    knob = "{low: 0, high: 1, layers: 2}"
    searched = space(SLICED % ("linear", "", knob, knob, ""), models)
    assert names(searched) == [
        "weight[a 0-3].layers 0-1",
        "weight[a 0-3].layers 2-3",
        "weight[a 2-5].layers 2-3",
        "weight[a 2-5].layers 4-5",
    ]
    point = spread(searched)
    outline = laid(searched, point, models)
    genes = {each.name: each.inputs[0].parameters["weight"] for each in outline.assignments}
    expected = [name for name in names(searched) for _ in range(2)]
    for layer, name in enumerate(expected):
        assert genes[f"model.layers.{layer}.self_attn.q_proj.weight"] == point[name]
    assert genes["model.embed_tokens.weight"] == point[expected[0]]
    assert genes["lm_head.weight"] == genes["model.norm.weight"] == point[expected[-1]]


def test_shared_parameters_of_slices_are_grouped_by_the_layers_of_the_output() -> None:
    models = dict.fromkeys(("base", "a", "b"), family(layers=8))
    text = """
merge_method: slerp
base_model: a
slices:
  - {sources: [{model: a, layer_range: [0, 3]}, {model: b, layer_range: [0, 3]}], parameters: {t: %s}}
  - {sources: [{model: a, layer_range: [2, 5]}, {model: b, layer_range: [2, 5]}]}
parameters: {t: %s}
"""
    whole = space(
        text.replace("parameters: {t: %s}}", "}").replace("}]}, }", "}]}")
        % KNOB.replace("}", ", layers: 2}"),
        models,
    )
    assert names(whole) == ["t.layers 0-2", "t.layers 3-5"]
    found = values(laid(whole, spread(whole), models), "t")
    for layer in range(6):
        expected = spread(whole)["t.layers 0-2" if layer < 3 else "t.layers 3-5"]
        assert found[f"model.layers.{layer}.mlp.up_proj.weight"] == expected
    mixed = space(text % (KNOB.replace("}", ", components: [mlp]}"), 0.5), models)
    assert names(mixed) == ["t[slice 1].mlp", "t[slice 1].rest"]
    found = values(laid(mixed, spread(mixed), models), "t")
    assert found["model.layers.2.mlp.up_proj.weight"] == spread(mixed)["t[slice 1].mlp"]
    assert found["model.layers.3.mlp.up_proj.weight"] == 0.5


def test_layers_of_sources_that_differ_cannot_be_grouped_together() -> None:
    models = dict.fromkeys("ab", family(layers=8))
    knob = "{low: 0, high: 1, layers: 2}"
    text = (SLICED % ("linear", "", "1", "1", f"parameters: {{weight: {knob}}}")).replace(
        ", parameters: {weight: 1}", ""
    )
    found = problem(text, models)
    assert "the sources give different layers" in found.message
    assert "under each source" in found.hint


def test_modules_are_grouped_each_by_its_own_layers() -> None:
    tensors = {f"language_model.model.layers.{n}.mlp.up_proj.weight": (4, 4) for n in range(4)}
    tensors |= {f"vision_tower.encoder.layers.{n}.mlp.fc1.weight": (4, 4) for n in range(2)}
    tensors["multi_modal_projector.linear.weight"] = (4, 4)
    checkpoint = Checkpoint(
        {name: type(next(iter(LLAMA.tensors.values())))(shape) for name, shape in tensors.items()},
        {"architectures": ["Mistral3ForConditionalGeneration"]},
    )
    models = dict.fromkeys("ab", checkpoint)
    text = """
merge_method: linear
models:
  - {model: a, parameters: {weight: {low: 0, high: 1, layers: 2}}}
  - {model: b, parameters: {weight: 1}}
"""
    searched = space(text, models)
    assert names(searched) == ["weight[a].layers 0-1", "weight[a].layers 2-3"]
    point = spread(searched)
    found = values(laid(searched, point, models))
    first, last = (point[name] for name in names(searched))
    assert found["language_model.model.layers.1.mlp.up_proj.weight"] == first
    assert found["language_model.model.layers.2.mlp.up_proj.weight"] == last
    assert found["vision_tower.encoder.layers.0.mlp.fc1.weight"] == first
    assert found["vision_tower.encoder.layers.1.mlp.fc1.weight"] == last
    module = text.replace("models:", "modules:\n  text_decoder:\n    models:").replace("  - {", "      - {")
    only = space(module.replace("layers: 2", "layers: 4"), models)
    assert names(only) == [f"weight[text_decoder a].layer {n}" for n in range(4)]
    found = values(laid(only, spread(only), models))
    assert found["language_model.model.layers.3.mlp.up_proj.weight"] == spread(only)[names(only)[3]]
    sliced = """
merge_method: linear
modules:
  text_decoder:
    slices: [{sources: [{model: a, layer_range: [1, 3]}, {model: b, layer_range: [1, 3]}]}]
parameters: {weight: {low: 0, high: 1%s}}
"""
    assert "cannot be grouped together" in problem(sliced % ", layers: 2", models).message
    assert names(space(sliced % "", models)) == ["weight"]


CHOICE = "{choices: [linear, ties, task_arithmetic]}"


def test_a_chosen_method_gets_the_parameters_that_it_uses() -> None:
    text = (TWO % (CHOICE, KNOB)).replace("weight: 1", "weight: 1, density: {low: 0.1, high: 1}")
    searched = space(text + "parameters: {lambda: {low: 0.5, high: 2}, normalize: true}")
    assert names(searched) == ["merge_method", "weight[a]", "density[b]", "lambda"]
    point = first_point(searched.genome)
    linear = searched.recipe({**point, "merge_method": "linear"})
    assert linear == {
        "merge_method": "linear",
        "models": [
            {"model": "a", "parameters": {"weight": point["weight[a]"]}},
            {"model": "b", "parameters": {"weight": 1}},
        ],
        "parameters": {"normalize": True},
    }
    assert searched.active({**point, "merge_method": "linear"}) == {"merge_method", "weight[a]"}
    sum_of_vectors = searched.recipe({**point, "merge_method": "task_arithmetic"})
    assert "density" not in sum_of_vectors["models"][1]["parameters"]
    assert sum_of_vectors["base_model"] == "base"
    assert searched.active({**point, "merge_method": "ties"}) == set(point)


def test_a_base_that_is_one_of_the_models_stays_with_every_method() -> None:
    text = (TWO % ("{choices: [linear, ties]}", KNOB)).replace("model: b,", "model: base,")
    searched = space(text)
    assert searched.recipe({**first_point(searched.genome), "merge_method": "linear"})["base_model"] == "base"


def test_what_a_method_needs_is_checked_for_every_choice() -> None:
    found = problems((TWO % ("{choices: [ties, slerp]}", KNOB)) + "parameters: {lambda: 1}")
    assert all(each.message.startswith("with slerp: ") for each in found)
    assert any("exactly 1 source beside the base" in each.message for each in found)
    without = (TWO % ("{choices: [linear, ties]}", KNOB)).replace("base_model: base\n", "")
    assert "with ties: ties needs a base_model" in problem(without).message
    unknown = problem(TWO % ("{choices: [linear, tiez]}", KNOB))
    assert "ties" in unknown.hint


@pytest.mark.parametrize(
    ("method", "setting", "message", "hint"),
    [
        ("ties", "{low: 0, high: 1, layers: 5}", "4 layers cannot be parted into 5 groups", "layers: 4"),
        ("ties", "{low: 0, high: 1, components: [atention]}", "the component 'atention'", "'attention'"),
        ("ties", "{low: 0, high: 1, components: [mlp, down_proj]}", "'down_proj' belongs to", "narrower"),
        ("ties", "{low: 0, high: 1}, density: {low: 0.5, high: 1.5}", "density[a] with ties is 1.5", "kept"),
        (
            "ties",
            "{low: 0, high: 1}, density: {choices: [0.001, 1]}",
            "nothing of the smallest tensor, which has 32",
            "norms",
        ),
        (
            "ties",
            "{low: 0, high: 1}, density: {low: 0.001, high: 0.002}",
            "below 0.0313 keeps nothing",
            "components: [norms]",
        ),
        ("ties", "{choices: [one, two]}", "must be a number", "factor"),
        ("ties", "1, lambda: {low: 0, high: 1}", "'lambda' changes nothing here", "Move it"),
        ("task_arithmetic", "1, density: {low: 0.1, high: 1}", "'density' changes nothing here", "lambda"),
        ("linear", "1, wieght: {low: 0.1, high: 1}", "'wieght' changes nothing here", "weight"),
    ],
)
def test_knobs_that_a_method_or_the_models_cannot_have_are_refused(
    method: str, setting: str, message: str, hint: str
) -> None:
    text = TWO % (method, setting)
    found = problems(text if method != "linear" else text.replace("base_model: base\n", ""))
    assert len(found) <= 2
    assert message in found[0].message
    assert hint in found[0].hint


def test_a_switch_is_chosen_and_not_measured() -> None:
    found = problem((TWO % ("ties", KNOB)) + "parameters: {normalize: {low: 0, high: 1}}")
    assert "'normalize' of ties cannot lie anywhere between two numbers" in found.message
    assert "choices" in found.hint


@given(density=st.floats(1e-4, 0.03, exclude_min=True), elements=st.integers(1, 300))
def test_no_density_empties_a_tensor(density: float, elements: int) -> None:
    tensors = {**LLAMA.tensors, "model.norm.weight": type(LLAMA.tensors["model.norm.weight"])((elements,))}
    models = dict.fromkeys(("base", "a", "b"), Checkpoint(tensors, LLAMA.config))
    text = TWO % ("ties", f"1, density: {{low: {density}, high: 1}}")
    if elements == 1:
        assert "which has 1 elements" in problem(text, models).message
        return
    searched = space(text, models)
    (found,) = searched.genome
    smallest = min(elements, 32)
    assert int(found.low * smallest) >= 1
    assert found.low == pytest.approx(max(density, 1 / smallest))
    assert bool(searched.warnings) == (density < 1 / smallest)


def test_negative_and_signed_weights_are_kept_as_they_are() -> None:
    searched = space(TWO % ("ties", "{low: -2, high: 1, start: -0.5}"))
    assert (gene(searched, "weight[a]").low, gene(searched, "weight[a]").start) == (-2, -0.5)
    signed = space(TWO % ("ties", "{low: 0.01, high: 2, log: true, sign: true}"))
    assert gene(signed, "weight[a]").sign
    assert values(laid(signed, {"weight[a]": -1.5}))["lm_head.weight"] == -1.5


def test_a_point_that_does_not_fit_is_refused() -> None:
    searched = space(TWO % ("ties", KNOB))
    for wrong in ({}, {"weight[a]": 5}, {"weight[a]": True}, {"weight[a]": 1, "more": 2}):
        with pytest.raises(ValueError):
            searched.recipe(wrong)


def test_a_recipe_is_a_function_of_its_point_and_leaves_the_template_alone() -> None:
    text = TWO % (CHOICE, "{low: 0, high: 1, layers: 4, components: [mlp]}")
    one, other = space(text), space(text)
    before = template(text)
    for units in itertools.product((0.1, 0.9), repeat=2):
        point = {each.name: each.of_unit(units[place % 2]) for place, each in enumerate(one.genome)}
        assert one.recipe(point) == other.recipe(point) == one.recipe(point)
    assert one._template == before
