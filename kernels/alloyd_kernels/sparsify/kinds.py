"""The kinds of sparsifier, as small integers for an argument array."""

from __future__ import annotations

from typing import Final

KEEP: Final = 0
"""Keep every element."""

CUT: Final = 1
"""Keep magnitudes above a threshold; of those equal to it, keep the lowest indices up to a quota."""

DRAW: Final = 2
"""Keep an element when its counter-based 32-bit draw is below a threshold."""

DROP: Final = 3
"""Keep nothing."""
