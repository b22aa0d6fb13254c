"""A manifest as the order to make its output again: read, and held against what was made and what would go."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from alloyd.errors import DigestMismatch, OutputExists, SourceNotFound

from ..checkpoints.card import CARD
from ..checkpoints.digest import bytes_digest
from ..checkpoints.manifest import MANIFEST, Manifest, parse_manifest
from ..checkpoints.small_file import read_small

_SOME: Final = 3
_WEIGHTS: Final = (".safetensors", ".safetensors.index.json", ".gguf")
_ASKED: Final = {
    "seed": "seed",
    "shard_size": "size of its files",
    "form": "form",
    "sources": "list of sources",
}
"""Fields of a manifest that nothing in the output's bytes contradicts."""


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
    elif made.files == wanted.files and made.tensors == wanted.tensors and made.stored == wanted.stored:
        fields = [told for name, told in _ASKED.items() if getattr(made, name) != getattr(wanted, name)]
        what = f"its bytes are the same, and its manifest names another {' and another '.join(fields) or 'recipe'}"
        hint = "Was the manifest changed? A merge of its recipe writes a new one."
    else:
        files = sorted(name for name in wanted.files if made.files.get(name) != wanted.files[name])
        what = f"its tensors are the same and {', '.join(files[:_SOME]) or 'how they are stored'} is not"
        hint = (
            "Other versions of the libraries that encode it, or other files beside the first model, do that."
        )
    raise DigestMismatch(f"{where} cannot be made again: {what}", hint=hint, path=where)


def check_nothing_lost(folder: Path, manifest: Manifest) -> None:
    """Raise OutputExists where replacing the model in ``folder`` would lose what somebody put or wrote there."""
    try:
        names = sorted(each.name for each in os.scandir(folder) if not each.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return
    for name in names:
        if name == CARD and name in manifest.files:
            lost = bytes_digest(read_small(folder / name)) != manifest.files[name]
            why = "was edited since it was written"
        else:
            lost = name not in manifest.files and name != MANIFEST and not name.endswith(_WEIGHTS)
            why = "is not of its manifest"
        if lost:
            raise OutputExists(
                f"{folder / name} {why}, and would be lost",
                hint="Move it elsewhere and back afterwards; or rebuild into another folder.",
                path=str(folder),
            )
