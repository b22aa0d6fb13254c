"""Parameter values of a recipe: checked against what the method declares, then evaluated for one tensor at a time.

The rules are mergekit's: a list of numbers is a gradient over the layers of a slice, a filter is part of a
tensor's name, the first filter that fits decides, and the nearest level that says something wins (source,
slice, module, whole recipe, default).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from alloyd.errors import AlloydError, RecipeError, did_you_mean, nearest
from alloyd.recipe import Condition, Setting

from ..merge_method import METHODS, MergeMethod, Parameter, Scalar

_TRUE: Final = frozenset(("true", "t", "yes", "y", "on", "1"))
_FALSE: Final = frozenset(("false", "f", "no", "n", "off", "0"))


@dataclass(frozen=True, slots=True)
class Rule:
    """The points of a gradient (one point: a constant) for names that contain ``filter``; ``None`` fits all."""

    filter: str | None
    points: tuple[Scalar, ...]

    def fits(self, name: str) -> bool:
        return self.filter is None or self.filter == "*" or self.filter in name


@dataclass(slots=True)
class Level:
    """The checked settings of one ``parameters`` mapping; ``place`` is how messages call it.

    ``used`` collects the rules that decided for some tensor, so that one that never could is told. ``meant`` has the
    parameters that unknown ones are taken for misspellings of.
    """

    place: str
    rules: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    used: set[tuple[str, int]] = field(default_factory=set)
    meant: frozenset[str] = frozenset()

    def evaluate(self, parameter: Parameter, name: str, t: float) -> Scalar | None:
        """The value for the tensor called ``name`` at position ``t``; ``None`` when this level says nothing.

        Raises
        ------
        RecipeError
            A gradient of a whole-number parameter lands between whole numbers.
        """
        for index, rule in enumerate(self.rules.get(parameter.name, ())):
            if rule.fits(name):
                self.used.add((parameter.name, index))
                return self._at(rule.points, parameter, t) if rule.points else None
        return None

    def _at(self, points: tuple[Scalar, ...], parameter: Parameter, t: float) -> Scalar:
        if len(points) == 1:
            return points[0]
        position = t * (len(points) - 1)
        index = int(position)
        if parameter.kind in (bool, str):
            return points[index]
        fraction = position - index
        after = points[min(len(points) - 1, index + 1)]
        value = (1 - fraction) * float(points[index]) + fraction * float(after)
        if parameter.kind is float:
            return value
        if not value.is_integer():
            raise RecipeError(
                f"{self.place}.{parameter.name} is {value:g} at position {t:g}, and must be a whole number",
                hint="Give one value instead of a gradient.",
                key=f"{self.place}.{parameter.name}",
            )
        return int(value)


def check(
    settings: Mapping[str, Setting],
    method: MergeMethod,
    place: str,
    *,
    scopes: Iterable[str] = ("shared", "input", "non_base"),
    lenient: bool = False,
) -> tuple[Level, list[AlloydError], list[str]]:
    """Check one ``parameters`` mapping: the level to evaluate, what is wrong with it, and warnings.

    ``scopes`` are those that may stand at this place: under a model a shared parameter has no meaning.
    """
    allowed = frozenset(scopes)
    rules: dict[str, tuple[Rule, ...]] = {}
    problems: list[AlloydError] = []
    warnings: list[str] = []
    meant: set[str] = set()
    for name, setting in settings.items():
        at = f"{place}.{name}"
        parameter = method.parameter(name)
        if parameter is None or parameter.scope not in allowed:
            error = _meaningless(name, parameter, method, place)
            if lenient:
                warnings.append(f"{error.message}; ignored")
            else:
                problems.append(error)
                meant |= _meant(name, method)
            continue
        checked, found = _check_setting(setting, parameter, at)
        rules[name] = checked
        problems += found
    return Level(place, rules, meant=frozenset(meant)), problems, warnings


def _meant(name: str, method: MergeMethod) -> set[str]:
    """The parameter that an unknown one is taken for a misspelling of; none where it is another method's name."""
    if any(each.parameter(name) is not None for _, each in METHODS.items()):
        return set()
    near = nearest(name, (each.name for each in method.parameters))
    return set() if near is None else {near}


