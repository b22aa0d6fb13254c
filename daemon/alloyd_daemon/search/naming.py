"""What a search calls its models: by where they lie, as recipes name them, and for people."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from msgspec import structs

from alloyd.recipe import ModelRef

from ..checkpoints.checkpoint import Checkpoint
from ..recipes.models import as_mapping


def placed(checkpoint: Checkpoint, architecture: str | None = None) -> ModelRef:
    """Where a checkpoint lies, the adapter that it is read with, and what its architecture was said to be.

    Equal for what is one model, by whatever name.
    """
    adapter = checkpoint.adapter
    lora = None if adapter is None else ModelRef(str(adapter))
    return ModelRef(str(checkpoint.path), lora=lora, override_architecture=architecture)


def bare(ref: ModelRef) -> ModelRef:
    """``ref`` without what its architecture is said to be."""
    return structs.replace(ref, override_architecture=None)


def reference(ref: ModelRef) -> str | dict[str, Any]:
    """A placed model as a recipe names it: ``path``, ``path+adapter``, or a mapping where those would be unclear."""
    text = ref.path if ref.lora is None else ref.path + ref.lora.path
    return as_mapping(ref) if "+" in text or "@" in text or ref.override_architecture else str(ref)


def referred(named: str | Mapping[str, Any]) -> ModelRef:
    """The model that :func:`reference` named so."""
    if isinstance(named, str):
        return ModelRef.parse(named)
    lora = named.get("lora")
    return ModelRef(
        named["model"]["path"],
        lora=None if lora is None else ModelRef(lora["path"]),
        override_architecture=named.get("override_architecture"),
    )


def short_names(refs: Iterable[ModelRef], *, taken: Collection[str] = ()) -> dict[ModelRef, str]:
    """What people call each of ``refs``; the whole, where two would be called the same or the name is ``taken``."""
    short = {ref: short_name(ref) for ref in refs}
    names = [*short.values(), *taken]
    return {ref: str(ref) if names.count(name) > 1 else name for ref, name in short.items()}


def short_name(ref: ModelRef) -> str:
    """The name of its folder, and of its adapter's."""
    name = Path(ref.path).name or ref.path
    return name if ref.lora is None else f"{name}+{short_name(ref.lora)}"
