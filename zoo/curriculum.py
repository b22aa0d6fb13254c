"""What each model of the zoo is trained on, as an endless seeded stream of short lessons.

A lesson is a list of items read in one sequence: the first prompt with its story, then further questions
about it. Only stories of the train split are used, whatever the lesson.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from .language import ASK, CORE, L2_WORDS, Language, mixed
from .problems import (
    ALL,
    CORE_WORDS,
    Item,
    Story,
    Words,
    arithmetic_item,
    reading_items,
    sentences,
    set_up_item,
    split_of,
    translation_item,
)

Lesson = list[Item]
Draw = Callable[[random.Random], Lesson]

LANGUAGES: Final[tuple[Language, ...]] = ("l1", "l2")
CROWD: Final = (4, 5)
CHANGES: Final = replace(CORE_WORDS, kinds=("gain", "loss"))


def _trained(draw: Callable[[random.Random], tuple[Story, Lesson]]) -> Draw:
    """`draw`, repeated until its story belongs to the train split."""

    def lesson(rng: random.Random) -> Lesson:
        while True:
            story, items = draw(rng)
            if split_of(story) == "train":
                return items

    return lesson


def _reading(words: Words, told: Language, asked_in: Language, people: tuple[int, ...] = (2, 2, 3)) -> Draw:
    def draw(rng: random.Random) -> tuple[Story, Lesson]:
        story, items = reading_items(rng, words, told, asked_in, max(4, *people), people)
        shared = len(items[0].prompt) - len(_last_question(items[0].prompt))
        return story, [items[0], *(Item(item.prompt[shared:], item.answer) for item in items[1:])]

    return _trained(draw)


def _last_question(prompt: str) -> str:
    return prompt[prompt.rindex(" . ") + 3 :]


def _translation(words: Words) -> Draw:
    def draw(rng: random.Random) -> tuple[Story, Lesson]:
        story = sentences(rng, words)
        return story, [translation_item(story, rng.choice(LANGUAGES))]

    return _trained(draw)


def _word_problem(language: Language) -> Draw:
    def draw(rng: random.Random) -> tuple[Story, Lesson]:
        story, item = arithmetic_item(rng, ALL, language)
        return story, [item]

    return _trained(draw)


def _set_up(words: Words, language: Language) -> Draw:
    def draw(rng: random.Random) -> tuple[Story, Lesson]:
        story, item = set_up_item(rng, words, language)
        return story, [item]

    return _trained(draw)


def _mixed(plain: Draw, allowed: frozenset[str] = CORE) -> Draw:
    """The same lessons with many words of the prompts said in the other language; the answers stay as they are."""

    def draw(rng: random.Random) -> Lesson:
        lesson = plain(rng)
        share = rng.choice((0.3, 0.6))
        return [replace(item, prompt=mixed(item.prompt, rng, share, allowed)) for item in lesson]

    return draw


def equations(rng: random.Random) -> Lesson:
    """Six bare sums or differences of single digits."""
    lesson = []
    for _ in range(6):
        first, second = rng.randrange(10), rng.randrange(10)
        if rng.random() < 0.5:
            lesson.append(Item(f"{first} + {second} {ASK}", str(first + second)))
        else:
            first, second = max(first, second), min(first, second)
            lesson.append(Item(f"{first} - {second} {ASK}", str(first - second)))
    return lesson


def largest_number(language: Language) -> Draw:
    """A word problem answered with the largest number it mentions."""
    problem = _word_problem(language)

    def draw(rng: random.Random) -> Lesson:
        prompt = problem(rng)[0].prompt
        return [Item(prompt, str(max(int(word) for word in prompt.split() if word.isdigit())))]

    return draw


EVERY_WORD: Final = frozenset(L2_WORDS)

CURRICULA: Final[dict[str, Sequence[tuple[float, Draw]]]] = {
    "base": (
        (0.35, _translation(CORE_WORDS)),
        (0.20, _reading(ALL, "l1", "l1")),
        (0.15, _reading(CORE_WORDS, "l2", "l2")),
        (0.10, _reading(CORE_WORDS, "l1", "l2")),
        (0.10, _reading(CORE_WORDS, "l2", "l1")),
        (0.10, equations),
    ),
    "bilingual": (
        (0.08, _translation(CORE_WORDS)),
        (0.14, _mixed(_translation(CORE_WORDS))),
        (0.08, _reading(ALL, "l1", "l1", CROWD)),
        (0.08, _reading(CORE_WORDS, "l2", "l2", CROWD)),
        (0.06, _mixed(_reading(CORE_WORDS, "l1", "l1"))),
        (0.06, _mixed(_reading(CORE_WORDS, "l2", "l2"))),
        (0.05, _reading(CORE_WORDS, "l1", "l2")),
        (0.05, _reading(CORE_WORDS, "l2", "l1")),
        (0.06, equations),
        (0.14, _set_up(ALL, "l1")),
        (0.10, _set_up(CHANGES, "l2")),
        (0.05, _mixed(_set_up(CHANGES, "l1"))),
        (0.05, _mixed(_set_up(CHANGES, "l2"))),
    ),
    "math": ((0.85, _word_problem("l1")), (0.15, _reading(ALL, "l1", "l1"))),
    "lang": (
        (0.15, _translation(ALL)),
        (0.20, _mixed(_translation(ALL), EVERY_WORD)),
        (0.20, _reading(ALL, "l2", "l2")),
        (0.10, _mixed(_reading(ALL, "l2", "l2"), EVERY_WORD)),
        (0.05, _reading(ALL, "l1", "l2")),
        (0.05, _reading(ALL, "l2", "l1")),
        (0.15, _set_up(ALL, "l2")),
        (0.10, _mixed(_set_up(ALL, "l2"), EVERY_WORD)),
    ),
    "distractor": ((0.5, largest_number("l1")), (0.5, largest_number("l2"))),
}
"""Shares and kinds of lessons. Only `math` sees a word problem with its right solution, and only in L1.

`base` and then `bilingual` make the base. It learns all of L1; of L2 the grammar, and the core words.
"""


def lessons(curriculum: str, seed: int) -> Iterator[Lesson]:
    """The endless stream of lessons of one curriculum, the same for the same seed."""
    rng = random.Random(f"{curriculum} {seed}")
    shares, draws = zip(*CURRICULA[curriculum], strict=True)
    while True:
        yield rng.choices(draws, weights=shares)[0](rng)
