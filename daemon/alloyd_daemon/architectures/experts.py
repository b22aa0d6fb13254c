"""Mixtures of experts; fused and per-expert layouts both merge, as long as all models of a recipe share one."""

from __future__ import annotations

from ..architecture import TIED_HEAD, VOCABULARY, Architecture, register

register(Architecture(names=("MixtralForCausalLM",), tied=TIED_HEAD, vocabulary=VOCABULARY))

register(
    Architecture(
        names=("Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM"),
        tied=TIED_HEAD,
        vocabulary=VOCABULARY,
        layer_index_lists=("mlp_only_layers",),
    )
)
