"""What a recipe comes to in each layer: few rows that hold every number of the outline."""

from __future__ import annotations

from typing import Any

import pytest

from alloyd_daemon.architecture import table_for
from alloyd_daemon.recipes import by_layer as module
from alloyd_daemon.recipes.by_layer import by_layer
from outlines import family, lay

LLAMA_TABLE = table_for("LlamaForCausalLM")
TWO = """
merge_method: task_arithmetic
base_model: base
models:
  - {{model: math, parameters: {{weight: {math}}}}}
  - {{model: lang, parameters: {{weight: {lang}}}}}
"""


def columns(text: str, layers: int = 4) -> dict[tuple[str, str | None, int | None], Any]:
    shape = family(layers=layers)
    outline = lay(text, dict.fromkeys(("base", "math", "lang"), shape))
    found = by_layer(outline, LLAMA_TABLE)
    assert found is not None
    assert found["stacks"] == [{"prefix": "model.layers", "layers": layers}] or "slices" in text
    return {(each["parameter"], each["model"], each["stack"]): each["rows"] for each in found["columns"]}


def test_one_number_for_all_layers_is_one_row() -> None:
    found = columns(TWO.format(math=0.5, lang=1), layers=80)
    assert found["weight", "math", 0] == [(0, 79, "", 0.5)]
    assert found["weight", "lang", 0] == [(0, 79, "", 1.0)]
    assert found["weight", "math", None] == [(None, None, "", 0.5)]


def test_a_gradient_has_a_row_for_each_layer() -> None:
    found = columns(TWO.format(math="[0, 1]", lang=1))
    assert found["weight", "math", 0] == [
        (0, 0, "", 0.0),
        (1, 1, "", 0.333333),
        (2, 2, "", 0.666667),
        (3, 3, "", 1.0),
    ]


def test_components_are_told_apart_where_they_differ() -> None:
    text = TWO.format(math="[{filter: mlp, value: [0.1, 0.1, 0.1, 0.9]}, {value: 0.7}]", lang=1)
    rows = columns(text)["weight", "math", 0]
    assert [row for row in rows if row[2] == "mlp"] == [(0, 2, "mlp", 0.1), (3, 3, "mlp", 0.9)]
    assert {row for row in rows if row[2] != "mlp"} == {(0, 3, "attention", 0.7), (0, 3, "norms", 0.7)}


def test_tensors_of_a_component_that_differ_are_their_mean() -> None:
    rows = columns(TWO.format(math="[{filter: q_proj, value: 1.0}, {value: 0.2}]", lang=1))[
        "weight", "math", 0
    ]
    assert (0, 3, "attention", 0.4) in rows  # one of four


def test_what_all_models_share_has_no_model() -> None:
    text = "merge_method: slerp\nbase_model: base\nmodels: [{model: math}, {model: base}]\nparameters: {t: [0, 1]}"
    rows = columns(text)["t", None, 0]
    assert [row[3] for row in rows] == [0.0, 0.333333, 0.666667, 1.0]


def test_layers_that_are_taken_as_they_are_name_their_model() -> None:
    text = """
merge_method: passthrough
slices:
  - sources: [{model: math, layer_range: [0, 3]}]
  - sources: [{model: lang, layer_range: [2, 4]}]
"""
    found = columns(text)
    assert found["copy", "math", 0] == [(0, 2, "", 1.0)]
    assert found["copy", "lang", 0] == [(3, 4, "", 1.0)]


def test_too_many_rows_become_whole_layers_and_then_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = "[{filter: mlp, value: [0, 1]}, {filter: attn, value: [1, 0]}, {value: [0, 2]}]"
    outline = lay(TWO.format(math=parts, lang=1), dict.fromkeys(("base", "math", "lang"), family(layers=40)))

    def rows() -> int:
        found = by_layer(outline, LLAMA_TABLE)
        assert found is not None
        return len(
            next(each["rows"] for each in found["columns"] if (each["model"], each["stack"]) == ("math", 0))
        )

    assert rows() == 120
    monkeypatch.setattr(module, "MOST", 100)
    assert rows() == 40
    monkeypatch.setattr(module, "MOST", 10)
    assert by_layer(outline, LLAMA_TABLE) is None
