"""Mixtures of experts; fused and per-expert layouts both merge, as long as all models of a recipe share one."""

from __future__ import annotations

from typing import Final

from ..architecture import TIED_HEAD, VOCABULARY, Architecture, Fold, register

_NORMS: Final = ("input_layernorm.weight", "post_attention_layernorm.weight")

register(
    Architecture(
        names=("MixtralForCausalLM",),
        tied=TIED_HEAD,
        vocabulary=VOCABULARY,
        fold=Fold(adds=("o_proj", ".w2.", "down_proj"), norms=_NORMS, final="model.norm.weight"),
    )
)

register(
    Architecture(
        names=("Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM"),
        tied=TIED_HEAD,
        vocabulary=VOCABULARY,
        layer_index_lists=("mlp_only_layers",),
        fold=Fold(adds=("o_proj", "down_proj"), norms=_NORMS, final="model.norm.weight"),
    )
)
