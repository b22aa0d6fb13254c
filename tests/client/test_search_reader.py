"""Search specs: read whole, and each mistake is named with its line and a cure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from alloyd.errors import AlloydError, Problems, RecipeError
from alloyd.recipe import load
from alloyd.search_reader import absolute, json_schema, read
from alloyd.search_schema import (
    Budget,
    DataFlow,
    Knob,
    Objective,
    OptimiserChoice,
    Rung,
    Screen,
    SearchFile,
    Splits,
)

REST = "tasks: {search: [a.jsonl], validation: [b.jsonl]}\nbudget: {candidates: 10}\n"
RECIPE = "recipe: {merge_method: linear, models: [{model: a, parameters: {weight: %s}}]}\n"


def problems(text: str) -> list[AlloydError]:
    with pytest.raises(AlloydError) as caught:
        read(text, name="s.yaml")
    error = caught.value
    found = list(error.problems) if isinstance(error, Problems) else [error]
    assert all(isinstance(each, RecipeError) for each in found)
    assert all(each.message.startswith("s.yaml") for each in found)
    return found


def problem(text: str) -> AlloydError:
    found = problems(text)
    assert len(found) == 1, [each.message for each in found]
    return found[0]


def knob(setting: str) -> Knob:
    recipe = read(RECIPE % setting + REST).recipe
    assert recipe is not None
    found = recipe["models"][0]["parameters"]["weight"]
    assert isinstance(found, Knob)
    return found


def test_the_least_spec_gets_every_default() -> None:
    assert read(RECIPE % 1 + REST) == SearchFile(
        tasks=Splits(("a.jsonl",), ("b.jsonl",)),
        budget=Budget(candidates=10),
        recipe={"merge_method": "linear", "models": [{"model": "a", "parameters": {"weight": 1}}]},
    )


def test_a_whole_spec_is_read() -> None:
    text = """
name: whole
recipe:
  merge_method: {choices: [linear, ties], start: ties}
  base_model: base
  models:
    - {model: a, parameters: {weight: {low: -1, high: 1}}}
path: {models: [a, b], repeat: 3, first: 2, last: 1, scale: [0.5, 2], sign: true, longest: 40, after: true, share: 0.25}
tasks: {search: [a, b], validation: [c, d], test: [e, f]}
objectives: [{task: 1}, {task: 2, metric: bits_per_byte, weight: 0.5}]
goal: pareto
optimiser: {name: cma-es, options: {sigma: 0.3, restarts: true}, batch: 8}
rungs: [{items: 20, quantise: nf4}, {race: true, block: 10}]
screen: {norm_ratio: 3}
timeout: 90
budget: {items: 100000, seconds: 60}
baselines: false
previous: [search-1]
finalists: 2
confidence: 0.9
mode: async
seed: 3
runner: stream
batch_size: 16
options: {max_tokens: 8, chat: true}
most_failed: 5
"""
    found = read(text)
    assert found.recipe is not None
    assert found.recipe["merge_method"] == Knob(choices=("linear", "ties"), start="ties")
    assert found.recipe["models"][0]["parameters"]["weight"] == Knob(low=-1, high=1)
    assert msgspec.structs.replace(found, recipe=None) == SearchFile(
        name="whole",
        path=DataFlow(("a", "b"), 3, 2, 1, (0.5, 2), True, 40, True, 0.25),
        tasks=Splits(("a", "b"), ("c", "d"), ("e", "f")),
        objectives=(Objective(1), Objective(2, "bits_per_byte", 0.5)),
        goal="pareto",
        optimiser=OptimiserChoice("cma-es", {"sigma": 0.3, "restarts": True}, 8),
        rungs=(Rung(items=20, quantise="nf4"), Rung(race=True, block=10)),
        screen=Screen(3.0),
        timeout=90.0,
        budget=Budget(items=100_000, seconds=60.0),
        baselines=False,
        previous=("search-1",),
        finalists=2,
        confidence=0.9,
        mode="async",
        seed=3,
        runner="stream",
        batch_size=16,
        options={"max_tokens": "8", "chat": "true"},
        most_failed=5,
    )


def test_one_text_is_a_list_of_one_and_an_optimiser_its_name() -> None:
    found = read(RECIPE % 1 + "tasks: {search: a, validation: b}\nbudget: {items: 1}\noptimiser: random\n")
    assert found.tasks == Splits(("a",), ("b",))
    assert found.optimiser == OptimiserChoice("random")


def test_a_screen_is_switched_off_by_false_alone() -> None:
    for said, found in (
        ("false", None),
        ("null", Screen()),
        ("{}", Screen()),
        ("{norm_ratio: 2}", Screen(2.0)),
    ):
        assert read(f"screen: {said}\n" + RECIPE % 1 + REST).screen == found
    assert {"const": False} in json_schema()["$defs"]["SearchFile"]["properties"]["screen"]["anyOf"]


def test_knobs_stand_wherever_a_value_may() -> None:
    text = """
