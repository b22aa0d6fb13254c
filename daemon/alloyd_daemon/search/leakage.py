"""Splits that share an item, a question or an id are no splits: found before any work."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from alloyd.errors import TaskError
from alloyd.splits import Leak, leaks
from alloyd.task_file import Record

from ..evaluator import Item, Task

NAMED: Final = 3
_SAYS: Final = {"item": "is the same item as", "question": "asks the same as", "id": "has the same id as"}


def check(splits: Mapping[str, Sequence[Task]]) -> None:
    """Raise TaskError where an item of one split stands in another, by content, question, or id in the same task.

    What a model was chosen on tells nothing of it: a figure on such an item is no evidence.
    """
    records = {
        split: [
            [_record(f"{split}, task {number + 1}, {item.where}", item) for item in task.items]
            for number, task in enumerate(tasks)
        ]
        for split, tasks in splits.items()
    }
    found = list(_across(records))
    if not found:
        return
    shown = "; ".join(f"{each.other.path} {_SAYS[each.kind]} {each.one.path}" for each in found[:NAMED])
    more = f", and {len(found) - NAMED} more" if len(found) > NAMED else ""
    raise TaskError(
        f"the splits of this search leak into each other: {shown}{more}",
        hint="'alloy split' parts one file so that what asks the same stays together.",
        leaks=len(found),
    )


def _across(records: Mapping[str, Sequence[Sequence[Record]]]) -> Iterator[Leak]:
    """Leaks from split to split; an id is one within a task alone, for files number their items alike."""
    split_of = {id(record): split for split, tasks in records.items() for task in tasks for record in task}
    together = [[record for task in tasks for record in task] for tasks in records.values()]
    for each in leaks(together):
        if each.kind != "id" and split_of[id(each.one)] != split_of[id(each.other)]:
            yield each
    for number in range(max(map(len, records.values()))):
        files = [tasks[number] for tasks in records.values() if number < len(tasks)]
        for each in leaks(files):
            if each.kind == "id" and split_of[id(each.one)] != split_of[id(each.other)]:
                yield each


def _record(where: str, item: Item) -> Record:
    fields = json.loads(item.content)
    return Record(where, 0, fields if isinstance(fields, dict) else {}, item.content, item.id)
