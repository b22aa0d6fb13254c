"""Writes one small, fixed output through the sink; run as a program so that a test can kill it.

``python sink_driver.py FINAL FLAVOUR`` with FLAVOUR a comma-separated list of ``force``, ``no-exchange`` (the file
system cannot swap two names), ``mount`` (FINAL counts as a mount point).
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from alloyd_daemon.checkpoints import place, staging
from alloyd_daemon.checkpoints.digest import PIECE, piece_digests
from alloyd_daemon.checkpoints.journal import Block
from alloyd_daemon.checkpoints.safetensors_layout import SafetensorsLayout, lay_out
from alloyd_daemon.checkpoints.sink import StagedSink, already_published

IDENTITY = "recipe, sources and version"
SIDE_FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b'{"version": "1.0"}',
    "additional_chat_templates/tools.jinja": b"{{ messages }}",
}
BLOCK = PIECE


def layout() -> SafetensorsLayout:
    """Three shards: a tensor of several blocks, small ones, an empty one, one of another dtype."""
    tensors = [
        ("big", "BF16", (PIECE + 1000, 1)),
        ("empty", "F32", (0, 7)),
        ("small", "BF16", (1000, 3)),
        ("ids", "I64", (100,)),
        ("last", "U8", (100_000,)),
    ]
    return lay_out(tensors, shard_size=50_000)


def content(slot: int, nbytes: int) -> bytes:
    """The bytes of one output tensor."""
    return random.Random(slot).randbytes(nbytes)


def write_all(sink: StagedSink, done: tuple[Block, ...]) -> int:
    """Write every block that is not in ``done``; the number of blocks written."""
    known = {(block.tensor, block.start) for block in done}
    count = 0
    for number, slot in enumerate(sink.layout.tensors):
        data = memoryview(content(number, slot.nbytes))
        for start in range(0, slot.nbytes, BLOCK):
            part = data[start : start + BLOCK]
            if (number, start) in known:
                continue
            sink.put(Block(number, start, start + len(part), piece_digests(part), facts={"count": 1}), part)
            count += 1
    return count


def run(final: Path, *, force: bool) -> int:
    """The whole job, as a daemon would repeat it after a restart; the number of blocks written."""
    if already_published(final, IDENTITY):
        return 0
    sink = StagedSink(final, layout(), identity=IDENTITY, force=force)
    try:
        count = write_all(sink, sink.open())
        sink.checkpoint()
        sink.publish(SIDE_FILES)
    finally:
        sink.close()
    return count


def make(final: Path, *, identity: str = IDENTITY, force: bool = False) -> StagedSink:
    """A sink for the fixed output."""
    return StagedSink(final, layout(), identity=identity, force=force)


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        each.relative_to(folder).as_posix(): each.read_bytes() for each in folder.rglob("*") if each.is_file()
    }


def publish(final: Path, *, force: bool = False, identity: str = IDENTITY) -> None:
    """Write and publish the fixed output."""
    sink = make(final, force=force, identity=identity)
    write_all(sink, sink.open())
    sink.publish(SIDE_FILES)
    sink.close()


def only(final: Path) -> bool:
    """Whether nothing else lies beside the output."""
    return os.listdir(final.parent) == [final.name]


def expected() -> dict[str, bytes]:
    """Every file of the finished output."""
    plan = layout()
    files = dict(SIDE_FILES)
    if plan.index is not None:
        files["model.safetensors.index.json"] = plan.index
    for number, shard in enumerate(plan.shards):
        data = bytearray(shard.size)
        data[: len(shard.header)] = shard.header
        for position, slot in enumerate(plan.tensors):
            if slot.shard == number:
                data[slot.offset : slot.offset + slot.nbytes] = content(position, slot.nbytes)
        files[shard.filename] = bytes(data)
    return files


def flavour(words: str, final: Path) -> bool:
    """Make the staging code see the world that ``words`` describe; whether to force."""
    if "no-exchange" in words:
        staging.exchange = lambda one, other: False
    if "mount" in words:
        place.is_mount_point = lambda path: path == final
    return "force" in words


if __name__ == "__main__":
    target = Path(sys.argv[1])
    run(target, force=flavour(sys.argv[2], target))
