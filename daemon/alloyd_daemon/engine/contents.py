"""The digest of all tensors of a checkpoint, as a manifest has it: from what is known of its files, else by reading."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Final

from blake3 import blake3
from msgspec import UNSET

from alloyd.errors import AlloydError
from alloyd.jobs import Progress

from ..checkpoints.checkpoint import Checkpoint, Tensor
from ..checkpoints.digest import PIECE, model_digest, tensor_digest
from ..checkpoints.fingerprint import file_marks
from ..checkpoints.manifest import MANIFEST, parse_manifest
from ..checkpoints.reader import Reader, open_reader
from ..checkpoints.small_file import read_small
from ..stages import Numbers
from .findings import FindingCache, tensor_mark

WORDS: Final = 4
"""A digest of 32 bytes is kept as so many numbers."""

log = logging.getLogger("alloyd")


@dataclass(frozen=True, slots=True)
class Content:
    """The ``digest`` of a checkpoint, or ``why_not``; ``declared`` where its manifest says it and nothing was read."""

    digest: str | None = None
    why_not: str = ""
    declared: bool = False


def recall_digest(findings: FindingCache, marks: Sequence[bytes | None], tensor: Tensor) -> str | None:
    """The digest of a tensor of files with these ``marks``, where it is known."""
    if not tensor.nbytes:
        return tensor_digest(())
    key = _key(marks, tensor)
    known = None if key is None else findings.recall(key, WORDS)
    return None if known is None else _unpacked(known)


def lacks_digest(findings: FindingCache, marks: Sequence[bytes | None], tensor: Tensor) -> bool:
    """Whether the digest of a tensor is not known, and can be from now on."""
    return _key(marks, tensor) is not None and recall_digest(findings, marks, tensor) is None


def remember_digest(
    findings: FindingCache, marks: Sequence[bytes | None], tensor: Tensor, digest: str
) -> None:
    """Keep what a tensor was found to hold; the files had these ``marks`` before they were read, and after."""
    key = _key(marks, tensor)
    if key is not None:
        findings.remember(key, _packed(digest))


def known_content(checkpoint: Checkpoint, findings: FindingCache) -> Content:
    """What can be said of a checkpoint without reading its tensors."""
    marks = file_marks(checkpoint)
    found = {name: recall_digest(findings, marks, each) for name, each in checkpoint.tensors.items()}
    digests = {name: digest for name, digest in found.items() if digest is not None}
    if len(digests) == len(found):
        return Content(model_digest(digests))
    declared = _declared(checkpoint)
    if declared is not None:
        return Content(declared, declared=True)
    missing = sum(each.nbytes for name, each in checkpoint.tensors.items() if name not in digests)
    return Content(why_not=f"{missing:,} bytes of it are not read yet")


def read_contents(
    checkpoints: Sequence[Checkpoint], findings: FindingCache, *, seconds: float
) -> Generator[Progress, None, list[Content]]:
    """The content of each checkpoint; what is not known is read piece by piece, for as long as ``seconds`` last.

    Each tensor that was read is known from then on. Closing it loses what was read of one tensor.
    """
    found = [known_content(each, findings) for each in checkpoints]
    waiting = [place for place, each in enumerate(found) if each.digest is None]
    reading = _Reading(findings, time.monotonic() + seconds)
    reading.total = sum(reading.missing(checkpoints[place]) for place in waiting)
    for place in waiting:
        checkpoint = checkpoints[place]
        try:
            found[place] = yield from reading.content(checkpoint)
        except AlloydError as wrong:
            found[place] = Content(why_not=wrong.message)
    return found


class _Reading:
    """What was read, of how much, and until when it may go on."""

    def __init__(self, findings: FindingCache, until: float) -> None:
        self._findings = findings
        self._until = until
        self._buffer = memoryview(bytearray(PIECE))
        self.done = 0
        self.total = 0

    def missing(self, checkpoint: Checkpoint) -> int:
        """Bytes of tensors whose digests are not known."""
        marks = file_marks(checkpoint)
        tensors = checkpoint.tensors.values()
        return sum(each.nbytes for each in tensors if recall_digest(self._findings, marks, each) is None)

    def content(self, checkpoint: Checkpoint) -> Generator[Progress, None, Content]:
        """Read what is missing of a checkpoint. Raises SourceChanged."""
        digests: dict[str, str] = {}
        with open_reader(checkpoint, "pread") as reader:
            marks = file_marks(checkpoint)
            for tensor in checkpoint.tensors.values():
                known = recall_digest(self._findings, marks, tensor)
                if known is None:
                    known = yield from self._digest(reader, tensor, f"digest of {checkpoint.path}")
                    if known is None:
                        return Content(why_not=self._too_long(checkpoint))
                    if (now := file_marks(checkpoint)) == marks:
                        remember_digest(self._findings, now, tensor, known)
                digests[tensor.name] = known
        return Content(model_digest(digests))

    def _digest(self, reader: Reader, tensor: Tensor, what: str) -> Generator[Progress, None, str | None]:
        """The digest of one tensor; ``None`` where the time is over."""
        pieces = []
        for start in range(0, tensor.nbytes, PIECE):
            if time.monotonic() >= self._until:
                return None
            stop = min(start + PIECE, tensor.nbytes)
            reader.prefetch(tensor, stop, min(stop + PIECE, tensor.nbytes))
            pieces.append(blake3(reader.view(tensor, start, stop, self._buffer)).digest())
            reader.release(tensor, start, stop)
            self.done += stop - start
            yield Progress(self.done, self.total, "bytes", what)
        reader.release(tensor, 0, tensor.nbytes)  # as a whole: with it go the factors of an adapter
        return tensor_digest(pieces)

    def _too_long(self, checkpoint: Checkpoint) -> str:
        missing = self.missing(checkpoint)
        return f"{missing:,} bytes of it were not read: that would have taken too long"


def _declared(checkpoint: Checkpoint) -> str | None:
    """The digest that the manifest beside a checkpoint names, if it lists these very tensors and no file is younger."""
    path = checkpoint.folder / MANIFEST
    if checkpoint.adapter is not None:
        return None
    try:
        written = path.stat().st_mtime_ns
        manifest = parse_manifest(read_small(path), file=str(path))
    except FileNotFoundError:
        return None
    except (OSError, AlloydError) as wrong:
        log.warning("the manifest of %s is not believed: %s", checkpoint.path, wrong)
        return None
    told = {name: (each.dtype, each.shape) for name, each in manifest.tensors.items()}
    there = {name: (each.dtype, each.shape) for name, each in checkpoint.tensors.items()}
    younger = any(each.mtime_ns > written for each in checkpoint.prints)
    return None if younger or manifest.stored is not UNSET or told != there else manifest.digest


def _key(marks: Sequence[bytes | None], tensor: Tensor) -> bytes | None:
    """What the digest of a tensor is known by; ``None`` where a file is too young to be known."""
    mark = tensor_mark(marks, tensor)
    return None if mark is None else blake3(b"content\n" + mark).digest(16)


def _packed(digest: str) -> Numbers:
    return tuple(int(digest[at : at + 16], 16) for at in range(0, 64, 16))


def _unpacked(numbers: Numbers) -> str | None:
    """The digest that numbers stand for; ``None`` where they are none."""
    if not all(isinstance(each, int) and 0 <= each < 1 << 64 for each in numbers):
        return None
    return "".join(f"{each:016x}" for each in numbers)
