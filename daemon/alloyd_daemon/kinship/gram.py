"""The Gram matrix of whole models' task vectors: what optimisers that know models reckon kinship with."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

from alloyd.jobs import Progress

from ..engine.findings import open_findings
from ..settings import Settings
from .figures import total
from .measure import measure, sit


def task_vector_gram(
    base: str,
    models: Sequence[str],
    *,
    base_dir: str,
    home: Path,
    settings: Settings,
    memory: int | None = None,
    threads: int | None = None,
) -> Generator[Progress, None, tuple[tuple[float, ...], ...]]:
    """Inner products of the task vectors of ``models`` over all tensors, [n, n] in their order, in one streamed pass.

    Raises what :func:`kinship.measure.sit` and :func:`kinship.measure.measure` raise.
    """
    sitting = sit(
        base, models, base_dir=base_dir, home=home, settings=settings, memory=memory, threads=threads
    )
    with open_findings(home, settings.cache_bytes()) as findings:
        measured = yield from measure(sitting, findings)
    found = total(len(models), measured.tensors).products
    return tuple(tuple(float(each) for each in row) for row in found)
