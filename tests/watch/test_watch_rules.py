"""The file of rules: read strictly, every mistake with its line, and its templates tried before they are needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from alloyd.cli import main
from alloyd.errors import AlloydError, Problems
from alloyd.recipe import load as load_recipe
from alloyd.watch_rules import check, load, read
from alloyd.watch_schema import Rule, Soup
from alloyd_daemon.watch.template import fill

RECIPE = """\
merge_method: task_arithmetic
base_model: {base}
models:
- model: {soup}
  parameters: {weight: 0.5}
- model: "{model}"
  parameters: {weight: 0.5}
"""
RULES = """\
on_model:
- match: ["*-ft", "org/*"]
  base: ../zoo/base
  recipe: soup.yaml
  soup:
    start: ../zoo/math
    score: tasks.jsonl
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "soup.yaml").write_text(RECIPE)
    (tmp_path / "plain.yaml").write_text("merge_method: linear\nmodels: [{model: {model}}]\n")
    (tmp_path / "recipe.yaml").write_text("merge_method: linear\nmodels: [{model: a}]\n")
    (tmp_path / "wrong.yaml").write_text("merge_method: linear\nmodells: [{model: {model}}]\n")
    return tmp_path


def test_rules_are_read_with_their_templates(folder: Path) -> None:
    (folder / "rules.yaml").write_text(RULES)
    soup = Soup("../zoo/math", ("tasks.jsonl",), "better")
    expected = Rule("soup", ("*-ft", "org/*"), "recipe", RECIPE, "../zoo/base", soup)
    assert load(folder / "rules.yaml") == (expected,)


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("on_modle: []\n", 1, "'on_modle' is not a key", "Did you mean 'on_model'?"),
        ("on_model:\n- mach: x\n  recipe: plain.yaml\n", 2, "'mach' is not a key", "Did you mean 'match'?"),
        ("on_model:\n- recipe: plain.yaml\n", 2, "needs the key 'match'", '"*-ft"'),
        ("on_model:\n- match: x\n", 2, "needs either 'recipe' or 'search'", "{model}"),
        ("on_model:\n- match: x\n  recipe: none.yaml\n", 3, "cannot be read", "Check the path."),
        (
            "on_model:\n- match: x\n  search: plain.yaml\n  soup: {start: a, score: b}\n",
            4,
            "makes no soup",
            "",
        ),
        ("on_model:\n- match: x\n  recipe: soup.yaml\n  soup: {start: a}\n", 4, "needs the key 'score'", ""),
        (RULES + "    keep: best\n", 8, "must be better or not_worse, not best", ""),
        (RULES + RULES.partition("\n")[2], 8, "two rules are called 'soup'", "name"),
        ("", 0, "is empty", "on_model"),
        ("on_model: []\n", 1, "at least one entry", ""),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    folder: Path, text: str, line: int, message: str, hint: str
) -> None:
    with pytest.raises(AlloydError) as raised:
        read(text, name="rules.yaml", folder=folder)
    problems = raised.value.problems if isinstance(raised.value, Problems) else (raised.value,)
    assert any(message in each.message and hint in each.hint for each in problems), problems
    assert not line or f"line {line}" in problems[0].message


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("match: x\n  recipe: recipe.yaml", "names {model} nowhere"),
        ("match: x\n  recipe: soup.yaml", "names {soup}, which it has not"),
        ("match: x\n  recipe: wrong.yaml", "line 2: 'modells' is not a key"),
        ("match: x\n  search: plain.yaml", "line 1: this is a recipe, not a search spec"),
        ("match: x\n  recipe: plain.yaml\n  soup: {start: a, score: b}", "names {soup} nowhere"),
        ("match: x\n  recipe: plain.yaml\n  name: a/b", "cannot be the name of a rule"),
    ],
)
def test_a_template_that_does_not_fit_is_refused(folder: Path, rule: str, message: str) -> None:
    with pytest.raises(AlloydError, match=r"(?s).*") as raised:
        read(f"on_model:\n- {rule}\n", name="rules.yaml", folder=folder)
    assert message in str(raised.value)


def test_rules_that_come_over_the_wire_are_checked_too() -> None:
    with pytest.raises(AlloydError, match="two rules"):
        check([Rule("a", ("*",), "recipe", RECIPE)] * 2)


@given(path=some.text(some.characters(exclude_categories=["Cs"]), min_size=1).map(lambda text: f"/m/{text}"))
def test_a_path_goes_into_a_template_whole(path: str) -> None:
    """Whatever a folder is called, the recipe says what its template says, of that folder."""
    text = fill(RECIPE, "soup", {"model": path, "soup": "/soup", "base": "/base"})
    (recipe,) = load_recipe(text)
    assert {each.path for each in recipe.referenced_models()} == {"/base", "/soup", path}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--existing"], "--existing is about models"),
        (["--rules", "plain.yaml"], "lies in the watched folder"),
        (["--rules", "none/rules.yaml"], "cannot be read"),
    ],
)
def test_what_the_command_refuses_before_it_asks_a_daemon(
    folder: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    assert main(["watch", "add", ".", *words]) == 2
    assert message in capsys.readouterr().err
