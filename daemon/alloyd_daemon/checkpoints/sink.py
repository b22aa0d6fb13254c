"""Where merged blocks go: a staged, journalled, atomically published folder of weights and side files.

Lifetime of a sink: ``open``, many ``put`` from any thread, ``publish``, ``close``. After ``close`` without ``publish``
the next sink of the same identity goes on where this one stopped. This one stores the blocks as they are; a sink that
encodes them overrides ``put``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from blake3 import blake3

from alloyd.errors import DiskFull, OutputError, OutputExists

from ..checkpoints import staging
from .digest import PIECE
from .journal import Block, Journal, Owner, read_journal, start_journal
from .layout import Layout, Run, size_of_output
from .side_files import in_order, remove_strangers, write_sides
from .staged_files import StagedFiles
from .staging import already_published, check_output, discard_staging

__all__ = ["StagedSink", "already_published", "check_output", "discard_staging"]

_LEAST_SIDE: Final = 1024 * 1024


class StagedSink:
    """An output under construction.

    Parameters
    ----------
    final:
        The folder that will appear, whole, by :meth:`publish`.
    layout:
        Every byte's place.
    identity:
        What the output follows from (recipe, sources, version), as text. A staging folder of another identity
        is thrown away; one of this identity is continued.
    force:
        Replace a model that is already at ``final``.
    expected_side_bytes:
        Bytes of the side files, for the check of free space.
    """

    def __init__(
        self, final: Path, layout: Layout, *, identity: str, force: bool, expected_side_bytes: int = 0
    ) -> None:
        self.place = staging.Place.of(final)
        self.layout = layout
        self.identity = identity
        self.force = force
        self.files = StagedFiles(self.place.staging, layout.shards)
        self._side_bytes = expected_side_bytes
        self._owner = Owner(identity, _layout_digest(layout))
        self._lock: int | None = None
        self._journal: Journal | None = None
        self._recorded: list[dict[int, Block]] = [{} for _ in layout.tensors]
        self._recording = threading.Lock()
        self._published = False

    def open(self) -> tuple[Block, ...]:
        """Create or adopt the staging folder, reserve the room, and return the blocks that are already there.

        A journalled block is returned only if its bytes on disk still have their digests. Blocks come sorted
        and never overlap.

        Raises
        ------
        OutputExists
            ``final`` is taken; ``facts['published']`` is true when it holds this very output already.
        DiskFull
            The output does not fit.
        OutputError
            It cannot be written, or another process is writing it.
        """
        if already_published(self.place.final, self.identity):
            raise self._done_already()
        self._check_output()
        with staging.errors_of(self.place.final):
            self._lock = staging.enter(self.place, self.identity, force=self.force)
        if self._lock is None:
            raise self._done_already()
        fresh = False
        try:
            with staging.errors_of(self.place.staging):
                self._check_output()
                adopted = self._adopt()
                if adopted is None:
                    fresh = True
                    remove_strangers(self.place.staging, ())
                    remove_strangers(self.place.state, ("lock",))
                self._check_room()
                self.files.reserve()
                blocks = self._verified(adopted or ())
                for block in blocks:
                    self._recorded[block.tensor][block.start] = block
                self._journal = start_journal(self.place.state / "journal", self._owner, blocks)
                staging.sync_folder(self.place.state)
        except BaseException:
            if fresh:
                self.discard()
            else:
                self.close()
            raise
        return blocks

    def put(self, block: Block, data: memoryview) -> None:
        """Store a block, whose merged bytes are ``data``, and journal it; safe from many threads, copies nothing.

        Raises
        ------
        DiskFull, OutputError
            The operating system refuses.
        ValueError
            The block is not inside its tensor.
        """
        begin = 0
        for run in self.layout.runs(block.tensor, block.start, block.stop):
            self.files.write(run.shard, run.offset, data[begin : begin + run.size])
            begin += run.size
        self.record(block)

    def record(self, block: Block) -> None:
        """Journal a block whose bytes were written; safe from many threads.

        Raises
        ------
        DiskFull, OutputError
            The operating system refuses.
        """
        with staging.errors_of(self.place.staging):
            self._open_journal().append(block)
        with self._recording:
            self._recorded[block.tensor][block.start] = block

    def checkpoint(self) -> None:
        """Force all that was written and recorded to disk.

        Raises
        ------
        DiskFull, OutputError
            The operating system refuses.
        """
        with staging.errors_of(self.place.staging):
            self.files.sync()
            self._open_journal().sync()

    def stored(self) -> Iterator[tuple[Run, bytes]]:
        """Every run of the files that a recorded block or the layout filled, with its digest, in no order."""
        for number, shard in enumerate(self.layout.shards):
            for offset, data in shard.constants:
                yield Run(number, offset, len(data)), blake3(data).digest()
        for blocks in self._recorded:
            for block in blocks.values():
                runs = self.layout.runs(block.tensor, block.start, block.stop)
                yield from zip(runs, self._digests(block), strict=True)

    def publish(self, side_files: Mapping[str, bytes], last: Sequence[str] = ("config.json",)) -> None:
        """Write the side files, force everything to disk, and let the output appear at ``final``.

        Names in ``last`` (and what belongs to the weights, before them) appear after everything else where files
        appear one by one.

        Raises
        ------
        OutputError
            A tensor whose blocks were not all recorded, a side file that takes a shard's name, or the
            operating system refuses.
        OutputExists
            Something came to be at ``final`` meanwhile.
        """
        if self._published:
            return
        self._check_complete()
        sides = dict(side_files) | dict(self.layout.sides)
        files = in_order(
            [shard.filename for shard in self.layout.shards],
            sides,
            (*self.layout.sides, *last),
            self.place.final,
        )
        with staging.errors_of(self.place.staging):
            self.files.sync()
            remove_strangers(self.place.staging, files)
            write_sides(self.place.staging, sides)
        self._close_files()
        with staging.errors_of(self.place.final):
            sealed = staging.Sealed(self.identity, files, self.force)
            staging.seal(self.place, sealed)
            staging.finish(self.place, sealed)
        self._published = True
        self._unlock()

    def close(self) -> None:
        """Let go of files and lock; without :meth:`publish` the staging folder stays for the next sink."""
        self._close_files()
        self._unlock()

    def discard(self) -> None:
        """Remove the staging folder, also one that an earlier process left; a published output stays.

        Raises
        ------
        OutputError
            Another process is writing it.
        """
        self._close_files()
        if self._published or (self._lock is None and not self.place.staging.exists()):
            return
        with staging.errors_of(self.place.staging):
            if self._lock is None:
                self._lock = staging.acquire(self.place)
            staging.discard(self.place)
        self._unlock()

    def _check_output(self) -> None:
        try:
            check_output(self.place.final, self.force)
        except OutputExists:
            # Another process may have published this very output since it was asked for.
            if staging.published_as(self.place) == self.identity:
                raise self._done_already() from None
            raise

    def _done_already(self) -> OutputExists:
        path = str(self.place.final)
        return OutputExists(f"{path} holds this output already", path=path, published=True)

    def _adopt(self) -> tuple[Block, ...] | None:
        """The journal's blocks if the staging folder is this output's, else ``None``."""
        owner, blocks = read_journal(self.place.state / "journal")
        if owner != self._owner:
            return None
        return blocks if self.files.begun else None

    def _check_room(self) -> None:
        need = size_of_output(self.layout) + max(self._side_bytes, _LEAST_SIDE) - self.files.held
        room = os.statvfs(self.place.staging)
        free = room.f_bavail * room.f_frsize
        if need > free:
            raise DiskFull(
                f"the output {self.place.final} needs {need:,} bytes; its file system has {free:,} free",
                hint="Free some space or choose another output.",
                path=str(self.place.final),
                need=need,
                free=free,
            )

    def _verified(self, blocks: Iterable[Block]) -> tuple[Block, ...]:
        """The blocks whose bytes are on disk; of blocks that overlap, the one recorded last."""
        good: list[Block] = []
        taken: dict[int, list[tuple[int, int]]] = {}
        buffer = memoryview(bytearray(PIECE))
        for block in reversed(tuple(blocks)):
            spans = taken.setdefault(block.tensor, [])
            if any(block.start < stop and start < block.stop for start, stop in spans):
                continue
            if self._on_disk(block, buffer):
                spans.append((block.start, block.stop))
                good.append(block)
        return tuple(sorted(good, key=lambda each: (each.tensor, each.start)))

    def _on_disk(self, block: Block, buffer: memoryview) -> bool:
        if not 0 <= block.tensor < len(self.layout.tensors) or block.stop <= block.start:
            return False
        size = block.stop - block.start
        if len(block.pieces) != -(-size // PIECE):
            return False
        try:
            runs = tuple(self.layout.runs(block.tensor, block.start, block.stop))
        except ValueError:
            return False
        return self.files.holds(runs, self._digests(block), buffer)

    def _digests(self, block: Block) -> tuple[bytes, ...]:
        return block.stored if self.layout.encodes else block.pieces

    def _check_complete(self) -> None:
        for tensor, blocks in zip(self.layout.tensors, self._recorded, strict=True):
            done = sum(block.stop - block.start for block in blocks.values())
            if done != tensor.nbytes:
                raise OutputError(
                    f"tensor '{tensor.name}' is not complete: {done} of {tensor.nbytes} bytes were recorded",
                    path=str(self.place.final),
                    tensor=tensor.name,
                )

    def _open_journal(self) -> Journal:
        if self._journal is None:
            raise ValueError("the sink is not open")
        return self._journal

    def _close_files(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        self.files.close()

    def _unlock(self) -> None:
        if self._lock is not None:
            staging.release(self.place, self._lock)
            self._lock = None


def _layout_digest(layout: Layout) -> str:
    digest = blake3(f"{layout.identity}\n".encode())
    for shard in layout.shards:
        digest.update(f"{shard.filename} {shard.size}\n".encode())
        digest.update(shard.header)
        for offset, data in shard.constants:
            digest.update(f"{offset} {len(data)}\n".encode())
            digest.update(data)
    return digest.hexdigest()