recipe:
  merge_method: ties
  slices:
    - parameters: {t: {low: 0, high: 1}}
      sources:
        - {model: low, layer_range: [0, 2], parameters: {weight: [0, {low: 1, high: 2}]}}
        - model: high
          layer_range: [0, 2]
          parameters: {weight: [{filter: mlp, value: {low: 3, high: 4}}, {value: [{low: 5, high: 6}, 1]}]}
  parameters:
    weight: {filter: mlp, value: {choices: [1, 2]}}
    int8_mask: {choices: [true, false]}
"""
    recipe: Any = read(text + REST).recipe
    (part,) = recipe["slices"]
    assert part["parameters"]["t"] == Knob(low=0, high=1)
    one, two = (source["parameters"]["weight"] for source in part["sources"])
    assert one == [0, Knob(low=1, high=2)]
    assert two == [
        {"filter": "mlp", "value": Knob(low=3, high=4)},
        {"value": [Knob(low=5, high=6), 1]},
    ]
    assert recipe["parameters"]["weight"] == {"filter": "mlp", "value": Knob(choices=(1, 2))}
    module = "recipe: {merge_method: linear, modules: {parameters: {models: [{model: a, parameters: {weight: %s}}]}}}\n"
    found: Any = read(module % "{low: 0, high: 1}" + REST).recipe
    assert found["modules"]["parameters"]["models"][0]["parameters"]["weight"] == Knob(low=0, high=1)


def test_numbers_that_yaml_reads_as_text_are_numbers() -> None:
    assert knob("{low: 1e-5, high: 1e-2, log: true, start: 1e-3}") == Knob(
        low=1e-5, high=1e-2, log=True, start=1e-3
    )


@pytest.mark.parametrize(
    ("setting", "message", "hint"),
    [
        ("{low: 0}", "needs the key 'high'", "low: 0"),
        ("{high: 1}", "needs the key 'low'", ""),
        (
            "{low: -1.0e+308, high: 1}",
            "low is -1e+308, and must lie from -1e+09 to 1e+09",
            "between -2 and 2",
        ),
        ("{low: 0, high: 1, choices: [1, 2]}", "needs either 'low' and 'high', or 'choices'", ""),
        ("{choices: []}", "at least one entry, not an empty list", ""),
        ("{choices: [1]}", "leaves nothing to choose", ""),
        ("{choices: [1, 1]}", "holds a value twice", ""),
        ("{choices: [1, [2]]}", "choices[1] must be a number", ""),
        ("{choices: [1, 2], log: true}", "'log' has no meaning for choices", ""),
        ("{choices: [one, two], start: tow}", "'tow' is none of the choices", "Did you mean 'two'?"),
        ("{choices: [1, 2], start: true}", "True is none of the choices", ""),
        ("{low: 1, high: 1}", "low is 1 and must be below high, 1", ""),
        ("{low: 2, high: 1}", "low is 2 and must be below high, 1", ""),
        ("{low: .nan, high: 1}", "weight.low must be finite, not nan", ""),
        ("{low: 0, high: .inf}", "weight.high must be finite, not inf", ""),
        ("{low: nan, high: 1}", "weight.low must be finite, not nan", ""),
        ("{low: zero, high: 1}", "weight.low must be a number, not text", ""),
        ("{low: true, high: 2}", "weight.low must be a number, not true or false", ""),
        ("{low: [0], high: 2}", "weight.low must be a number, not a list", ""),
        ("{low: 0, high: 1, log: true}", "with log, low must be above 0", ""),
        ("{low: -1, high: 1, sign: true}", "must be at least 0, not -1", "Without sign"),
        ("{low: 0.5, high: 2, integer: true}", "an integer has whole bounds", ""),
        ("{low: 0, high: 2, integer: true, sign: true}", "an integer has whole bounds", ""),
        ("{low: 0, high: 2, integer: true, start: 0.5}", "start is 0.5", ""),
        ("{low: 0, high: 1, start: 2}", "start is 2, and must lie from 0 to 1", ""),
        ("{low: 1, high: 2, sign: true, start: 0.5}", "its magnitude must lie from 1 to 2", ""),
        ("{low: 0, high: 1, log: 1}", "weight.log must be true or false", ""),
        ("{low: 0, high: 1, layers: 0}", "layers must be a whole number from 1", ""),
        ("{low: 0, high: 1, layers: all}", "layers must be a whole number from 1", ""),
        ("{low: 0, high: 1, components: mlp}", "components must be a list", ""),
        ("{low: 0, high: 1, components: [mlp, mlp]}", "names 'mlp' twice", ""),
        ("{low: 0, high: 1, components: [mlp, rest]}", "'rest' is what no component names", ""),
        ("{low: 0, high: 1, components: ['']}", "components[0] must be text, not empty", ""),
        ("{low: 0, high: 1, name: 3}", "name must be text", 'Quote it: "3".'),
        ("{low: 0, hihg: 1}", "'hihg' is not a key of", "Did you mean 'high'?"),
        ("{layers: 2}", "needs either", ""),
        ("[{low: 0, high: 1, layers: 2}, 1]", "is a point of a gradient", "runs over the layers already"),
        ("[{low: 0, high: 1}, {filter: mlp, value: 1}]", "mixes values with mappings", ""),
        ("{filter: mlp, value: {low: 0, high: 1, layers: -1}}", "value.layers must be", ""),
        ("{low: 0, high: 1}, density: {low: 0, high: 1}", "density of 0 empties tensors", "low: 0.05"),
        (
            "1, density: [{filter: mlp, value: {low: -1, high: 1}}]",
            "density of 0 empties tensors",
            "low: 0.05",
        ),
    ],
)
def test_lies_of_knobs(setting: str, message: str, hint: str) -> None:
    found = problem(RECIPE % setting + REST)
    assert found.message.startswith("s.yaml line 1: ")
    assert message in found.message
    assert hint in found.hint


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("merge_method: {low: 0, high: 1}, models: [{model: a}]", "merge_method is searched by 'choices'"),
        ("merge_method: {choices: [a, 1]}, models: [{model: a}]", "choices[1] must be text"),
        ("merge_method: {choices: [a, b], layers: 2}, models: [{model: a}]", "for the whole model"),
        ("merge_method: linear, models: [{model: {choices: [a, b]}}]", "models[0].model cannot be searched"),
        ("merge_method: linear, models: {low: 1, high: 2}", "models cannot be searched"),
        ("merge_method: linear, models: [{model: a}], seed: {low: 1, high: 2}", "seed cannot be searched"),
        ("merge_method: linear, models: [{model: a}], dtype: {choices: [a, b]}", "dtype cannot be searched"),
        ("merge_method: linear, models: [{model: a, parameters: {low: 1, high: 2}}]", "parameters cannot be"),
        ("merge_method: linear, models: [{model: a}, {low: 1, high: 2}]", "models[1] cannot be"),
        ("merge_method: linear, models: [{model: a}], tokenizer: {low: 1, high: 2}", "tokenizer cannot be"),
        (
            "merge_method: linear, models: [{model: a}], tokenizer: {source: {choices: [a, b]}}",
            "tokenizer.source cannot be",
        ),
        (
            "merge_method: passthrough, slices: [{sources: [{model: a, layer_range: [0, {low: 1, high: 4}]}]}]",
            "layer_range[1] cannot be",
        ),
        ("merge_method: linear, modules: {choices: [a, b]}", "modules cannot be"),
        ("merge_method: linear, low: 1, models: [{model: a}]", "the recipe cannot be"),
    ],
)
def test_knobs_where_none_may_stand(recipe: str, message: str) -> None:
    """Of each one thing is said: what its blank does to the recipe is nobody's mistake."""
    (found,) = problems(f"recipe: {{{recipe}}}\n{REST}")
    assert message in found.message


