"""Which token sequences are run together, and how: those that begin alike share their first tokens.

A pack is a tree of tokens: each node belongs to all sequences that pass through it, which llama.cpp's unified cache of
keys and values allows (a token carries a list of sequences). Packs follow from the sequences alone, so that a score
never depends on what else was asked or is known already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from .messages import Decode

ROOM: Final = 512
"""Tokens of a pack beyond its first sequence. Attention looks at the whole cache, so larger packs cost more a token."""
MOST_SEQUENCES: Final = 64
"""Sequences of a pack; llama.cpp holds 256, and room for a row of logits for each."""


@dataclass(frozen=True, slots=True)
class Node:
    """One token of the tree at its position, and the sequences (by place in the pack) that pass through it."""

    token: int
    position: int
    sequences: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pack:
    """Sequences that are run together: ``members`` are their places in what was packed, in the order of the pack.

    ``nodes`` are in an order in which each follows its parent; ``paths[n][p]`` is the node of sequence n at position p.
    """

    members: tuple[int, ...]
    nodes: tuple[Node, ...]
    paths: tuple[tuple[int, ...], ...]


def pack(
    sequences: Sequence[tuple[int, ...]],
    *,
    most: int = MOST_SEQUENCES,
    room: int = ROOM,
    extra: Sequence[int] | None = None,
    share: bool = True,
) -> list[Pack]:
    """Cut ``sequences`` (each of at least one token) into packs.

    Sequences are sorted, so that those which begin alike are neighbours, and taken in turn: a pack holds at most
    ``most`` of them, and beyond the tokens of its first at most ``room`` others, or as many as the first has where
    that is more. ``extra`` is room that each will take later. Without ``share`` no token serves two sequences.
    """
    order = sorted(range(len(sequences)), key=lambda place: (sequences[place], place))
    later = extra or [0] * len(sequences)
    packs: list[Pack] = []
    members: list[int] = []
    taken = limit = 0
    for place in order:
        ids = sequences[place]
        fresh = len(ids) - (_common(sequences[members[-1]], ids) if members and share else 0) + later[place]
        if members and (len(members) == most or taken + fresh > limit):
            packs.append(_tree(members, sequences, share=share))
            members = []
        if not members:
            taken, fresh = 0, len(ids) + later[place]
            limit = fresh + max(room, fresh)
        members.append(place)
        taken += fresh
    if members:
        packs.append(_tree(members, sequences, share=share))
    return packs


def cells(packs: Iterable[Pack], extra: Sequence[int] | None = None) -> int:
    """Tokens that the largest of ``packs`` keeps in the cache at the end."""
    return max(
        (len(each.nodes) + (sum(extra[place] for place in each.members) if extra else 0) for each in packs),
        default=0,
    )


def orders(
    nodes: Sequence[Node], wanted: dict[int, tuple[int, ...]], *, batch: int, outputs: int, fresh: bool
) -> Iterator[tuple[Decode, tuple[int, ...]]]:
    """Cut ``nodes`` into orders of at most ``batch`` tokens and ``outputs`` outputs.

    ``wanted`` maps a node to the tokens whose likelihood after it is asked; a node with none is still an output (its
    most likely next token is). Each order comes with the nodes that are its outputs.
    """
    start = 0
    while start < len(nodes):
        stop, found = start, 0
        while stop < len(nodes) and stop - start < batch and (found < outputs or stop not in wanted):
            found += stop in wanted
            stop += 1
        part = nodes[start:stop]
        asked = tuple(node for node in range(start, stop) if node in wanted)
        rows = [row for row, node in enumerate(asked) for _ in wanted[node]]
        yield (
            Decode(
                tokens=_int32(node.token for node in part),
                positions=_int32(node.position for node in part),
                counts=_int32(len(node.sequences) for node in part),
                sequences=_int32(number for node in part for number in node.sequences),
                outputs=_int32(node - start for node in asked),
                rows=_int32(rows),
                targets=_int32(target for node in asked for target in wanted[node]),
                fresh=fresh and start == 0,
            ),
            asked,
        )
        start = stop


def _tree(members: Sequence[int], sequences: Sequence[tuple[int, ...]], *, share: bool) -> Pack:
    """The tree of sorted ``members``; a depth-first order falls out of their being sorted."""
    tokens: list[tuple[int, int]] = []
    passing: list[list[int]] = []
    paths: list[tuple[int, ...]] = []
    for number, place in enumerate(members):
        ids = sequences[place]
        shared = _common(sequences[members[number - 1]], ids) if number and share else 0
        path = list(paths[-1][:shared]) if shared else []
        for position in range(shared, len(ids)):
            path.append(len(tokens))
            tokens.append((ids[position], position))
            passing.append([])
        for node in path:
            passing[node].append(number)
        paths.append(tuple(path))
    nodes = (Node(*token, tuple(through)) for token, through in zip(tokens, passing, strict=True))
    return Pack(tuple(members), tuple(nodes), tuple(paths))


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many first tokens two sequences share, by halving: slices are compared faster than a loop goes."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _int32(values: Iterable[int]) -> bytes:
    return np.fromiter(values, np.int32).tobytes()
