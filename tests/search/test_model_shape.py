"""What headers tell of the models of a search, and the paths of the models in its template."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from alloyd.errors import AlloydError, Problems, SourceNotFound
from alloyd.recipe import ModelRef
from alloyd.search_reader import read
from alloyd_daemon.search.filters import fits, rules
from alloyd_daemon.search.model_shape import ModelShape, Part
from alloyd_daemon.search.template import as_recipe, at_start, opened
from alloyd_daemon.settings import Settings
from checkpoint_factory import ARCHITECTURES, Model, write_checkpoint
from outlines import LLAMA, family

SPEC = "\ntasks: {search: a, validation: b}\nbudget: {items: 1}\n"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_tensor_of_every_family_is_of_a_component(name: str) -> None:
    checkpoint = family(name, layers=3)
    shape = ModelShape.of({ModelRef("a"): checkpoint})
    assert set(shape.tensors) == set(checkpoint.tensors)
    counts = Counter(part.component for part in shape.tensors.values())
    assert set(counts) == {"attention", "mlp", "norms", "embeddings"}
    assert shape.layers == 3
    for tensor, part in shape.tensors.items():
        assert part.elements == _product(checkpoint.tensors[tensor].shape)
        assert (part.layer is None) == (not tensor.startswith(shape.prefix + "."))
        assert tensor == (part.rest if part.layer is None else f"{shape.prefix}.{part.layer}.{part.rest}")
    loose = {name: part.before for name, part in shape.tensors.items() if part.layer is None}
    assert {name for name, before in loose.items() if before} == {
        each for each in loose if "embed" in each or "wte" in each or "wpe" in each
    }


def _product(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) == 1 else shape[0] * _product(shape[1:])


@pytest.mark.parametrize(
    ("tensor", "component"),
    [
        ("model.layers.0.self_attn.q_norm.weight", "norms"),
        ("model.layers.0.block_sparse_moe.experts.0.w1.weight", "mlp"),
        ("model.layers.0.mlp.gate.weight", "mlp"),
        ("model.layers.0.feed_forward.w1.weight", "mlp"),
        ("model.layers.0.attention.dense.bias", "attention"),
        ("model.layers.0.mixer.in_proj.weight", "other"),
    ],
)
def test_names_tell_components(tensor: str, component: str) -> None:
    checkpoint = family(layers=1).plus(**{tensor.replace(".", "__"): (4, 4)})
    shape = ModelShape.of({ModelRef("a"): checkpoint})
    assert shape.tensors[tensor].component == component


def test_an_output_head_counts_tokens_wherever_it_is_called() -> None:
    shape = ModelShape.of({ModelRef("a"): family("llama")})
    assert shape.tensors["lm_head.weight"].component == "embeddings"
    assert not shape.tensors["lm_head.weight"].before


def test_several_models_are_one_shape_with_what_any_of_them_has() -> None:
    tied, deep = family("qwen2", layers=2, tied=True), family("qwen2", layers=4, tied=False)
    shape = ModelShape.of({ModelRef("a"): tied, ModelRef("b"): deep})
    assert shape.layers == 4
    assert "lm_head.weight" in shape.tensors
    assert list(shape.sources) == [ModelRef("a"), ModelRef("b")]


def test_buffers_and_heads_beyond_the_layers_are_not_searched_as_such() -> None:
    checkpoint = LLAMA.plus(
        model__layers__0__self_attn__rotary_emb__inv_freq=(8,), model__layers__4__eh_proj__weight=(4, 4)
    ).saying(num_hidden_layers=4)
    shape = ModelShape.of({ModelRef("a"): checkpoint})
    assert set(shape.tensors) == set(LLAMA.tensors)


def test_filters_part_names_that_are_pieces_of_each_other() -> None:
    names = ["x.weight", "weight", "a.x.weight", "xx.weight", "norm.weight", "a.norm.weight"]
    parts = {name: Part("default", None, False, "other", 1, name) for name in names}
    keys = {name: number for number, name in enumerate(names)}
    found = rules(keys, parts)
    for name, key in keys.items():
        assert next(each for filter, each in found if fits(filter, name)) == key
    assert len(found) == len(names)
    some = {name: keys[name] for name in ("x.weight", "xx.weight")}
    others = ["weight", "norm.weight"]
    within = rules(some, parts, others=others, within="x.w")
    assert within[-1][0] == "x.w"
    assert not any(fits(filter, name) for filter, _ in within for name in others)


TEMPLATE = """
recipe:
  merge_method: {choices: [ties, linear]}
  base_model: %s
  models:
    - {model: %s, parameters: {weight: {low: 0, high: 1}}}
    - {model: {model: {path: %s}}, parameters: {weight: 1}}
  tokenizer_source: base
"""


def _template(*models: object) -> dict[str, Any]:
    found = read(TEMPLATE % models + SPEC).recipe
    assert found is not None
    return found


def test_models_of_a_template_are_opened_and_made_absolute(tmp_path: Path) -> None:
    for name in ("base", "one", "a+b"):
        write_checkpoint(tmp_path / name, Model())
    template = _template("base", "./one", "a+b")
    found, checkpoints = opened(template, base_dir=tmp_path, settings=Settings())
    assert found["base_model"] == str(tmp_path / "base")
    assert found["models"][0]["model"] == str(tmp_path / "one")
    assert found["models"][1]["model"] == {"model": {"path": str(tmp_path / "a+b")}}
    assert found["models"][0]["parameters"] == template["models"][0]["parameters"]
    assert found["tokenizer_source"] == "base"
    assert set(checkpoints) == {ModelRef(str(tmp_path / name)) for name in ("base", "one", "a+b")}
    assert [each.path for each in at_start(found).referenced_models()] == [
        str(tmp_path / name) for name in ("one", "a+b", "base")
    ]


def test_slices_modules_and_tokens_name_models_too(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_checkpoint(tmp_path / name, Model())
    text = """
recipe:
  merge_method: linear
  modules:
    default:
      slices:
        - base_model: one
          sources: [{model: one, layer_range: [0, 1]}, {model: two, layer_range: [1, 2]}]
  tokenizer: {source: one, tokens: {x: {source: two}, y: {source: {kind: model_token, model: two, token: z}}}}
"""
    found, _ = opened(read(text + SPEC).recipe or {}, base_dir=tmp_path, settings=Settings())
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    (part,) = found["modules"]["default"]["slices"]
    assert (part["base_model"], [each["model"] for each in part["sources"]]) == (one, [one, two])
    assert found["tokenizer"]["source"] == one
    assert found["tokenizer"]["tokens"]["x"]["source"] == two
    assert found["tokenizer"]["tokens"]["y"]["source"]["model"] == two
    assert as_recipe(found)


def test_models_that_are_nowhere_are_all_told(tmp_path: Path) -> None:
    with pytest.raises(AlloydError) as caught:
        opened(_template("base", "one", "two"), base_dir=tmp_path, settings=Settings())
    assert isinstance(caught.value, Problems)
    assert len(caught.value.problems) == 3
    assert all(isinstance(each, SourceNotFound) for each in caught.value.problems)
