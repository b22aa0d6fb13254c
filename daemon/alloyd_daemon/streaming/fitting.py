"""Which tensor of a checkpoint fills which parameter of a model on the meta device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from alloyd.errors import AlloydError, PlanError, ShapeMismatch, raise_all

from ..skeleton import Skeleton


def parameters(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and persistent buffer once, by the first of its names."""
    found: dict[int, tuple[str, torch.Tensor]] = {}
    for name, each in model.state_dict(keep_vars=True).items():
        found.setdefault(id(each), (name, each))
    return dict(found.values())


def fit(skeleton: Skeleton, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Parameter -> tensor, for a checkpoint with tensors of these ``shapes``; what the model ignores is left out.

    Tied parameters stand for one tensor. Where a checkpoint has a tensor for each, the model's are untied.

    Raises
    ------
    PlanError
        A tensor without a place, or a parameter without a tensor.
    ShapeMismatch
        A tensor of another shape than its parameter.
    """
    model = skeleton.model
    found: dict[str, str] = {}
    problems: list[AlloydError] = []
    for name, shape in shapes.items():
        try:
            place = skeleton.place(name)
        except AlloydError as problem:
            problems.append(problem)
            continue
        if place is None:
            continue
        wanted = skeleton.shapes[place]
        if tuple(shape) != wanted:
            expected = f"{type(model).__name__} expects {list(wanted)}"
            problems.append(
                ShapeMismatch(
                    f"tensor '{name}' has the shape {list(shape)}; {expected}",
                    hint="The checkpoint's tensors do not match its config.json.",
                    tensor=name,
                )
            )
        found[place] = name
    for target, source in model.all_tied_weights_keys.items():
        if target in found and source in found:
            # A checkpoint with both may hold two: transformers ties them only where they are equal.
            path, _, leaf = target.rpartition(".")
            fresh = nn.Parameter(torch.empty_like(model.get_parameter(target)), requires_grad=False)
            setattr(model.get_submodule(path), leaf, fresh)
    names: dict[int, list[str]] = {}
    for place, each in model.state_dict(keep_vars=True).items():
        names.setdefault(id(each), []).append(place)
    fitted: dict[str, str] = {}
    for same in names.values():
        given = next((found[each] for each in same if each in found), None)
        if given is not None:
            fitted[same[0]] = given
            continue
        problems.append(
            PlanError(
                f"the parameter '{same[0]}' of {type(model).__name__} has no tensor",
                hint="The checkpoint's tensors do not match its config.json.",
                tensor=same[0],
            )
        )
    raise_all(problems)
    return fitted
