"""Reads a scoring task: JSON Lines of ``{"id": ..., "prompt": ..., "answer": ...}``, checked line by line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from alloyd.errors import TaskError, did_you_mean

KEYS: Final = ("id", "prompt", "answer")


@dataclass(frozen=True, slots=True)
class TaskItem:
    """One prompt, the answer that counts as right, an id unique in its file, and the line it stands on."""

    id: str
    prompt: str
    answer: str
    line: int


@dataclass(frozen=True, slots=True)
class Task:
    """A named list of items, in the order of the file."""

    name: str
    path: Path
    items: tuple[TaskItem, ...]


class _DuplicateKey(ValueError):
    """A JSON object that says the same key twice."""


def _without_duplicates(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _DuplicateKey(key)
        found[key] = value
    return found


def _item(text: str, path: Path, line: int) -> TaskItem:
    """The item on one line. Raises TaskError that names file, line and key."""

    def refuse(problem: str, hint: str = "", **facts: str) -> TaskError:
        return TaskError(f"{path}, line {line}: {problem}", hint=hint, path=str(path), line=line, **facts)

    example = 'A line looks like {"id": "a1", "prompt": "2 + 2 :", "answer": "4"}.'
    try:
        value = json.loads(text, object_pairs_hook=_without_duplicates)
    except _DuplicateKey as duplicate:
        raise refuse(
            f"the key '{duplicate}' stands there twice", "Keep one of them.", key=str(duplicate)
        ) from None
    except (ValueError, RecursionError) as error:
        raise refuse(f"not JSON ({error})", example) from None
    if not isinstance(value, dict):
        raise refuse(f"expected a JSON object, found {type(value).__name__}", example)
    for key in value:
        if key not in KEYS:
            raise refuse(f"unknown key '{key}'", did_you_mean(key, KEYS), key=key)
    for key in KEYS:
        if key not in value:
            raise refuse(f"the key '{key}' is missing", example, key=key)
        if not isinstance(value[key], str):
            kind = type(value[key]).__name__
            raise refuse(
                f"'{key}' must be a string, found {kind}", f"Put the {key} in double quotes.", key=key
            )
        if not value[key].strip():
            raise refuse(f"'{key}' is empty", example, key=key)
        try:
            value[key].encode()
        except UnicodeEncodeError:
            raise refuse(
                f"'{key}' holds half a surrogate pair", "Write the character itself.", key=key
            ) from None
    return TaskItem(value["id"], value["prompt"], value["answer"], line)


def parse_task(data: bytes, path: Path) -> Task:
    """The task in the bytes of a JSONL file; `path` serves the messages and the task's name
    (`x.search.jsonl` -> `x.search`).

    Blank lines are allowed. Raises TaskError for bytes that are not UTF-8, a line that is no item, an id
    that stands there twice, and a file without items.
    """
    items: list[TaskItem] = []
    lines: dict[str, int] = {}
    for line, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise TaskError(
                f"{path}, line {line}: not UTF-8 at byte {error.start} of the line",
                hint="Save the file as UTF-8.",
                path=str(path),
                line=line,
            ) from None
        if not text.strip():
            continue
        item = _item(text, path, line)
        if item.id in lines:
            raise TaskError(
                f"{path}, line {line}: the id '{item.id}' already stands on line {lines[item.id]}",
                hint="Every item needs an id of its own.",
                path=str(path),
                line=line,
            )
        lines[item.id] = line
        items.append(item)
    if not items:
        raise TaskError(f"{path} holds no items", hint="Write one JSON object a line.", path=str(path))
    return Task(path.name.removesuffix(".jsonl"), path, tuple(items))


def read_task(path: Path) -> Task:
    """:func:`parse_task` of a file. Raises TaskError where it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TaskError(
            f"cannot read the task file {path} ({error.strerror})",
            hint="Give the path of a .jsonl file.",
            path=str(path),
        ) from None
    return parse_task(data, path)
