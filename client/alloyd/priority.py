"""How far the priorities of jobs go; of two that wait, the one of the higher priority is begun first."""

from __future__ import annotations

from typing import Final

LARGEST_PRIORITY: Final = 100
"""And as far below 0, which is usual."""
