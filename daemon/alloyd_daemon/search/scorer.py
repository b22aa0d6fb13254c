"""Puts trials to some of the items: what was scored before is not asked again, what is scored is on record at once."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

from alloyd.errors import AlloydError, JobError, PlanError, SourceChanged, SourceError, TaskError
from alloyd.jobs import Note, Progress

from ..candidate import Candidate
from ..evaluator import ItemScore
from ..runner import Runner, RunOptions
from ..scoring.choose import group
from ..scoring.run import Posed, Questions, score
from .history import History
from .objective import Place
from .time_limit import TimeLimit

OF_ONE: Final = (PlanError, SourceError, TaskError, JobError, MemoryError, RuntimeError)
"""What a runner raises for all that it was given, and yet may have to do with one of them: a path that is too long for
the memory, say."""


@dataclass(frozen=True)
class Scorer:
    """How trials are scored: ``runner`` by name (or ``auto``) on ``tasks``; ``options`` but for type and scratch.

    ``limit`` is the time that each may take.
    """

    history: History
    tasks: tuple[Posed, ...]
    runner: str
    options: RunOptions
    limit: TimeLimit = field(default_factory=lambda: TimeLimit(None))

    @cached_property
    def generates(self) -> bool:
        """Whether text must be written."""
        return bool(Questions(self.tasks).prompts)

    def runner_of(self, candidates: Sequence[Candidate], quantise: str | None) -> Runner:
        """Who runs them. Raises what :func:`alloyd_daemon.scoring.choose.group` raises."""
        return group(candidates, runner=self.runner, quantise=quantise, generates=self.generates)[0].runner

    def lacks(self, trial: int, places: Sequence[Place], *, rung: int) -> bool:
        """Whether anything of ``places`` is still to be asked of a trial."""
        if self.history.lost(trial, rung) is not None:
            return False
        known = self.history.scores(trial, rung)
        return any(each.item not in known.get(each.task, {}) for each in places)

    def score(
        self,
        members: Mapping[int, Candidate],
        places: Sequence[Place],
        *,
        rung: int,
        quantise: str | None,
    ) -> Generator[Progress | Note, None, dict[int, AlloydError]]:
        """Have every member answer ``places``; returns the errors of those that cannot be scored, by trial.

        The scores are in the history, under ``rung``. Where they cannot be run together, each is run by itself.

        Raises AlloydError for what has to do with none of them, such as a full disk or a source that changed.
        """
        tasks, numbers = _some(self.tasks, places)
        questions = Questions(tasks)
        candidates = list(members.values())
        runner = self.runner_of(candidates, quantise)
        scratch = self.options.scratch / f"rung{rung}"
        scratch.mkdir(parents=True, exist_ok=True)
        seconds = self.limit.left(members)
        options = replace(self.options, scratch=scratch, quantise=quantise, seconds=seconds)
        trials = {each.name: trial for trial, each in members.items()}
        records = _Records(self.history, rung, numbers, trials)
        failure: Exception | None = None
        try:
            with closing(score(candidates, questions, runner, options, records)) as running:
                for said in self.limit.within(running, members):
                    # What a runner says of one score is too much of thousands.
                    if isinstance(said, Progress) or said.level == "warning":
                        yield said
        except SourceChanged:
            raise
        except OF_ONE as error:
            failure = error
        finally:
            self.history.flush()
        shutil.rmtree(scratch, ignore_errors=True)
        if failure is not None and len(members) > 1:
            for trial, candidate in members.items():
                yield from self.score({trial: candidate}, places, rung=rung, quantise=quantise)
        elif failure is not None:
            records.lose(candidates[0].name, _as_error(candidates[0].name, failure))
        lost = ((trial, self.history.lost(trial, rung)) for trial in members)
        return {trial: error for trial, error in lost if error is not None}


def _as_error(name: str, failure: Exception) -> AlloydError:
    if isinstance(failure, AlloydError):
        return failure
    said = " ".join(str(failure).split()) or type(failure).__name__
    return JobError(f"{name} cannot be run: {said}", hint="Was memory too short for it?")


class _Records:
    """Records of :func:`alloyd_daemon.scoring.run.score` in a history; ``trials`` by the names of candidates."""

    def __init__(self, history: History, rung: int, tasks: Sequence[int], trials: Mapping[str, int]) -> None:
        self._history = history
        self._rung = rung
        self._tasks = tasks
        self._trials = trials
        self._kept: dict[int, dict[int, dict[str, ItemScore]]] = {}
        self._lost: dict[int, AlloydError | None] = {}

    def scores(self, candidate: str, task: int) -> Mapping[str, ItemScore]:
        return self._of(self._trials[candidate]).setdefault(self._tasks[task], {})

    def lost(self, candidate: str) -> AlloydError | None:
        trial = self._trials[candidate]
        if trial not in self._lost:
            self._lost[trial] = self._history.lost(trial, self._rung)
        return self._lost[trial]

    def keep(self, candidate: str, task: int, score: ItemScore) -> None:
        trial, number = self._trials[candidate], self._tasks[task]
        self._of(trial).setdefault(number, {})[score.id] = score
        self._history.keep(trial, self._rung, number, score)

    def lose(self, candidate: str, error: AlloydError) -> None:
        self._lost[self._trials[candidate]] = error
        self._history.lose(self._trials[candidate], self._rung, error)

    def _of(self, trial: int) -> dict[int, dict[str, ItemScore]]:
        if trial not in self._kept:
            self._kept[trial] = self._history.scores(trial, self._rung)
        return self._kept[trial]


def _some(tasks: Sequence[Posed], places: Sequence[Place]) -> tuple[list[Posed], list[int]]:
    """The tasks with the items of ``places`` alone, those without any left out, and their numbers."""
    wanted: dict[int, set[str]] = {}
    for each in places:
        wanted.setdefault(each.task, set()).add(each.item)
    numbers = sorted(wanted)
    chosen = []
    for number in numbers:
        posed = tasks[number]
        items = tuple(each for each in posed.task.items if each.id in wanted[number])
        chosen.append(Posed(posed.evaluator, replace(posed.task, items=items)))
    return chosen, numbers
