"""Lays a recipe over its models: which output tensor comes from which source tensors, with which parameters.

Pure: tensor names, shapes and configs go in, an outline comes out. Everything that they can show to be
wrong is raised together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alloyd.errors import PlanError, RecipeError, ShapeMismatch, did_you_mean, raise_all
from alloyd.recipe import Recipe

from ..merge_method import METHODS, MergeMethod, Parameter, Scalar
from .findings import Findings
from .layers import Module
from .outline import Assignment, Input, LayerStack, Model, Outline
from .parameters import Level, Rule, resolve
from .runs import OF_SOURCE, Run, Runs
from .sources import Sources, TensorLike
from .unsupported import check_supported


def assign(
    recipe: Recipe,
    models: Sequence[Model],
    names: Sequence[Mapping[str, TensorLike]],
    configs: Sequence[Mapping[str, Any] | None],
    *,
    vocabularies: Sequence[str | None] = (),
    lenient: bool = False,
) -> Outline:
    """Lay ``recipe`` over its models.

    Parameters
    ----------
    models, names, configs:
        One entry for each of ``recipe.referenced_models()``, in that order: the model, its tensors by name
        in stored order, and its config.json (``None`` without one).
    vocabularies:
        For each model a digest of its token table, ``None`` where it is unknown; only recipes with
        ``tokenizer`` or ``tokenizer_source`` need them.
    lenient:
        What has no effect, or mixes architectures, is a warning instead of an error.

    Raises
    ------
    RecipeError, PlanError, ShapeMismatch, Problems
        Everything that names, shapes and configs show to be wrong, together.
    """
    found = Findings(recipe.warnings)
    check_supported(recipe, vocabularies, found)
    try:
        method = METHODS.get(recipe.merge_method)
    except RecipeError as error:
        found.error(error)
        raise_all(found.errors_told(recipe.merge_method))
        raise
    sources = Sources(recipe, models, names, configs)
    sources.check(found, method=method.name, lenient=lenient)
    runs = Runs(recipe, method, sources, found, lenient=lenient)
    assigner = _Assigner(recipe, method, sources, found)
    for module, its_runs in runs.by_module():
        if its_runs:
            assigner.lay_out(module, its_runs)
        elif its_runs is None and not found:
            assigner.copy(module)
    if not found:
        assigner.check_filters(runs.levels.values(), lenient=lenient)
        assigner.check_ties()
    raise_all(found.errors_told(method.name))
    return Outline(
        models=sources.models,
        donor=sources.donor,
        assignments=tuple(assigner.assignments.values()),
        stacks=tuple(assigner.stacks),
        dtype=recipe.dtype,
        out_dtype=recipe.out_dtype,
        seed=recipe.seed,
        warnings=found.warnings_told(),
    )


@dataclass(frozen=True, slots=True)
class _Held:
    """A source that has an output tensor: its place in the run, its model, and the stored tensor."""

    place: int
    model: int
    stored: str


class _Assigner:
    """What is laid out so far, and the rules for one tensor at a time. Names are canonical until they are stored."""

    def __init__(self, recipe: Recipe, method: MergeMethod, sources: Sources, found: Findings) -> None:
        self.recipe = recipe
        self.method = method
        self.sources = sources
        self.found = found
        self.assignments: dict[str, Assignment] = {}
        self.stacks: list[LayerStack] = []
        self.interned: dict[tuple[tuple[str, Scalar | None], ...], Mapping[str, Scalar | None]] = {}

    def lay_out(self, module: Module, runs: tuple[Run, ...]) -> None:
        """Assign a module's tensors: before the layers, the layers in order, after them."""
        part = self.recipe.modules.get(module.name)
        resliced = bool(self.recipe.slices or (part is not None and part.slices))
        self.outside(module, runs[0], resliced, before=True)
        if module.stack is not None:
            origins: list[tuple[int, int]] = []
            for run in runs:
                leader = run.sources[run.leader]
                for offset in range(run.length):
                    t = offset / (run.length - 1) if run.length > 1 else 1.0
                    self.layer(module, run, offset, len(origins), t)
                    origins.append((leader.model, leader.start + offset))
            stack = module.stack
            self.stacks.append(LayerStack(stack.prefix, stack.config_path, tuple(origins), resliced))
        self.outside(module, runs[-1], resliced, before=False)

    def outside(self, module: Module, run: Run, resliced: bool, *, before: bool) -> None:
        """Assign the tensors before or after the layers; gradients stand at their first value there."""
        listed: dict[str, None] = {}
        for source in (run.sources[run.leader], *run.sources):
            own = self.sources.module(source.model, module.name)
            if own is not None:
                listed |= dict.fromkeys(own.pre if before else own.post)
        for name in listed:
            if resliced and module.stack is not None and module.stack.numbers(name):
                self.found.unwritten(name)
            else:
                self.tensor(run, name, [name] * len(run.sources), 0.0)

    def layer(self, module: Module, run: Run, offset: int, number: int, t: float) -> None:
        """Assign the tensors of output layer ``number``."""
        assert module.stack is not None
        layers: list[dict[str, str]] = []
        for source in run.sources:
            own = self.sources.module(source.model, module.name)
            assert own is not None
            assert own.stack is not None
            layer = source.start + offset
            layers.append({rest: own.stack.name(layer, rest) for rest in own.stack.layers[layer]})
        for rest in dict.fromkeys(rest for layer in (layers[run.leader], *layers) for rest in layer):
            within = [layer.get(rest, "") for layer in layers]
            self.tensor(run, module.stack.name(number, rest), within, t)

    def tensor(self, run: Run, name: str, within: Sequence[str], t: float) -> None:
        """Assign one output tensor; ``within`` has its name in each source, empty where a layer lacks it."""
        leader = run.sources[run.leader]
        if self.sources.table.is_buffer(name):
            stored = self.sources.stored(leader.model, within[run.leader])
            if stored is None:
                self.found.unwritten(name)
            else:
                self.take(name, leader.model, stored)
            return
        held = [
            _Held(place, source.model, stored)
            for place, source in enumerate(run.sources)
            if (stored := self.sources.stored(source.model, within[place])) is not None
        ]
        if len(held) < len(run.sources) and self.partly_held(run, name, held):
            return
        if not self.same_shape(name, held):
            return
        shared = self.values(("shared",), run.around, name, t, None)
        inputs = []
        for each in held:
            scopes = ("input",) if each.place == run.base else OF_SOURCE
            levels = (run.sources[each.place].level, *run.around)
            values = self.values(scopes, levels, within[each.place] or name, t, each.model)
            inputs.append(Input(each.model, each.stored, values))
        base = next((index for index, each in enumerate(held) if each.place == run.base), None)
        self.put(name, self.method.name, tuple(inputs), base, shared)

    def partly_held(self, run: Run, name: str, held: Sequence[_Held]) -> bool:
        """Deal with a tensor that some sources lack; false when the method can combine the others."""
        if self.sources.table.is_optional(name) and not self.method.complete:
            if len(held) == 1 and self.method.singleton:
                self.take(name, held[0].model, held[0].stored)
                return True
            others = sum(each.place != run.base for each in held)
            if (run.base is None or len(held) > others) and others >= self.method.least:
                return False
        for place, source in enumerate(run.sources):
            if all(each.place != place for each in held):
                self.found.lacking(self.sources.name(source.model), self.sources.name(held[0].model), name)
        return True

    def same_shape(self, name: str, held: Sequence[_Held]) -> bool:
        """Whether all sources of a tensor have one shape; if not, that is noted."""
        shapes = {each.model: tuple(self.sources.names[each.model][each.stored].shape) for each in held}
        if len(set(shapes.values())) == 1:
            return True
        listed = ", ".join(f"{self.sources.name(model)} {list(shape)}" for model, shape in shapes.items())
        axis = self.sources.table.vocabulary.get(name)
        hint = "Only tensors of one shape can be combined."
        if axis is not None and len({shape[:axis] + shape[axis + 1 :] for shape in shapes.values()}) == 1:
            hint = (
                "The vocabularies differ in size: merge models that share one "
                "(building a vocabulary from several is not supported yet)."
            )
        self.found.unequal(ShapeMismatch(f"{name} has different shapes: {listed}", hint=hint, tensor=name))
        return False

    def values(
        self, scopes: Sequence[str], levels: Sequence[Level], name: str, t: float, model: int | None
    ) -> Mapping[str, Scalar | None]:
        """The values, for one tensor, of the parameters whose scope is one of ``scopes``."""
        values: dict[str, Scalar | None] = {}
        for parameter in self.method.parameters:
            if parameter.scope not in scopes:
                continue
            try:
                given, value = resolve(parameter, levels, name, t)
            except RecipeError as error:
                self.found.error(error)
                continue
            if given:
                values[parameter.name] = value
            elif not any(parameter.name in level.meant for level in levels):
                owner = "" if model is None else self.sources.name(model)
                self.found.unset(parameter.name, owner, self.how_to_set(parameter, model), name)
        return self.interned.setdefault(tuple(values.items()), values)

    def how_to_set(self, parameter: Parameter, model: int | None) -> str:
        """A hint for a required parameter without a value."""
        base = self.recipe.base_model
        if base is not None and self.sources.index[base] == model and self.method.base == "ignored":
            return (
                f"base_model counts as a source of {self.method.name}, as in mergekit: list it with a "
                f"{parameter.name}, or remove base_model."
            )
        return f"Give {parameter.name} under parameters, for one model or for all."

    def put(
        self,
        name: str,
        method: str,
        inputs: tuple[Input, ...],
        base: int | None,
        shared: Mapping[str, Scalar | None],
    ) -> None:
        """Record the assignment of one output tensor, under the donor's spelling of its name."""
        spelled = self.sources.layout.as_stored(name)
        if spelled in self.assignments:
            self.found.error(PlanError(f"two tensors would be written as {spelled}", tensor=spelled))
        axis = self.sources.table.vocabulary.get(name)
        self.assignments[spelled] = Assignment(spelled, method, inputs, base, shared, axis)

    def take(self, name: str, model: int, stored: str) -> None:
        """Record a tensor that is taken from one model as it is."""
        method = METHODS.get("passthrough")
        values = {each.name: None for each in method.parameters if each.scope != "shared"}
        self.put(name, method.name, (Input(model, stored, values),), None, {})

    def copy(self, module: Module) -> None:
        """Copy a module that the recipe leaves out from the donor."""
        donor, layout = self.sources.donor, self.sources.layout
        self.found.warn(
            f"the recipe leaves out the module '{module.name}': it is copied from {self.sources.name(donor)}"
        )
        names = list(module.pre)
        if module.stack is not None:
            stack = module.stack
            names += [stack.name(number, rest) for number, rests in enumerate(stack.layers) for rest in rests]
            origins = tuple((donor, number) for number in range(stack.count))
            self.stacks.append(LayerStack(stack.prefix, stack.config_path, origins, False))
        for name in (*names, *module.post):
            self.take(name, donor, layout.stored[name])

    def check_filters(self, levels: Iterable[Level], *, lenient: bool) -> None:
        """A filter that is part of no tensor's name is misspelt; one that decides nothing is worth a word."""
        names = {name for layout in self.sources.layouts for name in layout.stored}
        names |= {name for table in self.sources.tables for name in table.tied}
        names |= set(self.assignments)
        for level in levels:
            for parameter, rules in level.rules.items():
                for number, rule in enumerate(rules):
                    if (parameter, number) not in level.used and rule.filter not in (None, "", "*"):
                        self.unused_filter(f"{level.place}.{parameter}", rule, names, lenient)

    def unused_filter(self, place: str, rule: Rule, names: set[str], lenient: bool) -> None:
        where = f"{place}: the filter '{rule.filter}'"
        if any(rule.fits(name) for name in names):
            self.found.warn(f"{where} decides nothing: what stands before it or nearer decides first")
        elif lenient:
            self.found.warn(f"{where} is part of no tensor's name; ignored")
        else:
            parts = {part for name in names for part in name.split(".") if not part.isdigit()}
            hint = did_you_mean(rule.filter or "", parts)
            self.found.error(
                RecipeError(
                    f"{where} is part of no tensor's name",
                    hint=f"{hint} --lenient ignores it as mergekit does.",
                    key=place,
                )
            )

    def check_ties(self) -> None:
        """Tell of an output head that the donor's config declares tied."""
        config = self.sources.configs[self.sources.donor] or {}
        for name in self.sources.table.tied:
            added = self.sources.layout.as_stored(name) in self.assignments
            if added and name not in self.sources.layout.stored and config.get("tie_word_embeddings"):
                self.found.warn(
                    f"{name} is written because one of the models has it, but the config of "
                    f"{self.sources.name(self.sources.donor)} ties it, so that loaders may ignore it"
                )
