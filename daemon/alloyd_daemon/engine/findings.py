"""What stages found, looked up before it is measured again: keyed by content, in memory and on disk."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from blake3 import blake3

from ..checkpoints.checkpoint import Tensor
from ..stages import Finding, Numbers, Recall, Stage, Steps
from .finding_store import FindingStore
from .plan import ARITHMETIC

IN_MEMORY: Final = 32_768
"""Findings that are kept in memory: some 8 MB, what a population of candidates asks for."""

T = TypeVar("T")


class FindingCache:
    """Numbers by key; of those in memory the least recently used go first. Every method may be called from any thread.

    ``folder`` keeps them for later jobs in at most ``limit`` bytes; without one they last as long as this object.
    ``contents``: whether those who merge digest whatever they read of a source whose digest is not here.
    """

    def __init__(self, folder: Path | None = None, limit: int = 0, *, contents: bool = False) -> None:
        self.contents = contents
        self._known: OrderedDict[bytes, Numbers] = OrderedDict()
        self._lock = threading.Lock()
        self._store = FindingStore(folder, limit) if folder is not None and limit > 0 else None

    def recall(self, key: bytes, size: int) -> Numbers | None:
        """The ``size`` numbers that are known under ``key``, or ``None``."""
        with self._lock:
            numbers = self._known.get(key)
            if numbers is not None:
                self._known.move_to_end(key)
                return numbers
        numbers = None if self._store is None else self._store.recall(key)
        if numbers is None or len(numbers) != size:
            return None
        self._hold(key, numbers)
        return numbers

    def remember(self, key: bytes, numbers: Numbers) -> None:
        """Keep ``numbers`` under ``key``; what cannot be kept is only measured again."""
        self._hold(key, numbers)
        if self._store is not None:
            self._store.remember(key, numbers)

    def close(self) -> None:
        """Write what is not yet on disk."""
        if self._store is not None:
            self._store.close()

    def __enter__(self) -> FindingCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hold(self, key: bytes, numbers: Numbers) -> None:
        with self._lock:
            self._known[key] = numbers
            self._known.move_to_end(key)
            while len(self._known) > IN_MEMORY:
                self._known.popitem(last=False)


def open_findings(home: Path, limit: int, *, contents: bool = False) -> FindingCache:
    """The cache that the jobs of one home share, in at most ``limit`` bytes; 0 forgets with the job."""
    return FindingCache(home / "cache" / "findings", limit, contents=contents)


def tensor_mark(file_marks: Sequence[bytes | None], tensor: Tensor) -> bytes | None:
    """What a tensor's content is known by: the marks of its files (``checkpoints.fingerprint``), what it is in
    them, and what an adapter does with it."""
    low_rank = tensor.low_rank
    digest = blake3() if low_rank is None else blake3(f"{low_rank.scale!r} {low_rank.transposed}\0".encode())
    for each in tensor.stored:
        mark = file_marks[each.file]
        if mark is None:
            return None
        place = f"{each.name}\0{each.dtype}\0{each.shape}"
        digest.update(mark + place.encode("utf-8", "surrogatepass"))
    return digest.digest()


def answered(
    steps: Steps[T], cache: FindingCache | None, marks: Sequence[bytes | None]
) -> Generator[Stage, Any, T]:
    """``steps`` with every recall answered: from ``cache`` what it knows, by stages what it does not.

    ``marks`` are those of the tensor's sources in recipe order; what depends on one without a mark is never known.
    """
    answer: Any = None
    while True:
        try:
            request = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        if isinstance(request, Recall):
            answer = yield from _recall(request, cache, marks)
        else:
            answer = yield request


def _recall(
    request: Recall, cache: FindingCache | None, marks: Sequence[bytes | None]
) -> Generator[Stage, Any, list[Numbers]]:
    keys = [None if cache is None else _key(each, marks) for each in request.findings]
    known: dict[int, Numbers] = {}
    for place, (key, finding) in enumerate(zip(keys, request.findings, strict=True)):
        numbers = None if cache is None or key is None else cache.recall(key, finding.size)
        if numbers is not None:
            known[place] = numbers
    missing = tuple(place for place in range(len(keys)) if place not in known)
    if missing:
        measured = yield from request.measure(missing)
        for place, numbers in zip(missing, measured, strict=True):
            known[place] = numbers
            key = keys[place]
            if cache is not None and key is not None:
                cache.remember(key, numbers)
    return [known[place] for place in range(len(keys))]


def _key(finding: Finding, marks: Sequence[bytes | None]) -> bytes | None:
    digest = blake3(f"{ARITHMETIC} {finding.kind} {finding.parameters!r}\n".encode())
    for source in finding.sources:
        mark = marks[source]
        if mark is None:
            return None
        digest.update(mark)
    return digest.digest(16)
