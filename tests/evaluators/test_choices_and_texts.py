"""Multiple choice, gold answers and texts: what is asked, what it is worth, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alloyd.errors import TaskError
from alloyd_daemon.evaluator import Choices, Evaluator, Task
from alloyd_daemon.scoring.requests import Continuation, Likelihood, WholeText
from alloyd_daemon.tasks import resolve


def read(folder: Path, item: dict[str, Any], name: str = "", **options: Any) -> tuple[Evaluator, Task]:
    (folder / "t.jsonl").write_text(json.dumps(item), encoding="utf-8")
    source = str(folder / "t.jsonl")
    (found,) = resolve([f"{name}:{source}" if name else source], Choices(options=options))
    return found


def test_a_choice_is_asked_after_the_same_context(tmp_path: Path) -> None:
    item = {"question": "2 + 2 =", "choices": ["3", "4", "many"], "answer": "4"}
    evaluator, task = read(tmp_path, item)
    assert list(evaluator.requests(task)) == [
        (Continuation("2 + 2 =", " 3"), Continuation("2 + 2 =", " 4"), Continuation("2 + 2 =", " many"))
    ]
    evaluator, task = read(tmp_path, item, delimiter="\nAnswer: ")
    assert evaluator.requests(task)[0][0] == Continuation("2 + 2 =", "\nAnswer: 3")


def test_length_is_allowed_for(tmp_path: Path) -> None:
    item = {"context": "x", "choices": ["ab", "abcdefgh", "ᏦᎳ"], "answer": 1}
    evaluator, task = read(tmp_path, item)
    found = evaluator.score(task, 0, [Likelihood(each, False, 1) for each in (-2.0, -4.0, -3.0)])
    # A character: -1, -0.5, -1.5; a byte: -1, -0.5, -0.5 (three bytes each).
    assert found.values == {"acc": 0, "acc_norm": 1, "acc_bytes": 1}
    assert found.output == "ab"


def test_of_equals_the_first_is_chosen(tmp_path: Path) -> None:
    evaluator, task = read(tmp_path, {"context": "x", "choices": ["a", "b"], "answer": 0})
    same = [Likelihood(-1.0, False, 1)] * 2
    assert evaluator.score(task, 0, same).values == {"acc": 1, "acc_norm": 1, "acc_bytes": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": "5"}, "the answer '5' is not among the choices"),
        ({"answer": 2}, "the answer 2 is not among the choices"),
        ({"answer": -1}, "the answer -1 is not among the choices"),
        ({"answer": True}, "the answer True is not among the choices"),
        ({"answer": 1.0}, "the answer a number is not among the choices"),
        ({"answer": None}, "the answer null is not among the choices"),
        ({"choices": "34"}, "'choices' must be an array of at least two texts"),
        ({"choices": ["4"]}, "'choices' must be an array of at least two texts"),
        ({"choices": ["4", 3]}, "'choices' must be text, found a number"),
        ({"choices": ["4", " "]}, "'choices' is empty"),
        ({"choices": ["4", "4"]}, "the choice '4' stands there twice"),
        ({"context": ""}, "'context' is empty"),
        ({"question": "also"}, "'context' and 'question' mean the same here"),
        ({"label": 1}, "unknown key 'label'"),
    ],
)
def test_a_bad_question_is_refused_with_its_line(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    item = {"context": "2 + 2 =", "choices": ["3", "4"], "answer": "4", **change}
    with pytest.raises(TaskError, match=rf"t\.jsonl, line 1: {said}") as refused:
        read(tmp_path, item)
    assert refused.value.hint


def test_a_gold_answer_is_one_continuation(tmp_path: Path) -> None:
    evaluator, task = read(tmp_path, {"context": "2 + 2 =", "answer": "4"})
    assert list(evaluator.requests(task)) == [(Continuation("2 + 2 =", " 4"),)]
    found = evaluator.score(task, 0, [Likelihood(-3.0, True, 2)])
    assert found.values == {"logprob": -3.0, "tokens": 2.0, "greedy": 1.0}
    evaluator, task = read(tmp_path, {"prompt": "2 + 2 =", "answer": "4"}, "gold_answer", delimiter="")
    assert list(evaluator.requests(task)) == [(Continuation("2 + 2 =", "4"),)]


def test_a_text_is_counted_in_bytes_words_and_tokens(tmp_path: Path) -> None:
    evaluator, task = read(tmp_path, {"text": "two  words ᏦᎳ"})
    assert list(evaluator.requests(task)) == [(WholeText("two  words ᏦᎳ"),)]
    found = evaluator.score(task, 0, [Likelihood(-3.0, False, 5)])
    assert found.values == {"nats": 3.0, "bytes": 17.0, "words": 3.0, "tokens": 5.0}
