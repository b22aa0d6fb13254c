"""The best of an earlier search: found by job, folder or file; anything else is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alloyd.errors import RecipeError, SourceNotFound
from alloyd_daemon.search.previous import previous_best

RECIPE = {"merge_method": "linear", "models": []}


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(text)
    return folder / "results.json"


def test_a_winner_is_found_by_job_folder_and_file(tmp_path: Path) -> None:
    found = {"winner": {"recipe": RECIPE, "genes": {"a": 1.5}}}
    path = write(tmp_path / "home" / "searches" / "search-3", json.dumps(found))
    for name in ("search-3", str(path.parent), str(path)):
        best = previous_best(name, home=tmp_path / "home", base_dir=tmp_path)
        assert (best.recipe, best.point, best.previous) == (RECIPE, {"a": 1.5}, True)
        assert name in best.name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not the results of a search"),
        ("[]", "is not the results of a search"),
        ('{"winner": 3}', "is not the results of a search"),
        ('{"winner": {"recipe": "x"}}', "is not the results of a search"),
        ("{}", "is not the results of a search"),
        ('{"winner": null}', "has no winner"),
        ("\x00\xff", "is not the results of a search"),
        ("[" * 100_000, "is not the results of a search"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path / "x", text)
    with pytest.raises(RecipeError, match=said) as refused:
        previous_best(str(path), home=tmp_path, base_dir=tmp_path)
    assert "results.json" in str(refused.value)


def test_a_search_that_is_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="no results of a search 'search-9'"):
        previous_best("search-9", home=tmp_path, base_dir=tmp_path)
    for name in ("x" * 5000, "~nobody-is-called-so/x", "a\0b"):
        with pytest.raises(SourceNotFound, match="no results of a search"):
            previous_best(name, home=tmp_path, base_dir=tmp_path)
