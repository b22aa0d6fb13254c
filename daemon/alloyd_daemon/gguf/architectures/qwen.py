"""Qwen2 and Qwen3, dense and with experts."""

from __future__ import annotations

from typing import Any, Final

from ..architecture import GgufArchitecture, Writer, register
from ..hyperparameters import Hyperparameters
from ..metadata import add_decoder

_SHARED: Final[dict[str, Any]] = {"max_position_embeddings": 32768, "rms_norm_eps": 1e-6}


def _describe_experts(writer: Writer, hyperparameters: Hyperparameters) -> None:
    add_decoder(writer, hyperparameters)
    writer.add_expert_feed_forward_length(hyperparameters.whole("moe_intermediate_size"))
    shared = hyperparameters.optional_whole("shared_expert_intermediate_size", least=1)
    if shared is not None:
        writer.add_expert_shared_feed_forward_length(shared)


def _warnings(hyperparameters: Hyperparameters) -> list[str]:
    if not hyperparameters.get("use_sliding_window"):
        return []
    window = hyperparameters.get("sliding_window")
    return [f"llama.cpp attends to the whole context, where the model looks back {window} tokens"]


register(
    GgufArchitecture(
        names=("Qwen2ForCausalLM",),
        model_arch="QWEN2",
        describe=add_decoder,
        defaults={**_SHARED, "num_key_value_heads": 32},
        warnings=_warnings,
    )
)
register(
    GgufArchitecture(
        names=("Qwen3ForCausalLM",),
        model_arch="QWEN3",
        describe=add_decoder,
        defaults={**_SHARED, "num_key_value_heads": 32, "head_dim": 128},
        warnings=_warnings,
    )
)
register(
    GgufArchitecture(
        names=("Qwen2MoeForCausalLM",),
        model_arch="QWEN2MOE",
        describe=_describe_experts,
        defaults={
            **_SHARED,
            "num_key_value_heads": 16,
            "num_experts": 60,
            "num_experts_per_tok": 4,
            "moe_intermediate_size": 1408,
            "shared_expert_intermediate_size": 5632,
        },
        warnings=_warnings,
    )
)
register(
    GgufArchitecture(
        names=("Qwen3MoeForCausalLM",),
        model_arch="QWEN3MOE",
        describe=_describe_experts,
        defaults={
            **_SHARED,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 768,
        },
        warnings=_warnings,
    )
)
