"""Recipes: mergekit's schema is read whole, and each mistake is named with its line and a cure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from alloyd.errors import AlloydError, Problems, RecipeError, UsageError
from alloyd.recipe import (
    Condition,
    InputModel,
    ModelRef,
    ModelToken,
    Recipe,
    Source,
    TokenEmbedding,
    in_order,
    load,
)
from alloyd.recipe_file import read

SMALLEST = "merge_method: linear\nmodels: [{model: a}]\n"


def one(text: str, *, lenient: bool = False) -> Recipe:
    (recipe,) = load(text, lenient=lenient)
    return recipe


def problems(text: str, *, lenient: bool = False) -> list[AlloydError]:
    with pytest.raises(AlloydError) as caught:
        load(text, name="r.yml", lenient=lenient)
    error = caught.value
    found = list(error.problems) if isinstance(error, Problems) else [error]
    assert all(isinstance(each, RecipeError) for each in found)
    assert all(each.message.startswith("r.yml") for each in found)
    assert error.status == 3
    return found


def problem(text: str, *, lenient: bool = False) -> AlloydError:
    (found,) = problems(text, lenient=lenient)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ModelRef("a")),
        ("org/a@main", ModelRef("org/a", "main")),
        ("a+l", ModelRef("a", lora=ModelRef("l"))),
        ("a@r+l@s", ModelRef("a", "r", ModelRef("l", "s"))),
    ],
)
def test_model_references_read_and_print(text: str, expected: ModelRef) -> None:
    assert ModelRef.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize("text", ["a+b+c", "a@b@c", "a@b+c@d@e", "@b", "a@", "a+", "", " "])
def test_malformed_references_are_refused(text: str) -> None:
    with pytest.raises(RecipeError):
        ModelRef.parse(text)


WORDS = st.text("abcXYZ019/._-", min_size=1, max_size=12)
HALVES = st.builds(ModelRef, WORDS, st.none() | WORDS)


@given(HALVES, st.none() | HALVES)
def test_references_survive_printing(whole: ModelRef, lora: ModelRef | None) -> None:
    ref = ModelRef(whole.path, whole.revision, lora)
    assert ModelRef.parse(str(ref)) == ref


def test_every_key_of_a_whole_recipe() -> None:
    recipe = one(
        """
        merge_method: dare_ties
        base_model: org/base@v1
        slices:
          - sources:
              - {model: org/base@v1, layer_range: [0, 4]}
              - model: {model: {path: odd+path, revision: r}, override_architecture: LlamaForCausalLM}
                layer_range: [4, 8]
                parameters: {weight: [0, 0.5, 1], density: {filter: mlp, value: 1e-5}}
            base_model: org/base@v1
            parameters: {normalize: true}
        dtype: torch.float32
        out_dtype: bfloat16
        parameters:
          lambda: [{filter: self_attn, value: [0, 1]}, {value: 0.5}]
        tokenizer:
          source: union
          tokens:
            <|a|>: {source: org/base@v1, force: true}
            <|b|>: {source: {kind: model_token, model: org/base@v1, token_id: 3}}
            <|c|>: {source: {kind: zero}}
          pad_to_multiple_of: 16
        chat_template: chatml
        seed: 7
        name: first
        """
    )
    odd = ModelRef("odd+path", "r", override_architecture="LlamaForCausalLM")
    base = ModelRef("org/base", "v1")
    (run,) = recipe.slices
    assert run.sources == (
        Source(base, (0, 4)),
        Source(odd, (4, 8), {"weight": (0, 0.5, 1), "density": Condition("1e-5", "mlp")}),
    )
    assert (run.base_model, run.parameters) == (base, {"normalize": True})
    assert recipe.parameters == {"lambda": (Condition((0, 1), "self_attn"), Condition(0.5))}
    assert (recipe.dtype, recipe.out_dtype, recipe.seed, recipe.name) == ("float32", "bfloat16", 7, "first")
    assert recipe.tokenizer is not None
    assert recipe.tokenizer.pad_to_multiple_of == 16
    assert recipe.tokenizer.tokens == {
        "<|a|>": TokenEmbedding(base, True),
        "<|b|>": TokenEmbedding(ModelToken(base, token_id=3)),
        "<|c|>": TokenEmbedding("zero"),
    }
    assert recipe.referenced_models() == (base, odd)
    assert recipe.warnings == ()


def test_models_and_modules() -> None:
    recipe = one(
        """
        merge_method: linear
        modules:
          text_decoder: {models: [{model: a, parameters: {weight: 1}}], parameters: {normalize: false}}
          vision_tower: {slices: [{sources: [{model: b, layer_range: [0, 2]}]}]}
        """
    )
    assert recipe.modules["text_decoder"].models == (InputModel(ModelRef("a"), {"weight": 1}),)
    assert recipe.modules["text_decoder"].parameters == {"normalize": False}
    assert recipe.modules["vision_tower"].slices[0].sources == (Source(ModelRef("b"), (0, 2)),)


def test_referenced_models_are_in_recipe_order_with_an_unlisted_base_last() -> None:
    recipe = one("merge_method: ties\nbase_model: z\nmodels: [{model: b}, {model: a}, {model: b}]\n")
    assert [str(each) for each in recipe.referenced_models()] == ["b", "a", "z"]


@pytest.mark.parametrize(
    ("text", "line", "part", "hint"),
    [
        ("merge_method: linear\nmodelz: [{model: a}]\nmodels: [{model: a}]", 2, "'modelz'", "'models'"),
        (
            "merge_metod: linear\nmodels: [{model: a}]\nmerge_method: linear",
            1,
            "'merge_metod'",
            "'merge_method'",
        ),
        ("models: [{model: a}]", 1, "needs the key 'merge_method'", "merge_method: linear"),
        ("merge_method: linear", 1, "exactly one of 'models', 'slices' and 'modules'; it has none", ""),
        ("merge_method: linear\nmodels: []", 2, "at least one entry", ""),
        ("merge_method: linear\nmodels: [a]", 2, "models[0] must be a mapping", ""),
        ("merge_method: linear\nmodels: a", 2, "models must be a list", ""),
        ("merge_method: linear\nmodels:\n- model: 3", 3, "models[0].model must be text", "Quote it"),
        ("merge_method: linear\nmodels:\n- model: a@b@c", 3, "not a model", "mapping"),
        ("merge_method: linear\nmodels:\n- modle: a\n  model: a", 3, "'modle'", "'model'"),
        ("merge_method: linear\nmodels:\n- parameters: {}", 3, "needs the key 'model'", ""),
        ("merge_method: [x]\nmodels: [{model: a}]", 1, "merge_method must be text", ""),
        (SMALLEST + "dtype: bfloat", 3, "'bfloat' is not a dtype", "'bfloat16'"),
        (SMALLEST + "out_dtype: int64", 3, "'int64' is not a dtype", ""),
        (SMALLEST + "seed: -1", 3, "seed must be a whole number", ""),
        (SMALLEST + "seed: 1.5", 3, "seed must be a whole number", ""),
        (SMALLEST + "seed: true", 3, "seed must be a whole number", ""),
        (SMALLEST + "name: ../evil", 3, "cannot name a document", "folder"),
        (SMALLEST + "chat_template: chatlm", 3, "'chatlm' is neither", "'chatml'"),
        (SMALLEST + "tokenizer_source: base\ntokenizer: {}", 3, "exclude each other", ""),
        (SMALLEST + "tokenizer: {pad_to_multiple_of: 0}", 3, "pad_to_multiple_of must be", ""),
        (SMALLEST + "tokenizer: {tokens: {a: {source: {kind: nought}}}}", 3, "'model_token' or 'zero'", ""),
        (
            SMALLEST + "tokenizer: {tokens: {a: {source: {kind: model_token, model: a}}}}",
            3,
            "exactly one",
            "",
        ),
        (SMALLEST + "parameters: {weight: null}", 3, "not nothing", "default"),
        (SMALLEST + "parameters: {weight: .nan}", 3, "finite", ""),
        (SMALLEST + "parameters: {weight: [[1]]}", 3, "mixes values", "gradient"),
        (SMALLEST + "parameters: {weight: [{value: 1}, 2]}", 3, "mixes values", ""),
        (SMALLEST + "parameters: {weight: {filter: 3, value: 1}}", 3, "part of a tensor's name", "Quote it"),
        (SMALLEST + "parameters: {weight: {filter: a}}", 3, "needs the key 'value'", ""),
        (SMALLEST + "parameters: {weight: {fitler: a, value: 1}}", 3, "'fitler'", "'filter'"),
        (SMALLEST + "parameters: {weight: {value: [{value: 1}]}}", 3, "another filter", ""),
        (SMALLEST + "parameters: [weight]", 3, "parameters must be a mapping", ""),
        ("- a\n- b", 1, "a recipe is a mapping of keys to values, not a list", ""),
        ("just text", 1, "not text", ""),
    ],
)
def test_each_mistake_has_one_message_with_its_line_and_a_hint(
    text: str, line: int, part: str, hint: str
) -> None:
    error = problem(text)
    assert part in error.message
    assert f"line {line}" in error.message
    assert error.facts["line"] == line
    assert hint in error.hint


SLICE = "merge_method: linear\nslices:\n- sources:\n  - {model: a, layer_range: %s}\n"


@pytest.mark.parametrize(
    "layers", ["[0]", "[0, 1, 2]", "3", "[0, x]", "[0, 1.5]", "[true, 2]", "null", "{a: 1}"]
)
def test_a_layer_range_is_two_whole_numbers(layers: str) -> None:
    assert "two whole numbers" in problem(SLICE % layers).message


@pytest.mark.parametrize("layers", ["[4, 4]", "[5, 4]", "[-1, 4]"])
def test_a_layer_range_holds_layers(layers: str) -> None:
    assert "holds no layer" in problem(SLICE % layers).message


def test_sources_of_a_slice_are_equally_long() -> None:
    error = problem(SLICE % "[0, 4]" + "  - {model: b, layer_range: [0, 3]}\n")
    assert "a [0, 4], b [0, 3]" in error.message


def test_all_mistakes_come_at_once() -> None:
    found = problems("merge_metod: x\nmodels: [a, {model: 3}]\ndtype: int4\nparameters: {t: null}\n")
    assert [each.facts["line"] for each in found] == [1, 2, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("merge_metod: linear\nmodels: [{model: a}]\n", "merge_method"),
        ("merge_method: linear\nmodells: [{model: a}]\n", "models"),
        ("merge_method: linear\nmodels: [{modle: a}]\n", "model"),
        ("merge_method: linear\nmodels: [{model: {modle: a}}]\n", "model"),
        (SMALLEST + "parameters: {weight: {filter: x, valeu: 1}}\n", "value"),
        (SMALLEST + "out: {format: gguf, tpye: Q4_K_M}\n", "type"),
    ],
)
def test_a_misspelt_key_is_one_mistake(text: str, key: str) -> None:
    (found,) = problems(text)
    assert found.hint == f"Did you mean '{key}'?"


def test_a_missing_key_is_told_beside_one_that_is_like_no_other() -> None:
    found = problems("zzz: linear\nmodels: [{model: a}]\n")
    assert ["zzz" in each.message for each in found] == [True, False]
    assert "needs the key 'merge_method'" in found[1].message


def test_lenient_takes_unknown_keys_as_warnings() -> None:
    text = SMALLEST + "tokenizer_sorce: base\n"
    recipe = one(text, lenient=True)
    assert recipe.tokenizer_source is None
    assert len(recipe.warnings) == 1
    assert "line 3" in recipe.warnings[0]
    assert "'tokenizer_sorce'" in recipe.warnings[0]
    assert "'tokenizer_source'" in problem(text).hint


def test_lenient_does_not_forgive_wrong_values() -> None:
    assert "seed" in problem(SMALLEST + "seed: x", lenient=True).message


def test_what_has_no_effect_is_told() -> None:
    recipe = one(SMALLEST + "parameters: {weight: []}\n")
    assert "empty list" in recipe.warnings[0]
    sliced = one(
        "merge_method: linear\nslices: [{sources: [{model: a, layer_range: [0, 1]}], residual_weight: 1}]\n"
    )
    assert "residual_weight" in sliced.warnings[0]


def test_documents_keep_their_order_and_are_run_in_the_order_of_need() -> None:
    text = "\n---\n".join(
        (
            "merge_method: linear\nmodels: [{model: second}, {model: first}]",
            "name: second\nmerge_method: linear\nmodels: [{model: first}]",
            "name: first\nmerge_method: linear\nmodels: [{model: org/a}]",
        )
    )
    recipes = load(text)
    assert [each.name for each in recipes] == [None, "second", "first"]
    assert [(each.name, uses) for each, uses in in_order(recipes)] == [
        ("first", ()),
        ("second", ("first",)),
        (None, ("second", "first")),
    ]


def test_documents_that_need_each_other_are_refused() -> None:
    recipes = load(
        "name: x\nmerge_method: linear\nmodels: [{model: y}]\n---\nname: y\nmerge_method: linear\nmodels: [{model: x}]"
    )
    with pytest.raises(RecipeError, match="'x', 'y' need each other"):
        in_order(recipes)


def test_names_of_documents_are_unique() -> None:
    named = "name: x\n" + SMALLEST
    assert "two documents are named 'x'" in problem(f"{named}---\n{named}").message
    assert "2 documents have no name" in problem(f"{SMALLEST}---\n{SMALLEST}").message


def test_an_empty_recipe_is_told() -> None:
    assert "is empty" in problem("# nothing here\n").message


def test_reading_files(tmp_path: Path) -> None:
    good = tmp_path / "good.yml"
    good.write_bytes(b"\xef\xbb\xbf" + SMALLEST.encode())
    assert one(read(good)).merge_method == "linear"
    binary = tmp_path / "binary"
    binary.write_bytes(bytes(range(256)))
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 33)
    for path, part in (
        (binary, "not text in UTF-8"),
        (huge, "larger than"),
        (tmp_path / "absent", "cannot be read"),
    ):
        with pytest.raises(UsageError, match=part):
            read(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path)
    with pytest.raises(UsageError, match="cannot be read: embedded null byte"):
        read(tmp_path / "a\0b")


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats()
    | st.sampled_from(["a", "", "union", "x@y@z", "1e-5"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "model",
                    "path",
                    "sources",
                    "layer_range",
                    "parameters",
                    "filter",
                    "value",
                    "kind",
                    "source",
                    "x",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(st.sampled_from([*Recipe.__struct_fields__, "weight", "model"]), JUNK, max_size=6),
    st.booleans(),
)
def test_no_mapping_brings_the_reader_down(tree: dict[str, Any], lenient: bool) -> None:
    recipes, error = attempt(yaml.safe_dump(tree), lenient)
    if error is None:
        assert all(each.merge_method for each in recipes)
    else:
        assert error.status == 3
        assert error.message


def attempt(text: str, lenient: bool) -> tuple[tuple[Recipe, ...], AlloydError | None]:
    try:
        return load(text, name="r.yml", lenient=lenient), None
    except AlloydError as error:
        return (), error
