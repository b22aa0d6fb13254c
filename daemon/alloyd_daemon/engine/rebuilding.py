"""A manifest as the order to make its output again: read, and compared with that of what was made."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alloyd.errors import DigestMismatch, SourceNotFound

from ..checkpoints.manifest import MANIFEST, Manifest, parse_manifest
from ..checkpoints.small_file import read_small

_SOME: Final = 3


def read_manifest(folder: Path) -> Manifest:
    """The manifest in ``folder``.

    Raises
    ------
    SourceNotFound, DigestMismatch
        There is none, or it is damaged.
    """
    file = folder / MANIFEST
    try:
        return parse_manifest(read_small(file), file=str(file))
    except OSError as wrong:
        raise SourceNotFound(
            f"{file} cannot be read ({wrong.strerror})",
            hint="Only what alloyd made can be rebuilt: its manifest says from what, and how.",
            path=str(file),
        ) from None


def check_same(made: Manifest, wanted: Manifest, where: str) -> None:
    """Raise DigestMismatch unless ``made`` describes the same bytes as ``wanted``, found at ``where``."""
    if made == wanted:
        return
    before = {each.model: each.digest for each in wanted.sources}
    other = [each.model for each in made.sources if before.get(each.model) != each.digest]
    if other:
        names = ", ".join(other[:_SOME]) + (f" and {len(other) - _SOME} more" if len(other) > _SOME else "")
        what, hint = f"{names} is not what it was then", "Bring back the models as they were."
    elif made.arithmetic != wanted.arithmetic:
        what = f"it was made with arithmetic {wanted.arithmetic}, and this program has {made.arithmetic}"
        hint = "Rebuild with the version of alloyd that made it, or merge its recipe anew."
    elif made.digest != wanted.digest:
        what, hint = "the same sources gave other tensors", "Was the recipe in the manifest changed?"
    else:
        files = sorted(name for name in wanted.files if made.files.get(name) != wanted.files[name])
        what = f"its tensors are the same and {', '.join(files[:_SOME]) or 'how they are stored'} is not"
        hint = (
            "Other versions of the libraries that encode it, or other files beside the first model, do that."
        )
    raise DigestMismatch(f"{where} cannot be made again: {what}", hint=hint, path=where)
