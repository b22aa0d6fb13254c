"""The user's own scoring function: found through the configuration alone, and its mistakes are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alloyd.errors import TaskError, UsageError
from alloyd_daemon import settings
from alloyd_daemon.evaluator import Choices, ItemScore, Metric
from alloyd_daemon.scoring.requests import Prompt, Written
from alloyd_daemon.scoring.summary import metrics_of
from alloyd_daemon.tasks import resolve

SCORER = """
import math

def keyword(item, output):
    item["seen"] = True
    return {"found": item["keyword"] in output, "length": len(output)}

def length(item, output):
    return len(output)

def fails(item, output):
    raise KeyError("keyword")

def nan(item, output):
    return {"found": math.nan}

def text(item, output):
    return "good"

def huge(item, output):
    return 10**400

def odd(item, output):
    return {"\\ud800": 1}

NUMBER = 3
"""


@pytest.fixture
def functions(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "scorer.py").write_text(SCORER)
    names = ("keyword", "length", "fails", "nan", "text", "huge", "odd")
    return {name: f"{tmp_path / 'scorer.py'}:{name}" for name in names}


def scored(folder: Path, functions: dict[str, str], output: str, **options: Any) -> ItemScore:
    (folder / "t.jsonl").write_text('{"prompt": "a", "keyword": "k"}\n{"prompt": "b", "keyword": "m"}')
    ((evaluator, task),) = resolve(
        [f"function:{folder / 't.jsonl'}"], Choices(options=options, functions=functions)
    )
    assert evaluator.requests(task)[1] == (Prompt("b", (), None),)
    assert "seen" not in task.items[1].data
    return evaluator.score(task, 1, [Written(output)])


def test_a_number_or_a_mapping_is_the_score(tmp_path: Path, functions: dict[str, str]) -> None:
    found = scored(tmp_path, functions, "mmm", function="keyword")
    assert found.values == {"found": 1.0, "length": 3.0}
    assert metrics_of((), [found]) == (Metric("found"), Metric("length"))
    assert scored(tmp_path, {"only": functions["length"]}, "mmm").values == {"score": 3.0}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fails", r"raised KeyError: 'keyword'"),
        ("nan", r"returned nan as 'found', not a finite number"),
        ("huge", r"returned 'a number too large' as 'score', not a finite number"),
        ("odd", r"returned a value for '\\ud800', which is no name of a metric"),
        ("text", r"returned 'good' as 'score', not a finite number"),
    ],
)
def test_a_function_that_fails_is_named_with_its_item(
    name: str, said: str, tmp_path: Path, functions: dict[str, str]
) -> None:
    with pytest.raises(TaskError, match=rf"t\.jsonl, line 2: the function '{name}' {said}"):
        scored(tmp_path, functions, "x", function=name)


def test_only_what_the_configuration_lists_is_run(tmp_path: Path, functions: dict[str, str]) -> None:
    place = functions["length"]
    for listed, chosen, said in (
        ({}, {}, "lists no scoring function"),
        ({}, {"function": place}, "lists no scoring function"),
        (functions, {}, "must say which function"),
        (functions, {"function": "lenght"}, "lists no scoring function 'lenght'"),
        (functions, {"function": place}, "lists no scoring function"),
        ({"x": f"{tmp_path}/none.py:length"}, {}, "which is no Python file"),
        ({"x": f"{tmp_path}/scorer.py:lenght"}, {}, "has no function 'lenght'"),
        ({"x": f"{tmp_path}/scorer.py:NUMBER"}, {}, "has no function 'NUMBER'"),
    ):
        with pytest.raises(UsageError, match=said) as refused:
            scored(tmp_path, listed, "x", **chosen)
        assert refused.value.hint
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(UsageError, match=r"broken\.py does not load \(ZeroDivisionError"):
        scored(tmp_path, {"x": f"{tmp_path}/broken.py:f"}, "x")


def test_the_settings_hold_absolute_places(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[scoring.functions]\nmine = "/a/b.py:f"\n')
    assert settings.load(config=file, environ={}).settings.scoring.functions == {"mine": "/a/b.py:f"}
    for place in ("b.py:f", "/a/b.py", "/a/b.py:", "/a/b.py:f()", 3):
        file.write_text(f"[scoring]\nfunctions = {{mine = {place!r}}}\n")
        with pytest.raises(UsageError, match=r"scoring\.functions"):
            settings.load(config=file, environ={})
