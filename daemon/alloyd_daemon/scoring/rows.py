"""Rows of tokens that answer spans, and batches of rows: made from the spans alone, so always the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .encoding import Span

BATCH_SIZE: Final = 32
"""Rows of a batch, where nobody chose."""

TOKENS: Final = 8192
"""Tokens of a batch, padding included, where a batch has more than one row."""


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens to run once, and the spans (by place) that their logits answer: a span is asked wherever it ends."""

    ids: tuple[int, ...]
    spans: tuple[int, ...]


def rows_of(spans: Sequence[Span]) -> list[Row]:
    """The fewest rows for ``spans``, longest first.

    A causal model's logits at a token follow from what stands before it, so a span whose input begins another's needs
    no row of its own: four answers of one token to one question are one row.
    """
    inputs = [span.ids[:-1] for span in spans]
    rows: list[tuple[tuple[int, ...], list[int]]] = []
    # Sorted, whatever begins with a row's tokens stands right behind it.
    for place in sorted(range(len(spans)), key=lambda place: (inputs[place], place), reverse=True):
        ids = inputs[place]
        if rows and rows[-1][0][: len(ids)] == ids:
            rows[-1][1].append(place)
        else:
            rows.append((ids, [place]))
    found = [Row(ids, tuple(sorted(places))) for ids, places in rows]
    return sorted(found, key=lambda row: (-len(row.ids), row.spans))


def batches_of(rows: Sequence[Row], batch_size: int | None = None) -> list[tuple[Row, ...]]:
    """``rows``, which come longest first, cut into batches of at most ``batch_size`` rows and ``TOKENS`` tokens."""
    batches: list[tuple[Row, ...]] = []
    start = 0
    while start < len(rows):
        most = max(1, TOKENS // max(1, len(rows[start].ids)))
        stop = start + min(batch_size or BATCH_SIZE, most)
        batches.append(tuple(rows[start:stop]))
        start = stop
    return batches
