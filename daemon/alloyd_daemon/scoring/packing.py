"""Composes spans into rows and batches; spans that begin alike share the computation of what they share.

A shared row is the tree of its spans' tokens in depth-first order: each token sees its ancestors and itself, and its
position is its depth. A question with four answers, or items behind one few-shot prompt, are then computed once up to
where they part. Batches follow from the spans alone, so that a score does not depend on what else is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from .encoding import Span

TOKENS: Final = 2048
"""Tokens of a batch, padding included; a longer span is a batch by itself."""

SHARED_ROW: Final = 1024
"""Tokens that a shared row may have: its mask has the square of them."""

LEAST_SHARED: Final = 8
"""Tokens that two spans must begin alike with to share a row; for fewer the mask costs more than it saves."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The tokens of one span that are scored: ``positions`` in row ``row`` of the batch predict ``targets``.

    ``span`` is the span's place among all.
    """

    span: int
    row: int
    positions: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are run together, padded on the right.

    ``ids`` int64 [rows, width]. ``parents`` and ``positions`` int64 [rows, width] are there for shared rows only: the
    place in its row of the token before (-1: none), and how many stand before. Plain rows are causal, and what stands
    behind a row's end is never looked at. ``lengths`` are the rows' tokens without padding.
    """

    ids: npt.NDArray[np.int64]
    lengths: tuple[int, ...]
    wanted: tuple[Wanted, ...]
    parents: npt.NDArray[np.int64] | None = None
    positions: npt.NDArray[np.int64] | None = None

    @property
    def rows(self) -> int:
        return int(self.ids.shape[0])

    @property
    def width(self) -> int:
        return int(self.ids.shape[1])

    @property
    def tokens(self) -> int:
        """Tokens that are computed, padding included."""
        return self.rows * self.width

    def seen(self) -> npt.NDArray[np.bool_] | None:
        """Which token (axis 1) of a shared row sees which (axis 2): bool [rows, width, width]."""
        if self.parents is None:
            return None
        seen = np.zeros((self.rows, self.width, self.width), dtype=np.bool_)
        every = np.arange(self.rows)
        for place in range(self.width):
            before = self.parents[:, place]
            seen[:, place] = seen[every, before] & (before >= 0)[:, None]
            seen[:, place, place] = True
        return seen


@dataclass(slots=True)
class _Row:
    """A row in the making; ``path`` holds the places of the last span's tokens."""

    ids: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    path: list[int] = field(default_factory=list)
    members: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)

    def shares(self, inputs: Sequence[int]) -> int:
        """Tokens that ``inputs`` begin alike with the last span."""
        same = 0
        for place, token in zip(self.path, inputs, strict=False):
            if self.ids[place] != token:
                break
            same += 1
        return same

    def add(self, span: int, inputs: Sequence[int], same: int) -> None:
        path = self.path[:same]
        for token in inputs[same:]:
            self.parents.append(path[-1] if path else -1)
            path.append(len(self.ids))
            self.ids.append(token)
        self.path = path
        self.members.append((span, tuple(path)))

    @property
    def is_plain(self) -> bool:
        return all(parent == place - 1 for place, parent in enumerate(self.parents))


def compose(
    spans: Sequence[Span],
    *,
    share: bool,
    window: int | None = None,
    batch_size: int | None = None,
    tokens: int = TOKENS,
) -> tuple[Batch, ...]:
    """Batches that hold every span once.

    ``share`` allows shared rows; ``window`` is how many tokens back the model's attention reaches (``None``: all),
    and a longer span stays in a row of its own. ``batch_size`` bounds the spans of a batch.
    """
    rows = _rows(spans, share=share, window=window, most=batch_size, tokens=tokens)
    rows.sort(key=lambda row: (row.is_plain, -len(row.ids), row.members[0][0]))
    batches: list[list[_Row]] = []
    for row in rows:
        last = batches[-1] if batches else []
        fits = (
            bool(last)
            and last[0].is_plain == row.is_plain
            and (len(last) + 1) * len(last[0].ids) <= tokens
            and (batch_size is None or sum(len(each.members) for each in (*last, row)) <= batch_size)
        )
        if fits:
            last.append(row)
        else:
            batches.append([row])
    return tuple(_batch(each, spans) for each in batches)


def _rows(
    spans: Sequence[Span], *, share: bool, window: int | None, most: int | None, tokens: int
) -> list[_Row]:
    order = sorted(range(len(spans)), key=lambda place: spans[place].ids) if share else range(len(spans))
    rows: list[_Row] = []
    for place in order:
        # The last token is only ever predicted.
        inputs = spans[place].ids[:-1]
        row = rows[-1] if rows else None
        same = row.shares(inputs) if share and row is not None else 0
        fits = (
            row is not None
            and same >= LEAST_SHARED
            and len(row.ids) + len(inputs) - same <= min(tokens, max(SHARED_ROW, 2 * len(inputs)))
            and (most is None or len(row.members) < most)
            and (window is None or max(len(inputs), len(row.path)) <= window)
        )
        if row is None or not fits:
            row, same = _Row(), 0
            rows.append(row)
        row.add(place, inputs, same)
    return rows


def _batch(rows: Sequence[_Row], spans: Sequence[Span]) -> Batch:
    width = max(len(row.ids) for row in rows)
    ids = np.zeros((len(rows), width), dtype=np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = row.ids
        ids[number, len(row.ids) :] = row.ids[-1]
    wanted = tuple(
        Wanted(span, number, path[spans[span].first - 1 :], spans[span].ids[spans[span].first :])
        for number, row in enumerate(rows)
        for span, path in row.members
    )
    lengths = tuple(len(row.ids) for row in rows)
    if rows[0].is_plain:
        return Batch(ids, lengths, wanted)
    parents = np.full((len(rows), width), -1, dtype=np.int64)
    positions = np.zeros((len(rows), width), dtype=np.int64)
    for number, row in enumerate(rows):
        parents[number, : len(row.ids)] = row.parents
        for place, parent in enumerate(row.parents):
            positions[number, place] = positions[number, parent] + 1 if parent >= 0 else 0
    return Batch(ids, lengths, wanted, parents, positions)
