"""Qwen2 and Qwen3, dense and with experts."""

from __future__ import annotations

from typing import Any, Final

from alloyd.errors import PlanError

from ..architecture import GgufArchitecture, Writer, register
from ..hyperparameters import Hyperparameters
from ..metadata import add_decoder

_SHARED: Final[dict[str, Any]] = {"max_position_embeddings": 32768, "rms_norm_eps": 1e-6}
_EXPERTS: Final[dict[str, Any]] = {**_SHARED, "decoder_sparse_step": 1, "norm_topk_prob": False}


def _describe_experts(writer: Writer, hyperparameters: Hyperparameters) -> None:
    if hyperparameters.get("mlp_only_layers") or hyperparameters.whole("decoder_sparse_step") != 1:
        raise PlanError(
            "config.json: llama.cpp wants experts in every layer, this model has some without",
            hint="Such a model cannot be written as GGUF.",
            key="mlp_only_layers",
        )
    add_decoder(writer, hyperparameters)
    writer.add_expert_feed_forward_length(hyperparameters.whole("moe_intermediate_size"))
    shared = hyperparameters.optional_whole("shared_expert_intermediate_size", least=1)
    if shared is not None:
        writer.add_expert_shared_feed_forward_length(shared)


def _describe_qwen2moe(writer: Writer, hyperparameters: Hyperparameters) -> None:
    if hyperparameters.get("tie_word_embeddings"):
        raise PlanError(
            "config.json: llama.cpp wants an output matrix in this architecture, the model ties it to its embedding",
            hint="Write the model with its own lm_head first.",
            key="tie_word_embeddings",
        )
    _check_normalised(hyperparameters, False)
    _describe_experts(writer, hyperparameters)


def _describe_qwen3moe(writer: Writer, hyperparameters: Hyperparameters) -> None:
    _check_normalised(hyperparameters, True)
    _describe_experts(writer, hyperparameters)


def _check_normalised(hyperparameters: Hyperparameters, wanted: bool) -> None:
    """Whether the weights of the chosen experts add up to one is fixed for each architecture in llama.cpp."""
    if hyperparameters.get("norm_topk_prob") is not wanted:
        raise PlanError(
            f"config.json: llama.cpp computes this architecture with 'norm_topk_prob' {str(wanted).lower()} only",
            hint="A model with the other setting cannot be written as GGUF.",
            key="norm_topk_prob",
        )


def _warnings(hyperparameters: Hyperparameters) -> list[str]:
    return hyperparameters.ignored_window() if hyperparameters.get("use_sliding_window") else []


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
        describe=_describe_qwen2moe,
        defaults={
            **_EXPERTS,
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
        describe=_describe_qwen3moe,
        defaults={
            **_EXPERTS,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 768,
        },
        warnings=_warnings,
    )
)
