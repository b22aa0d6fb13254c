"""The digest of all tensors of a checkpoint, as a manifest has it: read through once, then known by the file's mark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from blake3 import blake3

from ..checkpoints.checkpoint import Checkpoint, Tensor
from ..checkpoints.digest import PIECE, model_digest, tensor_digest
from ..checkpoints.fingerprint import file_marks
from ..checkpoints.reader import Reader, open_reader
from ..stages import Numbers
from .findings import FindingCache, tensor_mark

WORDS: Final = 4
"""A digest of 32 bytes is kept as so many numbers."""


def content_digest(checkpoint: Checkpoint, findings: FindingCache) -> str:
    """What ``alloyd_manifest.json`` calls the digest of a model: over every tensor's name and bytes.

    Files whose marks ``findings`` knows are not read.

    Raises
    ------
    SourceChanged
        A file was replaced, truncated, or cannot be read.
    """
    digests: dict[str, str] = {}
    with open_reader(checkpoint, "pread") as reader:
        marks = file_marks(checkpoint)
        for number in range(len(checkpoint.files)):
            tensors = [each for each in checkpoint.tensors.values() if each.file == number]
            key = _key(marks, tensors)
            known = None if key is None else findings.recall(key, WORDS * len(tensors))
            found = None if known is None else _unpacked(known)
            if found is None:
                found = [_digest(reader, each) for each in tensors]
                if key is not None and _key(file_marks(checkpoint), tensors) == key:
                    findings.remember(key, _packed(found))
            digests |= zip((each.name for each in tensors), found, strict=True)
    return model_digest(digests)


def _key(marks: Sequence[bytes | None], tensors: Sequence[Tensor]) -> bytes | None:
    """What the digests of a file's tensors are known by; ``None`` where a file is too young to be known."""
    digest = blake3(b"content\n")
    for each in tensors:
        mark = tensor_mark(marks, each)
        if mark is None:
            return None
        digest.update(mark)
    return digest.digest(16) if tensors else None


def _digest(reader: Reader, tensor: Tensor) -> str:
    buffer = memoryview(bytearray(min(PIECE, tensor.nbytes)))
    pieces = []
    for start in range(0, tensor.nbytes, PIECE):
        stop = min(start + PIECE, tensor.nbytes)
        reader.prefetch(tensor, stop, min(stop + PIECE, tensor.nbytes))
        pieces.append(blake3(reader.view(tensor, start, stop, buffer)).digest())
        reader.release(tensor, start, stop)
    return tensor_digest(pieces)


def _packed(digests: list[str]) -> Numbers:
    return tuple(int(each[at : at + 16], 16) for each in digests for at in range(0, 64, 16))


def _unpacked(numbers: Numbers) -> list[str] | None:
    """The digests that numbers stand for; ``None`` where they are none."""
    if not all(isinstance(each, int) and 0 <= each < 1 << 64 for each in numbers):
        return None
    words = [f"{each:016x}" for each in numbers]
    return ["".join(words[at : at + WORDS]) for at in range(0, len(words), WORDS)]
