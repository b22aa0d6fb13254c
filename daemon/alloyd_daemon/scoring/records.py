"""Scores on disk: a journal of items while a score runs, a JSONL file of every item when it has ended.

A journal's first line names what its scores follow from; a journal of anything else is not continued. A line is written
when its item is scored; one that a kill cut off is written again.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from alloyd.errors import AlloydError, DiskFull

from ..evaluator import ItemScore
from .run import InMemory, Scored

SYNC_EVERY: Final = 2.0
"""Seconds after which what was scored outlasts a failure of power too."""


class Journal(InMemory):
    """Records in the file ``path``, continued if they are of the same ``identity``; ``stale`` if they were not."""

    def __init__(self, path: Path, identity: str) -> None:
        super().__init__()
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines, length = _whole_lines(path)
        self.stale = bool(lines) and lines[0].get("identity") != identity
        if self.stale:
            lines, length = [], 0
        for line in lines[1:]:
            self._read(line)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, length)
        os.lseek(self._file, length, os.SEEK_SET)
        self._synced = time.monotonic()
        if not lines:
            self._write({"identity": identity})

    def keep(self, candidate: str, task: int, score: ItemScore) -> None:
        super().keep(candidate, task, score)
        self._write(
            {
                "model": candidate,
                "task": task,
                "id": score.id,
                "values": dict(score.values),
                "output": score.output,
            }
        )

    def lose(self, candidate: str, error: AlloydError) -> None:
        super().lose(candidate, error)
        self._write({"model": candidate, "lost": error.to_dict()})

    def forget_lost(self) -> None:
        """Let the candidates that were lost be tried again by a later run."""
        self._lost.clear()
        self._write({"found": True})

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, line: Mapping[str, Any]) -> None:
        if "found" in line:
            self._lost.clear()
        elif "lost" in line:
            super().lose(line["model"], AlloydError.from_dict(line["lost"]))
        else:
            score = ItemScore(line["id"], line["values"], line["output"])
            super().keep(line["model"], line["task"], score)

    def _write(self, line: Mapping[str, Any]) -> None:
        data = json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        try:
            while data:
                data = data[os.write(self._file, data) :]
            if time.monotonic() - self._synced > SYNC_EVERY:
                os.fsync(self._file)
                self._synced = time.monotonic()
        except OSError as wrong:
            if wrong.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DiskFull(
                f"no room is left for scores in {self._path.parent}",
                hint="Make room, then resume the job: what is scored is kept.",
                path=str(self._path),
            ) from wrong


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The lines of a journal up to the first that is cut off or damaged, and the bytes that they take."""
    found: list[dict[str, Any]] = []
    length = 0
    data = path.read_bytes() if path.exists() else b""
    for raw in data.splitlines(keepends=True):
        try:
            line = json.loads(raw) if raw.endswith(b"\n") else None
        except ValueError:
            line = None
        if not isinstance(line, dict) or not _makes_sense(line, first=not found):
            break
        found.append(line)
        length += len(raw)
    return found, length


def _makes_sense(line: Mapping[str, Any], *, first: bool) -> bool:
    if first:
        return isinstance(line.get("identity"), str)
    if line.get("found") is True:
        return True
    if not isinstance(line.get("model"), str):
        return False
    if isinstance(line.get("lost"), dict):
        return True
    values = line.get("values")
    return (
        isinstance(line.get("task"), int)
        and isinstance(line.get("id"), str)
        and isinstance(line.get("output"), str)
        and isinstance(values, dict)
        and all(isinstance(each, int | float) for each in values.values())
    )


def write_items(
    path: Path, tasks: Sequence[str], scored: Mapping[str, Scored], *, order: Sequence[str]
) -> None:
    """Write a line for every item, model by model in ``order``, task by task; the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for model in order:
            for task, items in zip(tasks, scored[model].items, strict=False):
                for each in items:
                    facts = {"model": model, "task": task, "id": each.id}
                    line = facts | {"values": dict(each.values), "output": each.output}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
