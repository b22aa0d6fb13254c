"""What a model writes after prompts: greedy, many sequences at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..scoring.encoding import EncodedPrompt
from .engine import Engine
from .likelihood import check
from .messages import Decode
from .packing import Node, Pack, orders


@dataclass(slots=True)
class _Answer:
    """One sequence that is being written."""

    place: int
    prompt: EncodedPrompt
    most: int
    ids: list[int] = field(default_factory=list)
    text: str | None = None
    """The answer, once it has ended."""


def write(
    engine: Engine,
    pack: Pack,
    prompts: Sequence[EncodedPrompt],
    *,
    most: Callable[[EncodedPrompt], int],
    ends: Collection[int],
    text_of: Callable[[list[int]], str],
    batch: int,
    outputs: int,
) -> Iterator[tuple[int, str]]:
    """Place and answer of each prompt of ``pack``, which was made of all their tokens.

    An answer ends before one of the tokens ``ends``, before one of the prompt's stop strings, or after
    ``most(prompt)`` tokens. ``text_of`` turns ids into text without special tokens.

    Raises
    ------
    JobError
        The model answers with numbers that are none.
    ChildDied
        The engine crashed.
    """
    answers = [_Answer(place, prompts[place], most(prompts[place])) for place in pack.members]
    last: dict[int, tuple[int, ...]] = {path[-1]: () for path in pack.paths}
    best: dict[int, int] = {}
    for order, nodes in orders(pack.nodes, last, batch=batch, outputs=outputs, fresh=True):
        best |= zip(nodes, _best(engine, order), strict=True)
    tokens = [best[path[-1]] for path in pack.paths]
    active = list(range(len(answers)))
    while active:
        for number in active:
            _take(answers[number], tokens[number], ends, text_of)
        for number in active:
            if (text := answers[number].text) is not None:
                yield answers[number].place, text
        active = [number for number in active if answers[number].text is None]
        if not active:
            return
        nodes_now = [_next(answers[number], number) for number in active]
        asked: dict[int, tuple[int, ...]] = dict.fromkeys(range(len(active)), ())
        for order, nodes in orders(nodes_now, asked, batch=batch, outputs=outputs, fresh=False):
            for node, token in zip(nodes, _best(engine, order), strict=True):
                tokens[active[node]] = token


def _best(engine: Engine, order: Decode) -> list[int]:
    reply = engine.decode(order)
    check(reply)
    found: list[int] = np.frombuffer(reply.best, np.int32).tolist()
    return found


def _take(answer: _Answer, token: int, ends: Collection[int], text_of: Callable[[list[int]], str]) -> None:
    """Add the next token, and set the text when it ends the answer."""
    if token in ends:
        answer.text = text_of(answer.ids)
        return
    answer.ids.append(token)
    full = len(answer.ids) >= answer.most
    if answer.prompt.stop or full:
        text = text_of(answer.ids)
        cut = min((place for each in answer.prompt.stop if (place := text.find(each)) >= 0), default=-1)
        if cut >= 0:
            answer.text = text[:cut]
        elif full:
            answer.text = text


def _next(answer: _Answer, number: int) -> Node:
    """The answer's last token, which is run to find the one after it."""
    return Node(answer.ids[-1], len(answer.prompt.ids) + len(answer.ids) - 1, (number,))