def test_beside_a_misplaced_knob_other_mistakes_are_told() -> None:
    recipe = "merge_method: linear, models: [{model: a, wieght: 1}], dtype: {low: 1, high: 2}, seed: soon"
    found = problems(f"recipe: {{{recipe}}}\npath: {{after: true}}\n{REST}")
    assert len(found) == 3
    for word in ("dtype cannot be searched", "'wieght'", "seed"):
        assert any(word in each.message for each in found)


def test_a_token_may_be_called_as_a_bound_is() -> None:
    text = "tokenizer: {source: union, tokens: {low: {source: a}, high: {source: a}}}"
    recipe = read(f"recipe: {{merge_method: linear, models: [{{model: a}}], {text}}}\n{REST}").recipe
    assert recipe is not None
    assert set(recipe["tokenizer"]["tokens"]) == {"low", "high"}


def test_knobs_of_one_name_say_the_same() -> None:
    text = """
recipe:
  merge_method: linear
  models:
    - {model: a, parameters: {weight: {low: 0, high: 1, name: w}}}
    - {model: b, parameters: {weight: {low: 0, high: 1, name: w}}}
    - {model: c, parameters: {weight: {low: 0, high: 2, name: w}}}
"""
    found = problem(text + REST)
    assert "s.yaml line 7: the knob 'w' is not what it is on line 5" in found.message


