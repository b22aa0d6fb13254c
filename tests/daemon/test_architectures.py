"""Every architecture table: it is well formed, registered under its names, and says only what names cannot."""

from __future__ import annotations

import pytest

from alloyd_daemon.architecture import ARCHITECTURES, UNKNOWN, Architecture, named_in, table_for

NEEDED = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
    "Phi3ForCausalLM",
    "GPT2LMHeadModel",
    "MixtralForCausalLM",
    "Qwen2MoeForCausalLM",
    "Qwen3MoeForCausalLM",
)


@pytest.mark.parametrize("name", NEEDED)
def test_the_common_families_have_tables(name: str) -> None:
    table = table_for(name)
    assert table is not UNKNOWN
    assert not table.is_optional("model.layers.0.mlp.up_proj.weight")


@pytest.mark.parametrize(("name", "table"), list(ARCHITECTURES.items()), ids=ARCHITECTURES.names())
def test_a_table_is_well_formed(name: str, table: Architecture) -> None:
    assert name in table.names
    assert table.layer_count_keys
    for tied, partner in table.tied.items():
        assert tied != partner
        assert table.vocabulary[tied] == table.vocabulary[partner] == 0, (
            "a tied head counts tokens as its embedding"
        )
        assert table.is_optional(tied)
        assert not table.is_optional(partner)
    modules = [each.name for each in table.modules]
    assert len(set(modules)) == len(modules)
    prefixes = [prefix for each in table.modules for prefix in each.prefixes]
    assert len(set(prefixes)) == len(prefixes)
    assert all(prefix.endswith(".") for prefix in (*prefixes, table.prefix) if prefix)


def test_what_has_no_table_may_lack_any_tensor() -> None:
    assert table_for("NobodyKnowsForCausalLM") is UNKNOWN
    assert table_for(None) is UNKNOWN
    assert UNKNOWN.is_optional("model.layers.0.mlp.up_proj.weight")


def test_buffers_that_follow_from_the_config_are_known() -> None:
    assert table_for("LlamaForCausalLM").is_buffer("model.layers.0.self_attn.rotary_emb.inv_freq")
    assert table_for("GPT2LMHeadModel").is_buffer("transformer.h.0.attn.bias")
    assert not table_for("GPT2LMHeadModel").is_buffer("transformer.h.0.attn.c_attn.bias")
    assert not table_for("LlamaForCausalLM").is_buffer("model.layers.0.self_attn.q_proj.bias")


@pytest.mark.parametrize(
    "config",
    [
        None,
        {},
        {"architectures": None},
        {"architectures": []},
        {"architectures": "Llama"},
        {"architectures": [3]},
    ],
)
def test_a_config_that_names_nothing(config: dict[str, object] | None) -> None:
    assert named_in(config) is None
    assert named_in(config, "LlamaForCausalLM") == "LlamaForCausalLM"


def test_the_first_name_counts_unless_the_recipe_overrides_it() -> None:
    config = {"architectures": ["LlamaForCausalLM", "Other"]}
    assert named_in(config) == "LlamaForCausalLM"
    assert named_in(config, "MistralForCausalLM") == "MistralForCausalLM"
