"""One optimiser through one phase: what it is asked and told, and how it is rebuilt from the record after a stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from alloyd.errors import JobError

from ..optimiser import Optimiser, OptimiserKind, Problem, Proposal, Told
from .trial import Trial


class Asking:
    """Batches of points of one optimiser, in the order of the record.

    A kind that is rebuilt by ``steps`` is asked and told again all that the record holds. One that is rebuilt from its
    ``history`` is made anew at every ask from everything told and the number of that ask, so that a stop makes no
    difference, and earlier asks need not be computed again.
    """

    def __init__(self, kind: OptimiserKind, problem: Problem) -> None:
        self._kind = kind
        self._problem = problem
        self._told: list[Told] = []
        self._asks = 0
        self._optimiser: Optimiser = kind.make(problem)

    @property
    def batch(self) -> int:
        """How many points the optimiser likes to be asked for at a time."""
        return max(1, self._optimiser.batch)

    def ask(self, count: int) -> list[Proposal]:
        """The next batch, of ``count`` points or fewer; none means that the optimiser is done."""
        if self._kind.replay == "history":
            self._optimiser = self._kind.make(replace(self._problem, asked=self._asks))
            self._optimiser.tell(self._told)
        self._asks += 1
        return self._optimiser.ask(count)

    def ask_again(self, count: int, recorded: Sequence[Trial]) -> None:
        """Repeat an ask that is on record.

        Raises JobError where the optimiser proposes something else than it did: its library is not what it was.
        """
        if self._kind.replay == "history":
            self._asks += 1
            return
        proposed = [dict(each.point) for each in self.ask(count)]
        if proposed != [dict(each.point or {}) for each in recorded]:
            raise JobError(
                f"'{self._kind.name}' does not propose again what it proposed before this search was stopped",
                hint="Its library may have changed; install the version that it had, or search anew.",
            )

    def tell(self, trials: Sequence[Trial]) -> None:
        """Say what became of trials that have points, in the order given."""
        told = list(_told(trials))
        if not told:
            return
        self._told += told
        self._optimiser.tell(told)


def _told(trials: Sequence[Trial]) -> Iterator[Told]:
    for each in trials:
        if each.point is not None and each.state != "asked":
            yield Told(each.number, dict(each.point), each.losses)
