"""Verbs for task files: split one into parts, and find items that several hold."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from pathlib import Path
from typing import Final

from . import splits, task_file
from .console import Console
from .errors import OutputExists, TaskError, UsageError

SHOWN: Final = 20
_SAY: Final = {"item": "is the same item as", "question": "asks the same as", "id": "has the id of"}


def split(options: argparse.Namespace, console: Console) -> int:
    """``alloy split``: the lines of FILE as they stand, each into NAME.PART.jsonl."""
    path = Path(options.file)
    parts = splits.parts_of(options.into)
    data = task_file.load(path)
    found = splits.split(task_file.parse(data, str(path)), parts, by=options.by, salt=options.salt)
    folder = Path(options.out) if options.out else path.parent
    stem = path.name.removesuffix(task_file.SUFFIX)
    targets = {name: folder / f"{stem}.{name}{task_file.SUFFIX}" for name in found}
    for name, target in targets.items():
        if not found[name]:
            raise TaskError(
                f"the part '{name}' of {path} would be empty", hint="Give it a larger share, or another salt."
            )
        if target.exists() and not options.force:
            raise OutputExists(f"{target} is there already", hint="--force replaces it.", path=str(target))
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in targets.items():
        _write(target, b"".join(lines[each.line - 1].rstrip(b"\r") + b"\n" for each in found[name]))
        console.show(f"{len(found[name]):>8,}  {target}")
    console.result(
        {name: {"path": str(target), "items": len(found[name])} for name, target in targets.items()}
    )
    return 0


def leaks(options: argparse.Namespace, console: Console) -> int:
    """``alloy leaks``: every item that another gives away; ends with the status of a TaskError if there is one."""
    if len({os.path.realpath(each) for each in options.files}) != len(options.files):
        raise UsageError("a file is named twice", hint="Name each file once.")
    found = splits.leaks([task_file.read(Path(each)) for each in options.files])
    for each in found[:SHOWN]:
        console.show(f"{each.other.where} {_SAY[each.kind]} {each.one.where}")
    if len(found) > SHOWN:
        console.show(f"... and {len(found) - SHOWN:,} more")
    for each in found:
        console.line("leak", {"kind": each.kind, "item": each.other.where, "of": each.one.where})
    if found:
        counts = Counter[str](each.kind for each in found)
        told = ", ".join(f"{counts[kind]:,} by {kind}" for kind in _SAY if counts[kind])
        raise TaskError(
            f"items leak: {told}",
            hint="Split again with 'alloy split', or remove them.",
            **{f"{kind}s": counts[kind] for kind in _SAY},
        )
    console.show("no leaks")
    console.result({"leaks": 0})
    return 0


def _write(target: Path, data: bytes) -> None:
    fresh = target.with_name(f".{target.name}.new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(target)
