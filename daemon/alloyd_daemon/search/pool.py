"""The models whose layers a path may take, checked to fit each other from headers and configs alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from alloyd.errors import AlloydError, PlanError, ShapeMismatch, raise_all

from ..architecture import ARCHITECTURES, Architecture, Fold, named_in, table_for
from ..checkpoints.checkpoint import Checkpoint
from ..recipes.layers import Layout, Stack, find_layout
from .folding import is_whole
from .naming import placed, short_name

_MUST_AGREE: Final = (
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "n_head",
    "num_experts_per_tok",
)
_SHOULD_AGREE: Final = (
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "rms_norm_eps",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "hidden_act",
    "hidden_activation",
    "activation_function",
    "sliding_window",
    "query_pre_attn_scalar",
    "attn_logit_softcapping",
    "attention_multiplier",
    "residual_multiplier",
    "partial_rotary_factor",
)
_BY_NUMBER: Final = ("scale_attn_by_inverse_layer_idx",)


@dataclass(frozen=True, slots=True)
class Member:
    """One model of a pool: its checkpoint and stack of layers, and a short name that no other member has.

    ``pre`` names the tensors that come before the layers. Names are canonical.
    """

    checkpoint: Checkpoint
    layout: Layout
    stack: Stack
    pre: tuple[str, ...]
    label: str

    @property
    def config(self) -> Mapping[str, Any]:
        return self.checkpoint.config or {}

    def shapes(self) -> dict[str, set[tuple[int, ...]]]:
        """What each kind of tensor in the layers is shaped like."""
        found: dict[str, set[tuple[int, ...]]] = {}
        for number, rests in enumerate(self.stack.layers):
            for rest in rests:
                tensor = self.checkpoint.tensors[self.layout.stored[self.stack.name(number, rest)]]
                found.setdefault(rest, set()).add(tuple(tensor.shape))
        return found


@dataclass(frozen=True, slots=True)
class Pool:
    """Models whose layers can follow one another; the first gives config, embeddings, final norm and head.

    ``fold`` says how scales are folded into these models (``None``: they were not asked for). ``warnings`` name what
    the configs say differently of their layers (the first model's word counts for all), and what depends on a layer's
    number.
    """

    members: tuple[Member, ...]
    table: Architecture
    fold: Fold | None
    warnings: tuple[str, ...]


def open_pool(checkpoints: Sequence[Checkpoint], *, scaled: bool, labels: Sequence[str] = ()) -> Pool:
    """Check that the layers of ``checkpoints`` fit each other, and, if ``scaled``, that scales can be folded into them.

    ``labels`` are names for the first of them; the others have those of their folders.

    Raises
    ------
    PlanError, ShapeMismatch, Problems
        What does not fit, together.
    """
    table = table_for(named_in(checkpoints[0].config))
    names = [short_name(placed(each)) for each in checkpoints]
    labels = _distinct([*labels, *names[len(labels) :]])
    problems: list[AlloydError] = []
    members: list[Member] = []
    for checkpoint, label in zip(checkpoints, labels, strict=True):
        try:
            members.append(_member(checkpoint, label))
        except AlloydError as problem:
            problems.append(problem)
    raise_all(problems)
    for other in members[1:]:
        problems += _misfits(members[0], other)
    if scaled:
        problems += _unfoldable(members, table)
    raise_all(problems)
    differing = (
        f"{other.label} and {members[0].label} differ in '{key}', and all layers run with that of {members[0].label}"
        for other in members[1:]
        for key in _SHOULD_AGREE
        if other.config.get(key) != members[0].config.get(key)
    )
    numbered = (
        f"'{key}' of {each.label} lets what a layer does depend on its number: where it moves, it does something else"
        for each in members
        for key in _BY_NUMBER
        if each.config.get(key)
    )
    warnings = (*differing, *numbered)
    return Pool(tuple(members), table, table.fold if scaled else None, warnings)


def _distinct(names: Sequence[str]) -> list[str]:
    return [f"{name}-{place + 1}" if names.count(name) > 1 else name for place, name in enumerate(names)]


def _member(checkpoint: Checkpoint, label: str) -> Member:
    layout = find_layout(checkpoint.tensors, table_for(named_in(checkpoint.config)), checkpoint.config)
    stacks = [module.stack for module in layout.modules.values() if module.stack is not None]
    if len(layout.modules) != 1 or not stacks:
        raise PlanError(
            f"{label} is a model of {len(layout.modules)} modules with {len(stacks)} stacks of layers",
            hint="A path goes over models with one stack of layers and nothing beside it.",
            model=label,
        )
    (module,) = layout.modules.values()
    return Member(checkpoint, layout, stacks[0], module.pre, label)


def _misfits(first: Member, other: Member) -> Iterator[AlloydError]:
    """What keeps a layer of ``other`` from standing between those of ``first``."""
    names = named_in(first.config), named_in(other.config)
    if names[0] != names[1]:
        yield PlanError(
            f"{first.label} is {names[0]}, and {other.label} is {names[1]}: no path can go over both",
            hint="Choose models of one architecture.",
            model=other.label,
        )
        return
    mine, theirs = first.shapes(), other.shapes()
    for rest in sorted(mine.keys() ^ theirs.keys()):
        has, lacks = (first, other) if rest in mine else (other, first)
        yield PlanError(
            f"the layers of {has.label} have {rest}, and those of {lacks.label} have none",
            hint="One config.json must describe every layer of the path.",
            model=lacks.label,
            tensor=rest,
        )
    for rest in sorted(mine.keys() & theirs.keys()):
        if mine[rest] != theirs[rest]:
            yield ShapeMismatch(
                f"{rest} is {_shown(mine[rest])} in {first.label} and {_shown(theirs[rest])} in {other.label}",
                hint="Only models of one width can follow one another.",
                tensor=rest,
            )
    for key in _MUST_AGREE:
        if first.config.get(key) != other.config.get(key):
            yield PlanError(
                f"'{key}' is {first.config.get(key)} in {first.label} and {other.config.get(key)} in {other.label}",
                hint="One config.json must describe every layer of the path.",
                model=other.label,
                key=key,
            )


def _unfoldable(members: Sequence[Member], table: Architecture) -> Iterator[AlloydError]:
    """Why scales cannot be folded into ``members``."""
    if table.fold is None:
        known = sorted(name for name, each in ARCHITECTURES.items() if each.fold is not None)
        yield PlanError(
            f"the scales of a path cannot be folded into {named_in(members[0].config) or 'an unknown architecture'}",
            hint=f"Leave path.scale out. Known for {', '.join(known)}.",
            key="path.scale",
        )
        return
    for each in members:
        wrong = next(
            (number for number, rests in enumerate(each.stack.layers) if not is_whole(table.fold, rests)),
            None,
        )
        if each.config.get("quantization_config"):
            yield PlanError(
                f"{each.label} is quantised, and scales cannot be folded into it", model=each.label
            )
        elif wrong is not None:
            yield PlanError(
                f"layer {wrong} of {each.label} lacks tensors into which scales are folded "
                f"({', '.join(table.fold.adds + table.fold.post_norms)})",
                hint="Leave path.scale out.",
                model=each.label,
            )
        elif table.fold.final not in each.layout.stored and each is members[0]:
            yield PlanError(
                f"{each.label} has no {table.fold.final}", model=each.label, tensor=table.fold.final
            )


def _shown(shapes: set[tuple[int, ...]]) -> str:
    return " and ".join(str(list(each)) for each in sorted(shapes))
