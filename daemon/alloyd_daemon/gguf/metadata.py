"""The keys of a GGUF file that say what the model is; those of its vocabulary are in tokenizer.py."""

from __future__ import annotations

from typing import Final

from alloyd.errors import PlanError

from .architecture import Writer
from .hyperparameters import Hyperparameters, number, original_context

MAX_LAYERS: Final = 512
MAX_EXPERTS: Final = 1024
"""llama.cpp's own limits; it aborts the process beyond them."""


def add_general(writer: Writer, *, name: str, size_label: str) -> None:
    """Keys that every file has; nothing that follows from the hour, the host or the folder."""
    writer.add_type("model")
    if name:
        writer.add_name(name)
    writer.add_size_label(size_label)


def add_decoder(writer: Writer, hyperparameters: Hyperparameters) -> None:
    """The hyperparameters of a decoder-only transformer; a family's table adds its own."""
    add_sizes(writer, hyperparameters)
    add_rope(writer, hyperparameters)
    if hyperparameters.get("head_dim") is not None:
        add_head_dim(writer, hyperparameters)


def add_sizes(writer: Writer, hyperparameters: Hyperparameters) -> None:
    """Numbers of layers, heads and experts, widths, and the epsilon of the norms."""
    if hyperparameters.layers > MAX_LAYERS:
        raise PlanError(
            f"config.json: llama.cpp holds at most {MAX_LAYERS} layers, the model has {hyperparameters.layers}",
            hint="A model this deep cannot be written as GGUF.",
            key="num_hidden_layers",
        )
    writer.add_block_count(hyperparameters.layers)
    writer.add_context_length(hyperparameters.whole("max_position_embeddings", "n_positions", "n_ctx"))
    writer.add_embedding_length(hyperparameters.whole("hidden_size", "n_embd"))
    writer.add_feed_forward_length(hyperparameters.whole("intermediate_size", "n_inner"))
    writer.add_head_count(hyperparameters.heads)
    writer.add_head_count_kv(hyperparameters.kv_heads)
    writer.add_layer_norm_rms_eps(hyperparameters.number("rms_norm_eps"))
    experts = hyperparameters.optional_whole("num_local_experts", "num_experts", least=1)
    if experts is not None:
        used = hyperparameters.whole("num_experts_per_tok")
        if experts > MAX_EXPERTS or used > experts:
            raise PlanError(
                f"config.json: llama.cpp cannot choose {used} of {experts} experts (at most {MAX_EXPERTS})",
                hint="Check the numbers of experts in config.json.",
                key="num_experts_per_tok",
            )
        writer.add_expert_count(experts)
        writer.add_expert_used_count(used)


def add_head_dim(writer: Writer, hyperparameters: Hyperparameters) -> None:
    """Elements of a key and of a value."""
    writer.add_key_length(hyperparameters.head_dim)
    writer.add_value_length(hyperparameters.head_dim)


def add_rope(writer: Writer, hyperparameters: Hyperparameters) -> None:
    """The rotary embedding: its base and how it is scaled (linear, YaRN: arXiv 2309.00071, LongRoPE: 2402.13753).

    Llama 3's scaling has no key; it is a tensor of factors (rope.py).

    Raises
    ------
    PlanError
        A scaling that llama.cpp does not have.
    """
    rope = hyperparameters.rope
    kind = rope["rope_type"].lower()
    factor = rope.get("factor")
    if kind == "linear":
        writer.add_rope_scaling_type(_scaling("LINEAR"))
        writer.add_rope_scaling_factor(number(factor, "factor"))
    elif kind == "yarn":
        writer.add_rope_scaling_type(_scaling("YARN"))
        writer.add_rope_scaling_factor(number(factor, "factor"))
        writer.add_rope_scaling_orig_ctx_len(original_context(rope))
        for add, keys in (
            (writer.add_rope_scaling_yarn_ext_factor, ("extrapolation_factor",)),
            (writer.add_rope_scaling_yarn_attn_factor, ("attention_factor", "attn_factor")),
            (writer.add_rope_scaling_yarn_beta_fast, ("beta_fast",)),
            (writer.add_rope_scaling_yarn_beta_slow, ("beta_slow",)),
        ):
            stated = next((rope[key] for key in keys if rope.get(key) is not None), None)
            if stated is not None:
                add(number(stated, keys[0]))
    elif kind in ("longrope", "su"):
        writer.add_rope_scaling_type(_scaling("LONGROPE"))
    elif kind not in ("default", "llama3"):
        raise PlanError(
            f"config.json: llama.cpp has no rotary scaling of the type '{rope['rope_type']}'",
            hint="Known: default, linear, llama3, longrope, yarn.",
            key="rope_type",
        )
    writer.add_rope_freq_base(number(rope["rope_theta"], "rope_theta"))
    local = hyperparameters.local_rope
    if local is not None:
        writer.add_rope_freq_base_swa(number(local["rope_theta"], "rope_theta"))


def _scaling(name: str) -> object:
    from .library import gguf

    return gguf().RopeScalingType[name]