def test_the_recipe_is_read_as_recipes_are() -> None:
    found = problems("recipe:\n  merge_metod: linear\n  models:\n    - {modle: a}\n" + REST)
    assert [each.message for each in found] == [
        "s.yaml line 2: 'merge_metod' is not a key of the recipe",
        "s.yaml line 4: 'modle' is not a key of models[0]",
    ]
    assert "merge_method" in found[0].hint
    warned = "recipe: {merge_method: linear, models: [{model: a, parameters: {weight: []}}]}\n"
    assert "is an empty list" in read(warned + REST).warnings[0]
    assert "recipe must be a mapping" in problem("recipe: other.yaml\n" + REST).message


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("tasks: {search: [a]}", "tasks needs the key 'validation'", "validation: [task.validation.jsonl]"),
        (
            "tasks: {search: [a, b], validation: [c]}",
            "tasks.validation holds 1 tasks, and tasks.search 2",
            "",
        ),
        ("tasks: {search: [a], validation: [a]}", "the task a stands in tasks.search already", "alloy split"),
        ("tasks: {search: [a, a], validation: [b, c]}", "the task a stands in tasks.search already", ""),
        ("tasks: {search: [a], validation: [b], tests: [c]}", "'tests' is not a key of tasks", "'test'"),
        ("tasks: {search: {a: 1}, validation: [b]}", "tasks.search must be a list", ""),
        ("tasks: [a, b]", "tasks must be a mapping", ""),
        ("budget: {}", "budget needs one of candidates, items and seconds", ""),
        ("budget: {candidates: 0}", "budget.candidates must be a whole number from 1", ""),
        ("budget: {candidates: 1.5}", "budget.candidates must be a whole number from 1", ""),
        ("budget: {seconds: 5}", "cannot repeat itself after a kill", "mode: async"),
        ("budget: {seconds: .nan}\nmode: async", "budget.seconds must be a number above 0", ""),
        ("budget: 200", "budget must be a mapping", ""),
        ("goal: pareto", "needs two objectives or more", ""),
        ("goal: paretto", "goal must be one or pareto, not 'paretto'", "Did you mean 'pareto'?"),
        ("objectives: [{task: 2}]", "objectives[0].task must be a whole number from 1 to 1, not 2", ""),
        ("objectives: [{weight: 0}]", "objectives[0].weight must be a number above 0", ""),
        ("objectives: [{weight: 1.0e+308}]", "must be a number above 0 and below 1e+09", ""),
        ("objectives: [{}, {task: 1}]", "this objective stands above already", ""),
        ("objectives: []", "objectives must be a list of at least one entry", ""),
        ("optimiser: {nmae: random}", "'nmae' is not a key of optimiser", "Did you mean 'name'?"),
        ("optimiser: {options: {sigma: [1]}}", "optimiser.options.sigma must be a number", ""),
        ("optimiser: {options: {sigma: .inf}}", "optimiser.options.sigma must be finite", ""),
        ("optimiser: 3", "optimiser must be a mapping", ""),
        ("rungs: [{items: -1}]", "rungs[0].items must be a whole number from 1", ""),
        ("rungs: [{race: 1}]", "rungs[0].race must be true or false, not a number", ""),
        ("rungs: [20]", "rungs[0] must be a mapping with the keys items", ""),
        ("screen: true", "screen must be false or a mapping, not true or false", "norm_ratio"),
        ("screen: 10", "screen must be false or a mapping, not a number", "screen: {norm_ratio: 10}"),
        ("screen: {norm_ratio: 0}", "screen.norm_ratio must be a number above 0", ""),
        ("screen: {norm: 3}", "'norm' is not a key of screen", "Known: norm_ratio."),
        ("timeout: 0", "timeout must be a number above 0, not 0", ""),
        ("timeout: .inf", "timeout must be a number above 0", ""),
        ("timeout: 5m", "timeout must be a number above 0, not 5m", ""),
        ("confidence: 0.5", "confidence must be a number above 0.5 and below 1", ""),
        ("confidence: 95", "confidence must be a number above 0.5 and below 1", ""),
        ("finalists: 0", "finalists must be a whole number from 1", ""),
        ("mode: asynch", "mode must be deterministic or async, not 'asynch'", "Did you mean 'async'?"),
        ("seed: -1", "seed must be a whole number from 0", ""),
        ("baselines: yes please", "baselines must be true or false, not text", ""),
        ("options: [a]", "options must be a mapping", ""),
        ("options: {a: {b: 1}}", "options.a must be a number", ""),
        ("path: {repeat: 0}", "path.repeat must be a whole number from 1", ""),
        ("path: {scale: [2, 1]}", "path.scale must be [low, high] with 0.05 <= low < high", ""),
        ("path: {scale: [0.01, 1]}", "path.scale must be [low, high] with 0.05 <= low < high", ""),
        ("path: {scale: [.nan, 1]}", "path.scale must be", ""),
        ("path: {scale: [true, 2]}", "path.scale must be", ""),
        ("path: {sign: true}", "path.sign has no meaning without path.scale", ""),
        ("path: {longest: 1}", "path.longest is 1, and 2 layers are always taken", ""),
        ("path: {share: 1}", "path.share must be a number above 0 and below 1", ""),
        ("runner: ''", "runner must be text, not empty", ""),
        ("budgett: {}", "'budgett' is not a key of the search spec", "Did you mean 'budget'?"),
        ("warnings: [a]", "'warnings' is not a key of the search spec", ""),
    ],
)
def test_lies_of_specs(text: str, message: str, hint: str) -> None:
    whole: dict[str, Any] = yaml.safe_load(RECIPE % 1 + REST) | yaml.safe_load(text)
    found = problem(yaml.safe_dump(whole, sort_keys=False))
    assert message in found.message
    assert hint in found.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a: 1\n---\na: 1\n", "holds 2 documents"),
        ("[1, 2]", "the search spec must be a mapping"),
        ("&a [*a]", "contains itself"),
        ("recipe: !!python/object:os.system {}", "is not allowed"),
        ("seed: 1\nseed: 2", "is given twice"),
        ("\tseed: 1", "is not YAML"),
        (REST, "needs the key 'recipe' or 'path'"),
        ("path: {}\n" + REST, "path needs the key 'models'"),
        ("path: {models: [a], after: true}\n" + REST, "there is no recipe after which"),
        (RECIPE % 1 + "budget: {items: 1}", "needs the key 'tasks'"),
        (RECIPE % 1 + "tasks: {search: a, validation: b}", "needs the key 'budget'"),
    ],
)
def test_lies_of_documents(text: str, message: str) -> None:
    assert message in problem(text).message


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("recip: {}\n" + REST, "recipe"),
        (RECIPE % 1 + "task: {search: a, validation: b}\nbudget: {items: 1}\n", "tasks"),
        (RECIPE % 1 + "tasks: {serach: a, validation: b}\nbudget: {items: 1}\n", "search"),
        (RECIPE % "{lwo: 0, high: 1}" + REST, "low"),
        (RECIPE % "{layers: 2, choises: [1, 2]}" + REST, "choices"),
    ],
)
def test_a_misspelt_key_is_one_mistake(text: str, key: str) -> None:
    assert problem(text).hint == f"Did you mean '{key}'?"


