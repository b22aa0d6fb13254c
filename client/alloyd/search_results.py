"""What a search has written of itself, read by whoever is on its machine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from .errors import JobError
from .jobs import Job

SCHEMA: Final = 1
"""The version of what ``results.json`` holds."""

_KEYS: Final = (
    "job",
    "optimiser",
    "genes",
    "objectives",
    "winner",
    "test",
    "trials",
    "spent",
    "notes",
    "recipes",
)


def name_of(model: Mapping[str, Any], models: Iterable[Mapping[str, Any]]) -> str:
    """What a judged model is called; of a duplicate it says whose figures it has, which is one of ``models``."""
    name = str(model["name"])
    twin = next((each for each in models if each["trial"] == model.get("of")), None)
    return name if twin is None else f"{name} (the same as {twin['name']})"


def search_folder(home: str, job: str) -> Path:
    """Where the files of a search lie."""
    return Path(home) / "searches" / job


def read_results(home: str, job: Job) -> dict[str, Any]:
    """What a search has written of itself; see :meth:`alloyd.Client.results`."""
    if job.kind != "search":
        raise JobError(f"{job.id} is no search", hint="'alloy ps --all' lists jobs.", job=job.id)
    path = search_folder(home, job.id) / "results.json"
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise JobError(
            f"{job.id} has no results yet",
            hint="They are written as soon as it scores its first candidate.",
            job=job.id,
        ) from None
    except (OSError, ValueError) as wrong:
        raise JobError(
            f"{path} cannot be read: {wrong}",
            hint=f"'alloy search --extend {job.id} --candidates N' writes them anew, from its record.",
        ) from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA or not found.keys() >= set(_KEYS):
        raise JobError(
            f"{path} is not what this version reads",
            hint="It was written by another version of alloyd, or changed since: read it with that one.",
        )
    return found
