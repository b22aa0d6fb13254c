"""Draws texts to train on and items to score: reading, translation, bare equations and arithmetic word
problems.

The split of an item follows from a hash of its story alone (the concepts, before any language is chosen). So
search, validation and test never share a story with each other or with the training data, in either
language, and the L1 wording of an L2 test problem is as unseen as the problem itself. Bare equations are no
items: all of them may be trained on.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from .language import (
    ASK,
    CORE,
    EQUATION,
    GAINS,
    LOSSES,
    NAMES,
    OBJECTS,
    PLACES,
    SECOND,
    SIGN,
    SOLVE,
    TO_L1,
    TO_L2,
    Concepts,
    Language,
    render,
    word,
)

Split = Literal["train", "search", "validation", "test"]
SPLITS: Final[tuple[Split, ...]] = ("search", "validation", "test")
Story = tuple[Concepts, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt and the only answer that counts as right."""

    prompt: str
    answer: str

    @property
    def id(self) -> str:
        """Stable identity: 16 hex digits of SHA-256 over prompt and answer."""
        return hashlib.sha256(f"{self.prompt}\n{self.answer}".encode()).hexdigest()[:16]


def split_of(story: Story) -> Split:
    """The split a story belongs to: 76 % train, 6 % search, 6 % validation, 12 % test, by SHA-256 of its
    concepts.
    """
    bucket = int.from_bytes(hashlib.sha256(repr(story).encode()).digest()[:4], "big") % 100
    if bucket < 12:
        return "test"
    if bucket < 18:
        return "validation"
    return "search" if bucket < 24 else "train"


@dataclass(frozen=True, slots=True)
class Words:
    """The content words a story may use, and the kinds of word problems."""

    names: tuple[str, ...] = NAMES
    objects: tuple[str, ...] = OBJECTS
    places: tuple[str, ...] = PLACES
    gains: tuple[str, ...] = GAINS
    losses: tuple[str, ...] = LOSSES
    kinds: tuple[str, ...] = ("gain", "loss", "total", "difference")


def _core(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for word in words if word in CORE)


ALL: Final = Words()
CORE_WORDS: Final = Words(*(_core(words) for words in (NAMES, OBJECTS, PLACES, GAINS, LOSSES)))


def reading(
    rng: random.Random, words: Words, people: tuple[int, ...] = (2, 2, 3)
) -> tuple[Story, list[tuple[Concepts, str | int]]]:
    """A story of one of these numbers of people and every question it answers by itself, without calculation."""
    told = rng.sample(words.names, rng.choice(people))
    things = rng.sample(words.objects, len(told))
    story: list[Concepts] = []
    asked: list[tuple[Concepts, str | int]] = []
    for who, thing in zip(told, things, strict=True):
        kind = rng.choice(("has", "has", "at", "event", "change"))
        if kind == "at":
            place = rng.choice(words.places)
            story.append(("at", who, place))
            asked.append((("where?", who), place))
            continue
        if kind in ("has", "change"):
            count = rng.randrange(10)
            story.append(("has", who, count, thing))
            asked.append((("what-has?", who), thing))
            asked.append((("who-has?", thing), who))
            if kind == "has":
                asked.append((("count?", who, thing), count))
        if kind in ("event", "change"):
            gain = rng.random() < 0.5
            verb = rng.choice(words.gains if gain else words.losses)
            count = rng.randrange(10)
            story.append(("event", who, verb, count, thing))
            asked.append((("event-count?", who, verb, thing), count))
            asked.append((("direction?", who), "more" if gain else "fewer"))
    if len(story) == len(told):
        rng.shuffle(story)
    return tuple(story), asked


@dataclass(frozen=True, slots=True)
class Problem:
    """A story, what is asked about it, and the sum or difference of single digits that answers it."""

    story: Story
    question: Concepts
    first: int
    sign: Literal["+", "-"]
    second: int

    @property
    def equation(self) -> str:
        """The left-hand side, such as `3 + 4`."""
        return f"{self.first} {self.sign} {self.second}"

    @property
    def answer(self) -> int:
        """The solution, 0 to 18."""
        return self.first + self.second if self.sign == "+" else self.first - self.second


