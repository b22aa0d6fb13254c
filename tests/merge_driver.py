"""Run the engine in a test without a daemon: outlines by hand, a sink in memory, blocks of any size."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alloyd_daemon.checkpoints.checkpoint import open_checkpoint
from alloyd_daemon.checkpoints.journal import Block
from alloyd_daemon.checkpoints.reader import open_reader
from alloyd_daemon.checkpoints.safetensors_layout import lay_out
from alloyd_daemon.engine.merge import Merged, merge
from alloyd_daemon.engine.plan import Plan, make_plan
from alloyd_daemon.recipes.outline import Assignment, Input, Model, Outline
from alloyd_kernels.dtypes import CODES
from alloyd_kernels.tile.reference import NUMPY_TYPES

MEMORY = 4 * 2**30


class MemorySink:
    """Output tensors as byte arrays; ``fail_after`` raises from inside a write, as a full disk would."""

    def __init__(self, plan: Plan, done: Sequence[Block] = (), fail_after: int | None = None) -> None:
        self.data = [np.full(each.nbytes, 0xA5, dtype=np.uint8) for each in plan.tensors]
        self.done = list(done)
        self.checkpoints = 0
        self.writes = 0
        self._fail_after = fail_after
        self._lock = threading.Lock()

    def open(self) -> tuple[Block, ...]:
        return tuple(self.done)

    def put(self, block: Block, data: memoryview) -> None:
        with self._lock:
            self.writes += 1
            if self._fail_after is not None and self.writes > self._fail_after:
                raise OSError("the disk of this test is full")
        self.data[block.tensor][block.start : block.stop] = np.frombuffer(data, dtype=np.uint8)
        with self._lock:
            self.done.append(block)

    def checkpoint(self) -> None:
        self.checkpoints += 1


def outline_of(
    folders: Sequence[Path],
    method: str,
    *,
    base: int | None,
    inputs: Sequence[Mapping[str, Any]],
    shared: Mapping[str, Any],
    dtype: str | None = None,
    seed: int = 0,
) -> Outline:
    """Every tensor of the first folder, merged from the same name of all with the same parameters."""
    checkpoint = open_checkpoint(folders[0])
    return Outline(
        models=tuple(Model(folder.name, folder) for folder in folders),
        donor=0,
        assignments=tuple(
            Assignment(
                name,
                method,
                tuple(Input(model, name, values) for model, values in enumerate(inputs)),
                base,
                shared,
            )
            for name in checkpoint.tensors
        ),
        stacks=(),
        dtype=dtype,
        out_dtype=None,
        seed=seed,
    )


def plan_of(outline: Outline, *, threads: int = 2, block: int | None = None, buffered: bool = False) -> Plan:
    """A plan with blocks of ``block`` elements instead of those the digests ask for."""
    checkpoints = [open_checkpoint(model.path) for model in outline.models]
    plan = make_plan(
        outline,
        checkpoints,
        memory=MEMORY,
        threads=threads,
        lay_out=partial(lay_out, shard_size=10**9),
        buffered=buffered,
    )
    if block is not None:
        plan = replace(plan, tensors=tuple(replace(each, block=block) for each in plan.tensors))
    return plan


def run_merge(plan: Plan, sink: MemorySink, *, door: str = "mmap", **how: Any) -> Merged:
    """Merge to the end; ``how`` goes to the merge."""
    readers = [open_reader(open_checkpoint(model.path), door) for model in plan.outline.models]  # type: ignore[arg-type]
    steps = merge(plan, readers, sink, **how)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        merged: Merged = end.value
        return merged
    finally:
        for reader in readers:
            reader.close()


def values_of(plan: Plan, sink: MemorySink) -> dict[str, npt.NDArray[np.float64]]:
    """The output tensors as float64."""
    return {
        tensor.name: data.view(NUMPY_TYPES[CODES[tensor.dtype]]).astype(np.float64).reshape(tensor.shape)
        for tensor, data in zip(plan.tensors, sink.data, strict=True)
    }
