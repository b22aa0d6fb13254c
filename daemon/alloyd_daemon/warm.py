"""What stays open from one run of a runner to the next, such as a model in memory, within a budget of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar, cast

T = TypeVar("T")

FEW: Final = 64


@dataclass(frozen=True, slots=True)
class _Kept:
    thing: Any
    end: Callable[[Any], None]
    nbytes: int


class Warm:
    """Things by key. Not safe for use by several threads at once; whoever makes it closes it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._known: OrderedDict[Hashable, Any] = OrderedDict()

    def recall(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is known under ``key``, found out if nothing is: something small, of which the last 64 are kept."""
        if key not in self._known:
            self._known[key] = make()
            if len(self._known) > FEW:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return cast(T, self._known[key])

    def get(
        self, key: Hashable, make: Callable[[], T], *, end: Callable[[T], None], nbytes: int, room: int
    ) -> T:
        """What is kept under ``key``, made if nothing is. ``end`` ends it.

        What was not used for longest is ended first, until all that is kept takes at most ``room`` bytes.
        """
        if key not in self._kept:
            while self._kept and self._bytes() + nbytes > room:
                self._end(next(iter(self._kept)))
            self._kept[key] = _Kept(make(), end, nbytes)
        self._kept.move_to_end(key)
        return cast(T, self._kept[key].thing)

    def close(self) -> None:
        """End everything."""
        for key in list(self._kept):
            self._end(key)
        self._known.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _bytes(self) -> int:
        return sum(each.nbytes for each in self._kept.values())

    def _end(self, key: Hashable) -> None:
        one = self._kept.pop(key)
        one.end(one.thing)
