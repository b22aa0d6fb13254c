"""Where a trial comes from: its ancestors, the data that it was scored on, its sources, and the programs that ran."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from blake3 import blake3

from alloyd import __version__
from alloyd.errors import AlloydError

from ..candidate import Candidate
from ..checkpoints.checkpoint import Checkpoint
from ..engine.contents import content_digest
from ..engine.findings import FindingCache
from ..evaluator import Task
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

log = logging.getLogger("alloyd")


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


def sources_of(candidate: Candidate, findings: FindingCache) -> list[dict[str, Any]]:
    """The checkpoints that a candidate is merged from, each with the ``digest`` of all its tensors, as a manifest has.

    And of each file its name, size, and the BLAKE3 of its header. What ``findings`` does not know is read once.
    """
    prepared = candidate.prepared
    return [
        {
            "name": model.name,
            "path": str(model.path),
            "digest": _content(checkpoint, findings),
            "files": [{"name": file.name, "size": file.size, "header": file.header} for file in seen.files],
        }
        for model, checkpoint, seen in zip(
            prepared.plan.outline.models, prepared.checkpoints, prepared.fingerprints, strict=True
        )
    ]


def _content(checkpoint: Checkpoint, findings: FindingCache) -> str | None:
    """``None`` where a source cannot be read any more: the results are worth having all the same."""
    try:
        return content_digest(checkpoint, findings)
    except AlloydError as wrong:
        log.warning("the content of %s has no digest: %s", checkpoint.path, wrong.message)
        return None


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
