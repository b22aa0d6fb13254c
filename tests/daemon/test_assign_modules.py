"""Models with several modules: each runs over its own layers, and what a recipe leaves out is copied."""

from __future__ import annotations

from outlines import AVERAGE, LLAMA, Checkpoint, Q, Tensor, lay, named, problem, weights

VISION = Checkpoint(
    {
        **{f"language_model.{name}": tensor for name, tensor in LLAMA.tensors.items()},
        "multi_modal_projector.linear.weight": Tensor((4, 4)),
        "vision_tower.vision_model.embeddings.patch_embedding.weight": Tensor((4, 4)),
        **{f"vision_tower.vision_model.encoder.layers.{n}.mlp.fc1.weight": Tensor((4, 4)) for n in range(3)},
    },
    {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": {"num_hidden_layers": 4},
        "vision_config": {"num_hidden_layers": 3},
    },
)
SEEING = {"a": VISION, "b": VISION}


def test_whole_models_with_modules_run_gradients_over_each_modules_own_layers() -> None:
    outline = lay(AVERAGE.replace("weight: 3", "weight: [0, 3]"), SEEING)
    assert len(outline.assignments) == len(VISION.tensors)
    assert weights(outline, "language_model." + Q % 1)[1] == 1.0
    assert weights(outline, "vision_tower.vision_model.encoder.layers.1.mlp.fc1.weight")[1] == 1.5
    assert [each.config_path for each in outline.stacks] == [("text_config",), ("vision_config",)]


def test_a_module_that_is_left_out_is_copied_from_the_donor() -> None:
    outline = lay(
        """
        merge_method: linear
        modules:
          text_decoder:
            models: [{model: b}, {model: a}]
            parameters: {weight: 1}
        """,
        SEEING,
    )
    assert len(outline.assignments) == len(VISION.tensors)
    each = named(outline, "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight")
    assert (each.method, [one.model for one in each.inputs]) == ("passthrough", [0])
    assert [warning.split("'")[1] for warning in outline.warnings] == [
        "multi_modal_projector",
        "vision_tower",
    ]


def test_the_level_of_the_module_lies_between_slice_and_recipe() -> None:
    outline = lay(
        """
        merge_method: linear
        modules:
          text_decoder:
            slices: [{sources: [{model: a, layer_range: [0, 2]}]}]
            parameters: {weight: [{filter: q_proj, value: 5}]}
        parameters: {weight: 7}
        """,
        SEEING,
    )
    assert weights(outline, "language_model." + Q % 0) == [5.0]
    assert weights(outline, "language_model.model.layers.0.mlp.up_proj.weight") == [7.0]
    assert [each.resliced for each in outline.stacks] == [True, False]


def test_slices_of_a_model_with_modules_must_say_which() -> None:
    text = "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [0, 2]}]}]\n"
    error = problem(text, SEEING)
    assert "text_decoder, multi_modal_projector, vision_tower" in error.message
    assert "modules:" in error.hint


def test_one_module_is_called_default() -> None:
    text = "merge_method: linear\nmodules: {default: {models: [{model: a}]}}\nparameters: {weight: 1}\n"
    assert len(lay(text).assignments) == len(LLAMA.tensors)
