"""Read a checkpoint again, every byte, and compare it with its manifest."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from blake3 import blake3
from msgspec import UNSET

from alloyd.errors import DigestMismatch, SourceError
from alloyd.jobs import Progress

from ..gguf.checkpoint import is_gguf, open_gguf
from .checkpoint import Checkpoint, Tensor, open_checkpoint
from .digest import PIECE, bytes_digest, tensor_digest
from .manifest import MANIFEST, Manifest, StoredEntry, TensorEntry, parse_manifest
from .reader import open_reader
from .small_file import read_small

_SOME: Final = 5


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found right: with a manifest everything it lists, without one headers and index only."""

    path: Path
    manifest: bool
    tensors: int
    files: int
    bytes_read: int
    digest: str | None


def verify(path: Path) -> Generator[Progress, None, Verified]:
    """Check the checkpoint at ``path``; yields progress in bytes and returns what was found right.

    Headers, index and config are always checked. If there is an ``alloyd_manifest.json``, every tensor's
    dtype, shape and bytes and every other file it lists are compared with it, and a tensor it does not list
    is a mismatch. Of a quantised output it is the stored tensors that are compared, and the headers.

    Raises
    ------
    DigestMismatch
        Naming up to five tensors or files that differ, are missing, or are not listed.
    SourceError
        The checkpoint cannot be opened or read.
    """
    checkpoint = open_gguf(path) if is_gguf(path) else open_checkpoint(path)
    try:
        data = read_small(checkpoint.folder / MANIFEST)
    except FileNotFoundError:
        return Verified(checkpoint.path, False, len(checkpoint.tensors), len(checkpoint.files), 0, None)
    except OSError as wrong:
        raise SourceError(
            f"{checkpoint.folder / MANIFEST} cannot be read ({wrong.strerror})",
            hint="Check its rights, and that it is a file.",
        ) from None
    manifest = parse_manifest(data, file=str(checkpoint.folder / MANIFEST))
    wrong_files = _differing_files(checkpoint.folder, manifest) + _differing_headers(checkpoint, manifest)
    different = yield from _differing_tensors(checkpoint, manifest)
    if wrong_files or different:
        raise _mismatch(checkpoint, different, wrong_files)
    return Verified(
        checkpoint.path,
        True,
        len(checkpoint.tensors),
        len(checkpoint.files) + len(manifest.files),
        checkpoint.nbytes,
        manifest.digest,
    )


def _differing_files(folder: Path, manifest: Manifest) -> list[str]:
    found = []
    for name, digest in manifest.files.items():
        try:
            inside = not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
            same = inside and bytes_digest(read_small(folder / name)) == digest
        except (OSError, ValueError):
            same = False
        if not same:
            found.append(name)
    return found


def _differing_headers(checkpoint: Checkpoint, manifest: Manifest) -> list[str]:
    """Files of which what stands before the first tensor is not what the manifest says."""
    if manifest.stored is UNSET:
        return []
    files = {path.name: (number, path) for number, path in enumerate(checkpoint.files)}
    found = []
    for name, digest in manifest.stored.headers.items():
        if name not in files:
            found.append(name)
            continue
        number, path = files[name]
        starts = [each.offset for each in checkpoint.tensors.values() if each.file == number]
        try:
            with path.open("rb") as file:
                if bytes_digest(file.read(min(starts) if starts else -1)) != digest:
                    found.append(f"the header of {name}")
        except OSError:
            found.append(name)
    return found


def _differing_tensors(checkpoint: Checkpoint, manifest: Manifest) -> Generator[Progress, None, list[str]]:
    expected: Mapping[str, StoredEntry | TensorEntry] = (
        manifest.tensors if manifest.stored is UNSET else manifest.stored.tensors
    )
    different = [name for name in expected if name not in checkpoint.tensors]
    total, done = checkpoint.nbytes, 0
    buffer = memoryview(bytearray(PIECE))
    with open_reader(checkpoint, "pread") as reader:
        for tensor in checkpoint.tensors.values():
            known = expected.get(tensor.name)
            runs = _runs(known, tensor)
            digests: list[bytes] = []
            start = 0
            for size, count in runs or ():
                for _ in range(count):
                    digest = blake3()
                    for at in range(start, start + size, PIECE):
                        stop = min(at + PIECE, start + size)
                        reader.prefetch(tensor, stop, min(stop + PIECE, tensor.nbytes))
                        digest.update(reader.view(tensor, at, stop, buffer))
                        reader.release(tensor, at, stop)
                        done += stop - at
                        yield Progress(done=done, total=total, what=tensor.name)
                    digests.append(digest.digest())
                    start += size
            right = known is not None and (known.dtype, known.shape) == (tensor.dtype, tensor.shape)
            if known is None or not right or runs is None or tensor_digest(digests) != known.digest:
                different.append(tensor.name)
    return different


def _runs(entry: StoredEntry | TensorEntry | None, tensor: Tensor) -> tuple[tuple[int, int], ...] | None:
    """(bytes, how many) of the runs that a digest is over; ``None`` when they are not the tensor's bytes."""
    if isinstance(entry, StoredEntry) and entry.runs is not UNSET:
        whole = sum(size * count for size, count in entry.runs)
        sane = all(size > 0 and count > 0 for size, count in entry.runs)
        return entry.runs if sane and whole == tensor.nbytes else None
    whole, rest = divmod(tensor.nbytes, PIECE)
    return ((PIECE, whole), *(((rest, 1),) if rest else ()))


def _mismatch(checkpoint: Checkpoint, tensors: list[str], files: list[str]) -> DigestMismatch:
    names = [f"tensor '{name}'" for name in tensors] + files
    some = ", ".join(names[:_SOME]) + (f" and {len(names) - _SOME} more" if len(names) > _SOME else "")
    return DigestMismatch(
        f"{checkpoint.folder} differs from its manifest: {some}",
        hint="It was changed or damaged after it was merged; merge again or copy it again.",
        path=str(checkpoint.folder),
        tensor=tensors[0] if tensors else None,
        count=len(names),
    )