def test_every_mistake_is_told_at_once_in_the_order_of_the_lines() -> None:
    text = "seed: x\nmode: y\n" + RECIPE % "{low: 1, high: 0}" + "tasks: {}\nbudget: {}\n"
    found = problems(text)
    lines = [each.facts["line"] for each in found]
    assert lines == sorted(lines, key=int)
    assert len(found) == 6
    assert set(map(int, map(str, lines))) == {1, 2, 3, 4, 5}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        *SearchFile.__struct_fields__,
                        *Knob.__struct_fields__,
                        *("merge_method", "models", "model", "parameters", "weight", "filter", "value"),
                        *("search", "validation", "candidates"),
                    ]
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=25,
    )
)
def test_whatever_is_read_is_a_spec_or_one_clear_error(value: Any) -> None:
    text = yaml.safe_dump(value)
    try:
        read(text)
    except AlloydError as error:
        parts = error.problems if isinstance(error, Problems) else (error,)
        assert all(isinstance(each, RecipeError) and each.message for each in parts)


def test_files_are_seen_from_a_folder_and_names_stay(tmp_path: Path) -> None:
    (tmp_path / "older.json").write_text("{}")
    spec = read(
        RECIPE % 1
        + "tasks: {search: [t/a.jsonl, 'lm_eval:gsm8k'], validation: ['exact_match:v.jsonl', other]}\n"
        + "budget: {items: 5}\nprevious: [older.json, search-1]\noptions: {tokenizer: t, limit: 5}\n"
    )
    found = absolute(spec, tmp_path)
    assert found.tasks.search == (f"{tmp_path}/t/a.jsonl", "lm_eval:gsm8k")
    assert found.tasks.validation == (f"exact_match:{tmp_path}/v.jsonl", "other")
    assert found.previous == (f"{tmp_path}/older.json", "search-1")
    assert found.options == {"tokenizer": f"{tmp_path}/t", "limit": "5"}


