"""Moments of every tensor's task vectors in one streamed pass over a base and its fine-tunes."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from msgspec import structs

from alloyd.errors import PlanError, SourceError, UsageError
from alloyd.jobs import PlanSpec, Progress
from alloyd.recipe import ModelRef
from alloyd_kernels.dtypes import LEAF

from ..architecture import named_in, table_for
from ..checkpoints.fingerprint import check_unchanged
from ..checkpoints.journal import Block
from ..checkpoints.reader import open_reader
from ..engine.budget import allot
from ..engine.findings import FindingCache
from ..engine.merge import merge
from ..engine.plan import TensorPlan
from ..engine.prepare import Prepared, prepare
from ..merge_method import MergeMethod, Operands
from ..recipes.models import as_mapping
from ..search.model_shape import component
from ..settings import Settings
from ..stages import Steps
from ..stages.moments import moment_bytes, moments


@dataclass(frozen=True, slots=True)
class TensorMoments:
    """One tensor: its layer (``None`` outside them), component, elements, and moments of the task vectors.

    ``models`` are those that have it; ``values`` float64 [n, n + 1]: row i is the sum of task vector i, then its inner
    product with each.
    """

    name: str
    layer: int | None
    component: str
    elements: int
    models: tuple[int, ...]
    values: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measured:
    """All tensors, in the order of the models' files; ``models`` are counted without the base."""

    base: str
    models: tuple[str, ...]
    tensors: tuple[TensorMoments, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sitting:
    """What will be measured, with every error that names, headers and configs can reveal behind it."""

    prepared: Prepared
    tensors: tuple[TensorPlan, ...]
    skipped: int

    @property
    def bytes_read(self) -> int:
        return sum(each.read_once for each in self.tensors)


def sit(
    base: ModelRef,
    models: Sequence[ModelRef],
    *,
    base_dir: str,
    home: Path,
    settings: Settings,
    memory: int | None = None,
    threads: int | None = None,
    reader: str = "auto",
) -> Sitting:
    """Lay the models over their base; relative paths start in ``base_dir``.

    Raises
    ------
    UsageError
        A model named twice, or the base among the models.
    AlloydError
        What a merge of them by task_arithmetic would raise: models that are not found, other shapes, missing tensors,
        too little memory.
    """
    if len({base, *models}) != len(models) + 1:
        raise _twice()
    recipe = {
        "merge_method": "task_arithmetic",
        "base_model": as_mapping(base),
        "models": [{"model": as_mapping(each), "parameters": {"weight": 1.0}} for each in models],
    }
    spec = PlanSpec(
        recipe=json.dumps(recipe), base_dir=base_dir, memory=memory, threads=threads, reader=reader,
        recipe_name="kinship",
    )  # fmt: skip
    prepared = prepare(spec, home=home, settings=settings)[-1]
    outline = prepared.plan.outline
    if len({each.place for each in outline.models}) != len(models) + 1:
        raise _twice()
    tensors = [
        _measured_only(each) for each in prepared.plan.tensors
        if each.elements and not each.verbatim and each.operands.base is not None and each.operands.positions
    ]  # fmt: skip
    if not tensors:
        raise PlanError(
            "the models share no tensor of a floating type with their base", hint="Is it the right base?"
        )
    budget = allot(
        tensors,
        memory=prepared.memory,
        threads=threads or settings.thread_count(),
        buffered="pread" in prepared.doors,
    )
    plan = replace(prepared.plan, tensors=tuple(tensors), budget=budget)
    skipped = len(prepared.plan.tensors) - len(tensors)
    return Sitting(replace(prepared, plan=plan), tuple(tensors), skipped)


def measure(sitting: Sitting, findings: FindingCache | None = None) -> Generator[Progress, None, Measured]:
    """Read every source once and yield progress in bytes; what ``findings`` knows is not read again.

    Closing the generator ends it at the next block; what was found so far stays in ``findings``.

    Raises
    ------
    SourceChanged
        A source was written to meanwhile.
    SourceError
        A model has a weight that is NaN or infinite, which has no direction.
    """
    prepared = sitting.prepared
    found: dict[str, npt.NDArray[np.float64]] = {}

    def program(operands: Operands) -> Steps[None]:
        assert operands.base is not None
        found[operands.name] = yield from moments(operands.base, operands.positions)

    method = MergeMethod(
        name="moments",
        summary="sums and inner products of task vectors",
        reference="arXiv:2410.12613",
        parameters=(),
        base="required",
        program=program,
        passes=lambda operands: 1,
    )
    tensors = tuple(replace(each, method=method) for each in sitting.tensors)
    with contextlib.ExitStack() as stack:
        readers = [
            stack.enter_context(open_reader(checkpoint, door))
            for checkpoint, door in zip(prepared.checkpoints, prepared.doors, strict=True)
        ]
        steps = merge(replace(prepared.plan, tensors=tensors), readers, _Nowhere(), findings, digests=False)
        for progress in steps:
            if progress.done < progress.total:
                yield progress
        for checkpoint, seen in zip(prepared.checkpoints, prepared.fingerprints, strict=True):
            check_unchanged(checkpoint, seen)
    return _gathered(sitting, found)


class _Nowhere:
    """The sink of what is only measured."""

    def open(self) -> tuple[Block, ...]:
        return ()

    def put(self, block: Block, data: memoryview) -> None:
        raise AssertionError("nothing is written where tensors are only measured")

    def checkpoint(self) -> None:
        """There is nothing to keep."""


def _twice() -> UsageError:
    return UsageError(
        "the base and the models must be different checkpoints",
        hint="Each is named once; the base is not one of the models.",
    )


def _measured_only(tensor: TensorPlan) -> TensorPlan:
    """The plan of a tensor that is read once and not written."""
    leaves = -(-tensor.elements // LEAF)
    return replace(
        tensor,
        passes=1,
        nbytes=0,
        encoding=0,
        held=moment_bytes(len(tensor.operands.positions), leaves, 1),
    )


def _gathered(sitting: Sitting, found: dict[str, npt.NDArray[np.float64]]) -> Measured:
    outline = sitting.prepared.plan.outline
    base = next(
        each.sources[each.operands.base][0] for each in sitting.tensors if each.operands.base is not None
    )
    places = [place for place in range(len(outline.models)) if place != base]
    table = table_for(named_in(sitting.prepared.checkpoints[base].config))
    patterns = [re.compile(re.escape(stack.prefix) + r"\.(\d+)\.") for stack in outline.stacks]
    tensors = []
    for each in sitting.tensors:
        layer = next((int(match[1]) for one in patterns if (match := one.match(each.name))), None)
        models = tuple(places.index(each.sources[position][0]) for position in each.operands.positions)
        _check_finite(each.name, found[each.name], [outline.models[places[model]].name for model in models])
        tensors.append(
            TensorMoments(
                each.name, layer, component(each.name, table), each.elements, models, found[each.name]
            )
        )
    refs = sitting.prepared.recipe.referenced_models()
    names = _short_names([refs[place] for place in (base, *places)])
    warnings = list(sitting.prepared.plan.outline.warnings)
    return Measured(names[0], tuple(names[1:]), tuple(tensors), tuple(warnings))


def _check_finite(tensor: str, values: npt.NDArray[np.float64], models: Sequence[str]) -> None:
    for place, model in enumerate(models):
        if not np.isfinite(values[place, 1 + place]):
            raise SourceError(
                f"tensor '{tensor}' has NaN or infinite elements, in {model} or in the base",
                hint="Such a model is damaged; 'alloy verify' tells whether it is as it was written.",
                tensor=tensor,
                model=model,
            )


def _short_names(refs: Sequence[ModelRef]) -> list[str]:
    """The last part of each name that is a path, or the whole names where two would be called the same."""
    short = [_short(each) for each in refs]
    return short if len(set(short)) == len(short) else [str(each) for each in refs]


def _short(ref: ModelRef) -> str:
    name = Path(ref.path).name if ref.path.startswith("/") else str(structs.replace(ref, lora=None))
    return name if ref.lora is None else f"{name}+{_short(ref.lora)}"
