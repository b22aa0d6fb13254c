"""What does not fit: each cause is one message that names model, tensor or key, and all come together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd.errors import RecipeError, ShapeMismatch
from outlines import AVERAGE, LLAMA, Checkpoint, Q, Tensor, family, lay, named, problem, problems, weights


def test_a_required_tensor_that_one_model_lacks_is_named_with_both_models() -> None:
    error = problem(AVERAGE, {"b": LLAMA.without("mlp.up_proj.weight")})
    assert error.message.startswith(
        "b lacks model.layers.0.mlp.up_proj.weight, model.layers.1.mlp.up_proj.weight"
    )
    assert "and 1 more, which a has" in error.message


def test_an_unknown_architecture_may_lack_tensors() -> None:
    unknown = LLAMA.saying(architectures=["NobodyKnowsForCausalLM"])
    outline = lay(AVERAGE, {"a": unknown, "b": unknown.without("norm.weight")})
    assert len(named(outline, "model.norm.weight").inputs) == 1


def test_shapes_must_agree_and_a_vocabulary_gets_its_own_hint() -> None:
    found = problems(AVERAGE, {"b": family(vocab=100)})
    assert all(isinstance(each, ShapeMismatch) for each in found)
    assert found[0].message == "model.embed_tokens.weight has different shapes: a [96, 32], b [100, 32]"
    assert "vocabularies differ in size" in found[0].hint
    wide = Checkpoint({name: Tensor((*each.shape, 1)) for name, each in LLAMA.tensors.items()}, LLAMA.config)
    many = problems(AVERAGE, {"b": wide})
    assert len(many) == 4
    assert "more tensors have different shapes" in many[-1].message
    assert "one shape" in many[0].hint


def test_a_tied_partner_of_another_shape_is_no_partner() -> None:
    tied = family(tied=True, vocab=100)
    assert all(isinstance(each, ShapeMismatch) for each in problems(AVERAGE, {"b": tied}))


def test_models_of_different_depth() -> None:
    error = problem(AVERAGE, {"b": family(layers=6)})
    assert error.message == "the models differ in their number of layers: a has 4, b has 6"
    assert "layer_range" in error.hint


def test_a_layer_range_beyond_the_model() -> None:
    error = problem("merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [0, 5]}]}]\n")
    assert error.message == "slices[0].sources[0].layer_range ends at 5, and a has 4 layers"


def test_a_config_that_declares_more_layers_than_there_are() -> None:
    error = problem(AVERAGE, {"b": LLAMA.saying(num_hidden_layers=6)})
    assert error.message == "b: config.json declares 6 layers, and the tensors model.layers.* hold 4"


def test_heads_numbered_beyond_the_layers_merge_whole_and_are_left_out_of_slices() -> None:
    deeper = family(layers=5).saying(num_hidden_layers=4)
    outline = lay(AVERAGE.replace("weight: 3", "weight: [0, 3]"), {"a": deeper, "b": deeper})
    assert weights(outline, Q % 3) == [1.0, 3.0]
    assert weights(outline, Q % 4) == [1.0, 0.0]
    text = "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [0, 4]}]}]\n"
    sliced = lay(text, {"a": deeper})
    assert Q % 4 not in {each.name for each in sliced.assignments}
    assert any("not written: model.layers.4." in each for each in sliced.warnings)


@pytest.mark.parametrize("missing", ["weight", "t"])
def test_a_required_parameter_without_a_value_is_one_message(missing: str) -> None:
    if missing == "weight":
        error = problem("merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}, {model: b}]\n")
        assert error.message.endswith("of b")
    else:
        error = problem("merge_method: slerp\nbase_model: a\nmodels: [{model: a}, {model: b}]\n")
    assert isinstance(error, RecipeError)
    assert (
        f"needs the parameter '{missing}', which has no value for model.embed_tokens.weight" in error.message
    )
    assert f"and {len(LLAMA.tensors) - 3} more" in error.message


def test_a_misspelt_parameter_is_one_mistake() -> None:
    models = "models: [{model: a, parameters: {weigth: 1}}, {model: b, parameters: {weight: 1}}]\n"
    error = problem("merge_method: linear\n" + models)
    assert error.message == "models[0].parameters.weigth: linear has no parameter 'weigth'"
    assert error.hint.startswith("Did you mean 'weight'?")
    both = problems("merge_method: linear\n" + models.replace("weight: 1", "zzz: 1"))
    assert [each.message.rsplit(" ", 1)[-1] for each in both] == ["'weigth'", "'zzz'", "b"]


def test_a_parameter_that_only_some_tensors_get() -> None:
    error = problem(AVERAGE.replace("weight: 3", "weight: [{filter: model, value: 1}]"))
    assert error.message == "linear needs the parameter 'weight', which has no value for lm_head.weight of b"


def test_a_base_that_linear_counts_as_a_source_is_explained() -> None:
    text = "merge_method: linear\nbase_model: z\nmodels: [{model: a, parameters: {weight: 1}}]\n"
    error = problem(text)
    assert error.message.endswith("of z")
    assert "base_model counts as a source of linear, as in mergekit" in error.hint
    outline = lay(text + "parameters: {weight: 2}\n")
    assert weights(outline, Q % 0) == [1.0, 2.0]
    assert named(outline, Q % 0).base is None


def test_a_base_beside_passthrough_is_explained() -> None:
    error = problem("merge_method: passthrough\nbase_model: z\nmodels: [{model: a}]\n")
    assert error.message == "models: passthrough takes exactly 1 source, and has 2"
    assert "remove base_model" in error.hint


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("merge_method: ties\nmodels: [{model: a}]", "ties needs a base_model"),
        (
            "merge_method: slerp\nbase_model: a\nmodels: [{model: a}, {model: b}, {model: c}]\nparameters: {t: 1}",
            "slerp takes exactly 1 source beside the base, and has 2",
        ),
        ("merge_method: slerp\nbase_model: a\nmodels: [{model: a}]\nparameters: {t: 1}", "and has 0"),
        (
            "merge_method: linear\nmodels: [{model: a}, {model: a}]\nparameters: {weight: 1}",
            "names the same layers of a twice",
        ),
        (
            "merge_method: ties\nbase_model: z\nslices: [{sources: [{model: a, layer_range: [0, 4]}]}]",
            "the base model z is not among the sources",
        ),
        ("merge_method: liner\nmodels: [{model: a}]", "unknown merge method 'liner'"),
        ("merge_method: linear\nmodules: {vision: {models: [{model: a}]}}", "a has no module 'vision'"),
    ],
)
def test_what_does_not_fit_the_method_is_said(text: str, part: str) -> None:
    found = problems(text)
    assert part in found[0].message


def test_one_model_may_give_two_runs_of_layers_to_one_slice() -> None:
    outline = lay(
        """
        merge_method: linear
        slices: [{sources: [{model: a, layer_range: [0, 2]}, {model: a, layer_range: [2, 4]}]}]
        parameters: {weight: 1}
        """
    )
    assert [each.tensor for each in named(outline, Q % 1).inputs] == [Q % 1, Q % 3]


def test_misspelt_filters_are_refused_and_lenient_ignores_them() -> None:
    text = AVERAGE.replace("weight: 3", "weight: [{filter: self_atn, value: 1}, {value: 2}]")
    error = problem(text)
    assert error.message == ("models[1].parameters.weight: the filter 'self_atn' is part of no tensor's name")
    assert "'self_attn'" in error.hint
    outline = lay(text, lenient=True)
    assert weights(outline, Q % 0) == [1.0, 2.0]
    assert any("self_atn" in each for each in outline.warnings)


def test_a_filter_for_a_tensor_that_is_tied_away_is_fine() -> None:
    text = AVERAGE.replace("weight: 3", "weight: [{filter: lm_head, value: 1}, {value: 2}]")
    tied = family(tied=True)
    outline = lay(text, {"a": tied, "b": tied})
    assert any("'lm_head' decides nothing" in each for each in outline.warnings)


def test_a_filter_behind_a_wider_one_is_told() -> None:
    text = AVERAGE.replace(
        "weight: 3", "weight: [{filter: attn, value: 1}, {filter: self_attn, value: 9}, {value: 2}]"
    )
    assert any("'self_attn' decides nothing" in each for each in lay(text).warnings)


def test_problems_of_every_kind_come_together() -> None:
    found = problems(
        """
        merge_method: linear
        models:
          - {model: a, parameters: {wieght: 1, weight: half}}
          - {model: b, parameters: {weight: 1}}
        chat_template: chatml
        parameters: {normalise: true}
        """,
        {"b": family(vocab=100).saying(quantization_config={"quant_method": "gptq"})},
    )
    text = "\n".join(each.message for each in found)
    for part in (
        "'wieght'",
        "'normalise'",
        "must be a number",
        "chat_template",
        "quantised",
        "different shapes",
    ):
        assert part in text


def test_quantised_weights_pass_through_only() -> None:
    quantised = {"a": LLAMA.saying(quantization_config={"quant_method": "gptq"})}
    error = problem(AVERAGE, quantised)
    assert error.message == "a is quantised, and quantised weights cannot be combined"
    assert lay("merge_method: passthrough\nmodels: [{model: a}]\n", quantised).assignments


def test_mixed_architectures_need_lenient() -> None:
    other = {"b": LLAMA.saying(architectures=["MistralForCausalLM"])}
    error = problem(AVERAGE, other)
    assert error.message.endswith("a is LlamaForCausalLM, b is MistralForCausalLM")
    assert any("declared as LlamaForCausalLM" in each for each in lay(AVERAGE, other, lenient=True).warnings)
    overridden = AVERAGE.replace(
        "model: b", "model: {model: {path: b}, override_architecture: LlamaForCausalLM}"
    )
    assert lay(overridden, other).warnings == ()


def test_models_without_configs_merge_by_name() -> None:
    bare = Checkpoint(LLAMA.tensors, None)
    assert len(lay(AVERAGE, {"a": bare, "b": bare}).assignments) == len(LLAMA.tensors)


def test_an_empty_model_is_refused() -> None:
    found = problems(AVERAGE, {"b": Checkpoint({}, LLAMA.config)})
    assert "b holds no tensors" in found[0].message


@given(
    st.sets(st.sampled_from(sorted(LLAMA.tensors)), max_size=4), st.sampled_from(["linear", "ties", "slerp"])
)
def test_lost_tensors_are_named_or_tied_never_ignored(lost: set[str], method: str) -> None:
    text = f"merge_method: {method}\n" + ("" if method == "linear" else "base_model: a\n")
    text += "models: [{model: a}, {model: b}]\nparameters: {%s: 1}\n" % (
        "t" if method == "slerp" else "weight"
    )
    poorer = Checkpoint(
        {name: each for name, each in LLAMA.tensors.items() if name not in lost}, LLAMA.config
    )
    needed = lost - {"lm_head.weight"}
    if needed:
        text_of_all = "\n".join(each.message for each in problems(text, {"b": poorer}))
        assert "b lacks " in text_of_all
    else:
        assert len(lay(text, {"b": poorer}).assignments) == len(LLAMA.tensors)
