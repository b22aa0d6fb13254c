"""What a target is: how a case is made from a seed, and what reads it. Cases of YAML and of bytes."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from . import corpus
from .mutations import YAML, Mutator

NAME = "fuzzed.yaml"
PLACES = ("recipe", "models", "slices", "modules", "base_model", "method", "parameters", "tokenizer", "layer")
"""What messages name that know a recipe, and not its file any more."""


@dataclass(frozen=True)
class Target:
    """``make`` gives a case, ``read`` gives it to the product; ``named``: one of these stands in every message."""

    make: Callable[[random.Random], Any]
    read: Callable[[Any], object]
    named: tuple[str, ...]


def yaml_cases(
    texts: tuple[str, ...],
) -> tuple[Callable[[random.Random], str], Callable[[random.Random], str]]:
    trees = corpus.trees(texts)
    words = corpus.words(*trees)

    def scrawled(chance: random.Random) -> str:
        mutator = Mutator(chance, words)
        text: str = mutator.pick(texts)
        return mutator.text(text, (*YAML, *words))

    def grafted(chance: random.Random) -> str:
        mutator = Mutator(chance, words)
        tree = mutator.tree(mutator.pick(trees))
        return corpus.as_yaml(tree, flow=chance.random() < 0.8)

    return scrawled, grafted


def binary(chance: random.Random, whole: tuple[bytes, ...]) -> bytes:
    mutator = Mutator(chance)
    data: bytes = mutator.pick(whole)
    if chance.random() < 0.5:
        at = chance.randrange(len(data))
        number = mutator.pick((0, 1, 2, 9, 2**31 - 1, 2**31, 2**32 - 1))
        data = data[:at] + struct.pack("<I", number) + data[at + 4 :]
    return mutator.data(data) if chance.random() < 0.7 else data


@cache
def methods() -> tuple[str, ...]:
    from alloyd_daemon.merge_method import METHODS

    return tuple(METHODS.names())
