"""Reads the knobs of a recipe template: which mappings are knobs, whether each makes sense, where one may stand."""

from __future__ import annotations

import contextlib
import math
from typing import Final

from .document_reader import DocumentReader
from .errors import did_you_mean
from .recipe_schema import Scalar
from .search_schema import Knob, Number
from .strict_yaml import Document, Plain, kind_of
from .strict_yaml import Path as Place

KEYS: Final = Knob.__struct_fields__
REST: Final = "rest"
"""How the genes are called of tensors that no component of a knob names."""
MOST_GROUPS: Final = 1000
MOST_CHOICES: Final = 256
FARTHEST: Final = 1e9
"""The magnitude that a bound may have: weights beyond it overflow, and so does an optimiser's arithmetic."""
_EXAMPLE: Final = "For example {low: 0, high: 1.5}, or {choices: [true, false]}."
_FRACTIONS: Final = ("density",)


def parameter_at(place: Place) -> str:
    """The name of the parameter that ``place`` is in, empty outside of parameters."""
    inner = place[2:] if place[:1] == ("modules",) else place
    after = inner[inner.index("parameters") + 1 :] if "parameters" in inner else ()
    return str(after[0]) if after else ""


def may_stand(place: Place) -> bool:
    """Whether a knob may stand at ``place`` of a recipe: at its method, or inside a mapping of parameters."""
    return place == ("merge_method",) or parameter_at(place) != ""


