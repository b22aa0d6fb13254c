"""The manifest of an output: what it was made of and a digest of everything in it; no dates, hosts or paths.

Every byte of it follows from recipe, sources and version, as every other byte of the output does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from alloyd.errors import DigestMismatch

from .digest import PIECE, bytes_digest, model_digest
from .layout import OutputLayout

MANIFEST: Final = "alloyd_manifest.json"
VERSION: Final = 1


class TensorEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One output tensor: dtype code, shape, ``tensor_digest`` of its bytes."""

    dtype: str
    shape: tuple[int, ...]
    digest: str


class SourceEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model as the recipe names it, and the digest over the tensors that were read of it."""

    model: str
    digest: str
    tensors: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it: ``files`` has the BLAKE3 of every other file, ``digest`` is over all tensors; ``piece`` in bytes."""

    recipe: str
    seed: int
    arithmetic: str
    digest: str
    sources: tuple[SourceEntry, ...]
    files: dict[str, str]
    tensors: dict[str, TensorEntry]
    piece: int = PIECE
    version: int = VERSION


def render_manifest(
    *,
    recipe: str,
    seed: int,
    arithmetic: str,
    layout: OutputLayout,
    digests: Mapping[str, str],
    sources: Sequence[SourceEntry],
    side_files: Mapping[str, bytes],
) -> bytes:
    """The bytes of ``alloyd_manifest.json``.

    Parameters
    ----------
    recipe:
        The recipe's text, verbatim.
    arithmetic:
        The version of the arithmetic; outputs of one recipe may differ between two of these, never within
        one.
    layout:
        The output's layout, for dtypes, shapes and the index.
    digests:
        Tensor name to ``tensor_digest``.
    sources:
        In recipe order.
    side_files:
        Every other file that is published (config.json, tokenizer, card, recipe), name to bytes.
    """
    files = {name: bytes_digest(side_files[name]) for name in sorted(side_files) if name != MANIFEST}
    manifest = Manifest(
        recipe=recipe,
        seed=seed,
        arithmetic=arithmetic,
        digest=model_digest(digests),
        sources=tuple(sources),
        files=files,
        tensors={
            slot.name: TensorEntry(slot.dtype, slot.shape, digests[slot.name]) for slot in layout.tensors
        },
    )
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def parse_manifest(data: bytes, *, file: str) -> Manifest:
    """Read a manifest.

    Raises
    ------
    DigestMismatch
        It is damaged, of another version, or its own digest disagrees with its tensors.
    """
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, RecursionError) as wrong:
        raise DigestMismatch(f"{file} is damaged ({wrong})", hint="Merge again.", file=file) from None
    if manifest.version != VERSION or manifest.piece != PIECE:
        raise DigestMismatch(
            f"{file} is of version {manifest.version} with pieces of {manifest.piece} bytes, and this program reads"
            f" version {VERSION} with {PIECE}",
            hint="Verify with the version of alloyd that wrote it.",
            file=file,
        )
    if model_digest({name: each.digest for name, each in manifest.tensors.items()}) != manifest.digest:
        raise DigestMismatch(f"{file} contradicts itself: its tensors do not give its digest", file=file)
    return manifest
