"""The manifest of an output: what it was made of and a digest of everything in it; no dates, hosts or paths.

Every byte of it follows from recipe, sources and version, as every other byte of the output does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final

import msgspec
from msgspec import structs

from alloyd.errors import DigestMismatch
from alloyd.jobs import SHARD_SIZE
from alloyd.recipe_schema import Form

from .digest import PIECE, bytes_digest, model_digest, tensor_digest
from .layout import Layout, Run

MANIFEST: Final = "alloyd_manifest.json"
VERSION: Final = 1


class TensorEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One output tensor: dtype code, shape, ``tensor_digest`` of its bytes."""

    dtype: str
    shape: tuple[int, ...]
    digest: str


class StoredEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor as a file holds it, in the dtype codes of that file's format.

    ``digest`` is over runs of consecutive bytes as ``tensor_digest`` is over pieces; ``runs`` has (bytes of a run, how
    many of them follow each other). Without runs they are pieces.
    """

    dtype: str
    shape: tuple[int, ...]
    digest: str
    runs: tuple[tuple[int, int], ...] | msgspec.UnsetType = msgspec.UNSET


class Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the files hold where it is not the merged tensors as they are.

    ``form`` says what the encoding follows from besides the tensors; ``headers`` has the BLAKE3 of what stands before
    the first tensor of each file whose header no index or config repeats.
    """

    form: str
    headers: dict[str, str]
    tensors: dict[str, StoredEntry]


class SourceEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model as the recipe names it, and the digest over the tensors that were read of it."""

    model: str
    digest: str
    tensors: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it: ``files`` has the BLAKE3 of every other file, ``digest`` is over all tensors; ``piece`` in bytes.

    ``tensors`` are the merged ones; ``stored`` is there where the files hold them in another form. ``form`` and
    ``shard_size`` are what was asked for beside the recipe, where that was not the default; an importance matrix is
    known by its digest in ``stored.form``, not by its path.
    """

    recipe: str
    seed: int
    arithmetic: str
    digest: str
    sources: tuple[SourceEntry, ...]
    files: dict[str, str]
    tensors: dict[str, TensorEntry]
    piece: int = PIECE
    version: int = VERSION
    stored: Stored | msgspec.UnsetType = msgspec.UNSET
    form: Form | msgspec.UnsetType = msgspec.UNSET
    shard_size: int | msgspec.UnsetType = msgspec.UNSET


class _Written(msgspec.Struct, frozen=True):
    """What says how the rest is to be read; another version may have other fields."""

    piece: int = PIECE
    version: int = VERSION


def render_manifest(
    *,
    recipe: str,
    seed: int,
    arithmetic: str,
    layout: Layout,
    digests: Mapping[str, str],
    stored: Iterable[tuple[Run, bytes]] = (),
    sources: Sequence[SourceEntry],
    side_files: Mapping[str, bytes],
    form: Form | None = None,
    shard_size: int = SHARD_SIZE,
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
    stored:
        For a layout that encodes, every run of its files with its digest.
    sources:
        In recipe order.
    side_files:
        Every other file that is published (config.json, tokenizer, card, recipe), name to bytes.
    form, shard_size:
        What the output was asked to be stored as, and the most bytes of one of its files.
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
            each.name: TensorEntry(each.dtype, each.shape, digests[each.name]) for each in layout.tensors
        },
        stored=_stored(layout, stored) if layout.encodes else msgspec.UNSET,
        form=structs.replace(form, imatrix=None) if form not in (None, Form()) else msgspec.UNSET,
        shard_size=shard_size if shard_size != SHARD_SIZE else msgspec.UNSET,
    )
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def _stored(layout: Layout, found: Iterable[tuple[Run, bytes]]) -> Stored:
    """The entries of all slots; every byte of each is covered by exactly one run.

    Raises
    ------
    ValueError
        It is not: a fault of the layout.
    """
    by_place = {(run.shard, run.offset): (run.size, digest) for run, digest in found}
    entries = {}
    for slot in layout.slots:
        at, digests, runs = slot.offset, [], []
        while at < slot.offset + slot.nbytes:
            if (slot.shard, at) not in by_place:
                raise ValueError(f"byte {at} of '{slot.name}' was not stored")
            size, digest = by_place.pop((slot.shard, at))
            at += size
            digests.append(digest)
            runs.append(size)
        pieces = all(size == PIECE for size in runs[:-1]) and all(size <= PIECE for size in runs[-1:])
        entries[slot.name] = StoredEntry(
            slot.dtype, slot.shape, tensor_digest(digests), msgspec.UNSET if pieces else _counted(runs)
        )
    headers = {shard.filename: bytes_digest(shard.header) for shard in layout.shards}
    return Stored(layout.identity, headers, entries)


def _counted(sizes: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Each size with how many of it follow each other."""
    return tuple((size, len(list(group))) for size, group in groupby(sizes))


def parse_manifest(data: bytes, *, file: str) -> Manifest:
    """Read a manifest.

    Raises
    ------
    DigestMismatch
        It is damaged, of another version, or its own digest disagrees with its tensors.
    """
    try:
        written = msgspec.json.decode(data, type=_Written)
        if (written.version, written.piece) != (VERSION, PIECE):
            raise DigestMismatch(
                f"{file} is of version {written.version} with pieces of {written.piece} bytes, and this program"
                f" reads version {VERSION} with {PIECE}",
                hint="Use the version of alloyd that wrote it.",
                file=file,
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as wrong:
        raise DigestMismatch(f"{file} is damaged ({wrong})", hint="Merge again.", file=file) from None
    if model_digest({name: each.digest for name, each in manifest.tensors.items()}) != manifest.digest:
        raise DigestMismatch(
            f"{file} contradicts itself: its tensors do not give its digest", hint="Merge again.", file=file
        )
    return manifest
