"""Which of several losses are better than others whatever counts: dominance, and the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether ``one`` is nowhere worse than ``other`` and somewhere better; losses, lower is better."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(
        a < b for a, b in zip(one, other, strict=True)
    )


def front(losses: Mapping[int, Sequence[float]]) -> list[int]:
    """The keys that no other dominates, ordered by their losses, then by key."""
    kept = [
        key
        for key, mine in losses.items()
        if not any(dominates(other, mine) for name, other in losses.items() if name != key)
    ]
    return sorted(kept, key=lambda key: (tuple(losses[key]), key))
