"""Layers are found from names: stacks, what lies outside them, modules, and names that lie."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd_daemon.architecture import UNKNOWN, table_for
from alloyd_daemon.recipes.layers import Layout, find_layout
from checkpoint_factory import ARCHITECTURES as FAMILIES
from checkpoint_factory import CLASSES, Model, shapes


def lay_out(names: list[str], name: str | None = None, config: dict[str, Any] | None = None) -> Layout:
    return find_layout(names, table_for(name), config)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_one_stack_with_or_without_its_table(family: Any) -> None:
    model = Model(architecture=family, layers=3, tied=False)
    for name in (CLASSES[family], "SomethingNewForCausalLM"):
        layout = lay_out(list(shapes(model)), name)
        (module,) = layout.modules.values()
        assert module.name == "default"
        assert module.stack is not None
        assert module.stack.prefix == ("transformer.h" if family == "gpt2" else "model.layers")
        assert module.stack.count == 3
        assert len(set(module.stack.layers)) == 1
        embeddings = {"transformer.wte.weight", "transformer.wpe.weight", "model.embed_tokens.weight"}
        assert set(module.pre) == embeddings & set(layout.stored)
        assert set(module.pre + module.post) | {
            module.stack.name(number, rest) for number in range(3) for rest in module.stack.layers[number]
        } == set(layout.stored)


def test_a_prefix_that_a_file_leaves_out_is_put_back() -> None:
    bare = ["wte.weight", "h.0.attn.c_attn.weight", "h.0.ln_1.weight", "ln_f.weight", "lm_head.weight"]
    layout = lay_out(bare, "GPT2LMHeadModel")
    assert layout.stored["transformer.h.0.ln_1.weight"] == "h.0.ln_1.weight"
    assert layout.stored["lm_head.weight"] == "lm_head.weight"
    assert layout.as_stored("transformer.h.7.ln_1.weight") == "h.7.ln_1.weight"
    full = lay_out([f"transformer.{name}" for name in bare], "GPT2LMHeadModel")
    assert full.as_stored("transformer.h.7.ln_1.weight") == "transformer.h.7.ln_1.weight"


def test_experts_are_part_of_their_layer() -> None:
    names = [f"model.layers.{n}.mlp.experts.{e}.up_proj.weight" for n in range(2) for e in range(3)]
    stack = lay_out(names, "Qwen3MoeForCausalLM").modules["default"].stack
    assert stack is not None
    assert (stack.prefix, stack.count) == ("model.layers", 2)
    assert stack.layers[1] == tuple(f"mlp.experts.{e}.up_proj.weight" for e in range(3))


@pytest.mark.parametrize(
    "names",
    [
        ["visual.merger.mlp.0.weight", "visual.merger.mlp.0.bias", "visual.merger.mlp.2.weight"],
        ["head.0.weight", "head.1.weight"],
        ["blocks.1.attn.q.weight", "blocks.2.attn.q.weight"],
        ["blocks.0.attn.q.weight", "blocks.2.attn.q.weight"],
        ["x.00.attn.q.weight", "x.01.attn.q.weight"],
        ["x.99999999999999999999.attn.q.weight"],
        ["0.attn.q.weight"],
    ],
)
def test_numbers_that_are_no_layers_lie_outside(names: list[str]) -> None:
    module = lay_out(names).modules["default"]
    assert module.stack is None
    assert set(module.loose) == set(names)


def test_several_stacks_of_an_unknown_architecture_are_modules_of_their_own() -> None:
    names = ["emb.weight"] + [f"{part}.{n}.attn.q.weight" for part in ("enc.l", "dec.l") for n in range(2)]
    layout = lay_out([*names, "dec.l.2.attn.q.weight"], None, {"num_hidden_layers": 9})
    assert list(layout.modules) == ["default", "enc.l", "dec.l"]
    stacks = {name: module.stack for name, module in layout.modules.items() if module.stack is not None}
    assert {name: stack.count for name, stack in stacks.items()} == {"enc.l": 2, "dec.l": 3}
    assert all(stack.declared is None for stack in stacks.values())


def test_the_modules_of_a_vision_language_model() -> None:
    names = [
        "vision_tower.vision_model.embeddings.patch_embedding.weight",
        *(f"vision_tower.vision_model.encoder.layers.{n}.self_attn.q_proj.weight" for n in range(3)),
        "vision_tower.vision_model.post_layernorm.weight",
        "multi_modal_projector.mm_input_projection_weight",
        "language_model.model.embed_tokens.weight",
        *(f"language_model.model.layers.{n}.self_attn.q_proj.weight" for n in range(2)),
        "language_model.model.norm.weight",
    ]
    config = {"text_config": {"num_hidden_layers": 2}, "vision_config": {"num_hidden_layers": 3}}
    layout = lay_out(names, "Gemma3ForConditionalGeneration", config)
    assert list(layout.modules) == ["text_decoder", "multi_modal_projector", "vision_tower"]
    text, vision = layout.modules["text_decoder"].stack, layout.modules["vision_tower"].stack
    assert text is not None
    assert vision is not None
    assert (text.prefix, text.count, text.config_path) == ("language_model.model.layers", 2, ("text_config",))
    assert (vision.count, vision.config_path) == (3, ("vision_config",))
    assert layout.modules["vision_tower"].pre == (names[0],)
    assert layout.modules["multi_modal_projector"].stack is None


LAYERS = [f"model.layers.{n}.mlp.up_proj.weight" for n in range(3)]


def test_the_config_says_where_layers_are_counted_and_how_many_there_should_be() -> None:
    def stack_of(config: dict[str, Any] | None) -> tuple[int, tuple[str, ...], int | None]:
        stack = lay_out(LAYERS, "LlamaForCausalLM", config).modules["default"].stack
        assert stack is not None
        return stack.count, stack.config_path, stack.declared

    assert stack_of(None) == (3, (), None)
    assert stack_of({"num_hidden_layers": 3}) == (3, (), 3)
    assert stack_of({"text_config": {"num_hidden_layers": 3}}) == (3, ("text_config",), 3)
    assert stack_of({"num_hidden_layers": 40}) == (3, (), 40)
    assert stack_of({"num_hidden_layers": 2}) == (2, (), 2)
    for lie in ("3", None, True, 0, -4, [3]):
        assert stack_of({"num_hidden_layers": lie})[0] == 3


def test_layers_beyond_the_declared_number_come_after_the_stack() -> None:
    module = lay_out(LAYERS, "LlamaForCausalLM", {"num_hidden_layers": 2}).modules["default"]
    assert module.post == ("model.layers.2.mlp.up_proj.weight",)
    assert module.stack is not None
    assert module.stack.numbers("model.layers.2.mlp.up_proj.weight")
    assert not module.stack.numbers("model.norm.weight")


@given(
    st.lists(st.text("ab01.", max_size=12), unique=True, max_size=12),
    st.dictionaries(st.sampled_from(["num_hidden_layers", "n_layer"]), st.integers(-2, 5) | st.none()),
    st.sampled_from(
        [None, "GPT2LMHeadModel", "Gemma3ForConditionalGeneration", "Qwen2VLForConditionalGeneration"]
    ),
)
def test_every_name_lands_in_exactly_one_place(
    names: list[str], config: dict[str, Any], table: str | None
) -> None:
    layout = find_layout(names, table_for(table) if table else UNKNOWN, config)
    placed: list[str] = []
    for module in layout.modules.values():
        placed += module.loose
        if module.stack is not None:
            assert module.stack.count >= 1
            placed += [
                module.stack.name(number, rest)
                for number, rests in enumerate(module.stack.layers)
                for rest in rests
            ]
    assert sorted(layout.stored[name] for name in placed) == sorted(names)
