"""Recipes laid over models: sources, positions, precedence, ties, donors; and everything that does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd.errors import AlloydError, PlanError, Problems, RecipeError, ShapeMismatch
from alloyd.recipe import Recipe, load
from alloyd_daemon.assign import assign
from alloyd_daemon.outline import Assignment, Model, Outline
from checkpoint_factory import CLASSES, shapes
from checkpoint_factory import Model as Shape


@dataclass(frozen=True)
class Tensor:
    shape: tuple[int, ...]
    dtype: str = "BF16"


@dataclass
class Checkpoint:
    """The names, shapes and config of a model, as its headers and config.json give them."""

    tensors: dict[str, Tensor]
    config: dict[str, Any] | None = field(default_factory=dict)

    def without(self, *endings: str) -> Checkpoint:
        kept = {name: each for name, each in self.tensors.items() if not name.endswith(endings)}
        return Checkpoint(kept, self.config)

    def plus(self, **more: tuple[int, ...]) -> Checkpoint:
        added = {name.replace("__", "."): Tensor(shape) for name, shape in more.items()}
        return Checkpoint(self.tensors | added, self.config)

    def saying(self, **config: Any) -> Checkpoint:
        return Checkpoint(self.tensors, {**(self.config or {}), **config})


def family(name: Any = "llama", layers: int = 4, *, tied: bool = False, vocab: int = 96) -> Checkpoint:
    model = Shape(architecture=name, layers=layers, tied=tied, vocab=vocab)
    key = "n_layer" if name == "gpt2" else "num_hidden_layers"
    tensors = {tensor: Tensor(shape) for tensor, shape in shapes(model).items()}
    return Checkpoint(tensors, {"architectures": [CLASSES[name]], key: layers})


LLAMA = family()


def recipe_of(text: str, lenient: bool = False) -> Recipe:
    (recipe,) = load(text, lenient=lenient)
    return recipe


def lay(
    text: str,
    checkpoints: Mapping[str, Checkpoint] | None = None,
    *,
    lenient: bool = False,
    vocabularies: Mapping[str, str | None] | None = None,
) -> Outline:
    """Assign ``text`` over ``checkpoints`` (by the model's path; LLAMA where there is none)."""
    recipe = recipe_of(text, lenient)
    refs = recipe.referenced_models()
    held = [(checkpoints or {}).get(each.path, LLAMA) for each in refs]
    return assign(
        recipe,
        [Model(str(each), Path("/models") / each.path) for each in refs],
        [each.tensors for each in held],
        [each.config for each in held],
        vocabularies=[] if vocabularies is None else [vocabularies.get(each.path) for each in refs],
        lenient=lenient,
    )


def problems(
    text: str, checkpoints: Mapping[str, Checkpoint] | None = None, **more: Any
) -> list[AlloydError]:
    with pytest.raises(AlloydError) as caught:
        lay(text, checkpoints, **more)
    error = caught.value
    return list(error.problems) if isinstance(error, Problems) else [error]


def problem(text: str, checkpoints: Mapping[str, Checkpoint] | None = None, **more: Any) -> AlloydError:
    found = problems(text, checkpoints, **more)
    assert len(found) == 1, [each.message for each in found]
    return found[0]


def named(outline: Outline, name: str) -> Assignment:
    (found,) = (each for each in outline.assignments if each.name == name)
    return found


def weights(outline: Outline, name: str) -> list[Any]:
    return [each.parameters.get("weight") for each in named(outline, name).inputs]


AVERAGE = """
merge_method: linear
models:
  - {model: a, parameters: {weight: 1}}
  - {model: b, parameters: {weight: 3}}
"""
Q = "model.layers.%d.self_attn.q_proj.weight"


def test_whole_models_give_every_tensor_once_in_the_order_of_the_donor() -> None:
    outline = lay(AVERAGE)
    assert [each.name for each in outline.assignments] == list(LLAMA.tensors)
    for each in outline.assignments:
        assert [(one.model, one.tensor) for one in each.inputs] == [(0, each.name), (1, each.name)]
        assert [one.parameters for one in each.inputs] == [{"weight": 1.0}, {"weight": 3.0}]
        assert (each.method, each.base, each.shared) == ("linear", None, {"normalize": True})
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


SAME = {"a": "x", "b": "x"}


@pytest.mark.parametrize("block", ["tokenizer_source: base", "tokenizer: {source: base}"])
def test_the_donors_tokenizer_serves_models_of_one_vocabulary(block: str) -> None:
    assert lay(AVERAGE + block, vocabularies=SAME).warnings == ()
    assert "could not be compared" in lay(AVERAGE + block).warnings[0]
    assert "could not be compared" in lay(AVERAGE + block, vocabularies={"a": "x"}).warnings[0]
    error = problem(AVERAGE + block, vocabularies={"a": "x", "b": "y"})
    assert "needs a vocabulary built from several, which is not supported yet" in error.message


@pytest.mark.parametrize("block", ["tokenizer_source: union", "tokenizer_source: a", "tokenizer: {}"])
def test_any_tokenizer_source_is_the_donors_when_all_vocabularies_are_one(block: str) -> None:
    assert lay(AVERAGE + block, vocabularies=SAME).warnings == ()
    assert "not supported yet" in problem(AVERAGE + block).message


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ("tokenizer_source: b", "tokenizer_source: b needs a vocabulary built"),
        ("tokenizer: {source: base, pad_to_multiple_of: 8}", "pad_to_multiple_of are not supported yet"),
        ("tokenizer: {source: base, tokens: {x: {source: a}}}", "tokenizer.tokens"),
        ("chat_template: auto", "chat_template is not supported yet"),
    ],
)
def test_what_is_not_carried_out_yet_is_one_clear_error(block: str, part: str) -> None:
    error = problem(AVERAGE + block, vocabularies=SAME)
    assert isinstance(error, PlanError)
    assert part in error.message


def test_warnings_of_the_recipe_reach_the_outline() -> None:
    outline = lay(AVERAGE + "unknown_key: 1\nparameters: {normlize: true}\n", lenient=True)
    assert any("unknown_key" in each for each in outline.warnings)
    assert any("normlize" in each for each in outline.warnings)


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
