"""Opens what a recipe names as a model: a checkpoint, or a checkpoint as its adapter changes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from msgspec import structs

from alloyd.recipe import ModelRef

from ..checkpoints.checkpoint import Checkpoint, open_checkpoint
from ..recipes.models import resolve
from ..settings import Settings
from .apply import with_adapter

_NONE: Final[Mapping[str, Checkpoint]] = MappingProxyType({})


def open_model(
    ref: ModelRef, *, base_dir: Path, settings: Settings, made: Mapping[str, Checkpoint] = _NONE
) -> Checkpoint:
    """The checkpoint of ``ref``; an adapter is looked for where models are.

    ``made`` are checkpoints by names that come before all places: results of other documents.

    Raises
    ------
    AlloydError
        What ``recipes.models.resolve``, ``checkpoints.open_checkpoint`` and ``with_adapter`` raise.
    """

    def place(one: ModelRef) -> Path:
        return resolve(one, base_dir=base_dir, roots=settings.model_roots(), hf_home=settings.hub())

    checkpoint = made.get(ref.path) or open_checkpoint(place(structs.replace(ref, lora=None)))
    if ref.lora is None:
        return checkpoint
    return with_adapter(checkpoint, place(ref.lora), architecture=ref.override_architecture)
