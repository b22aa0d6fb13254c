"""Splits that share items are refused before any work."""

from __future__ import annotations

import pytest

from alloyd.errors import TaskError
from alloyd.task_file import content_of, id_of
from alloyd_daemon.evaluator import Item, Task
from alloyd_daemon.search.leakage import check


def task(*prompts: str, ids: tuple[str, ...] = (), answer: str = "4") -> Task:
    items = []
    for number, prompt in enumerate(prompts):
        content = content_of({"prompt": prompt, "answer": answer})
        items.append(
            Item(ids[number] if ids else id_of(content), content, f"f.jsonl, line {number + 1}", None)
        )
    return Task("t", "gold_answer", (), tuple(items))


def test_splits_of_different_questions_are_splits() -> None:
    check(
        {
            "search": [task("a", "b"), task("e")],
            "validation": [task("c"), task("f")],
            "test": [task("d"), task("g")],
        }
    )


def test_one_item_twice_in_one_split_is_no_leak() -> None:
    check({"search": [task("a", "a")], "validation": [task("c")]})


@pytest.mark.parametrize("where", [0, 1])
def test_the_same_item_in_two_splits_is_a_leak_whichever_task_has_it(where: int) -> None:
    validation = [task("x"), task("y")]
    validation[where] = task("b")
    with pytest.raises(
        TaskError, match=r"validation, task \d, f.jsonl, line 1 is the same item as search, task 1"
    ):
        check({"search": [task("a", "b"), task("z")], "validation": validation})


def test_the_same_question_with_another_answer_is_a_leak() -> None:
    with pytest.raises(TaskError, match="asks the same as"):
        check({"search": [task("a")], "validation": [task("b")], "test": [task(" a ", answer="5")]})


def test_an_id_is_one_within_a_task_alone() -> None:
    check(
        {
            "search": [task("a", ids=("1",)), task("b", ids=("2",))],
            "validation": [task("c", ids=("2",)), task("d", ids=("1",))],
        }
    )
    with pytest.raises(TaskError, match="has the same id as"):
        check({"search": [task("a", ids=("1",))], "validation": [task("c", ids=("1",))]})


def test_many_leaks_are_counted_and_a_few_are_named() -> None:
    names = [f"q{number}" for number in range(20)]
    with pytest.raises(TaskError, match="and 17 more") as refused:
        check({"search": [task(*names)], "validation": [task(*names)]})
    assert refused.value.facts["leaks"] == 20
