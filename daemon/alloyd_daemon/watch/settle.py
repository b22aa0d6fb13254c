"""What has stopped changing: a file counts as written when nothing about it changed for a while."""

from __future__ import annotations

from collections.abc import Hashable, Iterable


class Settling:
    """Looks at things again and again; ``settle`` seconds (of a monotonic clock) without a change make one quiet."""

    def __init__(self, settle: float) -> None:
        self.settle = settle
        self._seen: dict[str, tuple[Hashable, float]] = {}

    def look(self, name: str, signature: Hashable, now: float) -> float:
        """Seconds until ``name`` is quiet, if it stays as it is; 0 when it is."""
        known = self._seen.get(name)
        if known is None or known[0] != signature:
            self._seen[name] = (signature, now)
            return self.settle
        return max(0.0, known[1] + self.settle - now)

    def keep(self, names: Iterable[str]) -> None:
        """Forget all but ``names``: only when the others are surely gone."""
        wanted = set(names)
        self._seen = {name: seen for name, seen in self._seen.items() if name in wanted}
