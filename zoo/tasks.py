"""Writes the task files: `python -m zoo.tasks` fills zoo/tasks with NAME.SPLIT.jsonl, one item a line."""

import json
from pathlib import Path
from typing import Final

from .problems import SPLITS, TASKS, Split, task_items

FOLDER: Final = Path(__file__).parent / "tasks"
SEED: Final = 1
ITEMS: Final[dict[Split, int]] = {"search": 300, "validation": 500, "test": 1000}


def size(task: str, split: Split) -> int:
    """Items of one task in one split; language tasks, whose answers are longer, have half as many."""
    return ITEMS[split] if task.endswith("arithmetic") else ITEMS[split] // 2


def task_text(task: str, split: Split) -> str:
    """The JSON Lines of one task file."""
    return "".join(
        json.dumps({"id": item.id, "prompt": item.prompt, "answer": item.answer}, ensure_ascii=False) + "\n"
        for item in task_items(task, split, size(task, split), SEED)
    )


def main() -> None:
    """Write all task files."""
    FOLDER.mkdir(exist_ok=True)
    for task in TASKS:
        for split in SPLITS:
            (FOLDER / f"{task}.{split}.jsonl").write_text(task_text(task, split), encoding="utf-8")


if __name__ == "__main__":
    main()
