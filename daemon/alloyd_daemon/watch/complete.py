"""Whether a model's folder is complete, asked of its headers, index and configs; and what names its content."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

from alloyd.errors import AlloydError, HeaderError, Problems

from ..checkpoints.checkpoint import Checkpoint, Tensor, open_checkpoint
from ..checkpoints.safetensors_layout import SINGLE
from ..checkpoints.small_file import read_small

ADAPTER: Final = "adapter_model.safetensors"
CONFIG: Final = "config.json"
ADAPTER_CONFIG: Final = "adapter_config.json"
LARGEST_JSON: Final = 256 << 20
CURED_BY_GROWTH: Final = ("too-short", "length-beyond-file", "truncated", "missing-shard")
"""Lies of headers that a file which is still being copied tells."""
SMALL: Final = 64 << 10
SAMPLE: Final = 4 << 10
STRIDE: Final = 16 << 20


class Incomplete(Exception):
    """What a model lacks; ``hopeless`` if no byte that is added to its files can cure it."""

    def __init__(self, why: str, *, hopeless: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.hopeless = hopeless


@dataclass(frozen=True, slots=True)
class Whole:
    """A complete model or adapter, and its config.json or adapter_config.json."""

    checkpoint: Checkpoint
    config: Mapping[str, Any]
    adapter: bool


def examine(folder: Path) -> Whole:
    """Read a model's headers and JSON files; its tensors are not touched.

    What may be missing without a trace is told by quiet alone: a tokenizer's text files, say.

    Raises
    ------
    Incomplete
        A shard, index or config is missing, or a file ends before it should.
    """
    try:
        names = sorted(each.name for each in folder.iterdir() if not each.name.startswith("."))
    except OSError as wrong:
        raise Incomplete(f"it cannot be read: {wrong.strerror}") from None
    found = {name: _json(folder / name) for name in names if name.endswith(".json")}
    weights = [name for name in names if name.endswith(".safetensors")]
    adapter = ADAPTER_CONFIG in found and set(weights) <= {ADAPTER} and not _indexes(names)
    config = found.get(ADAPTER_CONFIG if adapter else CONFIG)
    if not isinstance(config, dict):
        raise Incomplete(f"{CONFIG} is {'not there' if config is None else 'no JSON object'}")
    if adapter and not weights:
        raise Incomplete(f"{ADAPTER} is not there")
    if len(weights) > 1 and SINGLE not in weights and not _indexes(names):
        raise Incomplete(f"the index of its {len(weights)} safetensors files is not there")
    try:
        return Whole(open_checkpoint(folder / ADAPTER if adapter else folder), config, adapter)
    except AlloydError as wrong:
        first = wrong.problems[0] if isinstance(wrong, Problems) else wrong
        lie = first.facts.get("lie")
        told = first.message.replace(f"{folder}/", "").replace(f"{folder} ", "it ")
        raise Incomplete(
            told, hopeless=isinstance(first, HeaderError) and lie not in CURED_BY_GROWTH
        ) from None


def _indexes(names: list[str]) -> list[str]:
    return [name for name in names if name.endswith(".safetensors.index.json")]


def _json(path: Path) -> object:
    try:
        return json.loads(read_small(path, at_most=LARGEST_JSON))
    except OSError as wrong:
        raise Incomplete(f"{path.name} cannot be read: {wrong.strerror}") from None
    except (ValueError, RecursionError):
        raise Incomplete(f"{path.name} is not whole JSON") from None


def identity(whole: Whole) -> str:
    """What names a model's content, wherever it lies: config, sizes, headers, and samples of every tensor.

    Fine-tunes of one base differ in their tensors alone. Of each the first, the last and every 16 MiB some KiB are
    read, so that a large model is known without being read whole.

    Raises
    ------
    OSError
        A file cannot be read any more.
    """
    digest = blake3(json.dumps(whole.config, sort_keys=True).encode())
    tensors: dict[int, list[Tensor]] = {}
    for each in whole.checkpoint.tensors.values():
        tensors.setdefault(each.file, []).append(each)
    for number, (path, seen) in enumerate(zip(whole.checkpoint.files, whole.checkpoint.prints, strict=True)):
        digest.update(f"\0{seen.size} {seen.header}\0".encode())
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            for tensor in tensors.get(number, ()):
                for start, length in _samples(tensor.nbytes):
                    digest.update(os.pread(handle, length, tensor.offset + start))
        finally:
            os.close(handle)
    return digest.hexdigest()[:32]


def _samples(nbytes: int) -> Iterator[tuple[int, int]]:
    if nbytes <= SMALL:
        yield 0, nbytes
        return
    for start in range(0, nbytes - SAMPLE, STRIDE):
        yield start, SAMPLE
    yield nbytes - SAMPLE, SAMPLE
