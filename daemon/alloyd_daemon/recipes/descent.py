"""Descents: how a model came from others by crossing weights over, as one line of text (arXiv:2406.12208, Evolver).

    m1<m2*0.5@0.9#17 1<m3*0.5@0.9#18

``m1`` is the recipe's first model, ``1`` what the first step made. Step one starts from m1 and goes half of the way
(``*0.5``) to m2, at 90 % of the weights (``@0.9``), which the seed 17 draws; step two goes on from there. What the last
step makes is the result. ``m1<m2+m3-m4*0.5@0.9#17`` is a step of differential evolution instead (rand/1: m2 plus half
of the difference between m3 and m4, elsewhere m1). ``m2`` alone is the second model itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from alloyd.errors import RecipeError

MOST_STEPS: Final = 1000
"""Steps that one descent may have; at half a nanosecond for each weight and step, more than anybody would wait for."""

MOST_TEXT: Final = 65_536
MOST_FACTOR: Final = 2.0
MOST_SEED: Final = 2**53 - 1

_MEMBER: Final = r"(?:m[1-9][0-9]{0,3}|[1-9][0-9]{0,3})"
_NUMBER: Final = r"(?:0|[1-9][0-9]{0,2})(?:\.[0-9]{1,9})?"
_ALONE: Final = re.compile(r"m([1-9][0-9]{0,3})")
_STEP: Final = re.compile(
    rf"(?P<parent>{_MEMBER})<(?P<toward>{_MEMBER})(?:\+(?P<plus>{_MEMBER})-(?P<minus>{_MEMBER}))?"
    rf"\*(?P<factor>{_NUMBER})@(?P<rate>{_NUMBER})#(?P<seed>0|[1-9][0-9]{{0,15}})"
)

Member = tuple[bool, int]
"""(whether it is a model of the recipe, its number from 0)."""


@dataclass(frozen=True, slots=True)
class Step:
    """One child: ``start`` + ``factor`` * (``toward`` - ``away``) where a draw is below ``rate``, ``parent`` elsewhere.

    With ``start`` and ``away`` both the parent, it lies between the parent and ``toward``.
    """

    parent: Member
    start: Member
    toward: Member
    away: Member
    factor: float
    rate: float
    seed: int

    @staticmethod
    def between(parent: Member, toward: Member, *, factor: float, rate: float, seed: int) -> Step:
        """A step from ``parent`` in the direction of ``toward``."""
        return Step(parent, parent, toward, parent, factor, rate, seed)

    @property
    def members(self) -> tuple[Member, Member, Member, Member]:
        """All that it is made of."""
        return self.parent, self.start, self.toward, self.away

    def renumbered(self, steps: Mapping[int, int], models: Mapping[int, int]) -> Step:
        """The same step where models and steps have other numbers."""
        parent, start, toward, away = (
            (True, models[number]) if model else (False, steps[number]) for model, number in self.members
        )
        return Step(parent, start, toward, away, self.factor, self.rate, self.seed)

    def __str__(self) -> str:
        parent, start, toward, away = (f"m{n + 1}" if model else str(n + 1) for model, n in self.members)
        between = self.start == self.parent == self.away
        way = toward if between else f"{start}+{toward}-{away}"
        return f"{parent}<{way}*{_text(self.factor)}@{_text(self.rate)}#{self.seed}"


@dataclass(frozen=True, slots=True)
class Descent:
    """What the last of ``steps`` makes, or the model ``alone`` (its number from 0) where there is none.

    A step refers to models and to steps before it; every step is needed for the result.
    """

    steps: tuple[Step, ...] = ()
    alone: int = 0

    @property
    def models(self) -> tuple[int, ...]:
        """The numbers of the models that it is made of, ascending."""
        if not self.steps:
            return (self.alone,)
        return tuple(sorted({n for each in self.steps for model, n in each.members if model}))

    def among(self, models: Sequence[int]) -> Descent:
        """The same descent in a recipe that lists only ``models`` (numbers of this one's), in that order."""
        places = {number: place for place, number in enumerate(models)}
        if not self.steps:
            return Descent(alone=places[self.alone])
        unchanged = {number: number for number in range(len(self.steps))}
        return Descent(tuple(each.renumbered(unchanged, places) for each in self.steps))

    def __str__(self) -> str:
        return " ".join(map(str, self.steps)) if self.steps else f"m{self.alone + 1}"


def child(parent: Descent, others: Sequence[Descent], *, factor: float, rate: float, seed: int) -> Descent:
    """A child of ``parent`` and one other (a step towards it) or three (a step of differential evolution).

    Steps that they have in common are there once.
    """
    steps: dict[Step, int] = {}
    ends: list[Member] = []
    for each in (parent, *others):
        places: dict[int, int] = {}
        for number, step in enumerate(each.steps):
            moved = step.renumbered(places, _Same())
            places[number] = steps.setdefault(moved, len(steps))
        ends.append((False, places[len(each.steps) - 1]) if each.steps else (True, each.alone))
    first = ends[0]
    if len(ends) == 2:
        last = Step.between(first, ends[1], factor=factor, rate=rate, seed=seed)
    else:
        start, toward, away = ends[1:]
        last = Step(first, start, toward, away, factor, rate, seed)
    return pruned((*steps, last))


def pruned(steps: Sequence[Step]) -> Descent:
    """The descent of the last of ``steps``, without those that it does not need."""
    needed = {len(steps) - 1}
    for number in range(len(steps) - 1, -1, -1):
        if number in needed:
            needed |= {n for model, n in steps[number].members if not model}
    places: dict[int, int] = {}
    kept: list[Step] = []
    for number in sorted(needed):
        kept.append(steps[number].renumbered(places, _Same()))
        places[number] = len(places)
    return Descent(tuple(kept))


@lru_cache(maxsize=256)
def read(text: str, models: int) -> Descent:
    """Read a descent over so many ``models``; steps that the result does not need are left out.

    Raises
    ------
    RecipeError
        Text of another form, a model or step that is not there, a number out of range, or far too many steps.
    """
    if len(text) > MOST_TEXT or text.count(" ") >= MOST_STEPS:
        raise _wrong(
            f"it has {len(text):,} characters and {text.count(' ') + 1:,} steps",
            f"at most {MOST_STEPS:,} steps",
        )
    alone = _ALONE.fullmatch(text)
    if alone is not None:
        _check_model(int(alone[1]) - 1, models, text)
        return Descent(alone=int(alone[1]) - 1)
    steps: list[Step] = []
    for number, word in enumerate(text.split(" ")):
        match = _STEP.fullmatch(word)
        if match is None:
            raise _wrong(f"step {number + 1} is '{word[:60]}'", "steps such as m1<m2*0.5@0.9#17")
        parent, toward = _member(match["parent"]), _member(match["toward"])
        factor, rate, seed = float(match["factor"]), float(match["rate"]), int(match["seed"])
        if match["plus"] is None:
            step = Step.between(parent, toward, factor=factor, rate=rate, seed=seed)
        else:
            step = Step(parent, toward, _member(match["plus"]), _member(match["minus"]), factor, rate, seed)
        for model, member in step.members:
            if model:
                _check_model(member, models, word)
            elif member >= number:
                raise _wrong(f"step {number + 1} uses step {member + 1}", "only steps before it")
        if not 0.0 < factor <= MOST_FACTOR:
            raise _wrong(
                f"step {number + 1} goes {match['factor']} of the way",
                f"more than 0, at most {MOST_FACTOR:g}",
            )
        if not 0.0 < rate <= 1.0:
            raise _wrong(f"step {number + 1} is at {match['rate']} of the weights", "more than 0, at most 1")
        if seed > MOST_SEED:
            raise _wrong(f"step {number + 1} has the seed {seed}", f"at most {MOST_SEED}")
        steps.append(step)
    return pruned(steps)


class _Same(dict[int, int]):
    """Numbers that stay as they are."""

    def __missing__(self, number: int) -> int:
        return number


def _member(text: str) -> Member:
    return (True, int(text[1:]) - 1) if text.startswith("m") else (False, int(text) - 1)


def _check_model(number: int, models: int, word: str) -> None:
    if number >= models:
        raise _wrong(
            f"'{word[:60]}' uses m{number + 1}", f"m1 to m{models}, for the recipe has {models} models"
        )


def _text(number: float) -> str:
    """Decimal digits that read back as ``number`` rounded to nine places, without an exponent."""
    return f"{number:.9f}".rstrip("0").rstrip(".")


def _wrong(what: str, expected: str) -> RecipeError:
    return RecipeError(
        f"descent: {what}; expected {expected}",
        hint="docs/compatibility.md explains descents; an evolver search writes them.",
        key="descent",
    )
