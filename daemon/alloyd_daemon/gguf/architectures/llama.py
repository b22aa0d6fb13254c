"""Llama, Mistral and Mixtral: one family in llama.cpp, with query and key rows in pairs."""

from __future__ import annotations

from ..architecture import GgufArchitecture, Writer, register
from ..hyperparameters import Hyperparameters
from ..metadata import add_decoder, add_head_dim
from ..rope import llama3_factors


def _describe(writer: Writer, hyperparameters: Hyperparameters) -> None:
    add_decoder(writer, hyperparameters)
    writer.add_vocab_size(hyperparameters.whole("vocab_size"))
    writer.add_rope_dimension_count(hyperparameters.head_dim)


def _describe_dense(writer: Writer, hyperparameters: Hyperparameters) -> None:
    _describe(writer, hyperparameters)
    if hyperparameters.get("head_dim") is None:
        add_head_dim(writer, hyperparameters)


register(
    GgufArchitecture(
        names=("LlamaForCausalLM", "LLaMAForCausalLM"),
        model_arch="LLAMA",
        describe=_describe_dense,
        defaults={"max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "vocab_size": 32000},
        interleaved=True,
        constants=llama3_factors,
    )
)
register(
    GgufArchitecture(
        names=("MistralForCausalLM",),
        model_arch="LLAMA",
        describe=_describe_dense,
        defaults={
            "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-6,
            "num_key_value_heads": 8,
            "vocab_size": 32000,
        },
        interleaved=True,
        constants=llama3_factors,
        warnings=Hyperparameters.ignored_window,
    )
)
register(
    GgufArchitecture(
        names=("MixtralForCausalLM",),
        model_arch="LLAMA",
        describe=_describe,
        defaults={
            "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-5,
            "num_key_value_heads": 8,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "rope_theta": 1e6,
            "vocab_size": 32000,
        },
        interleaved=True,
        constants=llama3_factors,
        warnings=Hyperparameters.ignored_window,
    )
)
