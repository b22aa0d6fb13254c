"""Dense decoders of the Llama shape: rows of names, for their tensors' names tell the rest but how scales fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ..architecture import TIED_HEAD, VOCABULARY, Architecture, Fold, register

_TWO_NORMS: Final = ("input_layernorm.weight", "post_attention_layernorm.weight")


def _register(
    names: Sequence[str],
    fold: Fold,
    *,
    optional: tuple[str, ...] = (),
    vocabulary: Mapping[str, int] = VOCABULARY,
    per_layer_lists: tuple[str, ...] = ("layer_types",),
) -> None:
    register(
        Architecture(
            names=tuple(names),
            tied=TIED_HEAD,
            optional=optional,
            vocabulary=vocabulary,
            per_layer_lists=per_layer_lists,
            fold=fold,
        )
    )


_LLAMA: Final = Fold(adds=("o_proj", "down_proj"), norms=_TWO_NORMS, final="model.norm.weight")

_register(
    (
        "LlamaForCausalLM",
        "LLaMaForCausalLM",
        "MistralForCausalLM",
        "MinistralForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "Phi3ForCausalLM",
        "ArceeForCausalLM",
    ),
    _LLAMA,
)

_register(("SmolLM3ForCausalLM",), _LLAMA, per_layer_lists=("layer_types", "no_rope_layers"))

# Granite multiplies what a branch adds by one number for all layers, which commutes with the division by the scale.
_register(("GraniteForCausalLM", "StableLmForCausalLM"), _LLAMA, optional=("_proj.bias",))

_register(
    ("GemmaForCausalLM",),
    Fold(adds=("o_proj", "down_proj"), norms=_TWO_NORMS, final="model.norm.weight", gain_offset=1.0),
)

_register(
    ("Gemma2ForCausalLM", "Gemma3ForCausalLM"),
    Fold(
        post_norms=("post_attention_layernorm.weight", "post_feedforward_layernorm.weight"),
        norms=("input_layernorm.weight", "pre_feedforward_layernorm.weight"),
        final="model.norm.weight",
        gain_offset=1.0,
    ),
)

_register(
    ("Glm4ForCausalLM",),
    Fold(
        post_norms=("post_self_attn_layernorm.weight", "post_mlp_layernorm.weight"),
        norms=_TWO_NORMS,
        final="model.norm.weight",
    ),
    optional=("_proj.bias",),
)

# Nothing normalises what a branch of these reads, so that its first weights take the whole scale.
_register(
    ("Olmo2ForCausalLM", "Olmo3ForCausalLM"),
    Fold(
        post_norms=("post_attention_layernorm.weight", "post_feedforward_layernorm.weight"),
        reads=("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight"),
        final="model.norm.weight",
    ),
)

# One norm is read by attention and feed-forward, which add to the stream side by side.
_register(
    ("CohereForCausalLM", "Cohere2ForCausalLM"),
    Fold(adds=("o_proj", "down_proj"), norms=("input_layernorm.weight",), final="model.norm.weight"),
)

_register(
    ("Starcoder2ForCausalLM",),
    Fold(adds=("o_proj", "mlp.c_proj"), norms=_TWO_NORMS, final="model.norm.weight"),
)

_register(
    ("ApertusForCausalLM",),
    Fold(
        adds=("o_proj", "down_proj"),
        norms=("attention_layernorm.weight", "feedforward_layernorm.weight"),
        final="model.norm.weight",
    ),
)

_register(
    ("PhiForCausalLM",),
    Fold(
        adds=("self_attn.dense", "mlp.fc2"),
        norms=("input_layernorm.weight",),
        final="model.final_layernorm.weight",
    ),
    vocabulary={**VOCABULARY, "lm_head.bias": 0},
)

register(
    Architecture(
        names=("InternLM2ForCausalLM",),
        tied={"output.weight": "model.tok_embeddings.weight"},
        vocabulary={"model.tok_embeddings.weight": 0, "output.weight": 0},
    )
)
