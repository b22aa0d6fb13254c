"""Moves inside a watched folder: claim by an atomic rename, put away without writing over anything, sidecars."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alloyd.errors import AlloydError, Problems
from alloyd.jobs import Job

from ..checkpoints.durable import sync_folder, write_file
from .identity import WORK
from .ledger import Claim, Folder, Ledger

SEARCH_FILES = ("results.json", "winner.yaml", "winner.mergekit.yaml")


def work_place(folder: Folder, claim: Claim) -> Path:
    """Where a claimed file lies while it is worked on; no other claim has this folder."""
    return Path(folder.path, WORK, claim.id, claim.name)


def take(folder: Folder, claim: Claim) -> bool:
    """Rename the claimed file into its own work folder; whether it is there now, by this call or an earlier one.

    A rename is done by one daemon only, however many watch the folder.
    """
    place = work_place(folder, claim)
    if os.path.lexists(place):
        return True
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(Path(folder.path, claim.name), place)
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            place.parent.rmdir()
        return False
    sync_folder(place.parent)
    sync_folder(Path(folder.path))
    return True


def flat(name: str) -> str:
    """The name of a model, which may be ``ORG/NAME``, as part of a file's name."""
    return name.replace("/", "--")


def free_place(folder: Path, name: str) -> Path:
    """A path for ``name`` in ``folder`` at which nothing is: ``ties-2.yaml`` where ``ties.yaml`` is taken."""
    stem, dot, suffix = name.rpartition(".")
    number = 1
    place = folder / name
    while os.path.lexists(place):
        number += 1
        place = folder / (f"{stem}-{number}{dot}{suffix}" if dot else f"{name}-{number}")
    return place


def output_place(folder: Folder, claim: Claim, ledger: Ledger, stem: str) -> str:
    """A place for the output of a claim, called ``stem`` if it can be, which is nobody else's."""
    parent = Path(folder.settings.out or Path(folder.path, "out"))
    place = free_place(parent, stem)
    while ledger.out_taken(claim, str(place)):
        stem += "~"
        place = free_place(parent, stem)
    return str(place)


def put_away(folder: Folder, claim: Claim, sidecars: Mapping[str, str]) -> None:
    """Move a claimed file to its target, its sidecars first; all of it may be repeated."""
    target, place = Path(claim.target), work_place(folder, claim)
    target.parent.mkdir(parents=True, exist_ok=True)
    for ending, text in sidecars.items():
        replace(target.with_name(target.name + ending), text)
    if os.path.lexists(place):
        os.rename(place, target)
    sync_folder(target.parent)
    with contextlib.suppress(OSError):
        place.parent.rmdir()
    with contextlib.suppress(OSError):
        Path(folder.path, f"{claim.name}.status.json").unlink()


def replace(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old one or the new one, whole."""
    fresh = path.with_name(f".{path.name}.new")
    write_file(fresh, text.encode())
    os.replace(fresh, path)


def failure(error: AlloydError, claim: Claim, retry: str) -> dict[str, str]:
    """The sidecars of what failed, for scripts and for people; ``retry`` says how it is tried again."""
    fields: dict[str, Any] = {
        **error.to_dict(),
        "line": error.facts.get("line"),
        "key": error.facts.get("key"),
        "file": claim.name,
        "job": claim.job or None,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "retry": retry,
    }
    lines = []
    for one in error.problems if isinstance(error, Problems) else (error,):
        lines += [f"error: {one.message}"] + ([f"hint: {one.hint}"] if one.hint else [])
    if claim.job:
        lines.append(f"'alloy logs {claim.job}' tells more.")
    return {
        ".error.json": json.dumps(fields, indent=1, ensure_ascii=False) + "\n",
        ".error.txt": "\n".join([*lines, retry]) + "\n",
    }


def brief(result: Mapping[str, object]) -> dict[str, object]:
    """The plain values of a result; the rest is in the job."""
    return {key: value for key, value in result.items() if isinstance(value, str | int | float | bool)}


def copy_search(claim: Claim, job: Job) -> None:
    """Put the files of a search that is done where the output of its claim goes."""
    source = Path(str((job.result or {}).get("folder", "")))
    Path(claim.out).mkdir(parents=True, exist_ok=True)
    for name in SEARCH_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, Path(claim.out, name))


def success(claim: Claim, **fields: Any) -> dict[str, str]:
    """The sidecar of a drop that is done."""
    told = {"file": claim.name, "job": claim.job, "out": claim.out, **fields}
    return {".result.json": json.dumps(told, indent=1, ensure_ascii=False, default=str) + "\n"}
