"""What counts as a right answer, row by row, and the language it must be in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alloyd.errors import TaskError, UsageError
from alloyd_daemon.evaluator import Choices, ItemScore
from alloyd_daemon.scoring.requests import Prompt, Written
from alloyd_daemon.tasks import resolve
from plain_answers import MODELS, answers, model_and_tokenizer

TASKS = MODELS.parent / "tasks"


def judged(folder: Path, name: str, answer: Any, output: str, **options: Any) -> ItemScore:
    (folder / "t.jsonl").write_text(json.dumps({"prompt": "x", "answer": answer}))
    ((evaluator, task),) = resolve([f"{name}:{folder / 't.jsonl'}"], Choices(options=options))
    return evaluator.score(task, 0, [Written(output)])


@pytest.mark.parametrize(
    ("name", "answer", "output", "options", "right"),
    [
        ("exact_match", "a  b", " a b\n", {}, 1),
        ("exact_match", "a b", "a b .", {}, 0),
        ("exact_match", "Paris", "paris", {}, 0),
        ("exact_match", "Paris", "paris", {"case": "ignore"}, 1),
        ("exact_match", ["4", "four"], "four", {}, 1),
        ("contains", "Paris", "It is Paris .", {}, 1),
        ("contains", "new  york", "in New York City", {"case": "ignore"}, 1),
        ("contains", "4", "14", {}, 1),
        ("contains", "Paris", "Rome", {}, 0),
        ("regex", "4", "answer: 4, or 5", {"pattern": r"\d"}, 1),
        ("regex", "5", "answer: 4, or 5", {"pattern": r"\d", "match": "last"}, 1),
        ("regex", "B", "The answer is (B).", {"pattern": r"answer is \((\w)\)|^(\w)$"}, 1),
        ("regex", "B", "B", {"pattern": r"answer is \((\w)\)|^(\w)$"}, 1),
        ("regex", "B", "no idea", {"pattern": r"answer is \((\w)\)"}, 0),
        ("last_number", "1,234", "so it is 1234.0 in all.", {}, 1),
        ("last_number", "-3", "5 - 8 = \u22123", {}, 1),
        ("last_number", "13", "13 apples and 2 pears", {}, 0),
        ("last_number", "13", "thirteen", {}, 0),
    ],
)
def test_an_answer_is_right_or_not(
    name: str, answer: Any, output: str, options: dict[str, Any], right: int, tmp_path: Path
) -> None:
    found = judged(tmp_path, name, answer, output, **options)
    assert found.values == {"score": right}
    assert found.output == output


@pytest.mark.parametrize(
    ("output", "values"),
    [
        ("ᎻᎹ 13", {"score": 1, "answer_right": 1, "language_right": 1}),
        ("so 13", {"score": 0, "answer_right": 1, "language_right": 0}),
        ("ᎻᎹ 12", {"score": 0, "answer_right": 0, "language_right": 1}),
    ],
)
def test_the_answer_and_its_language_must_be_right(
    output: str, values: dict[str, float], tmp_path: Path
) -> None:
    assert judged(tmp_path, "last_number", "13", output, script="Cherokee").values == values


def test_sakana_s_rule(tmp_path: Path) -> None:
    rule = {"language": "ja", "language_sure": 0.5}
    japanese = judged(tmp_path, "last_number", "13", "合計は5+8なので、答えは13個です。", **rule)
    english = judged(
        tmp_path, "last_number", "13", "Together these are 5 + 8, which makes 13 apples.", **rule
    )
    assert (japanese.values["score"], english.values["score"]) == (1, 0)
    assert english.values["answer_right"] == 1


@pytest.mark.parametrize(
    ("name", "item", "options", "said"),
    [
        ("exact_match", {"prompt": "x", "answer": 4}, {}, "'answer' must be text, found a number"),
        ("exact_match", {"prompt": "x", "answer": []}, {}, "'answer' must be text, found an array"),
        ("exact_match", {"prompt": "x", "answer": ["a", " "]}, {}, "'answer' is empty"),
        ("exact_match", {"prompt": "x", "anwser": "4"}, {}, "'answer' is missing|unknown key 'anwser'"),
        ("exact_match", {"prompt": "x", "question": "y", "answer": "4"}, {}, "mean the same"),
        ("last_number", {"prompt": "x", "answer": "four"}, {}, "'four' is no number"),
    ],
)
def test_a_bad_item_is_refused_with_its_line(
    name: str, item: dict[str, Any], options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "t.jsonl").write_text('{"prompt": "a", "answer": "1"}\n' + json.dumps(item))
    with pytest.raises(TaskError, match=rf"t\.jsonl, line 2: .*({said})") as refused:
        resolve([f"{name}:{tmp_path / 't.jsonl'}"], Choices(options=options))
    assert refused.value.hint


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("regex", {}, "needs the option 'pattern'"),
        ("regex", {"pattern": "("}, "no regular expression"),
        ("regex", {"pattern": "x", "match": "middle"}, "'match' knows no 'middle'"),
        ("exact_match", {"case": "upper"}, "'case' knows no 'upper'"),
        ("exact_match", {"most_tokens": "0"}, "'most_tokens' must be a whole number of at least 1"),
        ("exact_match", {"most_tokens": True}, "'most_tokens' must be a whole number"),
        ("exact_match", {"stop": [3]}, "'stop' must be text, or a list of texts"),
        ("exact_match", {"stop": ""}, "'stop' must be text"),
        ("exact_match", {"stop": {"a": 1}}, "'stop' must be text"),
    ],
)
def test_bad_options_are_refused(name: str, options: dict[str, Any], said: str, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"prompt": "a", "answer": "1"}')
    with pytest.raises(UsageError, match=said):
        resolve([f"{name}:{tmp_path / 't.jsonl'}"], Choices(options=options))


def test_options_reach_the_prompt(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"question": "a", "answer": "1"}')
    given = {"stop": ["\n\n", "Q:"], "most_tokens": "12"}
    ((evaluator, task),) = resolve([str(tmp_path / "t.jsonl")], Choices(options=given))
    assert list(evaluator.requests(task)) == [(Prompt("a", ("\n\n", "Q:"), 12),)]


def test_a_model_of_the_zoo_scores_what_transformers_writes() -> None:
    ((evaluator, task),) = resolve([str(TASKS / "l1_arithmetic.search.jsonl")], Choices(limit=12))
    requests = [each for (each,) in evaluator.requests(task)]
    scores = [evaluator.score(task, place, [each]) for place, each in enumerate(answers("math", requests))]
    model, tokenizer = model_and_tokenizer("math")
    for item, score in zip(task.items, scores, strict=True):
        ids = tokenizer(item.data.prompt, return_tensors="pt", return_token_type_ids=False)
        whole = model.generate(**ids, do_sample=False, max_new_tokens=16)[0, ids["input_ids"].shape[1] :]
        text = tokenizer.decode(whole, skip_special_tokens=True).strip()
        assert score.output == text
        assert score.values["score"] == float(text == item.data.answers[0])
    assert sum(each.values["score"] for each in scores) >= 9
