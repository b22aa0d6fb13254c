"""GPT-2 and the families that kept its names: ``transformer.h``, tied ``wte``, mask buffers in old files."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ..architecture import Architecture, Fold, register

GPT2: Final = Architecture(
    names=("GPT2LMHeadModel",),
    tied={"lm_head.weight": "transformer.wte.weight"},
    vocabulary={"transformer.wte.weight": 0, "lm_head.weight": 0},
    layer_count_keys=("n_layer", "num_hidden_layers"),
    prefix="transformer.",
    buffers=(".attn.bias", ".attn.masked_bias"),
    input_first=(".c_attn.weight", ".q_attn.weight", ".c_proj.weight", ".c_fc.weight"),
    fold=Fold(
        adds=("attn.c_proj", "mlp.c_proj"),
        norms=("ln_1.weight", "ln_2.weight"),
        final="transformer.ln_f.weight",
    ),
)
register(GPT2)
register(replace(GPT2, names=("GPTBigCodeForCausalLM",), input_first=()))

register(
    Architecture(
        names=("GPTNeoXForCausalLM",),
        tied={"embed_out.weight": "gpt_neox.embed_in.weight"},
        vocabulary={"gpt_neox.embed_in.weight": 0, "embed_out.weight": 0},
        post=("embed_out.weight",),
        buffers=("rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias"),
        fold=Fold(
            adds=("attention.dense", "dense_4h_to_h"),
            norms=("input_layernorm.weight", "post_attention_layernorm.weight"),
            final="gpt_neox.final_layer_norm.weight",
        ),
    )
)

register(
    Architecture(
        names=("FalconForCausalLM",),
        tied={"lm_head.weight": "transformer.word_embeddings.weight"},
        vocabulary={"transformer.word_embeddings.weight": 0, "lm_head.weight": 0},
        fold=Fold(
            adds=("self_attention.dense", "dense_4h_to_h"),
            norms=(
                "input_layernorm.weight",
                "post_attention_layernorm.weight",
                "ln_attn.weight",
                "ln_mlp.weight",
            ),
            final="transformer.ln_f.weight",
        ),
    )
)
