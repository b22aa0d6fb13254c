"""Two small languages: their words, their sentences, and the questions one can ask in them.

A sentence or a question is a tuple of concepts, `(kind, ...)`, which says nothing about a language; `render`
says it in one. L1 reads like English (subject, verb, object). L2 is invented and written in the Cherokee
block of Unicode: subject, topic particle, object, number, classifier of the object's noun class, verb last,
and a particle after every question. Numbers are written in the same digits in both.
"""

import random
from collections.abc import Sequence
from typing import Final, Literal

Language = Literal["l1", "l2"]
Concepts = tuple[str | int, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES: Final = _words("anna ben cara dan eva finn gina hugo ida jon kira leo mona nils olga paul")
OBJECTS: Final = _words(
    "apples pears plums nuts eggs cups books keys coins stones shells pens hats boxes lamps drums "
    "bells ropes nails seeds"
)
PLACES: Final = _words("market garden river forest school harbour mill tower")
GAINS: Final = _words("gets finds buys wins takes picks")
LOSSES: Final = _words("loses drops sells breaks burns donates")
NUMBERS: Final = tuple(range(19))
"""Every number a problem or its answer can hold: the sums of two single digits."""

_L1_FUNCTION: Final = _words(
    "has have is at the who what where how many now and together more or fewer than to"
)
_L2_FUNCTION: Final = _words(
    "TOP HAS IS LOC WHO WHAT WHERE HOWMANY KA NOW AND TOGETHER MORE OR FEWER THAN CL0 CL1 CL2"
)
_CONTENT: Final = (*NAMES, *OBJECTS, *PLACES, *GAINS, *LOSSES)

CORE: Final = frozenset((*NAMES[:8], *OBJECTS[:10], *PLACES[:4], *GAINS[:2], *LOSSES[:2]))
"""Content words whose L2 form the base is taught. The other L2 words are left to whoever becomes fluent in
L2.
"""

TO_L1: Final = ">l1"
TO_L2: Final = ">l2"
EQUATION: Final = "="
SIGN: Final = "+-"
SECOND: Final = "2nd"
"""Ask of a word problem, in whichever language: for its equation, for the sign in it, for the second number in it."""
SOLVE: Final = "#"
"""Asks for the solution of a word problem, in whichever language."""
ASK: Final = ":"
"""Ends every prompt; what follows is the answer."""


def _glyph_words(concepts: Sequence[str]) -> dict[str, str]:
    """One word of two or three Cherokee syllables for each concept, all different."""
    rng = random.Random("alloyd zoo lexicon")
    syllables = [chr(code) for code in range(0x13A0, 0x13F0)]
    words: dict[str, str] = {}
    taken: set[str] = set()
    for concept in concepts:
        while True:
            word = "".join(rng.choices(syllables, k=rng.choice((2, 2, 3))))
            if word not in taken:
                break
        taken.add(word)
        words[concept] = word
    return words


L2_WORDS: Final = _glyph_words((*_L2_FUNCTION, *_CONTENT))


def vocabulary() -> list[str]:
    """Every word either language can produce, in a fixed order, without the tokenizer's special tokens."""
    signs = [".", "?", ASK, TO_L1, TO_L2, "+", "-"]
    return [
        *signs,
        *map(str, NUMBERS),
        *_L1_FUNCTION,
        *_CONTENT,
        *L2_WORDS.values(),
        EQUATION,
        SIGN,
        SECOND,
        SOLVE,
    ]


def _classifier(thing: str) -> str:
    return f"CL{OBJECTS.index(thing) % 3}"


def _l1(concepts: Concepts) -> str:
    match concepts:
        case ("has", who, count, thing):
            return f"{who} has {count} {thing} ."
        case ("at", who, place):
            return f"{who} is at the {place} ."
        case ("event", who, verb, count, thing):
            return f"{who} {verb} {count} {thing} ."
        case ("who-has?", thing):
            return f"who has {thing} ?"
        case ("what-has?", who):
            return f"what has {who} ?"
        case ("where?", who):
            return f"where is {who} ?"
        case ("count?", who, thing):
            return f"how many {thing} has {who} ?"
        case ("event-count?", who, verb, thing):
            return f"how many {thing} {verb} {who} ?"
        case ("direction?", who):
            return f"has {who} now more or fewer ?"
        case ("change?", who, thing):
            return f"how many {thing} has {who} now ?"
        case ("total?", one, other, thing):
            return f"how many {thing} have {one} and {other} together ?"
        case ("difference?", one, other, thing):
            return f"how many more {thing} has {one} than {other} ?"
    raise ValueError(f"no L1 sentence for {concepts!r}")


def _l2(concepts: Concepts) -> str:
    match concepts:
        case ("has", who, count, str(thing)):
            gloss = [who, "TOP", thing, count, _classifier(thing), "HAS", "."]
        case ("at", who, place):
            gloss = [who, "TOP", place, "LOC", "IS", "."]
        case ("event", who, verb, count, str(thing)):
            gloss = [who, "TOP", thing, count, _classifier(thing), verb, "."]
        case ("who-has?", thing):
            gloss = ["WHO", "TOP", thing, "HAS", "KA", "?"]
        case ("what-has?", who):
            gloss = [who, "TOP", "WHAT", "HAS", "KA", "?"]
        case ("where?", who):
            gloss = [who, "TOP", "WHERE", "LOC", "IS", "KA", "?"]
        case ("count?", who, str(thing)):
            gloss = [who, "TOP", thing, "HOWMANY", _classifier(thing), "HAS", "KA", "?"]
        case ("event-count?", who, verb, str(thing)):
            gloss = [who, "TOP", thing, "HOWMANY", _classifier(thing), verb, "KA", "?"]
        case ("direction?", who):
            gloss = [who, "TOP", "NOW", "MORE", "OR", "FEWER", "HAS", "KA", "?"]
        case ("change?", who, str(thing)):
            gloss = [who, "TOP", "NOW", thing, "HOWMANY", _classifier(thing), "HAS", "KA", "?"]
        case ("total?", one, other, str(thing)):
            gloss = [
                one,
                "AND",
                other,
                "TOP",
                "TOGETHER",
                thing,
                "HOWMANY",
                _classifier(thing),
                "HAS",
                "KA",
                "?",
            ]
        case ("difference?", one, other, str(thing)):
            gloss = [
                one,
                "TOP",
                other,
                "THAN",
                thing,
                "HOWMANY",
                _classifier(thing),
                "MORE",
                "HAS",
                "KA",
                "?",
            ]
        case _:
            raise ValueError(f"no L2 sentence for {concepts!r}")
    return " ".join(L2_WORDS.get(str(word), str(word)) for word in gloss)


def render(concepts: Concepts, language: Language) -> str:
    """The sentence or question in `language`, words separated by single blanks. Raises ValueError on an
    unknown kind.
    """
    return _l1(concepts) if language == "l1" else _l2(concepts)


def word(concept: str | int, language: Language) -> str:
    """A single concept (a name, a thing, a number, `more`, `fewer`) as one word of `language`."""
    if language == "l1" or isinstance(concept, int):
        return str(concept)
    return L2_WORDS.get(concept) or L2_WORDS[concept.upper()]


_COUNTERPARTS: Final = {"have": "HAS", "has": "HAS", "many": "HOWMANY"} | {
    concept: concept.upper() for concept in _L1_FUNCTION if concept.upper() in _L2_FUNCTION
}
_TO_L1: Final = {L2_WORDS[concept]: l1 for l1, concept in _COUNTERPARTS.items()} | {
    L2_WORDS[concept]: concept for concept in _CONTENT
}
_TO_L2: Final = {l1: L2_WORDS[concept] for l1, concept in _COUNTERPARTS.items()} | {
    concept: L2_WORDS[concept] for concept in _CONTENT
}


def mixed(text: str, rng: random.Random, share: float, allowed: frozenset[str]) -> str:
    """`text` as bilingual people talk: about `share` of its words said in the other language, the order kept.

    A content word becomes an L2 word only where it is in `allowed`.
    """

    def say(word: str) -> str:
        if rng.random() >= share:
            return word
        if word in _TO_L1:
            return _TO_L1[word]
        return _TO_L2.get(word, word) if word in allowed or word not in _CONTENT else word

    return " ".join(say(word) for word in text.split(" "))