class KnobReader(DocumentReader):
    """Reads a template; places are counted from the recipe, so that messages are those of a recipe."""

    what = "the recipe"

    def __init__(self, document: Document, name: str, lenient: bool) -> None:
        super().__init__(document, name, lenient)
        self.misplaced: list[Place] = []

    def template(self, value: Plain, place: Place = ()) -> tuple[object, Plain]:
        """``value`` with a :class:`Knob` for each mapping that is one, and with its start in the knob's place."""
        if isinstance(value, list):
            pairs = [self.template(each, (*place, index)) for index, each in enumerate(value)]
            return [knobs for knobs, _ in pairs], [plain for _, plain in pairs]
        if not isinstance(value, dict) or place == ("tokenizer", "tokens"):
            return value, value
        if not self.is_knob(value, place):
            read = {key: self.template(each, (*place, key)) for key, each in value.items()}
            return (
                {key: knobs for key, (knobs, _) in read.items()},
                {key: plain for key, (_, plain) in read.items()},
            )
        if not may_stand(place):
            self.misplaced.append(place)
            self.problem(
                place,
                f"{self.dotted(place)} cannot be searched",
                "A knob stands at merge_method, or where parameters have a value.",
            )
            return None, _blank(value, place)
        knob = self.knob(value, place)
        return knob, _blank(value, place) if knob is None else beginning(knob)

    def spoils(self, place: Place) -> bool:
        """Whether what a recipe's own reader says of ``place`` comes of a knob that cannot stand there."""
        return any(
            place[: len(each)] == each or (place == each[:-1] and isinstance(each[-1], int))
            for each in self.misplaced
        )

    def is_knob(self, value: dict[str, Plain], place: Place) -> bool:
        """``low``, ``high`` or ``choices`` make a mapping a knob; so does any key of one where only a value may be."""
        if value.keys() & {"low", "high", "choices"}:
            return True
        named = value.keys() & set(KEYS) and not value.keys() & {"filter", "value"}
        return bool(named) and may_stand(place) and ("parameters" in place[-2:-1] or place[-1] == "value")

    def knob(self, value: dict[str, Plain], place: Place) -> Knob | None:
        """The knob that ``value`` describes, or ``None`` when something is wrong with it."""
        before = len(self.problems)
        fields = {key: each for key, each in self.mapping(value, place, KEYS).items() if each is not None}
        for key in ("log", "sign", "integer"):
            if not isinstance(fields.get(key, False), bool):
                self.problem(
                    (*place, key),
                    f"{self.dotted((*place, key))} must be true or false",
                    "Leave it out for false.",
                )
        name = self.text(fields["name"], (*place, "name")) if "name" in fields else None
        layers = (
            self.whole(fields["layers"], (*place, "layers"), 1, MOST_GROUPS) if "layers" in fields else None
        )
        components = self.components(fields["components"], place) if "components" in fields else ()
        choices = self.choices(fields["choices"], place) if "choices" in fields else ()
        low, high = (
            self.number(fields[key], (*place, key)) if key in fields else None for key in ("low", "high")
        )
        start: Scalar | None = None
        if "start" in fields:
            read = self.scalar if choices else self.number
            start = read(fields["start"], (*place, "start"))
        if len(self.problems) > before:
            return None
        knob = Knob(
            low=low,
            high=high,
            log=fields.get("log") is True,
            sign=fields.get("sign") is True,
            integer=fields.get("integer") is True,
            choices=choices,
            start=start,
            layers=layers,
            components=components,
            name=name,
        )
        self.check(knob, place)
        return knob if len(self.problems) == before else None

    def number(self, value: Plain, place: Place) -> Number | None:
        """A finite number; text that spells one counts, for YAML reads ``1e-5`` as text."""
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = float(value)
        if isinstance(value, bool | str) or not isinstance(value, int | float):
            self.problem(place, f"{self.dotted(place)} must be a number, not {kind_of(value)}", _EXAMPLE)
            return None
        if not math.isfinite(value):
            self.problem(place, f"{self.dotted(place)} must be finite, not {value}", _EXAMPLE)
            return None
        return value

    def components(self, value: Plain, place: Place) -> tuple[str, ...]:
        at = (*place, "components")
        names = self.entries(value, at, self.text)
        for name in dict.fromkeys(names):
            if name == REST:
                self.problem(at, f"{self.dotted(at)}: '{REST}' is what no component names", "Leave it out.")
            if names.count(name) > 1:
                self.problem(at, f"{self.dotted(at)} names '{name}' twice", "Keep one of them.")
        return names

    def choices(self, value: Plain, place: Place) -> tuple[Scalar, ...]:
        at = (*place, "choices")
        found: tuple[Scalar, ...] = self.entries(value, at, self.scalar)
        if isinstance(value, list) and len(value) == 1:
            self.problem(at, f"{self.dotted(at)} holds one value, which leaves nothing to choose", _EXAMPLE)
        if len(found) > MOST_CHOICES:
            self.problem(
                at,
                f"{self.dotted(at)} holds {len(found)} values, at most {MOST_CHOICES} are possible",
                "Numbers are searched by low and high.",
            )
        if len(set(map(repr, found))) < len(found):
            self.problem(at, f"{self.dotted(at)} holds a value twice", "Keep each once.")
        if place == ("merge_method",):
            for index, each in enumerate(found):
                self.text(each, (*at, index))
        return found

    def check(self, knob: Knob, place: Place) -> None:
        """Note what does not fit together in a knob whose fields are each of the right type."""
        at = self.dotted(place)
        if bool(knob.choices) == (knob.low is not None or knob.high is not None):
            keys = () if knob.choices else ("low", "high", "choices")
            self.needs(place, keys, f"{at} needs either 'low' and 'high', or 'choices'", _EXAMPLE)
            return
        if place == ("merge_method",) and (not knob.choices or knob.layers or knob.components):
            self.problem(
                place,
                "merge_method is searched by 'choices', for the whole model",
                "For example merge_method: {choices: [task_arithmetic, ties]}.",
            )
            return
        if (knob.layers is not None or knob.components) and isinstance(place[-1], int):
            self.problem(
                place,
                f"{at} is a point of a gradient, and has no layers or components of its own",
                "A gradient runs over the layers already; write one under each filter for components.",
            )
        if knob.choices:
            self.check_choices(knob, place)
            return
        if knob.low is None or knob.high is None:
            missing = "low" if knob.low is None else "high"
            self.needs(place, (missing,), f"{at} needs the key '{missing}'", _EXAMPLE)
            return
        for key, bound in (("low", knob.low), ("high", knob.high)):
            if abs(bound) > FARTHEST:
                self.problem(
                    (*place, key),
                    f"{at}: {key} is {bound:g}, and must lie from {-FARTHEST:g} to {FARTHEST:g}",
                    "Weights are mostly between -2 and 2.",
                )
                return
        if not knob.low < knob.high:
            self.problem(place, f"{at}: low is {knob.low} and must be below high, {knob.high}", _EXAMPLE)
        elif knob.log and knob.low <= 0:
            self.problem(
                (*place, "low"),
                f"{at}: with log, low must be above 0, not {knob.low}",
                "For example {low: 0.001, high: 1, log: true}.",
            )
        elif knob.sign and knob.low < 0:
            self.problem(
                (*place, "low"),
                f"{at}: with sign, low bounds the magnitude and must be at least 0, not {knob.low}",
                "Without sign, a negative low allows negative values.",
            )
        elif knob.integer and (knob.log or knob.sign or knob.low % 1 or knob.high % 1):
            self.problem(
                place,
                f"{at}: an integer has whole bounds, no log and no sign",
                "For example {low: 1, high: 8, integer: true}.",
            )
        elif parameter_at(place) in _FRACTIONS and knob.low <= 0:
            self.problem(
                (*place, "low"),
                f"{at}: low must be above 0, not {knob.low}: a density of 0 empties tensors",
                "For example low: 0.05.",
            )
        elif knob.start is not None:
            self.check_start(knob, place)

    def check_choices(self, knob: Knob, place: Place) -> None:
        at = self.dotted(place)
        for key in ("log", "sign", "integer"):
            if getattr(knob, key):
                self.problem((*place, key), f"{at}: '{key}' has no meaning for choices", "Leave it out.")
        if knob.start is not None and repr(knob.start) not in map(repr, knob.choices):
            near = (
                did_you_mean(knob.start, [str(each) for each in knob.choices])
                if isinstance(knob.start, str)
                else "Leave it out to begin at the first."
            )
            self.problem((*place, "start"), f"{at}: the start {knob.start!r} is none of the choices", near)

    def check_start(self, knob: Knob, place: Place) -> None:
        at = (*place, "start")
        start = knob.start
        if knob.low is None or knob.high is None or not isinstance(start, int | float):
            return
        if not knob.low <= (abs(start) if knob.sign else start) <= knob.high or (knob.integer and start % 1):
            what = "its magnitude " if knob.sign else ""
            self.problem(
                at,
                f"{self.dotted(at)} is {start}, and {what}must lie from {knob.low} to {knob.high}",
                "Leave it out to begin at low.",
            )

    def check_names(self, knobs: dict[Place, Knob]) -> None:
        """Knobs of one name are one knob, and say the same."""
        first: dict[str, Place] = {}
        for place, knob in knobs.items():
            if knob.name is None:
                continue
            other = first.setdefault(knob.name, place)
            if knobs[other] != knob:
                self.problem(
                    place,
                    f"the knob '{knob.name}' is not what it is on line {self.document.line(other)}",
                    "Knobs of one name are one knob: give them the same range, or two names.",
                )


def beginning(knob: Knob) -> Scalar:
    """A value that the knob can have: its start, else its first choice or lower bound."""
    if knob.start is not None:
        return knob.start
    if knob.choices:
        return knob.choices[0]
    return 0.0 if knob.low is None else knob.low


def knobs_of(template: object, place: Place = ()) -> dict[Place, Knob]:
    """Every knob of a template, by where it stands, in its order."""
    if isinstance(template, Knob):
        return {place: template}
    found: dict[Place, Knob] = {}
    if isinstance(template, dict | list):
        for key, each in template.items() if isinstance(template, dict) else enumerate(template):
            found |= knobs_of(each, (*place, key))
    return found


def _blank(value: dict[str, Plain], place: Place) -> Plain:
    """What the recipe's own reader sees in the place of a knob that is wrong, so that it finds nothing more in it."""
    return 0.0 if parameter_at(place) else "linear"
