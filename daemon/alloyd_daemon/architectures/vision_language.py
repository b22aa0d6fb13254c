"""Vision-language models: a text decoder, a vision tower and a projector, each a module of its own."""

from __future__ import annotations

from ..architecture import Architecture, ModuleTable, register

_TEXT_BEGINS = ("language_model.", "model.language_model.", "lm_head.")


def _register(name: str, *modules: ModuleTable) -> None:
    """Register ``name``; its embedding and head are spelled in one of the ways files of the family use."""
    bodies = ("language_model.model.", "model.language_model.", "model.")
    vocabulary = {f"{body}embed_tokens.weight": 0 for body in bodies}
    register(
        Architecture(
            names=(name,),
            tied={
                "language_model.lm_head.weight": "language_model.model.embed_tokens.weight",
                "lm_head.weight": "model.language_model.embed_tokens.weight"
                if not name.startswith("Qwen2")
                else "model.embed_tokens.weight",
            },
            vocabulary={**vocabulary, "lm_head.weight": 0, "language_model.lm_head.weight": 0},
            layer_count_keys=("num_hidden_layers", "depth"),
            modules=modules,
        )
    )


for _name in ("Gemma3ForConditionalGeneration", "Mistral3ForConditionalGeneration"):
    _register(
        _name,
        ModuleTable(name="text_decoder", prefixes=_TEXT_BEGINS, config_path=("text_config",)),
        ModuleTable(
            name="multi_modal_projector", prefixes=("multi_modal_projector.", "model.multi_modal_projector.")
        ),
        ModuleTable(
            name="vision_tower",
            prefixes=("vision_tower.", "model.vision_tower."),
            config_path=("vision_config",),
        ),
    )

for _name, _text in (
    ("Qwen2VLForConditionalGeneration", ()),
    ("Qwen2_5_VLForConditionalGeneration", ()),
    ("Qwen3VLForConditionalGeneration", ("text_config",)),
    ("Qwen3VLMoeForConditionalGeneration", ("text_config",)),
):
    _register(
        _name,
        ModuleTable(name="text_decoder", prefixes=("model.", "lm_head."), config_path=_text),
        ModuleTable(
            name="multi_modal_projector",
            prefixes=(
                "visual.merger.",
                "model.visual.merger.",
                "visual.deepstack_merger_list.",
                "model.visual.deepstack_merger_list.",
            ),
        ),
        ModuleTable(
            name="vision_tower", prefixes=("visual.", "model.visual."), config_path=("vision_config",)
        ),
    )