def arithmetic(rng: random.Random, words: Words) -> Problem:
    """A word problem of one of the kinds in `words`; half of them tell something beside the point."""
    one, other, third = rng.sample(words.names, 3)
    thing, another = rng.sample(words.objects, 2)
    first, second = rng.randrange(10), rng.randrange(10)
    kind = rng.choice(words.kinds)
    sign: Literal["+", "-"] = "+" if kind in ("gain", "total") else "-"
    if sign == "-":
        first, second = max(first, second), min(first, second)
    story: list[Concepts] = [("has", one, first, thing)]
    question: Concepts
    if kind in ("gain", "loss"):
        verb = rng.choice(words.gains if kind == "gain" else words.losses)
        story.append(("event", one, verb, second, thing))
        question = ("change?", one, thing)
    else:
        story.append(("has", other, second, thing))
        if rng.random() < 0.5:
            story.reverse()
            if kind == "total":
                first, second = second, first
        question = (f"{kind}?", one, other, thing)
    if rng.random() < 0.5:
        aside: Concepts = ("at", third, rng.choice(words.places))
        if kind in ("gain", "loss") and rng.random() < 0.5:
            aside = ("has", third, rng.randrange(10), rng.choice((thing, another)))
        story.insert(rng.randrange(len(story) + 1), aside)
    return Problem(tuple(story), question, first, sign, second)


def sentences(rng: random.Random, words: Words) -> Story:
    """One or two sentences or questions to translate; every kind that either language has can come up."""
    if rng.random() < 0.5:
        story, asked = reading(rng, words)
        pool = [*story, *(question for question, _ in asked)]
    else:
        problem = arithmetic(rng, words)
        pool = [*problem.story, problem.question, problem.question]
    return tuple(rng.sample(pool, rng.choice((1, 1, 2))))


def _say(story: Story, language: Language) -> str:
    return " ".join(render(sentence, language) for sentence in story)


def translation_item(story: Story, into: Language) -> Item:
    """Translate `story` into `into` from the other language."""
    source: Language = "l2" if into == "l1" else "l1"
    order = TO_L1 if into == "l1" else TO_L2
    return Item(f"{order} {_say(story, source)} {ASK}", _say(story, into))


def reading_items(
    rng: random.Random,
    words: Words,
    told: Language,
    asked_in: Language,
    most: int,
    people: tuple[int, ...] = (2, 2, 3),
) -> tuple[Story, list[Item]]:
    """A story told in one language with up to `most` questions asked, and to be answered, in another or the
    same.
    """
    story, asked = reading(rng, words, people)
    rng.shuffle(asked)
    text = _say(story, told)
    return story, [
        Item(f"{text} {render(question, asked_in)} {ASK}", word(answer, asked_in))
        for question, answer in asked[:most]
    ]


def _told(problem: Problem, language: Language) -> str:
    return f"{_say(problem.story, language)} {render(problem.question, language)}"


def arithmetic_item(rng: random.Random, words: Words, language: Language) -> tuple[Story, Item]:
    """A word problem to solve, in one language; the answer is the bare number."""
    problem = arithmetic(rng, words)
    return problem.story, Item(f"{_told(problem, language)} {SOLVE} {ASK}", str(problem.answer))


def set_up_item(rng: random.Random, words: Words, language: Language) -> tuple[Story, Item]:
    """A word problem in one language of which the equation, or a part of it, is wanted; never the solution."""
    problem = arithmetic(rng, words)
    wanted = rng.choice((EQUATION, SIGN, SECOND))
    answer = {EQUATION: problem.equation, SIGN: problem.sign, SECOND: str(problem.second)}[wanted]
    return problem.story, Item(f"{_told(problem, language)} {wanted} {ASK}", answer)


def _one_reading(language: Language) -> Callable[[random.Random], tuple[Story, Item]]:
    def draw(rng: random.Random) -> tuple[Story, Item]:
        story, items = reading_items(rng, ALL, language, language, 1)
        return story, items[0]

    return draw


def _one_translation(into: Language) -> Callable[[random.Random], tuple[Story, Item]]:
    def draw(rng: random.Random) -> tuple[Story, Item]:
        story = sentences(rng, ALL)
        return story, translation_item(story, into)

    return draw


TASKS: Final[dict[str, Callable[[random.Random], tuple[Story, Item]]]] = {
    "l1_arithmetic": lambda rng: arithmetic_item(rng, ALL, "l1"),
    "l2_arithmetic": lambda rng: arithmetic_item(rng, ALL, "l2"),
    "l1_language": _one_reading("l1"),
    "l2_language": _one_reading("l2"),
    "l2_to_l1": _one_translation("l1"),
    "l1_to_l2": _one_translation("l2"),
}
"""Every scored task and how one of its items is drawn, always over the whole vocabulary."""


def task_items(task: str, split: Split, count: int, seed: int) -> Iterator[Item]:
    """`count` different items of one task and split, in an order that (task, split, seed) alone decides."""
    rng = random.Random(f"{task} {split} {seed}")
    seen: set[str] = set()
    while len(seen) < count:
        story, item = TASKS[task](rng)
        if split_of(story) == split and item.id not in seen:
            seen.add(item.id)
            yield item
