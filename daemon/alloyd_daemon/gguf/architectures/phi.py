"""Phi-3 and Phi-4: fused query-key-value and gate-up rows stay fused; LongRoPE factors are tensors."""

from __future__ import annotations

from ..architecture import GgufArchitecture, Writer, register
from ..hyperparameters import Hyperparameters, number, original_context
from ..metadata import add_sizes
from ..rope import longrope_attention, longrope_factors, rotated


def _describe(writer: Writer, hyperparameters: Hyperparameters) -> None:
    rope = hyperparameters.rope
    add_sizes(writer, hyperparameters)
    writer.add_rope_scaling_orig_ctx_len(original_context(rope))
    writer.add_rope_dimension_count(rotated(hyperparameters))
    writer.add_rope_freq_base(number(rope["rope_theta"], "rope_theta"))
    # Zero says that there is none, which tells Phi-4 from Phi-3.
    writer.add_sliding_window(hyperparameters.optional_whole("sliding_window") or 0)
    attention = longrope_attention(hyperparameters)
    if attention is not None:
        writer.add_rope_scaling_attn_factors(attention)


register(
    GgufArchitecture(
        names=("Phi3ForCausalLM",),
        model_arch="PHI3",
        describe=_describe,
        defaults={
            "max_position_embeddings": 4096,
            "original_max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
        },
        constants=longrope_factors,
        warnings=Hyperparameters.ignored_window,
    )
)
