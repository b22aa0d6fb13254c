"""Where the documents of a recipe go and in what form, and whether there is a place and room for them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from alloyd import recipe as recipes
from alloyd.errors import AlloydError, DiskFull, OutputError, raise_all
from alloyd.jobs import MergeSpec, PlanSpec

from ..checkpoints.place import check_sources
from ..checkpoints.sink import already_published, check_output
from ..checkpoints.staged_files import StagedFiles
from ..checkpoints.staging import Place, errors_of

if TYPE_CHECKING:
    from .prepare import Prepared

SIDE_BYTES: Final = 64 * 1024 * 1024
"""Room that is kept for config, tokenizer, card and manifest of an output."""


def folders(spec: MergeSpec | PlanSpec, documents: Sequence[recipes.Recipe]) -> dict[str | None, Path | None]:
    """Each document's output folder: the last one's is the spec's own, the others lie in its ``.parts`` sibling."""
    if not spec.out:
        return {
            recipe.name: None if recipe is documents[-1] else Path(recipe.name or "part")
            for recipe in documents
        }
    final = Path(spec.out)
    if not final.is_absolute():
        raise OutputError(
            f"the output '{spec.out}' is not an absolute path", hint="The client makes it absolute."
        )
    with errors_of(final):
        Place.of(final)  # has a name that those of its siblings can be made from
    parts = final.with_name(f"{final.name}.parts")
    last = last_of(documents)
    return {recipe.name: final if recipe is last else parts / str(recipe.name) for recipe in documents}


def last_of(documents: Sequence[recipes.Recipe]) -> recipes.Recipe:
    """The document whose result is the recipe's."""
    return next((recipe for recipe in documents if recipe.name is None), documents[-1])


def form_of(spec: MergeSpec | PlanSpec, recipe: recipes.Recipe, *, last: bool) -> recipes.Form:
    """What a document's output is stored as: the spec's word counts for the last document."""
    return (spec.form if last else None) or recipe.out or recipes.Form()


def check_outputs(prepared: Sequence[Prepared], *, force: bool) -> None:
    """Say now what would go wrong with the output folders later.

    Raises
    ------
    OutputExists, OutputError, DiskFull
        All of them, together.
    """
    problems: list[AlloydError] = []
    need: dict[int, int] = {}
    sources = [file for one in prepared for each in one.checkpoints if each.prints for file in each.files]
    for one in prepared:
        out = one.out
        if out is None:
            continue
        try:
            with errors_of(out):
                if already_published(out, one.plan.identity):
                    continue
                check_output(out, force)
                # With force only: an output that is not replaced takes nothing from a source that lies in it.
                if force:
                    check_sources(out, sources)
                staged = StagedFiles(Place.of(out).staging, one.plan.layout.shards).held
                existing = _existing(out)
                device = existing.stat().st_dev
                need[device] = need.get(device, 0) + max(one.plan.bytes_write + SIDE_BYTES - staged, 0)
                free = free_bytes(out)
                if free is not None and need[device] > free:
                    problems.append(
                        DiskFull(
                            f"the output needs {need[device]:,} bytes on the file system of {out},"
                            f" which has {free:,} free",
                            hint="Free some space or choose another output.",
                            path=str(out),
                            need=need[device],
                            free=free,
                        )
                    )
        except AlloydError as problem:
            problems.append(problem)
    raise_all(problems)


def _existing(path: Path) -> Path:
    """The nearest folder on the way to ``path`` that is there."""
    while not path.exists():
        path = path.parent
    return path


def free_bytes(out: Path) -> int | None:
    """Bytes that are free where ``out`` will lie; ``None`` where nobody knows."""
    try:
        room = os.statvfs(_existing(out))
    except OSError:
        return None
    return room.f_bavail * room.f_frsize
