"""From knobs to genes: a setting with knobs becomes rules whose values are genes, one for each group of tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from alloyd.errors import AlloydError, RecipeError, did_you_mean
from alloyd.knob_reader import REST
from alloyd.search_schema import Knob

from .filters import fits, rules
from .genome import Gene
from .model_shape import COMPONENTS, Part
from .reach import Reach

DENSITY: Final = "density"

_Owner = tuple[str, int]
_Group = tuple[int | None, str]
"""A group of layers (``None``: not grouped) and a component (empty: the knob names none)."""


@dataclass(frozen=True, slots=True)
class Ref:
    """Stands for the value of the gene called ``gene``."""

    gene: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of a setting: the filter, and a value or gradient in which a :class:`Ref` may stand for any value."""

    filter: str | None
    value: Any


@dataclass(slots=True)
class _Draft:
    """A gene to be: the knob that it comes from, and the elements of the smallest tensor whose density it is."""

    name: str
    knob: Knob
    smallest: int | None = None


@dataclass(slots=True)
class Drafts:
    """The genes found so far, in their order, and what was wrong with knobs."""

    problems: list[AlloydError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _drafts: dict[tuple[_Owner, _Group], _Draft] = field(default_factory=dict)

    def method(self, knob: Knob) -> Ref:
        """The gene that chooses the method."""
        return Ref(self._draft((("merge_method", 0), (None, "")), knob.name or "merge_method", knob).name)

    def setting(self, setting: Any, parameter: str, owner: str, reach: Reach) -> tuple[Rule, ...]:
        """The rules of one setting of ``parameter``, whose place people call ``owner``."""
        whole = f"{parameter}[{owner}]" if owner else parameter
        entries = setting if isinstance(setting, list) else [setting]
        if not all(isinstance(each, Mapping) for each in entries):
            return tuple(self._rules(setting, whole, parameter, None, reach, set()))
        found: list[Rule] = []
        decided: set[str] = set()
        for each in entries:
            filter = each.get("filter")
            called = whole if filter in (None, "*") and len(entries) == 1 else f"{whole}.{filter or REST}"
            found += self._rules(each["value"], called, parameter, filter, reach, decided)
            decided |= {name for name in reach.parts if fits(filter, name)}
        return tuple(found)

    def _rules(
        self, value: Any, called: str, parameter: str, filter: str | None, reach: Reach, decided: set[str]
    ) -> Iterator[Rule]:
        """The rules for the tensors that ``filter`` takes and that were not ``decided`` before."""
        names = [name for name in reach.parts if name not in decided and fits(filter, name)]
        if isinstance(value, list):
            points = [
                self._whole(each, f"{called}.{number} of {len(value)}", parameter, names, reach)
                for number, each in enumerate(value, 1)
            ]
            yield Rule(filter, points)
        elif not isinstance(value, Knob) or not (value.layers or value.components) or not names:
            yield Rule(filter, self._whole(value, called, parameter, names, reach))
        else:
            yield from self._parted(value, called, parameter, filter, names, reach, decided)

    def _whole(self, value: Any, called: str, parameter: str, names: Sequence[str], reach: Reach) -> Any:
        if not isinstance(value, Knob):
            return value
        return self._gene(value, self._owner(value, called), "", parameter, (None, ""), names, reach)

    def _parted(
        self,
        knob: Knob,
        called: str,
        parameter: str,
        filter: str | None,
        names: Sequence[str],
        reach: Reach,
        decided: set[str],
    ) -> Iterator[Rule]:
        groups = self._groups(knob, called, names, reach)
        if groups is None:
            return
        order = {each: place for place, each in enumerate((*knob.components, REST, ""))}
        members: dict[_Group, list[str]] = {}
        for name in names:
            members.setdefault(groups[name], []).append(name)
        owner = self._owner(knob, called)
        refs: dict[_Group, Ref] = {}
        for group in sorted(members, key=lambda each: (-1 if each[0] is None else each[0], order[each[1]])):
            label = f".{group[1]}" if group[1] else ""
            if group[0] is not None:
                label = f".{_run(group[0], knob.layers, reach)}{label}"
            refs[group] = self._gene(knob, owner, label, parameter, group, members[group], reach)
        others = [name for name in reach.parts if name not in decided and not fits(filter, name)]
        pieces = [each for each in knob.components if each not in COMPONENTS]
        keys = {name: refs[groups[name]] for name in names}
        for rule, ref in rules(keys, reach.parts, others=others, within=filter, pieces=pieces):
            yield Rule(rule, ref)

    def _groups(
        self, knob: Knob, called: str, names: Sequence[str], reach: Reach
    ) -> dict[str, _Group] | None:
        """The group of each of ``names``, or ``None`` where the knob asks for what these models do not have."""
        before = len(self.problems)
        component = {name: self._component(knob, reach.parts[name], name) for name in names}
        for each in knob.components:
            if each not in component.values():
                self.problems.append(_no_such_part(called, each, reach, names))
        layered = {component[name] for name in names if reach.positions[name] is not None}
        if knob.layers is not None:
            if not reach.layered:
                self.problems.append(
                    RecipeError(
                        f"{called}: the sources give different layers here, which cannot be grouped together",
                        hint="Write the knob under each source.",
                    )
                )
                return None
            inside = {reach.parts[name].module for name in names if reach.positions[name] is not None}
            depths = {reach.length[each] for each in inside} or {0}
            if min(depths) < knob.layers:
                self.problems.append(
                    RecipeError(
                        f"{called}: {min(depths)} layers cannot be parted into {knob.layers} groups",
                        hint=f"Give at most layers: {min(depths)}." if min(depths) else "Leave layers out.",
                    )
                )
        if len(self.problems) > before:
            return None
        return {
            name: (_row(name, knob.layers, reach) if component[name] in layered else None, component[name])
            for name in names
        }

    def _component(self, knob: Knob, part: Part, name: str) -> str:
        """The first of the knob's components that a tensor belongs to; empty where it names none."""
        if not knob.components:
            return ""
        fitting = (each for each in knob.components if _belongs(each, part, name))
        return next(fitting, REST)

    def _owner(self, knob: Knob, called: str) -> _Owner:
        """One for all knobs of one name, else one for each."""
        return (knob.name, 0) if knob.name is not None else (called, len(self._drafts) + 1)

    def _gene(
        self,
        knob: Knob,
        owner: _Owner,
        label: str,
        parameter: str,
        group: _Group,
        names: Sequence[str],
        reach: Reach,
    ) -> Ref:
        draft = self._draft((owner, group), owner[0] + label, knob)
        if parameter == DENSITY and names:
            smallest = min(reach.parts[name].elements for name in names)
            draft.smallest = smallest if draft.smallest is None else min(draft.smallest, smallest)
        return Ref(draft.name)

    def _draft(self, key: tuple[_Owner, _Group], called: str, knob: Knob) -> _Draft:
        if key not in self._drafts:
            taken = {each.name for each in self._drafts.values()}
            name, number = called, 2
            while name in taken:
                name, number = f"{called} #{number}", number + 1
            self._drafts[key] = _Draft(name, knob)
        return self._drafts[key]

    def genes(self) -> tuple[Gene, ...]:
        """Every gene, in the order in which the recipe names them; what cannot be one is added to ``problems``."""
        return tuple(gene for draft in self._drafts.values() if (gene := self._made(draft)) is not None)

    def _made(self, draft: _Draft) -> Gene | None:
        knob = draft.knob
        # A little more than one element of the smallest tensor, since mergekit rounds what is kept down.
        least = -math.inf if draft.smallest is None else min(1.0, (1 + 1e-9) / max(draft.smallest, 1))
        numbers = [each for each in knob.choices if isinstance(each, int | float)]
        if any(each < least for each in numbers) or (knob.high is not None and knob.high <= least):
            self.problems.append(
                RecipeError(
                    f"{draft.name}: a density below {least:.3g} keeps nothing of the smallest tensor, which has "
                    f"{draft.smallest} elements",
                    hint="Give more, or search the small ones apart: components: [norms].",
                )
            )
            return None
        if knob.choices:
            return Gene(name=draft.name, kind="category", choices=knob.choices, start=knob.start)
        if knob.low is None or knob.high is None:
            raise ValueError(f"{draft.name}: a knob needs choices, or low and high")
        low, start = float(knob.low), knob.start
        if low < least:
            self.warnings.append(
                f"{draft.name}: densities begin at {least:.3g}, below which nothing is kept of the smallest tensor"
            )
            low = least
        if isinstance(start, int | float):
            start = int(start) if knob.integer else max(float(start), least)
        return Gene(
            name=draft.name,
            kind="integer" if knob.integer else "real",
            low=low,
            high=float(knob.high),
            log=knob.log,
            sign=knob.sign,
            start=start,
        )


def _belongs(component: str, part: Part, name: str) -> bool:
    return part.component == component if component in COMPONENTS else component in name


def _row(name: str, groups: int | None, reach: Reach) -> int | None:
    """The group of a tensor; the first or the last where it is before or after the layers."""
    if groups is None:
        return None
    part, position = reach.parts[name], reach.positions[name]
    if position is None:
        return 0 if part.before else groups - 1
    return position * groups // reach.length[part.module]


def _run(group: int, groups: int | None, reach: Reach) -> str:
    """The layers of a group, for people: those of the first module, where there are several."""
    module = next(iter(reach.length))
    inside = (name for name, part in reach.parts.items() if part.module == module and part.layer is not None)
    layers = sorted({reach.parts[name].layer or 0 for name in inside if _row(name, groups, reach) == group})
    return f"layers {layers[0]}-{layers[-1]}" if len(layers) > 1 else f"layer {layers[0]}"


def _no_such_part(called: str, component: str, reach: Reach, names: Sequence[str]) -> RecipeError:
    """The error for a component without a tensor of its own."""
    if any(_belongs(component, reach.parts[name], name) for name in names):
        return RecipeError(
            f"{called}: every tensor of the component '{component}' belongs to one that is named before it",
            hint="The first component that a tensor belongs to has it: put the narrower ones first.",
        )
    pieces = {piece for name in names for piece in name.split(".") if not piece.isdigit()}
    return RecipeError(
        f"{called}: no tensor here belongs to the component '{component}'",
        hint=did_you_mean(component, (*COMPONENTS, *sorted(pieces)))
        or f"Known are {', '.join(COMPONENTS)}, and any part of tensors' names.",
    )
