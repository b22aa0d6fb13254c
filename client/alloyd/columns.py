"""Rows of text with their cells under each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with their cells under each other; the last column is as long as it likes."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]) - 1)]
    lines: list[str] = []
    for row in rows:
        cells: Iterable[str] = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return lines
