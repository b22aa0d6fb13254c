"""A recipe's models, slices and modules as runs of layers, each checked against what the method asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from alloyd.errors import AlloydError, PlanError, did_you_mean
from alloyd.recipe import InputModel, ModelRef, Recipe, Settings, Slice

from ..merge_method import MergeMethod
from .findings import Findings
from .layers import Module
from .parameters import Level, check
from .sources import Sources

EVERY: Final = ("shared", "input", "non_base")
OF_SOURCE: Final = ("input", "non_base")
_JOINED: Final = "base_model"


@dataclass(frozen=True, slots=True)
class From:
    """One source of a run: a model, its first layer, and the parameters written beside it."""

    model: int
    start: int
    level: Level


@dataclass(frozen=True, slots=True)
class Run:
    """``length`` output layers from as many of each source.

    ``base`` is the base's place in ``sources``, or ``None``; ``around`` are the levels of parameters
    outside the sources, the nearest first.
    """

    sources: tuple[From, ...]
    length: int
    base: int | None
    around: tuple[Level, ...]

    @property
    def leader(self) -> int:
        """The place of the source whose order and layer entries the output follows: the base, else the first."""
        return self.base or 0


class Runs:
    """Reads the runs of one recipe, noting what is wrong; ``levels`` holds every checked mapping of parameters."""

    def __init__(
        self, recipe: Recipe, method: MergeMethod, sources: Sources, found: Findings, *, lenient: bool
    ) -> None:
        self.recipe = recipe
        self.method = method
        self.sources = sources
        self.found = found
        self.lenient = lenient
        self.levels: dict[str, Level] = {}

    def by_module(self) -> Iterator[tuple[Module, tuple[Run, ...] | None]]:
        """Each module of the donor with its runs; ``None`` for a module that the recipe leaves out."""
        recipe, known = self.recipe, self.sources.layout.modules
        overall = self.level(recipe.parameters, "parameters")
        if recipe.slices and len(known) > 1:
            self.found.error(
                PlanError(
                    f"slices do not say which of the modules {', '.join(known)} they mean",
                    hint=f"Write modules: {{{next(iter(known))}: {{slices: ...}}}}.",
                )
            )
            return
        for name in recipe.modules:
            if name not in known:
                donor = self.sources.name(self.sources.donor)
                self.found.error(
                    PlanError(
                        f"{donor} has no module '{name}'",
                        hint=did_you_mean(name, known),
                        key=f"modules.{name}",
                    )
                )
        for module in known.values():
            if recipe.models:
                yield module, self.whole(module, recipe.models, "models", (overall,))
            elif recipe.slices:
                yield module, self.sliced(module, recipe.slices, "slices", (overall,))
            elif module.name not in recipe.modules:
                yield module, None
            else:
                part, place = recipe.modules[module.name], f"modules.{module.name}"
                around = (self.level(part.parameters, f"{place}.parameters"), overall)
                if part.slices:
                    yield module, self.sliced(module, part.slices, f"{place}.slices", around)
                else:
                    yield module, self.whole(module, part.models, f"{place}.models", around)

    def level(self, settings: Settings, place: str, scopes: tuple[str, ...] = EVERY) -> Level:
        """The checked settings written at ``place``; each place is checked once."""
        if place not in self.levels:
            self.levels[place], errors, warnings = check(
                settings, self.method, place, scopes=scopes, lenient=self.lenient
            )
            self.found.error(*errors)
            self.found.warn(*warnings)
        return self.levels[place]

    def whole(
        self, module: Module, entries: Sequence[InputModel], place: str, around: tuple[Level, ...]
    ) -> tuple[Run, ...]:
        """One run over all layers of whole models; a base that is not listed joins at the end, as in mergekit."""
        index, base = self.sources.index, self.recipe.base_model
        sources = [
            From(
                index[each.model],
                0,
                self.level(each.parameters, f"{place}[{number}].parameters", OF_SOURCE),
            )
            for number, each in enumerate(entries)
        ]
        if base is not None and all(each.model != index[base] for each in sources):
            sources.append(From(index[base], 0, Level(_JOINED)))
        depths = {each.model: self.sources.depth(each.model, module.name) for each in sources}
        if len(set(depths.values())) > 1:
            listed = ", ".join(f"{self.sources.name(model)} has {depth}" for model, depth in depths.items())
            self.found.error(
                PlanError(
                    f"the models differ in their number of layers: {listed}",
                    hint="Choose equally many layers of each with slices and layer_range.",
                )
            )
            return ()
        return self.run(place, sources, next(iter(depths.values())), base, around)

    def sliced(
        self, module: Module, slices: Sequence[Slice], place: str, around: tuple[Level, ...]
    ) -> tuple[Run, ...]:
        """One run for each slice; none when a slice is wrong."""
        runs: list[Run] = []
        for number, each in enumerate(slices):
            at = f"{place}[{number}]"
            sources = []
            for place_in_slice, source in enumerate(each.sources):
                where = f"{at}.sources[{place_in_slice}]"
                level = self.level(source.parameters, f"{where}.parameters", OF_SOURCE)
                model = self.sources.index[source.model]
                sources.append(From(model, source.layer_range[0], level))
                depth = self.sources.depth(model, module.name)
                if source.layer_range[1] > depth:
                    self.found.error(
                        PlanError(
                            f"{where}.layer_range ends at {source.layer_range[1]}, and {source.model} has "
                            f"{depth} layers",
                            hint=f"The largest end is {depth}.",
                            key=f"{where}.layer_range",
                        )
                    )
            start, end = each.sources[0].layer_range
            inner = (self.level(each.parameters, f"{at}.parameters"), *around)
            runs += self.run(at, sources, end - start, each.base_model or self.recipe.base_model, inner)
        return () if self.found else tuple(runs)

    def run(
        self,
        place: str,
        sources: Sequence[From],
        length: int,
        base: ModelRef | None,
        around: tuple[Level, ...],
    ) -> tuple[Run, ...]:
        """A run, if its sources are what the method asks for."""
        errors = tuple(self.contract_problems(place, sources, base))
        self.found.error(*errors)
        if errors:
            return ()
        at = None
        if base is not None and self.method.base != "ignored":
            at = [each.model for each in sources].index(self.sources.index[base])
            level = sources[at].level
            idle = [each.name for each in self.method.parameters if each.scope == "non_base"]
            for name in level.rules.keys() & set(idle):
                self.found.warn(f"{level.place}.{name} has no effect on the base model")
        return (Run(tuple(sources), length, at, around),)

    def contract_problems(
        self, place: str, sources: Sequence[From], base: ModelRef | None
    ) -> Iterator[AlloydError]:
        """What a run's sources lack, or have too much of, for the method."""
        method = self.method
        taken = [(each.model, each.start) for each in sources]
        for model, start in dict.fromkeys(taken):
            if taken.count((model, start)) > 1:
                yield PlanError(
                    f"{place} names the same layers of {self.sources.name(model)} twice",
                    hint="Keep one of them.",
                )
        others = len(sources)
        if method.base != "ignored" and base is not None:
            times = [each.model for each in sources].count(self.sources.index[base])
            if times != 1:
                yield _base_problem(place, method.name, base, times)
                return
            others -= 1
        elif method.base == "required":
            yield PlanError(
                f"{method.name} needs a base_model", hint="Add base_model: the models' common ancestor."
            )
            return
        if method.least <= others and (method.most is None or others <= method.most):
            return
        what = "source" if method.base == "ignored" else "source beside the base"
        hint = "Add some." if others < method.least else "Take some away."
        if any(each.level.place == _JOINED for each in sources) and method.base == "ignored":
            hint = "base_model is not listed, so it counts as a source, as in mergekit; remove base_model."
        yield PlanError(
            f"{place}: {method.name} takes {_wanted(method)} {what}{'' if method.most == 1 else 's'}, "
            f"and has {others}",
            hint=hint,
        )


def _base_problem(place: str, method: str, base: ModelRef, times: int) -> PlanError:
    """The error for a base that is not exactly once among the sources."""
    if times > 1:
        return PlanError(
            f"{place}: the base model {base} is {times} times among the sources, and {method} takes it once",
            hint="Keep one of them.",
        )
    return PlanError(
        f"{place}: the base model {base} is not among the sources, and {method} needs it there",
        hint=f"Add {{model: {base}, layer_range: [...]}} to the sources.",
    )


def _wanted(method: MergeMethod) -> str:
    """The number of sources that a method takes, in words."""
    if method.most is None:
        return f"at least {method.least}"
    return f"exactly {method.least}" if method.least == method.most else f"{method.least} to {method.most}"
