"""GPT-2 and the families that kept its names: ``transformer.h``, tied ``wte``, mask buffers in old files."""

from __future__ import annotations

from ..architecture import Architecture, register

register(
    Architecture(
        names=("GPT2LMHeadModel", "GPTBigCodeForCausalLM"),
        tied={"lm_head.weight": "transformer.wte.weight"},
        vocabulary={"transformer.wte.weight": 0, "lm_head.weight": 0},
        layer_count_keys=("n_layer", "num_hidden_layers"),
        prefix="transformer.",
        buffers=(".attn.bias", ".attn.masked_bias"),
    )
)

register(
    Architecture(
        names=("GPTNeoXForCausalLM",),
        tied={"embed_out.weight": "gpt_neox.embed_in.weight"},
        vocabulary={"gpt_neox.embed_in.weight": 0, "embed_out.weight": 0},
        post=("embed_out.weight",),
        buffers=("rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias"),
    )
)

register(
    Architecture(
        names=("FalconForCausalLM",),
        tied={"lm_head.weight": "transformer.word_embeddings.weight"},
        vocabulary={"transformer.word_embeddings.weight": 0, "lm_head.weight": 0},
    )
)
