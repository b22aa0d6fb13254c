"""Parameter space: a recipe with knobs becomes genes, and a point a plain recipe that mergekit reads, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from alloyd.errors import AlloydError, Problems, RecipeError, did_you_mean, raise_all
from alloyd.recipe import Recipe
from alloyd.search_schema import Knob

from ...merge_method import METHODS, MergeMethod, Parameter
from ...recipes.assign import assign
from ...recipes.outline import Model
from ...recipes.parameters import as_declared
from ..drafts import Drafts, Ref, Rule
from ..genome import Genome, Point, check, first_point
from ..model_shape import ModelShape
from ..reach import Path as Place
from ..reach import Spot, spots
from ..space import PlainRecipe
from ..template import Template, as_recipe, merged, reference_of

_METHOD: Final = "merge_method"
_BESIDE_SOURCE: Final = ("input", "non_base")


class ParameterSpace:
    """The recipes that ``template`` stands for, over models of the shape ``shape``.

    Each knob is a gene, or one for each group of layers, component and pair of both. What is outside the layers goes
    with the first group where it comes before them, else with the last; a component without a tensor in the layers
    is not grouped, and tensors of no component that is named make one of their own. Where ``merge_method`` is
    a knob, parameters that the chosen method does not take are left out, and so is a base that it would count as a
    source, unless that is one of the models.

    Densities are kept above what would empty the smallest tensor, where mergekit gives up. ``warnings`` say so, and
    what is worth knowing of the recipe where the search begins.

    Raises
    ------
    RecipeError, PlanError, Problems
        Knobs that a method or these models cannot have, and whatever is wrong with the recipe under any of its methods.
    """

    def __init__(self, template: Template, shape: ModelShape) -> None:
        self._template = dict(template)
        self._shape = shape
        self._rules: dict[Place, dict[str, tuple[Rule, ...]]] = {}
        self._beside_source: set[Place] = set()
        drafts = Drafts()
        chosen = template[_METHOD]
        self._method = drafts.method(chosen) if isinstance(chosen, Knob) else chosen
        self._methods = _methods(chosen)
        base = template.get("base_model")
        self._merges_base = base is not None and reference_of(base) in merged(template)
        # Genes are in the order in which a reader meets their knobs; the whole recipe's come last.
        for spot in spots(template, shape):
            self._read(spot, drafts)
        raise_all(drafts.problems)
        self._genome = drafts.genes()
        raise_all(drafts.problems)
        self.warnings: tuple[str, ...] = tuple(dict.fromkeys((*drafts.warnings, *self._check_recipes())))

    @property
    def genome(self) -> Genome:
        return self._genome

    def recipe(self, point: Point) -> PlainRecipe:
        return self._decoded(point)[0]

    def active(self, point: Point) -> frozenset[str]:
        """The genes that the recipe of ``point`` depends on; the others belong to methods that it did not choose."""
        return self._decoded(point)[1]

    def _read(self, spot: Spot, drafts: Drafts) -> None:
        """Note the rules of every setting of one place, and what its knobs cannot be."""
        if spot.source:
            self._beside_source.add(spot.path)
        settings: Any = self._template
        for key in spot.path:
            settings = settings[key]
        read = self._rules.setdefault(spot.path, {})
        for name, setting in settings.items():
            declared = [
                (method, parameter)
                for method in self._methods.values()
                if (parameter := _taken(method, name, beside_source=spot.source)) is not None
            ]
            shared = bool(declared) and all(parameter.scope == "shared" for _, parameter in declared)
            read[name] = drafts.setting(setting, name, spot.owner, spot.outputs if shared else spot.inputs)
            where = f"{name}[{spot.owner}]" if spot.owner else name
            knobs = tuple(_knobs(setting))
            if knobs and not declared:
                drafts.problems.append(_without_effect(name, where, self._methods))
            for knob in knobs:
                for method, parameter in declared:
                    drafts.problems += _misfits(knob, method, parameter, where)

    def _decoded(self, point: Point) -> tuple[PlainRecipe, frozenset[str]]:
        check(self._genome, point)
        used: set[str] = set()

        def value_of(value: Any) -> Any:
            if isinstance(value, Ref):
                used.add(value.gene)
                return point[value.gene]
            return [value_of(each) for each in value] if isinstance(value, list) else value

        method = METHODS.get(value_of(self._method))

        def setting(found: tuple[Rule, ...]) -> Any:
            if len(found) == 1 and found[0].filter is None:
                return value_of(found[0].value)
            return [
                ({} if each.filter is None else {"filter": each.filter}) | {"value": value_of(each.value)}
                for each in found
            ]

        def built(value: Any, place: Place) -> Any:
            if place in self._rules:
                beside = place in self._beside_source
                return {
                    name: setting(found)
                    for name, found in self._rules[place].items()
                    if not isinstance(self._method, Ref) or _taken(method, name, beside_source=beside)
                }
            if isinstance(value, list):
                return [built(each, (*place, number)) for number, each in enumerate(value)]
            if not isinstance(value, Mapping):
                return value
            found = {key: built(each, (*place, key)) for key, each in value.items()}
            return {key: each for key, each in found.items() if key != "parameters" or each}

        recipe = dict(built({key: each for key, each in self._template.items() if key != _METHOD}, ()))
        if isinstance(self._method, Ref) and method.base == "ignored" and not self._merges_base:
            recipe.pop("base_model", None)
        return {_METHOD: method.name, **recipe}, frozenset(used)

    def _check_recipes(self) -> Iterator[str]:
        """Lay the recipe where the search begins over the models, under every method; yields what is worth knowing."""
        problems: list[AlloydError] = []
        for name in self._methods:
            point = first_point(self._genome)
            if isinstance(self._method, Ref):
                point[self._method.gene] = name
            try:
                yield from self._laid_out(as_recipe(self.recipe(point)))
            except AlloydError as error:
                found = error.problems if isinstance(error, Problems) else (error,)
                problems += [self._under(name, each) for each in found]
        raise_all(problems)

    def _laid_out(self, recipe: Recipe) -> tuple[str, ...]:
        refs = recipe.referenced_models()
        sources = [self._shape.sources[each] for each in refs]
        vocabularies = [None] * len(refs) if recipe.tokenizer or recipe.tokenizer_source else []
        return assign(
            recipe,
            [
                Model(str(each), Path(each.path), None if each.lora is None else Path(each.lora.path))
                for each in refs
            ],
            [each.tensors for each in sources],
            [each.config for each in sources],
            vocabularies=vocabularies,
        ).warnings

    def _under(self, method: str, error: AlloydError) -> AlloydError:
        """``error`` with the method under which it comes up, where there are several."""
        if len(self._methods) == 1:
            return error
        return type(error)(f"with {method}: {error.message}", hint=error.hint, **error.facts)


def _methods(chosen: str | Knob) -> dict[str, MergeMethod]:
    """The methods that a recipe can have. Raises RecipeError, Problems: unknown ones."""
    found: dict[str, MergeMethod] = {}
    problems: list[AlloydError] = []
    for name in chosen.choices if isinstance(chosen, Knob) else (chosen,):
        try:
            found[str(name)] = METHODS.get(str(name))
        except RecipeError as error:
            problems.append(error)
    raise_all(problems)
    return found


def _taken(method: MergeMethod, name: str, *, beside_source: bool) -> Parameter | None:
    """The parameter ``name`` of ``method``, if it has one that changes something there."""
    parameter = method.parameter(name)
    if parameter is None or parameter.idle or (beside_source and parameter.scope not in _BESIDE_SOURCE):
        return None
    return parameter


def _knobs(setting: Any) -> Iterator[Knob]:
    if isinstance(setting, Knob):
        yield setting
    elif isinstance(setting, Mapping):
        yield from _knobs(setting["value"])
    elif isinstance(setting, list):
        for each in setting:
            yield from _knobs(each)


def _without_effect(name: str, where: str, methods: Mapping[str, MergeMethod]) -> RecipeError:
    """The error for a knob of a parameter that changes nothing where it stands, under any of ``methods``."""
    known = {each.name for method in methods.values() for each in method.parameters if not each.idle}
    shared = any(method.parameter(name) is not None for method in methods.values()) and name in known
    hint = "Move it to the parameters of the slice or of the recipe." if shared else did_you_mean(name, known)
    return RecipeError(
        f"{where}: '{name}' changes nothing here under {' or '.join(methods)}, and so cannot be searched",
        hint=hint or f"Searched can be: {', '.join(sorted(known)) or 'nothing of this method'}.",
        key=name,
    )


def _misfits(knob: Knob, method: MergeMethod, parameter: Parameter, where: str) -> Iterator[AlloydError]:
    """What ``knob`` can be that ``parameter`` of ``method`` cannot."""
    if not knob.choices and (parameter.kind in (bool, str) or (parameter.kind is int and not knob.integer)):
        wanted = "integer: true" if parameter.kind is int else "choices"
        yield RecipeError(
            f"{where}: '{parameter.name}' of {method.name} cannot lie anywhere between two numbers",
            hint=f"Write {wanted}: {parameter.about}.",
        )
        return
    signed = (knob.low, knob.high, *((-each for each in (knob.low, knob.high) if each) if knob.sign else ()))
    for value in knob.choices or signed:
        if value is not None:
            try:
                as_declared(value, parameter, f"{where} with {method.name}")
            except RecipeError as error:
                yield error
