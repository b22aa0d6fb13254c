"""Where a trial comes from: its ancestors, the data that it was scored on, its sources, and the programs that ran."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from blake3 import blake3

from alloyd import __version__

from ..candidate import Candidate
from ..engine.contents import Content
from ..evaluator import Task
from .history import History
from .trial import Trial

LIBRARIES: Final = (
    "numpy",
    "torch",
    "transformers",
    "bitsandbytes",
    "llama-cpp-python",
    "cmaes",
    "scikit-optimize",
    "pymoo",
    "scikit-learn",
    "scipy",
)
"""What the trials of a search, or their scores, may follow from."""


def ancestors(trials: Sequence[Trial], number: int) -> tuple[Trial, ...]:
    """Trial ``number`` and all that it descends from, in the order of asking; a duplicate, from its original."""
    known = {each.number: each for each in trials}
    found: dict[int, Trial] = {}
    waiting = [number]
    while waiting:
        each = known.get(waiting.pop())
        if each is not None and each.number not in found:
            found[each.number] = each
            waiting += [*each.parents, *((each.of,) if each.of is not None else ())]
    return tuple(found[place] for place in sorted(found))


def data_of(splits: Mapping[str, Sequence[Task]]) -> list[dict[str, Any]]:
    """What each split was made of. ``digest`` is the BLAKE3 (hex) of its items' ids and contents, in their order."""
    return [
        {
            "split": split,
            "task": task.name,
            "evaluator": task.evaluator,
            "items": len(task.items),
            "digest": _digest(task),
        }
        for split, tasks in splits.items()
        for task in tasks
    ]


def sources_of(candidate: Candidate, contents: Sequence[Content]) -> list[dict[str, Any]]:
    """The checkpoints that a candidate is merged from, each with the ``digest`` of all its tensors, as a manifest has.

    And of each file its name, size, and the BLAKE3 of its header.
    """
    prepared = candidate.prepared
    return [
        {
            "name": model.name,
            "path": str(model.path),
            "adapter": None if model.adapter is None else str(model.adapter),
            **as_keys(content),
            "files": [{"name": file.name, "size": file.size, "header": file.header} for file in seen.files],
        }
        for model, content, seen in zip(
            prepared.plan.outline.models, contents, prepared.fingerprints, strict=True
        )
    ]


def as_keys(content: Content) -> dict[str, Any]:
    """What the row of a source says of its content."""
    return {"digest": content.digest, "declared": content.declared, "why_not": content.why_not}


def recalled(history: History, sources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``sources``; where one has no digest, as the record has it: its sources are the same for as long as it lasts."""
    known = [each for each in history.fact("sources") or () if each["digest"] is not None]
    of_content = as_keys(Content()).keys()

    def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        return all(one[key] == other.get(key) for key in one.keys() - of_content)

    return [
        each if each["digest"] is not None else next((one for one in known if same(each, one)), each)
        for each in sources
    ]


def versions() -> dict[str, str]:
    """The versions of alloyd, Python, and of those libraries that are installed."""
    found = {"alloyd": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _digest(task: Task) -> str:
    digest = blake3()
    for item in task.items:
        digest.update(json.dumps([item.id, item.content]).encode() + b"\n")
    return digest.hexdigest()
