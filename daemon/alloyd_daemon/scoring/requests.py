"""What a model is asked while it is scored, and what it answers; text on this side, tokens in ``encoding``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Continuation:
    """How likely is ``text`` after ``context``? An empty context stands for the token that begins a sequence."""

    context: str
    text: str


@dataclass(frozen=True, slots=True)
class WholeText:
    """How likely is a whole text, read in windows of the model's context where it is longer?"""

    text: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What does the model write after ``text``, greedily?

    ``stop``: strings that end the answer and do not belong to it. ``most_tokens``: tokens an answer may have;
    ``None`` follows the model's generation config.
    """

    text: str
    stop: tuple[str, ...] = ()
    most_tokens: int | None = None


Request = Continuation | WholeText | Prompt


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The answer to :class:`Continuation` and :class:`WholeText`.

    ``logprob``: natural logarithm of the probability of the text's ``tokens`` tokens. ``greedy``: whether each of
    them is the most likely one at its place.
    """

    logprob: float
    greedy: bool
    tokens: int


@dataclass(frozen=True, slots=True)
class Written:
    """The answer to :class:`Prompt`, without special tokens and stop strings."""

    text: str


Answer = Likelihood | Written
