"""Items of a task file, each made ready by its evaluator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from alloyd import task_file
from alloyd.task_file import Record

from ..evaluator import Choices, Item, Metric, Task


def read_task(
    evaluator: str,
    source: str,
    choices: Choices,
    metrics: tuple[Metric, ...],
    item: Callable[[Record], Any],
    data: Any = None,
) -> Task:
    """The task in the JSONL file ``source``; ``item`` makes an item's data of its record, or refuses it.

    The whole file is checked, also where ``choices.limit`` takes the first items only. The task goes by the file's
    name without its suffix. Raises TaskError.
    """
    records = task_file.read(Path(source))
    items = tuple(Item(each.id, each.content, each.where, item(each)) for each in records)
    name = Path(source).name.removesuffix(task_file.SUFFIX)
    return Task(name, evaluator, metrics, items[: choices.limit], data)
