"""The job `rebuild`: make an output again from its manifest, and publish it only if every digest is the same."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Sequence
from pathlib import Path

from msgspec import UNSET, structs

from alloyd.errors import AlloydError, DigestMismatch, OutputExists, Problems, SourceError, UsageError
from alloyd.jobs import SHARD_SIZE, Finished, MergeSpec, Note, RebuildSpec, Report
from alloyd.recipe_schema import Form

from ..checkpoints.manifest import MANIFEST, Manifest
from ..checkpoints.staging import Place, discard_staging
from ..checkpoints.verify import verify
from ..engine.document import discard_documents, make_all
from ..engine.rebuilding import check_nothing_lost, check_same, read_manifest
from ..job import JOBS, Context, JobKind


def run(spec: RebuildSpec, context: Context) -> Generator[Report, None, None]:
    """Rebuild; the result is that of a merge. Where the output is there, whole, nothing is done.

    Raises
    ------
    SourceNotFound
        There is no manifest.
    DigestMismatch
        The manifest is damaged; or what was made is not what it describes, naming the sources that are not the same.
    OutputExists
        Something in the folder is somebody's own, and would be lost.
    """
    wanted = read_manifest(Path(spec.path))
    if os.path.realpath(spec.out) == os.path.realpath(spec.path) and (yield from _whole(Path(spec.path))):
        yield Note("info", f"{spec.path} is whole; nothing was written")
        yield Finished({"out": spec.out, "bytes_written": 0, "seconds": 0.0, "already_there": True})
        return
    merging = _merge_of(spec, wanted)
    if merging.force:
        check_nothing_lost(Path(spec.path), wanted)

    parts: list[Path] = []  # those that were not there before

    def accept(out: Path, made: Manifest) -> None:
        last = os.path.realpath(out) == os.path.realpath(spec.out)
        if last:
            check_same(made, wanted, spec.path)
        elif made == wanted:
            raise UsageError(
                f"{spec.path} is a part of a larger recipe, of which it cannot be made again alone",
                hint="Rebuild the output of that recipe, which makes its parts again too; or merge the recipe anew.",
            )
        elif merging.force and (out / MANIFEST).exists():
            before = read_manifest(out)
            check_same(made, before, str(out))
            check_nothing_lost(out, before)
        if not last and not os.path.lexists(out):
            parts.append(out)

    try:
        result = yield from make_all(merging, home=context.home, settings=context.settings, accept=accept)
    except (DigestMismatch, OutputExists, UsageError, Problems) as refused:
        _take_away(parts, Path(spec.out))
        if not merging.force:
            _tell_what_helps(refused)
        raise
    yield Finished(result)


def _take_away(parts: Sequence[Path], out: Path) -> None:
    """Remove ``parts``, which are good for nothing without ``out``, and their folder if nothing else is in it."""
    for part in parts:
        if part.exists():
            os.rename(part, Place.of(part).staging)  # nobody sees half of it where it stood
            discard_staging(part)
    with contextlib.suppress(OSError):
        out.with_name(f"{out.name}.parts").rmdir()


def _tell_what_helps(refused: AlloydError) -> None:
    """A rebuild has no --force, which an output that is there is refused with."""
    for each in refused.problems if isinstance(refused, Problems) else (refused,):
        if isinstance(each, OutputExists):
            each.hint = (
                "Choose another output; or leave OUT out, and the model is made again in its own folder."
            )


def _whole(folder: Path) -> Generator[Report, None, bool]:
    """Whether the output is there and is what its manifest says."""
    try:
        yield from verify(folder)
    except SourceError:
        return False
    return True


def _merge_of(spec: RebuildSpec, wanted: Manifest) -> MergeSpec:
    form = None if wanted.form is UNSET else wanted.form
    weighted = wanted.stored is not UNSET and "imatrix" in wanted.stored.form
    if weighted and spec.imatrix is None:
        raise UsageError(
            f"{spec.path} was quantised with an importance matrix, which its manifest knows by its digest only",
            hint="Say --imatrix FILE.",
        )
    if spec.imatrix is not None:
        form = structs.replace(form or Form(), imatrix=spec.imatrix)
    return MergeSpec(
        recipe=wanted.recipe,
        base_dir=spec.base_dir,
        out=spec.out,
        memory=spec.memory,
        threads=spec.threads,
        shard_size=SHARD_SIZE if wanted.shard_size is UNSET else wanted.shard_size,
        reader=spec.reader,
        lenient=True,
        force=os.path.realpath(spec.out) == os.path.realpath(spec.path),
        form=form,
    )


def discard(spec: RebuildSpec, _: Context) -> None:
    """Remove what a cancelled rebuild staged."""
    discard_documents(Path(spec.out), read_manifest(Path(spec.path)).recipe, lenient=True)


JOBS.register("rebuild", JobKind(spec=RebuildSpec, run=run, discard=discard))
