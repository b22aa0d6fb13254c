"""Content digests: BLAKE3 of fixed 4 MiB pieces, then of their list; for sources, output and verifying alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from blake3 import blake3

PIECE: Final = 4 * 1024 * 1024


def piece_digests(data: memoryview | bytes) -> tuple[bytes, ...]:
    """The BLAKE3-256 of each 4 MiB piece of ``data`` (contiguous bytes); the last piece may be short.

    Blocks that start at multiples of 4 MiB of one tensor give, joined in order, the pieces of the whole
    tensor.
    """
    view = memoryview(data)
    return tuple(blake3(view[start : start + PIECE]).digest() for start in range(0, len(view), PIECE))


class PieceDigests:
    """The same of bytes that come one part after the other: a part that was just computed with is still in a cache."""

    def __init__(self) -> None:
        self._open = blake3()
        self._length = 0
        self._done: list[bytes] = []

    def add(self, data: memoryview) -> None:
        """Take the next bytes (contiguous)."""
        while data:
            part = data[: PIECE - self._length]
            self._open.update(part)
            self._length += len(part)
            data = data[len(part) :]
            if self._length == PIECE:
                self._close()

    def finish(self) -> tuple[bytes, ...]:
        """The digests, once all bytes have come."""
        if self._length:
            self._close()
        return tuple(self._done)

    def _close(self) -> None:
        self._done.append(self._open.digest())
        self._open = blake3()
        self._length = 0


def tensor_digest(pieces: Iterable[bytes]) -> str:
    """The digest of a whole tensor: BLAKE3 (hex) of its piece digests, joined in order."""
    return blake3(b"".join(pieces)).hexdigest()


def model_digest(tensors: Mapping[str, str]) -> str:
    """The digest of many tensors: BLAKE3 (hex) of "digest, space, name, newline" for each, sorted by name."""
    lines = "".join(f"{tensors[name]} {name}\n" for name in sorted(tensors))
    return blake3(lines.encode("utf-8")).hexdigest()


def bytes_digest(data: bytes) -> str:
    """BLAKE3 (hex) of the bytes of a small file."""
    return blake3(data).hexdigest()
