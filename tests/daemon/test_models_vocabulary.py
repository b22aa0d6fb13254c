"""Digests of vocabularies: equal for equal token tables whatever else differs, absent where nothing can be told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alloyd_daemon.recipes.vocabulary import vocabulary_digest

BPE = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 2, "content": "<s>"}]}


def digest(folder: Path, tokenizer: Any) -> str | None:
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer if isinstance(tokenizer, str) else json.dumps(tokenizer))
    return vocabulary_digest(folder)


def test_equal_tables_are_equal_in_any_order_and_spelling(tmp_path: Path) -> None:
    first = digest(tmp_path / "a", BPE)
    assert first is not None
    reordered = {"added_tokens": BPE["added_tokens"], "model": {"type": "BPE", "vocab": {"b": 1, "a": 0}}}
    assert digest(tmp_path / "b", reordered) == first
    unigram = {"model": {"type": "Unigram", "vocab": [["a", -1.0], ["b", -2.0], ["<s>", 0.0]]}}
    assert digest(tmp_path / "c", unigram) == first


@pytest.mark.parametrize(
    "other",
    [
        {"model": {"vocab": {"a": 1, "b": 0}}, "added_tokens": [{"id": 2, "content": "<s>"}]},
        {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 3, "content": "<s>"}]},
        {"model": {"vocab": {"a": 0, "b": 1}}},
    ],
)
def test_another_row_for_a_token_is_another_vocabulary(tmp_path: Path, other: Any) -> None:
    assert digest(tmp_path / "a", other) not in (None, digest(tmp_path / "b", BPE))


@pytest.mark.parametrize(
    "lie",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"model": {"vocab": {"a": Infinity}}}',
        '{"model": {"vocab": 3}}',
        '{"model": {"vocab": [3]}}',
        "[" * 100_000,
        "\x00",
    ],
)
def test_a_tokenizer_that_cannot_be_read_has_no_digest(tmp_path: Path, lie: str) -> None:
    assert digest(tmp_path / "a", lie) is None


def test_a_folder_without_a_tokenizer_has_no_digest(tmp_path: Path) -> None:
    assert vocabulary_digest(tmp_path) is None
