"""docs/search_results.md names every key of the results, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from search.finished_search import end, make

PAGE = (Path(__file__).parents[2] / "docs" / "search_results.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    import json

    folder = tmp_path_factory.mktemp("search")
    with make(folder / "history.db") as history:
        end(history, folder)
    whole: dict[str, Any] = json.loads((folder / "results.json").read_bytes())
    return whole


def words(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


def row(key: str) -> str:
    (found,) = (
        line for line in PAGE.splitlines() if line.startswith("|") and key in words(line.split("|")[1])
    )
    return found


def paragraph(head: str) -> str:
    (found,) = re.findall(rf"\*\*`{head}`\*\*.*?(?:\n\n|\Z)", PAGE, re.DOTALL)
    return str(found)


def test_every_key_is_a_row(found: dict[str, Any]) -> None:
    table = PAGE.partition("## The keys")[2]
    listed = set().union(
        *(words(line.split("|")[1]) for line in table.splitlines() if line.startswith("| `"))
    )
    assert listed == found.keys()


def test_what_rows_and_paragraphs_name_is_there(found: dict[str, Any]) -> None:
    assert found["winner"].keys() <= words(paragraph("winner"))
    assert found["winner"]["against"][0].keys() <= words(paragraph("winner"))
    assert found["trials"][0].keys() <= words(paragraph("trials"))
    assert found["lineage"].keys() <= words(row("lineage"))
    assert found["lineage"]["data"][0].keys() <= words(paragraph("lineage"))
    for key in ("optimiser", "objectives", "baselines", "spent", "importance", "convergence"):
        each = found[key][0] if isinstance(found[key], list) else found[key]
        assert each.keys() - {"phase", "objective"} <= words(row(key)), key
    assert found["genes"][0][0].keys() <= words(row("genes"))
    assert found["recipes"].keys() <= words(row("recipes"))
    figure, comparison = found["winner"]["figures"][0], found["winner"]["against"][0]["comparisons"][0]
    assert (figure.keys() | comparison.keys()) <= words(PAGE)


def test_the_files_are_those_of_a_search(found: dict[str, Any]) -> None:
    from alloyd.cli_search import FILES

    assert set(FILES) == set(
        re.findall(r"^\| `([\w.]+)` \|", PAGE.partition("## The keys")[0], re.MULTILINE)
    ) - {"history.db"}
    assert {found["recipes"]["alloyd"], found["recipes"]["mergekit"], "results.json"} == set(FILES)
