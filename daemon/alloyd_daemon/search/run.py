"""The loop of a search: baselines, then what the optimiser asks for, then the finalists on the validation split.

Everything follows from the task and the record: a search that was stopped, however, goes through the record again (what
is scored is not scored again, what is told is not decided again) and goes on where that ends. In deterministic mode
it then asks, drops and tells as if it had never been stopped.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Final

from alloyd.errors import AlloydError, ChildDied, DiskFull, JobError, SourceChanged
from alloyd.jobs import Note, Progress

from ..candidate import Candidate
from ..optimiser import Problem
from .asking import Asking
from .climb import Climber, climb, settled_text
from .finals import check_sources, finals
from .history import History
from .ladder import Ladder
from .scorer import Scorer
from .search_task import Phase, Said, SearchTask
from .space import PlainRecipe, Space
from .standing import best_so_far, standing
from .time_limit import TimeLimit
from .trial import Trial

MANY: Final = 1000
"""Points that an optimiser is told to expect where the budget is one of items or time."""
TICK: Final = 0.1
"""Seconds for which the same is said of how the search stands: it goes through all trials, items come fast."""
MOST_DEATHS: Final = 3
"""Processes that may die over one trial before they scored another item of it; then it is the trial that failed."""
SUSPICIOUS: Final = MOST_DEATHS - 1
"""Processes that may die over trials that run together; then each runs by itself, and the next death is of one."""


def search(task: SearchTask, history: History) -> Generator[Progress | Note, None, int | None]:
    """Run the search, or go on with it; returns the winner: the trial of the lowest validation loss, if there is one.

    Closing it stops the search, to be gone on with later.

    Raises
    ------
    JobError
        So many candidates failed one after the other that something must be wrong; a stopped search cannot be repeated.
    AlloydError
        What concerns all candidates, as a runner raises it.
    """
    loop = _Loop(task, history)
    yield from loop.baselines()
    for number, make in enumerate(task.phases):
        phase = yield from make(loop.best_before(number))
        yield from loop.phase(number, phase)
    return (yield from finals(task, history))


class _Loop:
    """What a search knows while it runs: its trials, its ladder, what it has spent."""

    def __init__(self, task: SearchTask, history: History) -> None:
        self._task = task
        self._history = history
        self._ladder = Ladder(
            task.rungs,
            [each.task for each in task.search],
            task.goal,
            seed=task.seed,
            confidence=task.confidence,
        )
        self._scorer = Scorer(history, task.search, task.runner, task.options, TimeLimit(task.timeout))
        self._trials = {each.number: each for each in history.trials()}
        self._known: dict[str, int] = {}
        self._failed = 0
        self._one_by_one: bool | None = None
        self._since = time.monotonic()
        self._shown = (0, "")
        for number in history.told():
            self._remember(self._trials[number])
        self._settle()

    # What the record says

    def best(self) -> Trial | None:
        """The trial of the lowest exact loss so far."""
        number = self._ladder.best
        return None if number is None else self._trials[number]

    def best_before(self, phase: int) -> Trial | None:
        """The best of the earlier phases, as it stood when this phase began."""
        for entry in self._history.entries("phase"):
            if entry.key == str(phase):
                number = entry.data["best"]
                return self._trials[number] if isinstance(number, int) else None
        best = self.best()
        return best if all(each.phase < phase for each in self._trials.values()) or phase == 0 else None

    def _remember(self, trial: Trial) -> None:
        """Take in what became of a trial, now or before a stop."""
        self._trials[trial.number] = trial
        if trial.state == "scored" and trial.losses is not None:
            self._ladder.take(trial.number, trial.losses, partial(self._history.scores, trial.number))
        if trial.identity and trial.state != "duplicate":
            self._known.setdefault(trial.identity, trial.number)
        if trial.origin == "optimiser":
            self._failed = self._failed + 1 if trial.losses is None else 0

    def _settle(self) -> list[Note]:
        told = sum(
            each.state != "asked" and each.number <= self._ladder.calibrating
            for each in self._trials.values()
        )
        notes = []
        for each in self._ladder.settle(told):
            figures = asdict(each.correlation)
            text = settled_text(each.rung, each.next, figures, kept=each.kept)
            data = {"rung": each.rung, "next": each.next, "kept": each.kept, "text": text, **figures}
            if self._history.enter("rung", str(each.rung), data):
                notes.append(Note("info" if each.kept else "warning", text))
        return notes

    # The parts of a search

    def baselines(self) -> Said:
        """Score what the search is held against."""
        if not self._trials and self._task.baselines:
            trials = [
                Trial(
                    number=number,
                    batch=0,
                    origin="previous" if each.previous else "baseline",
                    name=each.name,
                    point=each.point,
                    recipe=each.recipe,
                )
                for number, each in enumerate(self._task.baselines, start=1)
            ]
            self._asked(trials)
        yield from self._score([each for each in self._trials.values() if each.batch == 0], None)

    def phase(self, number: int, phase: Phase) -> Said:
        """Ask, score and tell until the phase's part of the budget is spent, or the optimiser is done."""
        task = self._task
        begun = self._begin(number, phase.until)
        problem = Problem(
            genome=phase.space.genome,
            objectives=task.goal.objectives,
            seed=task.seed,
            batch=1 if task.one_at_a_time else task.batch or 1,
            budget=begun,
            options=phase.options,
            sources=phase.sources,
        )
        asking = Asking(phase.kind, problem)
        earlier = [
            each for each in self._trials.values() if each.origin != "optimiser" and each.phase == number
        ]
        asking.tell(earlier)
        batch = yield from self._repeat(number, asking, phase.space)
        over = any(each.phase > number for each in self._trials.values())
        while not over and not self._spent(number, phase.until):
            left = self._left(number, phase.until)
            size = 1 if task.one_at_a_time else task.batch or asking.batch
            count = size if left is None else min(size, left)
            proposals = asking.ask(count)
            batch += 1
            trials = [
                Trial(
                    number=len(self._trials) + place,
                    batch=batch,
                    phase=number,
                    origin="optimiser",
                    name=f"trial {len(self._trials) + place}",
                    point=dict(each.point),
                    parents=each.parents,
                    how=each.how,
                )
                for place, each in enumerate(proposals, start=1)
            ]
            self._asked(trials, phase=number, batch=batch, count=count)
            if not trials:
                yield Note("info", f"{phase.kind.name} has nothing more to ask")
                return
            yield from self._score(trials, phase.space)
            asking.tell([self._trials[each.number] for each in trials])

    def _begin(self, number: int, until: float) -> int:
        """Say on record that a phase begins; returns the points that it was meant to ask for then."""
        best = self.best()
        meant = self._left(number, until)
        data = {"best": None if best is None else best.number, "budget": meant}
        self._history.enter("phase", str(number), data)
        entry = next(each for each in self._history.entries("phase") if each.key == str(number))
        budget = entry.data["budget"]
        return max(1, budget) if isinstance(budget, int) else MANY

    def _repeat(self, number: int, asking: Asking, space: Space) -> Generator[Progress | Note, None, int]:
        """Go through the asks that are on record, and score what was not told yet; returns how many they are.

        One that came back empty is asked again.
        """
        asked: dict[int, list[Trial]] = {}
        for each in self._trials.values():
            if each.phase == number and each.batch:
                asked.setdefault(each.batch, []).append(each)
        counts = {entry.key: int(str(entry.data["count"])) for entry in self._history.entries("ask")}
        for batch, trials in sorted(asked.items()):
            asking.ask_again(counts[f"{number}/{batch}"], trials)
            yield from self._score([each for each in trials if each.state == "asked"], space)
            asking.tell([self._trials[each.number] for each in trials])
        return len(asked)

    def _asked(self, trials: Sequence[Trial], *, phase: int = 0, batch: int = 0, count: int = 0) -> None:
        self._history.ask(trials, phase=phase, batch=batch, count=count)
        self._trials |= {each.number: each for each in trials}

    # Budgets

    def _left(self, phase: int, until: float) -> int | None:
        """Candidates that a phase may still ask for; ``None``: as many as it likes."""
        if self._task.budget.candidates is None:
            return None
        asked = sum(each.origin == "optimiser" for each in self._trials.values())
        return max(0, round(self._task.budget.candidates * until) - asked)

    def _spent(self, phase: int, until: float) -> bool:
        budget = self._task.budget
        if self._left(phase, until) == 0:
            return True
        if budget.items is not None and self._items() >= budget.items * until:
            return True
        seconds = sum(each.seconds for each in self._trials.values())
        return budget.seconds is not None and seconds >= budget.seconds * until

    def _items(self) -> int:
        return sum(count for each in self._trials.values() for rung, count in each.items.items() if rung >= 0)

    # Scoring

    def _score(self, trials: Sequence[Trial], space: Space | None) -> Said:
        """Score trials that nothing became of yet, in their order: together where the runner likes that."""
        waiting = [each for each in trials if each.state == "asked"]
        if not waiting:
            return
        for some in [[each] for each in waiting] if self._alone(waiting, space) else [waiting]:
            yield from self._group(some, space)

    def _alone(self, trials: Sequence[Trial], space: Space | None) -> bool:
        """Whether trials are run one by one, so that each meets the incumbent that the one before it left."""
        for trial in trials:
            if self._one_by_one is not None:
                break
            try:
                candidate = self._task.plan(self._recipe(trial, space), trial.name)
            except AlloydError:
                continue
            runners = [
                self._scorer.runner_of([candidate], each.rung.quantise) for each in self._ladder.levels
            ]
            self._one_by_one = not any(each.at_once for each in runners)
        return self._one_by_one is not False

    def _recipe(self, trial: Trial, space: Space | None) -> PlainRecipe:
        if trial.recipe or space is None or trial.point is None:
            return trial.recipe
        return space.recipe(trial.point)

    def _group(self, trials: Sequence[Trial], space: Space | None) -> Said:
        """Score trials together, and tell what became of them."""
        ended: dict[int, Trial] = {}
        climbers: dict[int, Climber] = {}
        twins: dict[int, int] = {}
        meant: dict[str, int] = {}
        for trial in trials:
            try:
                recipe = self._recipe(trial, space)
                trial = replace(trial, recipe=recipe)
                candidate = self._task.plan(recipe, trial.name)
            except AlloydError as error:
                ended[trial.number] = replace(trial, state="failed", error=error)
                continue
            identity = candidate.prepared.plan.identity
            ended[trial.number] = replace(trial, identity=identity)
            twin = self._known.get(identity, meant.get(identity))
            if twin is not None:
                twins[trial.number] = twin
                continue
            meant[identity] = trial.number
            refused = yield from self._screened(trial, candidate)
            if refused is not None:
                ended[trial.number] = replace(ended[trial.number], state="failed", error=refused)
                continue
            climbers[trial.number] = Climber(trial.number, candidate)
        try:
            yield from self._suspected(climbers)
            yield from self._counted(climb(list(climbers.values()), self._ladder, self._scorer), climbers)
        except SourceChanged:
            self._history.forget(list(climbers))
            self._history.rest(list(climbers))
            raise
        except (GeneratorExit, AlloydError):
            with suppress(DiskFull):  # it may be what stopped the work
                self._history.rest(list(climbers))
            raise
        for number, climber in climbers.items():
            ended[number] = self._outcome(ended[number], climber)
        for number, twin in twins.items():
            one = ended.get(twin) or self._trials[twin]
            ended[number] = replace(
                ended[number], state="duplicate", of=twin, losses=one.losses, error=one.error
            )
        now = time.monotonic()
        each_took = (now - self._since) / len(ended)
        self._since = now
        outcomes = [replace(ended[each.number], seconds=each_took) for each in trials]
        check_sources(self._task, self._history, list(climbers))
        self._history.tell(outcomes)
        for outcome in outcomes:
            self._remember(outcome)
        yield from self._settle()
        if self._failed >= self._task.most_failed:
            last = outcomes[-1].error
            raise JobError(
                f"{self._failed} candidates failed one after the other; the last, {outcomes[-1].name}: {last}",
                hint=(last.hint if last is not None else "") or "Is the spec what was meant?",
            )

    def _suspected(self, climbers: Mapping[int, Climber]) -> Said:
        """Give up the trials over which too many processes died, and set apart those that the next may die over."""
        for number, deaths in self._history.deaths(list(climbers)).items():
            climber = climbers[number]
            climber.apart = deaths >= SUSPICIOUS
            if deaths >= MOST_DEATHS:
                climber.error = ChildDied(
                    f"{climber.candidate.name}: {deaths} processes died before they scored an item of it",
                    hint="Was memory too short for it, or did it hang? 'alloy logs' of the search tells more.",
                )
        going = [each for each in climbers.values() if each.goes_on]
        self._history.begin([each.trial for each in going if not each.apart])
        apart = [each.candidate.name for each in going if each.apart]
        if len(apart) > 1:
            yield Note(
                "warning",
                f"{SUSPICIOUS} processes died while {apart[0]} and {len(apart) - 1} more ran together; "
                "each of them runs by itself now, to find the one",
            )

    def _screened(
        self, trial: Trial, candidate: Candidate
    ) -> Generator[Progress | Note, None, AlloydError | None]:
        """What the screen has against a candidate; a baseline is scored, however far it lies."""
        if self._task.screen is None or trial.origin != "optimiser":
            return None
        return (yield from self._task.screen.refuses(candidate))

    def _outcome(self, trial: Trial, climber: Climber) -> Trial:
        trial = replace(trial, items=dict(climber.items))
        if climber.error is not None:
            return replace(trial, state="failed", error=climber.error)
        if climber.dropped is not None:
            return replace(trial, state="dropped", losses=climber.dropped)
        top = self._ladder.top
        sheet = self._task.goal.sheet(self._history.scores(trial.number, top.number), top.places)
        return replace(trial, state="scored", losses=self._task.goal.losses(sheet))

    def _counted(self, running: Said, climbers: Mapping[int, Climber]) -> Said:
        """What is said while trials climb; progress in items of the whole search, a trial that fell as a whole."""
        full = len(self._ladder.top.places)
        told = full * sum(each.state != "asked" for each in self._trials.values())
        total = full * max(len(self._trials), len(self._task.baselines) + (self._task.budget.candidates or 0))
        if self._task.budget.candidates is None and self._task.budget.items is not None:
            total = max(total, self._task.budget.items)
        best = self._best_in_words()
        most, rungs = self._task.budget.candidates, len(self._ladder.levels)

        def count() -> int:
            """Items that are through; a trial that was given up counts, so that the service sees the step made."""
            here = sum(
                sum(each.items.values()) - each.waiting if each.goes_on else full
                for each in climbers.values()
            )
            return told + min(here, full * len(climbers) - 1)

        def shown(done: int) -> Progress:
            climbing = {number: each.items for number, each in climbers.items()}
            where = standing(self._trials.values(), climbing, most=most, rungs=rungs)
            return Progress(done, max(total, done), "items", where + best)

        last, due = shown(count()), 0.0
        try:
            if last.done > told:
                yield last
            for said in running:
                if isinstance(said, Progress):
                    done, now = count(), time.monotonic()
                    if done != last.done or now >= due:
                        last, due = shown(done), now + TICK
                    said = last
                yield said
        finally:
            running.close()

    def _best_in_words(self) -> str:
        best = self.best()
        if best is None:
            return ""
        if self._shown[0] != best.number:
            scores = self._history.scores(best.number, self._ladder.top.number)
            self._shown = (best.number, f"; {best_so_far(best, self._task.goal, scores)}")
        return self._shown[1]
