"""Where a recipe has parameters, and which tensors each such place can speak of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from alloyd.recipe import ModelRef

from .model_shape import ModelShape, Part
from .naming import short_names
from .template import Template, merged, reference_of

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Reach:
    """The tensors that a place speaks of: name, part, and which of its layers in a row (``None`` outside them).

    ``length`` is the number of layers in the row of each module. Without ``layered`` the layers of several sources are
    mixed, and a row of them has no meaning.
    """

    parts: Mapping[str, Part]
    positions: Mapping[str, int | None]
    length: Mapping[str, int]
    layered: bool = True


@dataclass(frozen=True, slots=True)
class Spot:
    """One mapping of parameters at ``path``; ``owner`` is what the names of genes call it, empty for the whole recipe.

    ``source``: it stands beside one source. ``inputs`` is what per-source parameters see here, ``outputs`` what shared
    ones do.
    """

    path: Path
    owner: str
    source: bool
    inputs: Reach
    outputs: Reach


def spots(template: Template, shape: ModelShape) -> Iterator[Spot]:
    """Every place of ``template`` that has parameters, the whole recipe last."""
    labels = short_names(merged(template))
    whole = _whole(shape, None)
    inputs, outputs = whole, whole
    if any(module.get("slices") for module in (template.get("modules") or {}).values()):
        inputs = outputs = replace(whole, layered=False)
    if template.get("slices"):
        yield from _sliced(template["slices"], ("slices",), "", shape, None, labels)
        inputs, outputs = _around(template["slices"], shape, None)
    yield from _listed(template.get("models"), ("models",), "", whole, labels)
    for name, module in (template.get("modules") or {}).items():
        at, reach = ("modules", name), _whole(shape, name)
        if module.get("slices"):
            yield from _sliced(module["slices"], (*at, "slices"), f"{name} ", shape, name, labels)
        yield from _listed(module.get("models"), (*at, "models"), f"{name} ", reach, labels)
        if module.get("parameters"):
            sides = _around(module["slices"], shape, name) if module.get("slices") else (reach, reach)
            yield Spot((*at, "parameters"), name, False, *sides)
    if template.get("parameters"):
        yield Spot(("parameters",), "", False, inputs, outputs)


def _listed(
    entries: Any, at: Path, before: str, reach: Reach, labels: Mapping[ModelRef, str]
) -> Iterator[Spot]:
    for number, each in enumerate(entries or ()):
        if each.get("parameters"):
            owner = before + labels[reference_of(each["model"])]
            yield Spot((*at, number, "parameters"), owner, True, reach, reach)


def _sliced(
    slices: Sequence[Mapping[str, Any]],
    at: Path,
    before: str,
    shape: ModelShape,
    module: str | None,
    labels: Mapping[ModelRef, str],
) -> Iterator[Spot]:
    for number, each in enumerate(slices):
        ends = number == 0, number == len(slices) - 1
        for place, source in enumerate(each["sources"]):
            if source.get("parameters"):
                start, end = source["layer_range"]
                owner = f"{before}{labels[reference_of(source['model'])]} {start}-{end - 1}"
                reach = _layers(shape, module, range(start, end), ends)
                yield Spot((*at, number, "sources", place, "parameters"), owner, True, reach, reach)
        if each.get("parameters"):
            inputs = _inputs([each], shape, module, ends)
            outputs = _outputs(slices, shape, module, only=number)
            yield Spot((*at, number, "parameters"), f"{before}slice {number + 1}", False, inputs, outputs)


def _around(
    slices: Sequence[Mapping[str, Any]], shape: ModelShape, module: str | None
) -> tuple[Reach, Reach]:
    """What parameters outside of ``slices`` see: of sources, and of the output."""
    return _inputs(slices, shape, module, (True, True)), _outputs(slices, shape, module, only=None)


def _whole(shape: ModelShape, module: str | None) -> Reach:
    parts = {name: part for name, part in shape.tensors.items() if module in (None, part.module)}
    length = {key: count for key, (_, count) in shape.stacks.items()}
    return Reach(parts, {name: part.layer for name, part in parts.items()}, length)


def _layers(shape: ModelShape, module: str | None, layers: range, ends: tuple[bool, bool]) -> Reach:
    """The layers numbered ``layers``, with what comes before or after the layers if they are at that end."""
    whole = _whole(shape, module)
    parts = {
        name: part
        for name, part in whole.parts.items()
        if (part.layer in layers if part.layer is not None else ends[0] if part.before else ends[1])
    }
    positions = {
        name: None if part.layer is None else part.layer - layers.start for name, part in parts.items()
    }
    return Reach(parts, positions, dict.fromkeys(whole.length, len(layers)))


def _inputs(
    slices: Sequence[Mapping[str, Any]], shape: ModelShape, module: str | None, ends: tuple[bool, bool]
) -> Reach:
    ranges = [range(*source["layer_range"]) for each in slices for source in each["sources"]]
    found = [_layers(shape, module, each, ends) for each in dict.fromkeys(ranges)]
    if len(found) == 1:
        return found[0]
    parts = {name: part for each in found for name, part in each.parts.items()}
    return Reach(parts, dict.fromkeys(parts), {}, layered=False)


def _outputs(
    slices: Sequence[Mapping[str, Any]], shape: ModelShape, module: str | None, *, only: int | None
) -> Reach:
    """The layers of the output: those of all slices, or of slice number ``only``, numbered as they will be."""
    whole = _whole(shape, module)
    key = next((each for each in shape.stacks if module in (None, each)), None)
    parts: dict[str, Part] = {}
    positions: dict[str, int | None] = {}
    ends = only in (None, 0), only in (None, len(slices) - 1)
    for name, part in whole.parts.items():
        if part.layer is None and (ends[0] if part.before else ends[1]):
            parts[name], positions[name] = part, None
    layer = row = 0
    for number, each in enumerate(slices):
        for source in range(*each["sources"][0]["layer_range"]):
            if only in (None, number) and key is not None:
                for part in whole.parts.values():
                    if part.layer == source and part.module == key:
                        name = f"{shape.stacks[key][0]}.{layer}.{part.rest}"
                        parts[name], positions[name] = replace(part, layer=layer), row
                row += 1
            layer += 1
    return Reach(parts, positions, {} if key is None else {key: row})
