"""Why the process of a job died without a last word."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from alloyd.errors import AlloydError, ChildDied, OutOfMemory, SourceChanged
from alloyd.jobs import Job
from alloyd.units import format_size

from ..ulimits import tight


@dataclass(frozen=True, slots=True)
class Death:
    """How a job's process ended: its exit ``code`` (below 0 a signal's number), when it had ``begun`` (Unix seconds),
    its ``memory`` budget, and whether the kernel killed for want of memory meanwhile."""

    job: Job
    code: int
    begun: float
    memory: int
    memory_killed: bool


def cause(death: Death) -> AlloydError:
    """What a death is to be called."""
    name, code = death.job.id, death.code
    again = f"then 'alloy retry {name}'; 'alloy logs {name}' tells more"
    if code == -signal.SIGBUS:
        changed = [
            path for path, size in _sources(death.job).items() if _changed(Path(path), death.begun, size)
        ]
        which = ", ".join(changed) or f"one of {', '.join(_sources(death.job)) or 'the inputs'}"
        return SourceChanged(
            f"source changed or unreadable: {which}",
            hint=f"A file lost bytes while it was mapped, or its disk failed. Restore it, {again}.",
            job=name,
            path=changed[0] if changed else None,
        )
    if code == -signal.SIGKILL and death.memory_killed:
        return OutOfMemory(
            f"the process of {name} was killed by the kernel for want of memory; its budget was"
            f" {format_size(death.memory)}",
            hint="Free some memory and it goes on, or submit it with a smaller --memory; what it wrote is kept.",
            job=name,
            signal="SIGKILL",
            memory=death.memory,
        )
    if code == -signal.SIGKILL:
        return ChildDied(
            f"the process of {name} was killed from outside (SIGKILL)",
            hint=f"If memory was short, free some or give the job less with --memory, {again}.",
            job=name,
            signal="SIGKILL",
        )
    if code < 0:
        known = {each.value: each.name for each in signal.Signals}
        how = known.get(-code, f"signal {-code}")
        return ChildDied(
            f"the process of {name} crashed ({how})",
            hint=f"'alloy logs {name}' shows where.{tight()}",
            job=name,
            signal=how,
        )
    return ChildDied(
        f"the process of {name} ended with status {code} and no result",
        hint=f"'alloy logs {name}' shows why.{tight()}",
        job=name,
        status=code,
    )


def _sources(job: Job) -> dict[str, int]:
    """The paths a job reads, as far as its spec and plan tell, each with the least bytes it must hold."""
    models = [model for model in (job.summary or {}).get("models", []) if isinstance(model, dict)]
    found: dict[str, int] = {}
    for model in (each for each in models if each.get("path")):
        if model.get("adapter"):
            # The bytes are those of both: what each of the two must hold is not known.
            found |= {str(model[key]): found.get(str(model[key]), 0) for key in ("path", "adapter")}
        else:
            found[str(model["path"])] = int(model.get("bytes") or 0)
    for path in (job.spec.get("path"), *(each.get("path") for each in job.spec.get("subjects", []))):
        # Anything else is a name, and stands among the models by the place where it was found.
        if path and os.path.isabs(path) and ("+" not in path or os.path.lexists(path)):
            found.setdefault(str(path), 0)
    return found


def _changed(path: Path, when: float, size: int) -> bool:
    """Whether ``path``, or a checkpoint file in it, is gone, was changed after ``when`` (Unix seconds), or is short."""
    try:
        files = list(path.glob("*.safetensors")) if path.is_dir() else [path]
        facts = [file.stat() for file in files] or [path.stat()]
        # Times are not enough: a file being cut off gets its new time only after its pages are gone.
        return sum(each.st_size for each in facts) < size or any(
            max(each.st_mtime, each.st_ctime) >= when for each in facts
        )
    except OSError:
        return True
