"""The seconds that a candidate may take on the search split; one that takes longer is given up between two answers."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from typing import TypeVar

from alloyd.errors import JobError

from ..candidate import Candidate

S = TypeVar("S")
R = TypeVar("R")


class TimeLimit:
    """Allows each trial ``seconds`` (``None``: as many as it likes) of this process's time, over all rungs."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._taken: dict[int, float] = {}

    def left(self, members: Mapping[int, Candidate]) -> float | None:
        """Seconds that trials have together, who are run together."""
        if self.seconds is None:
            return None
        return sum(max(0.0, self.seconds - self._taken.get(each, 0.0)) for each in members)

    def within(
        self, running: Generator[S, None, R], members: Mapping[int, Candidate]
    ) -> Generator[S, None, R]:
        """What ``running`` says while the time of ``members`` lasts; each is held to have taken an equal share of it.

        Time in which nobody asks for more does not count, nor does what was given up.

        Raises JobError when the time is over.
        """
        left = self.left(members)
        took = 0.0
        while True:
            begun = time.monotonic()
            try:
                said = next(running)
            except StopIteration as end:
                found: R = end.value
                break
            finally:
                took += time.monotonic() - begun
            if left is not None and took > left:
                name = next(iter(members.values())).name
                raise JobError(
                    f"{name} took longer than {self.seconds:g} s",
                    hint="Raise 'timeout' in the spec, or leave it out.",
                    seconds=self.seconds,
                )
            yield said
        if left is not None:
            for each in members:
                self._taken[each] = self._taken.get(each, 0.0) + took / len(members)
        return found
