"""Recipes laid over models: sources, positions in gradients, precedence, bases, ties, donors."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd.errors import PlanError
from alloyd_daemon.recipes.assign import assign
from alloyd_daemon.recipes.outline import Model
from checkpoint_factory import CLASSES
from outlines import AVERAGE, LLAMA, Checkpoint, Q, family, lay, named, problem, recipe_of, weights


def test_whole_models_give_every_tensor_once_in_the_order_of_the_donor() -> None:
    outline = lay(AVERAGE)
    assert [each.name for each in outline.assignments] == list(LLAMA.tensors)
    for each in outline.assignments:
        assert [(one.model, one.tensor) for one in each.inputs] == [(0, each.name), (1, each.name)]
        assert [one.parameters for one in each.inputs] == [{"weight": 1.0}, {"weight": 3.0}]
        assert (each.method, each.base, each.shared) == ("linear", None, {"normalize": True, "offset": 0.0})
    assert [model.name for model in outline.models] == ["a", "b"]
    assert (outline.donor, outline.seed, outline.warnings) == (0, 0, ())
    (stack,) = outline.stacks
    assert (stack.prefix, stack.config_path, stack.resliced) == ("model.layers", (), False)
    assert stack.origins == ((0, 0), (0, 1), (0, 2), (0, 3))


def test_before_the_layers_the_layers_in_order_then_the_rest_whatever_the_stored_order() -> None:
    names = sorted(LLAMA.tensors, reverse=True)
    checkpoint = Checkpoint({name: LLAMA.tensors[name] for name in names}, LLAMA.config)
    listed = [each.name for each in lay(AVERAGE, {"a": checkpoint}).assignments]
    assert listed[0] == "model.embed_tokens.weight"
    assert listed[-2:] == ["model.norm.weight", "lm_head.weight"]
    layers = [name for name in listed if name.startswith("model.layers.")]
    assert layers == [name for n in range(4) for name in names if name.startswith(f"model.layers.{n}.")]


def test_vocabulary_axes_and_dtypes_and_seed_are_passed_on() -> None:
    outline = lay(AVERAGE + "dtype: float32\nout_dtype: torch.bfloat16\nseed: 5\n")
    assert named(outline, "lm_head.weight").vocabulary_axis == 0
    assert named(outline, "model.embed_tokens.weight").vocabulary_axis == 0
    assert named(outline, "model.norm.weight").vocabulary_axis is None
    assert (outline.dtype, outline.out_dtype, outline.seed) == ("float32", "bfloat16", 5)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_family_merges(name: str) -> None:
    checkpoint = family(name)
    outline = lay(AVERAGE, {"a": checkpoint, "b": checkpoint})
    assert {each.name for each in outline.assignments} == set(checkpoint.tensors)


def test_gradients_run_over_the_layers_and_stand_at_their_first_value_outside() -> None:
    outline = lay(AVERAGE.replace("weight: 3", "weight: [0, 3]"))
    assert [weights(outline, Q % n)[1] for n in range(4)] == [0.0, 1.0, 2.0, 3.0]
    for name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"):
        assert weights(outline, name)[1] == 0.0


def test_a_single_layer_stands_at_the_last_value() -> None:
    one = family(layers=1)
    outline = lay(AVERAGE.replace("weight: 3", "weight: [0, 3]"), {"a": one, "b": one})
    assert weights(outline, Q % 0) == [1.0, 3.0]
    assert weights(outline, "model.norm.weight") == [1.0, 0.0]


SLICES = """
merge_method: linear
slices:
  - sources:
      - {model: a, layer_range: [0, 2], parameters: {weight: [0, 1]}}
      - {model: b, layer_range: [1, 3]}
    parameters: {weight: 2}
  - sources:
      - {model: b, layer_range: [0, 3]}
      - model: a
        layer_range: [1, 4]
        parameters: {weight: [{filter: layers.2, value: 8}]}
    parameters: {weight: [{filter: self_attn, value: [5, 7]}]}
