"""The part of docs/search.md on the spec says what reader and space do: its example, tables, genes and refusals."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import yaml

from alloyd.search_reader import read
from alloyd.search_schema import Budget, Knob, SearchFile, Splits
from alloyd_daemon.search.model_shape import COMPONENTS, ModelShape
from alloyd_daemon.search.spaces.parameters import ParameterSpace
from alloyd_daemon.search.template import opened
from alloyd_daemon.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
SPEC, SPACE, ADAPTERS, CHOICE = (
    re.split(r"\n## ", re.split(rf"\n## {title}\n", PAGE)[1])[0]
    for title in ("The spec", "Parameter space", "Adapters", "Operator choice")
)


def _rows(section: str) -> dict[str, list[str]]:
    """The first column's keys, several where a row tells of several, with the other columns."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    return {key: row[1:] for row in rows for key in re.findall(r"`([a-z_]+)`", row[0])}


def _space(text: str) -> ParameterSpace:
    template, checkpoints = opened(read(text).recipe or {}, base_dir=ROOT, settings=Settings())
    return ParameterSpace(template, ModelShape.of(checkpoints))


def test_the_example_is_a_search_over_the_zoo() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", SPEC, re.DOTALL)
    spec = read(text)
    assert not spec.warnings
    assert all((ROOT / each).is_file() for split in (spec.tasks.search, spec.tasks.test) for each in split)
    assert "weight[math].layers 0-1" in {gene.name for gene in _space(text).genome}


def test_the_example_of_adapters_is_a_search_over_the_zoo() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", ADAPTERS, re.DOTALL)
    space = _space(text + "tasks: {search: a, validation: b}\nbudget: {candidates: 1}\n")
    assert [gene.name for gene in space.genome] == [
        f"weight[{each}]" for each in ("base+math", "base+lang", "lang_wide")
    ]


def test_every_key_is_told_with_its_default() -> None:
    rows = _rows(SPEC)
    assert set(rows) == set(SearchFile.__struct_fields__) - {"warnings"}
    least: dict[str, Any] = msgspec.to_builtins(SearchFile(tasks=Splits((), ()), budget=Budget()))
    told = {key: row[0].strip("`") for key, row in rows.items() if key not in ("batch_size", "options")}
    for key, default in told.items():
        if key == "optimiser":
            assert default == least[key]["name"]
        elif key == "rungs":
            assert msgspec.convert(yaml.safe_load(default), tuple[dict[str, bool], ...]) == ({"race": True},)
            assert least[key][0]["race"]
            assert f"({least[key][0]['block']})" in rows[key][1]
        elif key == "objectives":
            assert default == "the first task's first metric"
            assert (least[key][0]["task"], least[key][0]["metric"]) == (1, None)
        elif default:
            assert yaml.safe_load(default) == least[key]
        else:
            assert not least[key] or key in ("tasks", "budget")


def test_every_key_of_a_knob_is_told() -> None:
    assert set(_rows(SPACE)) == set(Knob.__struct_fields__)
    for each in COMPONENTS:
        assert f"`{each}`" in _rows(SPACE)["components"][0]


def test_the_genes_are_called_as_the_page_says() -> None:
    text = """
recipe:
  merge_method: slerp
  base_model: zoo/models/math
  slices:
    - sources: [{model: zoo/models/math, layer_range: [0, 2]}, {model: zoo/models/lang, layer_range: [0, 2]}]
      parameters: {t: 0.5}
    - sources: [{model: zoo/models/math, layer_range: [2, 4]}, {model: zoo/models/lang, layer_range: [2, 4]}]
      parameters: {t: {low: 0, high: 1}}
tasks: {search: a, validation: b}
budget: {items: 1}
"""
    found = {gene.name for gene in _space(text).genome}
    text = """
recipe:
  merge_method: ties
  base_model: zoo/models/base
  models:
    - {model: zoo/models/math, parameters: {weight: {low: 0, high: 1, layers: 2, components: [attention, mlp]}}}
    - {model: zoo/models/lang, parameters: {density: {low: 0.1, high: 1}, weight: 1}}
tasks: {search: a, validation: b}
budget: {items: 1}
"""
    six = {gene.name for gene in _space(text).genome if gene.name.startswith("weight")}
    assert len(six) == 6
    assert {"weight[math].layers 0-1.rest", "weight[math].layers 2-3.mlp"} <= six
    found |= {gene.name for gene in _space(text).genome}
    one = "{low: 0, high: 1, layers: 2, components: [attention, mlp]}"
    for other in ("[{filter: mlp, value: {low: 0, high: 1}}, {value: 1}]", "[{low: 0, high: 1}, 1, 2]"):
        found |= {gene.name for gene in _space(text.replace(one, other)).genome}
    (sentence,) = re.findall(r"Genes are called for people: (.*?)\n\n", SPACE, re.DOTALL)
    shown = set(re.findall(r"`([^`]+)`", sentence))
    assert len(shown) == 5
    assert shown <= found


def test_the_methods_of_the_example_of_a_choice_are_there() -> None:
    (choice,) = re.findall(r"`merge_method: (\{choices: [^}]+\})`", CHOICE)
    text = f"""
recipe:
  merge_method: {choice}
  base_model: zoo/models/base
  models: [{{model: zoo/models/math, parameters: {{weight: {{low: 0, high: 1}}}}}}]
tasks: {{search: a, validation: b}}
budget: {{items: 1}}
"""
    assert len(_space(text).genome) == 2
