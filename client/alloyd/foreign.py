"""What others wrote (names, keys, values, answers of libraries), made fit to stand in a sentence or on a terminal."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Final

LONGEST: Final = 1_000
"""Characters of a sentence; of a longer one the end of its middle is left out."""
LONGEST_NAME: Final = 300
"""Of one name in it: what has no blank, or stands in quotes. Most paths are shorter."""

_ODD: Final = re.compile(r"[^\x20-\x7e]")
_NAME: Final = re.compile(
    rf"(?<![^\s(\[=:])'[^']{{{LONGEST_NAME - 1},}}'(?![^\s,.;:)\]])|\S{{{LONGEST_NAME + 1},}}"
)


def printable(text: str) -> str:
    """``text`` with an escape for every control character but line break and tab: a terminal would obey it."""
    if text.isprintable():  # nearly every line, told a hundred thousand times
        return text
    return _ODD.sub(lambda odd: odd[0] if odd[0] in "\n\t" else _escaped(odd[0]), text)


def printable_json(text: str) -> str:
    """The same of JSON, whose meaning stays."""
    return _ODD.sub(lambda odd: json.dumps(odd[0])[1:-1] if _is_odd(odd[0]) else odd[0], text)


def in_one_line(text: str) -> str:
    """``text`` in one line that can be read, printed, sent and logged: odd characters as escapes, long names shortened.

    The sentence around an endless name stays whole.
    """
    few = shortened(text.strip(), 40 * LONGEST)  # what becomes of more is never shown
    plain = _ODD.sub(lambda odd: _escaped(odd[0]), few)
    return shortened(_NAME.sub(lambda name: shortened(name[0], LONGEST_NAME), plain), LONGEST)


def shortened(text: str, longest: int) -> str:
    """``text`` in at most ``longest`` characters: its beginning and its end."""
    return text if len(text) <= longest else f"{text[: longest * 3 // 4]} [...] {text[-longest // 5 :]}"


def _escaped(letter: str) -> str:
    return ascii(letter)[1:-1] if _is_odd(letter) else letter


def _is_odd(letter: str) -> bool:
    """Whether a letter moves the cursor, the line or the direction of reading, or cannot be sent."""
    return unicodedata.category(letter)[0] == "C" or letter in "\u2028\u2029"
