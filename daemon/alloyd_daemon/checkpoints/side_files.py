"""The small files of an output: which names they may have, in what order they appear, how they are staged."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from alloyd.errors import OutputError

from ..faults import reach
from .durable import sync_folder, write_file
from .place import STATE


def in_order(
    shards: Sequence[str], sides: Mapping[str, bytes], last: Iterable[str], final: Path
) -> tuple[str, ...]:
    """Every file of an output at ``final`` in the order they appear: those of ``last`` come last.

    Raises
    ------
    OutputError
        A name that is a shard's, leads out of the folder, or is hidden.
    """
    for name in sides:
        parts = PurePosixPath(name).parts
        if (
            name in shards
            or not parts
            or len(parts) > 2
            or parts[0].startswith(".")
            or ".." in parts
            or "/" in parts
        ):
            raise OutputError(f"'{name}' cannot be the name of a side file", path=str(final))
    late = [name for name in last if name in sides]
    return (*shards, *sorted(set(sides) - set(late)), *dict.fromkeys(late))


def write_sides(folder: Path, sides: Mapping[str, bytes]) -> None:
    """Write the files and force them, and the folders they lie in, to disk."""
    for name, data in sides.items():
        path = folder / name
        if path.parent != folder:
            path.parent.mkdir(exist_ok=True)
        write_file(path, data)
        reach("after-fsync-side-file")
    for within in {(folder / name).parent for name in sides} - {folder}:
        sync_folder(within)


def remove_strangers(folder: Path, files: Iterable[str]) -> None:
    """Remove what an earlier run left in ``folder`` and this one does not have; the staging state stays."""
    wanted = {PurePosixPath(name).parts[0] for name in files} | {STATE}
    for each in folder.iterdir():
        if each.name not in wanted:
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            else:
                each.unlink()
