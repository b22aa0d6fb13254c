"""Gram matrices of task vectors: of whole models, which optimisers reckon kinship with, and of each tensor."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from alloyd.jobs import Progress
from alloyd.recipe import ModelRef

from ..engine.findings import FindingCache, open_findings
from ..recipes.outline import Place
from ..settings import Settings
from .figures import total
from .measure import measure, sit


def task_vector_gram(
    base: ModelRef,
    models: Sequence[ModelRef],
    *,
    home: Path,
    settings: Settings,
    memory: int | None = None,
    threads: int | None = None,
) -> Generator[Progress, None, tuple[tuple[float, ...], ...]]:
    """Inner products of the task vectors of ``models`` over all tensors, [n, n] in their order, in one streamed pass.

    Raises what :func:`kinship.measure.sit` and :func:`kinship.measure.measure` raise.
    """
    sitting = sit(base, models, base_dir="/", home=home, settings=settings, memory=memory, threads=threads)
    with open_findings(home, settings.cache_bytes()) as findings:
        measured = yield from measure(sitting, findings)
    found = total(len(models), measured.tensors).products
    return tuple(tuple(float(each) for each in row) for row in found)


@dataclass(frozen=True, slots=True)
class TensorGram:
    """Of one output tensor: ``products`` float64 [n, n], the inner products of the task vectors of all models.

    ``sources`` gives the model (``None``: the base) of each (model, tensor's name there) that was read; a model
    without the tensor has a row of zeros.
    """

    sources: Mapping[tuple[Place, str], int | None]
    products: npt.NDArray[np.float64]


def tensor_grams(
    base: ModelRef,
    models: Sequence[ModelRef],
    *,
    home: Path,
    settings: Settings,
    memory: int | None = None,
    threads: int | None = None,
    findings: FindingCache | None = None,
) -> Generator[Progress, None, dict[str, TensorGram]]:
    """The Gram matrix of every tensor that the base shares with one of ``models``, in one streamed pass.

    What ``findings`` knows is not read. Raises what :func:`kinship.measure.sit` and :func:`kinship.measure.measure`
    raise.
    """
    sitting = sit(base, models, base_dir="/", home=home, settings=settings, memory=memory, threads=threads)
    measured = yield from measure(sitting, findings)
    places = [each.place for each in sitting.prepared.plan.outline.models]
    grams = {}
    for plan, each in zip(sitting.tensors, measured.tensors, strict=True):
        rows = iter(each.models)
        sources = {
            (places[model], tensor.name): None if number == plan.operands.base else next(rows)
            for number, (model, tensor) in enumerate(plan.sources)
        }
        products = np.zeros((len(models), len(models)))
        products[np.ix_(each.models, each.models)] = each.values[:, 1:]
        grams[each.name] = TensorGram(sources, products)
    return grams
