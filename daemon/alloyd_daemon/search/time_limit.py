"""The seconds that a candidate may take on the search split; one that takes longer is given up between two answers.

Where no answer comes at all, this process ends. The job goes on in another one, which counts that as a death.
"""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Generator, Mapping
from typing import Final, TypeVar

from alloyd.errors import JobError

from ..candidate import Candidate

GRACE: Final = 60.0
"""Seconds beyond its time for which one answer is waited for: to lose the process costs more than a slow one."""
LONGEST: Final = 1e9
LOG: Final = 2

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

        Raises JobError when the time is over. Ends the process, and says where it hung, if nothing is said for so long.
        """
        left = self.left(members)
        took = 0.0
        while True:
            begun = time.monotonic()
            if left is not None:
                # A thread of its own, not one of Python's: it needs nothing that code which hangs may hold.
                faulthandler.dump_traceback_later(min(left - took + GRACE, LONGEST), exit=True, file=LOG)
            try:
                said = next(running)
            except StopIteration as end:
                found: R = end.value
                break
            finally:
                if left is not None:
                    faulthandler.cancel_dump_traceback_later()
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
