"""Scores candidates on tasks: every request put once, every item scored as soon as its answers are there.

A plain function of (candidates, tasks, runner, options): it knows no job; what must not be lost it hands to records.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from alloyd.errors import AlloydError, JobError
from alloyd.jobs import Note, Progress

from ..candidate import Subject
from ..evaluator import Evaluator, ItemScore, Task
from ..runner import Answered, Lost, Runner, RunOptions
from .requests import Answer, Prompt, Request


@dataclass(frozen=True, slots=True)
class Posed:
    """A task, and the evaluator that scores it."""

    evaluator: Evaluator
    task: Task


class Records(Protocol):
    """Where scores are kept as they come, so that a later run of the same score goes on from them."""

    def scores(self, candidate: str, task: int) -> Mapping[str, ItemScore]:
        """What was kept of ``candidate`` on task number ``task``, by item."""

    def lost(self, candidate: str) -> AlloydError | None:
        """What the candidate was lost to, if it was."""

    def keep(self, candidate: str, task: int, score: ItemScore) -> None:
        """Keep the score of one item."""

    def lose(self, candidate: str, error: AlloydError) -> None:
        """Keep that a candidate cannot be scored."""


class InMemory:
    """Records that end with the process."""

    def __init__(self) -> None:
        self._scores: dict[tuple[str, int], dict[str, ItemScore]] = {}
        self._lost: dict[str, AlloydError] = {}

    def scores(self, candidate: str, task: int) -> Mapping[str, ItemScore]:
        return self._scores.get((candidate, task), {})

    def lost(self, candidate: str) -> AlloydError | None:
        return self._lost.get(candidate)

    def keep(self, candidate: str, task: int, score: ItemScore) -> None:
        self._scores.setdefault((candidate, task), {})[score.id] = score

    def lose(self, candidate: str, error: AlloydError) -> None:
        self._lost[candidate] = error


@dataclass(frozen=True, slots=True)
class Scored:
    """One candidate: its items' scores by task, in the order of the items, or what it was lost to."""

    items: tuple[tuple[ItemScore, ...], ...] = ()
    error: AlloydError | None = None


@dataclass(frozen=True, slots=True)
class _Asker:
    """The item that asks: its task's and its own number, and its first request's and the next item's first one's."""

    task: int
    item: int
    first: int
    stop: int


class Questions:
    """All requests of some tasks, numbered through, each once; and who asks them."""

    def __init__(self, tasks: Sequence[Posed]) -> None:
        self.tasks = tasks
        self.requests: list[Request] = []
        self.askers: list[_Asker] = []
        self._asker_of: list[int] = []
        for number, posed in enumerate(tasks):
            for place, asked in enumerate(posed.evaluator.requests(posed.task)):
                first = len(self.requests)
                self.requests += asked
                self._asker_of += [len(self.askers)] * len(asked)
                self.askers.append(_Asker(number, place, first, len(self.requests)))

    @property
    def names(self) -> list[str]:
        """The tasks' names, each another: equal ones are told by their evaluators, or else numbered."""
        plain = [posed.task.name for posed in self.tasks]
        full = [f"{posed.task.evaluator}:{posed.task.name}" for posed in self.tasks]
        return [
            name if plain.count(name) == 1 else long if full.count(long) == 1 else f"{name} ({number})"
            for number, (name, long) in enumerate(zip(plain, full, strict=True), start=1)
        ]

    @property
    def prompts(self) -> int:
        """How many of the requests want text to be written."""
        return sum(isinstance(each, Prompt) for each in self.requests)

    def asker(self, request: int) -> _Asker:
        """Who asks request number ``request``."""
        return self.askers[self._asker_of[request]]

    def where(self, request: int) -> str:
        """The file and line that a request comes from."""
        asker = self.asker(request)
        return self.tasks[asker.task].task.items[asker.item].where

    def item_id(self, asker: _Asker) -> str:
        """The id of the item that asks."""
        return self.tasks[asker.task].task.items[asker.item].id


def score(
    candidates: Sequence[Subject],
    questions: Questions,
    runner: Runner,
    options: RunOptions,
    records: Records,
) -> Generator[Progress | Note, None, tuple[Scored, ...]]:
    """Score ``candidates``, each of another name, on the tasks of ``questions``; returns a :class:`Scored` for each.

    What ``records`` holds is not computed again; ``options.known`` and ``options.where`` are set here.

    Raises
    ------
    AlloydError
        What concerns all candidates, as the runner raises it. One candidate's failure is in its :class:`Scored`.
    """
    pending = [_Pending(questions, candidate.name, records) for candidate in candidates]
    known = frozenset((number, request) for number, each in enumerate(pending) for request in each.known)
    running = runner.run(candidates, questions.requests, replace(options, known=known, where=questions.where))
    try:
        for outcome in running:
            if isinstance(outcome, Answered):
                pending[outcome.candidate].take(outcome.request, outcome.answer)
            elif isinstance(outcome, Lost):
                records.lose(candidates[outcome.candidate].name, outcome.error)
            else:
                yield outcome
    finally:
        running.close()
    return tuple(each.scored() for each in pending)


class _Pending:
    """The answers of one candidate to items that are not scored yet."""

    def __init__(self, questions: Questions, name: str, records: Records) -> None:
        self._questions = questions
        self._name = name
        self._records = records
        self._answers: dict[int, Answer] = {}
        lost = records.lost(name) is not None
        kept = [records.scores(name, task) for task in range(len(questions.tasks))]
        self.known = frozenset(
            request
            for asker in questions.askers
            if lost or questions.item_id(asker) in kept[asker.task]
            for request in range(asker.first, asker.stop)
        )

    def take(self, request: int, answer: Answer) -> None:
        """Take an answer in; score its item when it is the last one."""
        if request in self.known or self._records.lost(self._name) is not None:
            return
        asker = self._questions.asker(request)
        self._answers[request] = answer
        asked = range(asker.first, asker.stop)
        if any(each not in self._answers for each in asked):
            return
        answers = [self._answers.pop(each) for each in asked]
        posed = self._questions.tasks[asker.task]
        try:
            found = posed.evaluator.score(posed.task, asker.item, answers)
        except AlloydError as error:
            self._records.lose(self._name, error)
            return
        self._records.keep(self._name, asker.task, found)

    def scored(self) -> Scored:
        """What became of the candidate. Raises JobError where the runner left items unanswered."""
        error = self._records.lost(self._name)
        if error is not None:
            return Scored(error=error)
        found = []
        for task, posed in enumerate(self._questions.tasks):
            kept = self._records.scores(self._name, task)
            missing = [item.where for item in posed.task.items if item.id not in kept]
            if missing:
                raise JobError(
                    f"{missing[0]}: {self._name} gave no answer, nor to {len(missing) - 1} other items"
                )
            found.append(tuple(kept[item.id] for item in posed.task.items))
        return Scored(tuple(found))