parameters: {weight: [9, 10], normalize: [{filter: layers.2, value: false}, {value: true}]}
"""


def test_slices_gradients_filters_and_every_level_of_precedence() -> None:
    outline = lay(SLICES)
    assert len({each.name for each in outline.assignments}) == len(outline.assignments)
    inputs = {n: [(each.model, each.tensor) for each in named(outline, Q % n).inputs] for n in range(5)}
    assert inputs == {
        0: [(0, Q % 0), (1, Q % 1)],
        1: [(0, Q % 1), (1, Q % 2)],
        2: [(1, Q % 0), (0, Q % 1)],
        3: [(1, Q % 1), (0, Q % 2)],
        4: [(1, Q % 2), (0, Q % 3)],
    }
    up = "model.layers.%d.mlp.up_proj.weight"
    # A source before its slice; t runs over each slice.
    assert [weights(outline, Q % n) for n in (0, 1)] == [[0.0, 2.0], [1.0, 2.0]]
    # Filters of a source see the source's own layer number; what they miss falls through, level by level.
    assert [weights(outline, Q % n) for n in (2, 3, 4)] == [[5.0, 5.0], [6.0, 8.0], [7.0, 7.0]]
    assert [weights(outline, up % n) for n in (2, 3, 4)] == [[9.0, 9.0], [9.5, 8.0], [10.0, 10.0]]
    # Shared parameters see the output's name.
    assert [named(outline, Q % n).shared["normalize"] for n in range(5)] == [True, True, False, True, True]
    # Before the layers the first slice counts, after them the last, both at t = 0.
    assert weights(outline, "model.embed_tokens.weight") == [0.0, 2.0]
    assert weights(outline, "lm_head.weight") == [9.0, 9.0]
    assert [each.model for each in named(outline, "lm_head.weight").inputs] == [1, 0]
    (stack,) = outline.stacks
    assert stack.resliced
    assert stack.origins == ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2))


def test_slices_with_unequal_numbers_of_sources() -> None:
    outline = lay(
        """
        merge_method: linear
        slices:
          - sources: [{model: a, layer_range: [0, 2]}]
          - sources: [{model: a, layer_range: [2, 4]}, {model: b, layer_range: [2, 4]}]
        parameters: {weight: 1}
        """
    )
    assert len(named(outline, "model.embed_tokens.weight").inputs) == 1
    assert len(named(outline, "lm_head.weight").inputs) == 2


def test_a_frankenmerge_repeats_layers_with_their_own_scale() -> None:
    outline = lay(
        """
        merge_method: passthrough
        slices:
          - sources: [{model: a, layer_range: [0, 3]}]
          - sources:
              - model: a
                layer_range: [1, 4]
                parameters: {scale: [{filter: o_proj, value: 0.5}]}
        """
    )
    assert len(outline.stacks[0].origins) == 6
    assert named(outline, Q % 3).inputs[0].tensor == Q % 1
    scales = {each.name: each.inputs[0].parameters["scale"] for each in outline.assignments}
    assert scales["model.layers.3.self_attn.o_proj.weight"] == 0.5
    assert scales["model.layers.0.self_attn.o_proj.weight"] is None
    assert scales[Q % 3] is None


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 4)).map(lambda pair: (pair[0], min(4, sum(pair)))),
        min_size=1,
        max_size=6,
    )
)
def test_any_stack_of_slices_is_laid_out_without_gaps(ranges: list[tuple[int, int]]) -> None:
    runs = "".join(f"  - sources: [{{model: a, layer_range: [{a}, {b}]}}]\n" for a, b in ranges)
    outline = lay("merge_method: passthrough\nslices:\n" + runs)
    origins = [number for a, b in ranges for number in range(a, b)]
    assert outline.stacks[0].origins == tuple((0, number) for number in origins)
    for number, source in enumerate(origins):
        assert named(outline, Q % number).inputs[0].tensor == Q % source
    outside = sum(not name.startswith("model.layers.") for name in LLAMA.tensors)
    assert len(outline.assignments) == outside + len(origins) * (len(LLAMA.tensors) - outside) // 4


def test_the_base_is_marked_and_takes_no_parameters_of_the_others() -> None:
    outline = lay(
        """
        merge_method: ties
        base_model: b
        models:
          - {model: a, parameters: {weight: 0.5, density: 1e-1}}
          - {model: b}
          - {model: c, parameters: {weight: 0.25}}
        """
    )
    each = named(outline, Q % 0)
    assert each.base == 1
    assert [one.parameters for one in each.inputs] == [
        {"weight": 0.5, "density": 0.1},
        {},
        {"weight": 0.25, "density": 1.0},
    ]
    assert each.shared["normalize"] is True
    assert outline.donor == 1


def test_a_base_that_is_not_listed_joins_at_the_end() -> None:
    outline = lay("merge_method: ties\nbase_model: z\nmodels: [{model: a, parameters: {weight: 1}}]\n")
    each = named(outline, Q % 0)
    assert [outline.models[one.model].name for one in each.inputs] == ["a", "z"]
    assert each.base == 1
    assert outline.models[outline.donor].name == "z"


def test_two_spellings_of_one_folder_are_one_model() -> None:
    recipe = recipe_of(
        "merge_method: ties\nbase_model: ./z\nmodels: [{model: a}, {model: z}]\nparameters: {weight: 1}"
    )
    paths = [Path("/a"), Path("/z"), Path("/z")]
    models = [Model(str(ref), path) for ref, path in zip(recipe.referenced_models(), paths, strict=True)]
    outline = assign(recipe, models, [LLAMA.tensors] * 3, [LLAMA.config] * 3)
    each = named(outline, Q % 0)
    assert (len(each.inputs), each.base, outline.donor) == (2, 1, 1)


def test_a_slice_may_have_a_base_of_its_own() -> None:
    outline = lay(
        """
        merge_method: slerp
        base_model: a
        slices:
          - sources: [{model: a, layer_range: [0, 2]}, {model: b, layer_range: [0, 2]}]
          - sources: [{model: a, layer_range: [2, 4]}, {model: b, layer_range: [2, 4]}]
            base_model: b
        parameters: {t: 0.5}
        """
    )
    assert [named(outline, Q % n).base for n in range(4)] == [0, 0, 1, 1]
    assert named(outline, "model.embed_tokens.weight").base == 0
    assert named(outline, "lm_head.weight").base == 1
    assert outline.donor == 0
    assert outline.stacks[0].origins == ((0, 0), (0, 1), (1, 2), (1, 3))


def test_parameters_of_the_base_alone_are_told_to_have_no_effect() -> None:
    outline = lay(
        "merge_method: ties\nbase_model: a\n"
        "models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 1}}]\n"
    )
    assert any(
        "models[0].parameters.weight has no effect on the base model" in each for each in outline.warnings
    )


def test_a_tied_head_is_taken_from_the_embedding() -> None:
    tied = family(tied=True)
    outline = lay(AVERAGE, {"b": tied})
    assert [each.tensor for each in named(outline, "lm_head.weight").inputs] == [
        "lm_head.weight",
        "model.embed_tokens.weight",
    ]
    both = lay(AVERAGE, {"a": tied, "b": tied})
    assert "lm_head.weight" not in {each.name for each in both.assignments}


def test_a_head_that_the_donor_ties_is_written_with_a_warning() -> None:
    outline = lay(AVERAGE, {"a": family(tied=True).saying(tie_word_embeddings=True)})
    assert named(outline, "lm_head.weight").inputs[0].tensor == "model.embed_tokens.weight"
    assert any(
        "lm_head.weight is written because one of the models has it" in each for each in outline.warnings
    )


def test_the_spelling_of_the_donor_is_kept() -> None:
    full = family("gpt2")
    bare = Checkpoint(
        {name.removeprefix("transformer."): tensor for name, tensor in full.tensors.items()}, full.config
    )
    outline = lay(AVERAGE, {"a": bare, "b": full})
    assert {each.name for each in outline.assignments} == set(bare.tensors)
    each = named(outline, "h.0.attn.c_attn.weight")
    assert [one.tensor for one in each.inputs] == [
        "h.0.attn.c_attn.weight",
        "transformer.h.0.attn.c_attn.weight",
    ]


def test_filters_see_the_canonical_name() -> None:
    full = family("gpt2")
    bare = Checkpoint(
        {name.removeprefix("transformer."): tensor for name, tensor in full.tensors.items()}, full.config
    )
    text = AVERAGE.replace("weight: 1", "weight: [{filter: transformer.h.2., value: 5}, {value: 1}]")
    outline = lay(text, {"a": bare, "b": bare})
    assert weights(outline, "h.2.ln_1.weight") == [5.0, 3.0]
    assert weights(outline, "h.1.ln_1.weight") == [1.0, 3.0]


def test_buffers_are_copied_and_not_averaged() -> None:
    with_buffer = LLAMA.plus(model__layers__0__self_attn__rotary_emb__inv_freq=(4,))
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    outline = lay(AVERAGE, {"a": with_buffer, "b": with_buffer})
    each = named(outline, name)
    assert (each.method, [one.model for one in each.inputs]) == ("passthrough", [0])
    only_other = lay(AVERAGE, {"b": with_buffer})
    assert name not in {each.name for each in only_other.assignments}
    assert any(name in warning for warning in only_other.warnings)


BIASED = {"a": family().saying(architectures=["GraniteForCausalLM"])}
BIASED["b"] = BIASED["a"].plus(model__layers__0__self_attn__q_proj__bias=(32,))
BIAS = "model.layers.0.self_attn.q_proj.bias"


def test_an_optional_tensor_that_one_model_has_follows_the_method() -> None:
    average = lay(AVERAGE, BIASED)
    assert [one.model for one in named(average, BIAS).inputs] == [1]
    assert named(average, BIAS).method == "linear"
    slerp = lay("merge_method: slerp\nbase_model: a\nmodels: [{model: b}]\nparameters: {t: 0.5}\n", BIASED)
    assert named(slerp, BIAS).method == "passthrough"
    ties = "merge_method: ties\nbase_model: %s\nmodels: [{model: %s}]\nparameters: {weight: 1}\n"
    error = problem(ties % ("a", "b"), BIASED)
    assert isinstance(error, PlanError)
    assert error.message == f"a lacks {BIAS}, which b has"
    only_base = named(lay(ties % ("b", "a"), BIASED), BIAS)
    assert ([one.model for one in only_base.inputs], only_base.base) == ([1], 0)