def _meaningless(name: str, parameter: Parameter | None, method: MergeMethod, place: str) -> RecipeError:
    """The error for a parameter that has no effect where it stands."""
    key = f"{place}.{name}"
    if parameter is not None:
        why = "one value for a whole tensor" if parameter.scope == "shared" else "not a parameter of the base"
        return RecipeError(
            f"{key} has no effect: '{name}' of {method.name} is {why}",
            hint="Move it to the parameters of the slice or of the recipe; --lenient ignores it as mergekit does.",
            key=key,
        )
    known = [each.name for each in method.parameters]
    others = [each.name for _, each in METHODS.items() if each.parameter(name) is not None]
    if others:
        hint = f"'{name}' belongs to {', '.join(others)}; --lenient ignores it as mergekit does."
    else:
        near = did_you_mean(name, known) or f"{method.name} takes no parameters."
        hint = f"{near} --lenient ignores it as mergekit does."
    return RecipeError(f"{key}: {method.name} has no parameter '{name}'", hint=hint, key=key)


def _check_setting(
    setting: Setting, parameter: Parameter, place: str
) -> tuple[tuple[Rule, ...], list[AlloydError]]:
    """The rules of one setting, with every value of the declared type."""
    problems: list[AlloydError] = []

    def points(value: Scalar | tuple[Scalar, ...], at: str) -> tuple[Scalar, ...]:
        values = value if isinstance(value, tuple) else (value,)
        checked = []
        for index, each in enumerate(values):
            try:
                checked.append(
                    as_declared(each, parameter, f"{at}[{index}]" if isinstance(value, tuple) else at)
                )
            except RecipeError as error:
                problems.append(error)
        return tuple(checked)

    if isinstance(setting, Condition):
        return (Rule(setting.filter, points(setting.value, f"{place}.value")),), problems
    if isinstance(setting, tuple) and any(isinstance(each, Condition) for each in setting):
        conditions = [each for each in setting if isinstance(each, Condition)]
        rules = [
            Rule(each.filter, points(each.value, f"{place}[{index}].value"))
            for index, each in enumerate(conditions)
        ]
        return tuple(rules), problems
    plain = (
        tuple(each for each in setting if not isinstance(each, Condition))
        if isinstance(setting, tuple)
        else setting
    )
    return (Rule(None, points(plain, place)),), problems


def as_declared(value: Scalar, parameter: Parameter, place: str) -> Scalar:
    """``value`` as the type that ``parameter`` declares, within its bounds.

    Text that spells a number (YAML reads ``1e-5`` as text) counts as one where a number is declared.

    Raises
    ------
    RecipeError
        The value is of another type, not finite, or out of bounds.
    """
    converted = _convert(value, parameter.kind)
    if converted is None:
        raise RecipeError(
            f"{place} must be {_expected(parameter)}, not {_shown(value)}",
            hint=f"{parameter.name}: {parameter.about}.",
            key=place,
        )
    if isinstance(converted, str | bool):
        return converted
    low, high = parameter.low, parameter.high
    if (low is not None and converted < low) or (high is not None and converted > high):
        raise RecipeError(
            f"{place} is {_shown(value)}, and must be {_expected(parameter)}",
            hint=f"{parameter.name}: {parameter.about}.",
            key=place,
        )
    return converted


def _convert(value: Scalar, kind: type) -> Scalar | None:
    if kind is str:
        return value if isinstance(value, str) else None
    if kind is bool:
        if isinstance(value, str):
            word = value.strip().lower()
            return word in _TRUE if word in _TRUE | _FALSE else None
        return bool(value) if value in (0, 1) else None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if not math.isfinite(value):
        return None
    if kind is float:
        return float(value)
    return int(value) if float(value).is_integer() else None


def _shown(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)[:60]


def _expected(parameter: Parameter) -> str:
    names = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}
    low, high = parameter.low, parameter.high
    bounds = ""
    if low is not None and high is not None:
        bounds = f" from {low:g} to {high:g}"
    elif low is not None:
        bounds = f" of at least {low:g}"
    elif high is not None:
        bounds = f" of at most {high:g}"
    return names[parameter.kind] + bounds


def resolve(parameter: Parameter, levels: Sequence[Level], name: str, t: float) -> tuple[bool, Scalar | None]:
    """Whether ``parameter`` has a value for the tensor ``name`` at ``t``, and the value.

    ``levels`` go from the nearest to the farthest. Without any, the default counts; a required parameter
    has none.
    """
    for level in levels:
        value = level.evaluate(parameter, name, t)
        if value is not None:
            return True, value
    if isinstance(parameter.default, bool | int | float | str) or parameter.default is None:
        return True, parameter.default
    return False, None
