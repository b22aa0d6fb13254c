"""A line that is longer than the terminal is wide, as several: what follows stands under where its text begins."""

from __future__ import annotations

import re
import textwrap

_CELL = re.compile(r"\S(?:\S| (?! ))*$")
"""A line's last cell: what follows the last gap of two spaces or more."""
DEEPEST = 0.5
"""A cell that begins further right than this share of the width goes to a line of its own."""
STEP = 4


def fold(line: str, width: int) -> list[str]:
    """``line`` in lines of at most ``width``. No word is parted: a long path stays one that can be copied."""
    cell = _CELL.search(line)
    if len(line) <= width or cell is None:
        return [line]
    indent = len(line) - len(line.lstrip())
    begin, text = cell.start(), cell.group()
    far = begin > width * DEEPEST
    if " " not in text and not (far and indent + STEP + len(text) <= width):
        return [line]
    if far or begin == indent:
        begin = indent + STEP
    head = line[: cell.start()].rstrip() if far else line[: cell.start()]
    under = " " * begin
    folded = textwrap.wrap(
        text,
        width,
        initial_indent=under if far else head,
        subsequent_indent=under,
        expand_tabs=False,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [head, *folded] if far else folded
