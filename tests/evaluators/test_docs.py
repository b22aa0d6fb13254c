"""docs/tasks.md says what the evaluators do: its examples are read, its options and figures are theirs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from alloyd_daemon.evaluator import EVALUATORS, Choices, Evaluator, Task
from alloyd_daemon.scoring.intervals import RESAMPLES
from alloyd_daemon.scoring.requests import Written
from alloyd_daemon.tasks import resolve

pytestmark = pytest.mark.filterwarnings("ignore")  # the harness and its libraries warn about themselves

PAGE = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))


def section(name: str) -> str:
    (found,) = (body for heading, body in SECTIONS.items() if f"`{name}`" in heading)
    return found


def block(name: str, language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", section(name), re.DOTALL)
    return str(found)


@pytest.fixture(autouse=True)
def data_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def resolved(folder: Path, name: str) -> tuple[Evaluator, Task]:
    path = folder / "sums.jsonl"
    if name == "lm_eval":
        path.write_text(block("multiple_choice", "json").splitlines()[0])
        (folder / "sums.yaml").write_text(block(name, "yaml"))
        source = f"lm_eval:{folder / 'sums.yaml'}"
    else:
        path.write_text(block(name, "json"), encoding="utf-8")
        source = f"{name}:{path}"
    functions = {}
    if name == "function":
        (folder / "scorers.py").write_text(block(name, "python"))
        functions = {"keyword": f"{folder / 'scorers.py'}:keyword"}
    options = {"pattern": "x"} if name == "regex" else {}
    (found,) = resolve([source], Choices(options=options, functions=functions))
    return found


@pytest.mark.parametrize("name", EVALUATORS.names())
def test_an_example_is_read_and_its_figures_are_named(name: str, tmp_path: Path) -> None:
    evaluator, task = resolved(tmp_path, name)
    assert len(evaluator.requests(task)) == len(task.items)
    for metric in task.metrics:
        assert f"`{metric.name}`" in section(name) or name == "lm_eval"
    if name == "function":
        found = evaluator.score(task, 0, [Written("a pear")])
        assert found.values == {"found": 1.0, "length": 6.0}


@pytest.mark.parametrize("name", EVALUATORS.names())
def test_the_options_are_those_that_it_knows(name: str) -> None:
    rows = dict(
        re.findall(r"^\| `(\w+)` \| (.+?) \|$", section(name).partition("| option |")[2], re.MULTILINE)
    )
    known = EVALUATORS.get(name).options
    for option, about in known.items():
        assert rows[option].partition("; not of")[0].partition("; of `")[0] == about
    if name == "regex":
        assert set(rows) == set(known)


def test_a_bare_file_is_told_by_its_keys_as_the_page_says() -> None:
    for name in ("perplexity", "multiple_choice", "gold_answer", "exact_match"):
        for line in block(name, "json").splitlines():
            keys = frozenset(json.loads(line))
            assert [one for one, each in EVALUATORS.items() if each.recognises(keys)] == [name]


def test_the_page_says_how_often_items_are_drawn() -> None:
    assert f"{RESAMPLES:,} times" in PAGE
