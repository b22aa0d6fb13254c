"""Writes one small, fixed GGUF through its sink; run as a program so that a test can kill it.

``python gguf_driver.py FINAL FOLDER``, where FOLDER is :func:`model`'s.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import numpy as np

from alloyd.recipe import Form
from alloyd_daemon.checkpoints.digest import PIECE, piece_digests
from alloyd_daemon.checkpoints.journal import Block
from alloyd_daemon.checkpoints.sink import StagedSink, already_published
from alloyd_daemon.output_format import OUTPUT_FORMATS, Model
from checkpoint_factory import SAFETENSORS_CODES, Tensors, read_checkpoint, write_checkpoint
from checkpoint_factory import Model as Shape

IDENTITY = "recipe, sources and version"
SIDE_FILES = {"config.json": b'{"model_type": "llama"}', "README.md": b"# merged\n"}
SHAPE = Shape(layers=1, hidden=256, intermediate=256, vocab=256)
TYPE = "Q4_K_M"


def model(folder: Path) -> Path:
    """A checkpoint whose query and key rows are interleaved in GGUF, and whose tensors are several blocks each."""
    return write_checkpoint(folder, SHAPE)


def importance(path: Path) -> Path:
    """An importance matrix, in the older form, for every matrix of the model but the embedding."""
    names = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    data = struct.pack("<i", len(names) + 1)
    for place, name in enumerate([*(f"blk.0.{each}.weight" for each in names), "output.weight"]):
        weights = np.random.default_rng(place).uniform(0.01, 4, SHAPE.hidden).astype(np.float32)
        data += (
            struct.pack("<i", len(name))
            + name.encode()
            + struct.pack("<ii", 1, len(weights))
            + weights.tobytes()
        )
    path.write_bytes(data)
    return path


def make(
    final: Path, folder: Path, *, force: bool = False, kind: str = TYPE, imatrix: Path | None = None
) -> StagedSink:
    """A sink for the model in ``folder``."""
    weights = read_checkpoint(folder)
    gguf = OUTPUT_FORMATS.get("gguf")
    layout = gguf.lay_out(
        Model(
            tensors=[(name, SAFETENSORS_CODES[each.dtype], each.shape) for name, each in weights.items()],
            config=json.loads((folder / "config.json").read_text()),
            folder=folder,
            title="",
            form=Form("gguf", kind, None if imatrix is None else str(imatrix)),
            base_dir=folder,
            shard_size=PIECE,
        )
    )
    return gguf.sink(final, layout, identity=IDENTITY, force=force)


def blocks(sink: StagedSink, weights: Tensors, units: int) -> list[tuple[Block, memoryview]]:
    """Every tensor in blocks of ``units`` times the fewest elements that a block can have."""
    found = []
    for number, (tensor, values) in enumerate(zip(sink.layout.tensors, weights.values(), strict=True)):
        data = memoryview(values.tobytes())
        step = units * sink.layout.unit(number) * values.itemsize
        for start in range(0, tensor.nbytes, step):
            part = data[start : start + step]
            found.append((Block(number, start, start + len(part), piece_digests(part)), part))
    return found


def run(final: Path, folder: Path, *, force: bool = False, units: int = 64) -> int:
    """The whole job, as a daemon would repeat it after a restart; the number of blocks written."""
    if already_published(final, IDENTITY):
        return 0
    sink = make(final, folder, force=force)
    try:
        known = {(block.tensor, block.start) for block in sink.open()}
        todo = blocks(sink, read_checkpoint(folder), units)
        todo = [each for each in todo if (each[0].tensor, each[0].start) not in known]
        for block, data in todo:
            sink.put(block, data)
        sink.checkpoint()
        sink.publish(SIDE_FILES)
    finally:
        sink.close()
    return len(todo)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