@pytest.mark.parametrize("name", ["~nobody-is-called-so/x", "x" * 5000, "'a\\0b'"])
def test_a_name_that_cannot_be_a_path_stays(tmp_path: Path, name: str) -> None:
    spec = read(RECIPE % 1 + REST + f"previous: [{name}]\n")
    assert absolute(spec, tmp_path).previous == spec.previous


def _refs(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(_refs, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
    return own.union(*map(_refs, value.values()))


def test_the_schema_knows_every_key_and_defines_what_it_names() -> None:
    schema = json_schema()
    parts = schema["$defs"]
    assert _refs(schema) <= {f"#/$defs/{name}" for name in parts}
    assert set(parts["SearchFile"]["properties"]) == set(SearchFile.__struct_fields__) - {"warnings"}
    for kind in (Knob, DataFlow, Splits, Objective, Rung, Screen, Budget, OptimiserChoice):
        assert set(parts[kind.__name__]["properties"]) == set(kind.__struct_fields__)
        assert parts[kind.__name__]["additionalProperties"] is False
    assert {"$ref": "#/$defs/Knob"} in parts["Recipe"]["properties"]["merge_method"]["anyOf"]
    recipe = "merge_method: linear\nmodels: [{model: a}]\n"
    for key in parts["Recipe"]["properties"]:
        whole = yaml.safe_load(recipe) | {key: None}
        if key not in ("merge_method", "models"):
            load(yaml.safe_dump(whole))
