"""Dense decoders of the Llama shape: one row of names, for their tensors' names tell the rest."""

from __future__ import annotations

from ..architecture import TIED_HEAD, VOCABULARY, Architecture, register

register(
    Architecture(
        names=(
            "LlamaForCausalLM",
            "LLaMaForCausalLM",
            "MistralForCausalLM",
            "MinistralForCausalLM",
            "Qwen2ForCausalLM",
            "Qwen3ForCausalLM",
            "GemmaForCausalLM",
            "Gemma2ForCausalLM",
            "Gemma3ForCausalLM",
            "Phi3ForCausalLM",
            "Olmo2ForCausalLM",
            "Olmo3ForCausalLM",
            "CohereForCausalLM",
            "Cohere2ForCausalLM",
            "Starcoder2ForCausalLM",
            "ArceeForCausalLM",
            "ApertusForCausalLM",
        ),
        tied=TIED_HEAD,
        vocabulary=VOCABULARY,
    )
)

register(
    Architecture(
        names=("GraniteForCausalLM", "Glm4ForCausalLM", "StableLmForCausalLM"),
        tied=TIED_HEAD,
        optional=("_proj.bias",),
        vocabulary=VOCABULARY,
    )
)

register(
    Architecture(
        names=("SmolLM3ForCausalLM",),
        tied=TIED_HEAD,
        vocabulary=VOCABULARY,
        per_layer_lists=("layer_types", "no_rope_layers"),
    )
)

register(
    Architecture(
        names=("PhiForCausalLM",),
        tied=TIED_HEAD,
        vocabulary={**VOCABULARY, "lm_head.bias": 0},
    )
)

register(
    Architecture(
        names=("InternLM2ForCausalLM",),
        tied={"output.weight": "model.tok_embeddings.weight"},
        vocabulary={"model.tok_embeddings.weight": 0, "output.weight": 0},
    )
)
