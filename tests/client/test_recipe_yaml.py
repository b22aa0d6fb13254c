"""The strict YAML reader: what PyYAML reads it reads alike, and every trick is refused by line."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from alloyd.errors import RecipeError
from alloyd.recipe_file import MAX_CHARACTERS
from alloyd.strict_yaml import MAX_DEPTH, MAX_KEY, MAX_VALUES, documents


def value(text: str) -> Any:
    (document,) = documents(text, name="file")
    return document.value


def refused(text: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        documents(text, name="file")
    assert caught.value.message.startswith("file")
    return caught.value


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 62), 1 << 62),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12),
)
KEYS = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=6)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(KEYS, TREES, min_size=1, max_size=5), st.booleans())
def test_it_reads_what_pyyaml_writes(tree: dict[str, Any], flow: bool) -> None:
    assert value(yaml.safe_dump(tree, default_flow_style=flow, allow_unicode=True)) == tree


@settings(max_examples=300)
@given(st.text(max_size=60) | st.text("{}[]:,-&*!<#'\"|>\n\t 01ae.", max_size=60))
def test_any_text_is_refused_or_agrees_with_pyyaml(text: str) -> None:
    try:
        found = [each.value for each in documents(text, name="file")]
    except RecipeError:
        return
    expected = [each for each in yaml.load_all(text, _AsText) if each is not None]
    assert found == expected


class _AsText(yaml.SafeLoader):
    """PyYAML's safe loader, with dates as the text they are."""


_AsText.add_constructor("tag:yaml.org,2002:timestamp", yaml.SafeLoader.construct_yaml_str)
_AsText.add_constructor("tag:yaml.org,2002:value", yaml.SafeLoader.construct_yaml_str)
_AsText.add_constructor("tag:yaml.org,2002:merge", yaml.SafeLoader.construct_yaml_str)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-5", "1e-5"),
        ("1.0e-5", 1e-5),
        ("0x1F", 31),
        ("1_000", 1000),
        ("yes", True),
        ("~", None),
        ("2024-01-02", "2024-01-02"),
        ("'12'", "12"),
        ("!!str 12", "12"),
        ("! 12", 12),
        (".inf", math.inf),
    ],
)
def test_scalars_mean_what_yaml_1_1_says(text: str, expected: object) -> None:
    assert value(f"key: {text}") == {"key": expected}


def test_merge_keys_and_aliases() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [{x: 7}, *a]}\nd: *a\n"
    assert value(text) == yaml.safe_load(text)


def test_of_several_merge_keys_the_first_counts() -> None:
    assert value("a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc:\n  <<: *a\n  <<: *b\n  z: 5\n")["c"] == {
        "x": 1,
        "y": 2,
        "z": 5,
    }


def test_many_merge_keys_cost_no_more_than_they_hold() -> None:
    """Each was once a copy of all that came before it."""
    wide = ", ".join(f"k{number}: 1" for number in range(20_000))
    started = time.process_time()
    found = value(f"a: &a {{{wide}}}\nb: &b {{x: 1}}\nc:\n  <<: *a\n" + "  <<: *b\n" * 4_000)
    assert len(found["c"]) == 20_001
    assert time.process_time() - started < 10


def test_lines_of_values() -> None:
    (document,) = documents("a: 1\nb:\n  - x: 1\n  - y:\n      2\n", name="file")
    assert document.line(("a",)) == 1
    assert document.line(("b", 1, "y")) == 4
    assert document.line(("b", 1, "nothing", 3)) == 4


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "'a' is given twice, first on line 1"),
        ("x:\n  y: {k: 1, 'k': 2}\n", 2, "'k' is given twice"),
        ("a: &x [*x]\n", 1, "contains itself"),
        ("a: *nowhere\n", 1, "names no anchor"),
        ("a: !!python/object/apply:os.system ['true']\n", 1, "tag"),
        ("a: !!binary aGk=\n", 1, "tag"),
        ("a: !!set {x}\n", 1, "tag"),
        ("a: !!int twelve\n", 1, "does not read as int"),
        ("\n\ntrue: 1\n", 3, "reads as true or false"),
        ("3: 1\n", 1, "reads as a number"),
        ("? [a]\n: 1\n", 1, "a key must be plain text"),
        ("a:\n\t- 1\n", 2, "not YAML"),
        ("a: [1, 2\n", 2, "not YAML"),
        ("a: 'open\n", 2, "not YAML"),
        ("<<: 3\n", 1, "'<<' takes a mapping"),
        ('a: 1\nb: "\\ud800"\n', 2, "half a surrogate pair"),
        (f"a: {'9' * 100}\n", 1, "more than 63 bits"),
        (f"a: 0x{'f' * 100}\n", 1, "more than 63 bits"),
        (f"a: 0x{'f' * 5000}\n", 1, "a number of 5,002 characters"),
        (f"a: 1{':59' * 300_000}\n", 1, "a number of 900,001 characters"),
        (f"a: 1{':59' * 300}.5\n", 1, "a number of 903 characters"),
        (f"x: 1\n{'k' * (MAX_KEY + 1)}: 1\n", 2, "a key of 1,001 characters|not YAML"),
        (f"'{'k' * (MAX_KEY + 1)}': 1\n", 1, "a key of 1,001 characters"),
        ('a: "\\UFFFFFFFF"\n', 1, "a number there is too large"),
        (f"%YAML 1.{'9' * 5000}\n---\na: 1\n", 1, "a number there is too large"),
        ("%YAML 9.9\n---\na: 1\n", 1, "not YAML"),
    ],
)
def test_lies_are_refused_by_line(text: str, line: int, part: str) -> None:
    error = refused(text)
    assert error.facts["line"] == line
    assert error.hint
    assert any(each in error.message for each in part.split("|")), error.message
    assert len(error.message) < 300


def test_a_tab_gets_a_hint_about_tabs() -> None:
    assert "spaces" in refused("a:\n\t- 1\n").hint


@pytest.mark.parametrize("text", ["\0", "a: \x07", "PK\x03\x04\x14\0\0\0\x08\0"])
def test_binary_is_no_yaml(text: str) -> None:
    assert "not YAML text" in refused(text).message


def test_an_alias_bomb_is_defused_at_once() -> None:
    rungs = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rungs += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    started = time.process_time()
    assert "once aliases are expanded" in refused("\n".join(rungs)).message
    assert time.process_time() - started < 2


@pytest.mark.parametrize("bracket", ["[", "{a: ", "- "])
def test_deep_nesting_is_refused(bracket: str) -> None:
    assert f"more than {MAX_DEPTH} levels" in refused(bracket * 20_000).message


def test_a_huge_text_is_refused_unread() -> None:
    started = time.process_time()
    assert "at most" in refused("a" * (MAX_CHARACTERS + 1)).message
    assert time.process_time() - started < 0.5


def test_many_values_are_refused() -> None:
    assert "more than" in refused("a: [" + "1," * MAX_VALUES + "]").message


def test_empty_documents_do_not_count() -> None:
    assert documents("", name="file") == ()
    assert documents("# nothing\n---\n---\n", name="file") == ()
    assert [each.value for each in documents("a: 1\n---\nb: 2\n---\n", name="file")] == [{"a": 1}, {"b": 2}]
