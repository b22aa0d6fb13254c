"""Vocabularies: one that all models share is carried over; what is not carried out yet is said."""

from __future__ import annotations

import pytest

from alloyd.errors import PlanError
from outlines import AVERAGE, lay, problem

SAME = {"a": "x", "b": "x"}


@pytest.mark.parametrize("block", ["tokenizer_source: base", "tokenizer: {source: base}"])
def test_the_donors_tokenizer_serves_models_of_one_vocabulary(block: str) -> None:
    assert lay(AVERAGE + block, vocabularies=SAME).warnings == ()
    assert "could not be compared" in lay(AVERAGE + block).warnings[0]
    assert "could not be compared" in lay(AVERAGE + block, vocabularies={"a": "x"}).warnings[0]
    error = problem(AVERAGE + block, vocabularies={"a": "x", "b": "y"})
    assert "needs a vocabulary built from several, which is not supported yet" in error.message


@pytest.mark.parametrize("block", ["tokenizer_source: union", "tokenizer_source: a", "tokenizer: {}"])
def test_the_union_of_one_vocabulary_is_the_donors(block: str) -> None:
    assert lay(AVERAGE + block, vocabularies=SAME).warnings == ()
    assert "not supported yet" in problem(AVERAGE + block).message


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ("tokenizer_source: b", "tokenizer_source: only the tokenizer of a can be taken, not that of b"),
        ("tokenizer: {source: base, pad_to_multiple_of: 8}", "pad_to_multiple_of are not supported yet"),
        ("tokenizer: {source: base, tokens: {x: {source: a}}}", "tokenizer.tokens"),
        ("chat_template: auto", "chat_template is not supported yet"),
    ],
)
def test_what_is_not_carried_out_yet_is_one_clear_error(block: str, part: str) -> None:
    error = problem(AVERAGE + block, vocabularies=SAME)
    assert isinstance(error, PlanError)
    assert part in error.message


def test_warnings_of_the_recipe_reach_the_outline() -> None:
    outline = lay(AVERAGE + "unknown_key: 1\nparameters: {normlize: true}\n", lenient=True)
    assert any("unknown_key" in each for each in outline.warnings)
    assert any("normlize" in each for each in outline.warnings)
