"""Gemma, Gemma 2 and the text of Gemma 3: norms kept as w, written as 1 + w; windows that alternate by layer."""

from __future__ import annotations

from typing import Any, Final

from alloyd.errors import PlanError

from ..architecture import GgufArchitecture, Writer, register
from ..hyperparameters import Hyperparameters
from ..metadata import add_decoder, add_head_dim, add_rope, add_sizes

_GELU: Final = ("gelu_pytorch_tanh", "gelu", "gelu_new")
_THETA: Final = 10000.0
"""The rotary base that llama.cpp takes where the file is silent."""
_PERIOD: Final = {"gemma2": 2, "gemma3": 6}
_WIDEST: Final = {"gemma2": 46, "gemma3": 62}
"""Layers of the one size whose queries llama.cpp scales by the hidden size instead of the head's."""


def _describe_gemma(writer: Writer, hyperparameters: Hyperparameters) -> None:
    add_sizes(writer, hyperparameters)
    add_head_dim(writer, hyperparameters)
    rope = hyperparameters.rope
    if rope["rope_type"] != "default" or rope["rope_theta"] != _THETA:
        add_rope(writer, hyperparameters)


def _describe_gemma2(writer: Writer, hyperparameters: Hyperparameters) -> None:
    _describe_gemma(writer, hyperparameters)
    writer.add_attn_logit_softcapping(hyperparameters.number("attn_logit_softcapping"))
    writer.add_final_logit_softcapping(hyperparameters.number("final_logit_softcapping"))
    writer.add_sliding_window(hyperparameters.whole("sliding_window"))
    _add_windows(writer, hyperparameters, "gemma2")


def _describe_gemma3(writer: Writer, hyperparameters: Hyperparameters) -> None:
    if hyperparameters.get("attn_logit_softcapping") is not None:
        raise PlanError(
            "config.json: llama.cpp has no 'attn_logit_softcapping' for Gemma 3",
            hint="Only models without it can be written as GGUF.",
            key="attn_logit_softcapping",
        )
    add_decoder(writer, hyperparameters)
    cap = hyperparameters.optional_number("final_logit_softcapping")
    if cap:
        writer.add_final_logit_softcapping(cap)
    writer.add_sliding_window(hyperparameters.whole("sliding_window"))
    _add_windows(writer, hyperparameters, "gemma3")


def _add_windows(writer: Writer, hyperparameters: Hyperparameters, family: str) -> None:
    """Check the scale of queries; say which layers have a window where they do not alternate as llama.cpp assumes."""
    layers = hyperparameters.layers
    hidden, heads = hyperparameters.whole("hidden_size"), hyperparameters.heads
    assumed = hidden // heads if layers == _WIDEST[family] else hyperparameters.head_dim
    stated = hyperparameters.number("query_pre_attn_scalar")
    if stated != assumed:
        raise PlanError(
            f"config.json: llama.cpp scales the queries of this model by 1/sqrt({assumed}), the model by "
            f"1/sqrt({stated:g})",
            hint="Only models whose 'query_pre_attn_scalar' is the one llama.cpp assumes can be written as GGUF.",
            key="query_pre_attn_scalar",
        )
    kinds = hyperparameters.get("layer_types")
    if not isinstance(kinds, list):
        return
    sliding = [kind == "sliding_attention" for kind in kinds]
    if sliding != [layer % _PERIOD[family] < _PERIOD[family] - 1 for layer in range(layers)]:
        writer.add_sliding_window_pattern(sliding)


_SHARED: Final[dict[str, Any]] = {"rms_norm_eps": 1e-6, "head_dim": 256, "query_pre_attn_scalar": 256}

register(
    GgufArchitecture(
        names=("GemmaForCausalLM",),
        model_arch="GEMMA",
        describe=_describe_gemma,
        defaults={**_SHARED, "max_position_embeddings": 8192, "num_key_value_heads": 16},
        norm_shift=1.0,
        space_prefix=False,
        dropped=("lm_head.weight",),
        activations=_GELU,
    )
)
register(
    GgufArchitecture(
        names=("Gemma2ForCausalLM",),
        model_arch="GEMMA2",
        describe=_describe_gemma2,
        defaults={
            **_SHARED,
            "max_position_embeddings": 8192,
            "num_key_value_heads": 4,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            "sliding_window": 4096,
        },
        norm_shift=1.0,
        space_prefix=False,
        dropped=("lm_head.weight",),
        activations=_GELU,
    )
)
register(
    GgufArchitecture(
        names=("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"),
        model_arch="GEMMA3",
        describe=_describe_gemma3,
        defaults={
            **_SHARED,
            "max_position_embeddings": 131072,
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "rope_theta": 1e6,
            "rope_local_base_freq": 10000.0,
            "sliding_window": 4096,
        },
        norm_shift=1.0,
        space_prefix=False,
        activations=_GELU,
    )
)
