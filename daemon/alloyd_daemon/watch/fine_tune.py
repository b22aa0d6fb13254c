"""Whether a model is a fine-tune of a base, or an adapter of it, as configs and headers tell."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from alloyd.errors import AlloydError
from alloyd.recipe import ModelRef

from ..architecture import named_in, table_for
from .complete import Whole


class Resolve(Protocol):
    """Finds the folder of a model by its name or path, which starts at the folder ``base_dir``."""

    def __call__(self, ref: ModelRef, *, base_dir: Path) -> Path: ...


def why_not(model: Whole, base: Whole, place: Path, named: str, resolve: Resolve) -> str:
    """Empty if ``model`` was made from ``base``, which lies at ``place`` and is ``named`` so; else why it was not.

    A fine-tune has the base's architecture and, but for tied ones, tensors of the same names and shapes. An adapter
    names its base.
    """
    if model.adapter:
        return _not_adapter(model, place, named, resolve)
    ours, theirs = _architecture(model.config), _architecture(base.config)
    if ours != theirs:
        return f"it is a {ours}, and the base is a {theirs}"
    tied = table_for(theirs).tied
    mine = {name: each.shape for name, each in model.checkpoint.tensors.items() if name not in tied}
    other = {name: each.shape for name, each in base.checkpoint.tensors.items() if name not in tied}
    for name in mine.keys() | other.keys():
        if name not in mine:
            return f"it lacks the base's tensor {name}"
        if name not in other:
            return f"it has a tensor {name}, which the base has not"
        if mine[name] != other[name]:
            return f"its {name} is of the shape {list(mine[name])}, the base's of {list(other[name])}"
    return ""


def _not_adapter(model: Whole, place: Path, named: str, resolve: Resolve) -> str:
    base = model.config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        return "its adapter_config.json names no base"
    if base == named:
        return ""
    try:
        found = resolve(ModelRef.parse(base), base_dir=model.checkpoint.folder)
    except AlloydError:
        return f"it is an adapter of {base}"
    return "" if os.path.realpath(found) == os.path.realpath(place) else f"it is an adapter of {base}"


def _architecture(config: Mapping[str, Any]) -> str:
    return named_in(config) or str(config.get("model_type", "model of no known architecture"))
