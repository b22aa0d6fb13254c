"""The job `open_test`: a search's winner and its baselines on the locked test split, once.

The record says that the test was opened before an item of it is scored. What was interrupted goes on; whoever comes
after its end is told when it was opened, and what it showed.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import msgspec

from alloyd.errors import JobError, SourceChanged, StoreError, UsageError
from alloyd.jobs import Finished, Note, OpenTestSpec, Planned, Progress, Report, SearchSpec

from ..engine.findings import open_findings
from ..job import JOBS, Context, JobKind
from ..runner import RunOptions
from ..search.finals import answer_all
from ..search.history import History
from ..search.history_file import record_of
from ..search.judgement import opened_figures
from ..search.publish import publish
from ..search.ready import Ready, check_record, make_ready
from ..search.trial import TEST, Trial
from ..service.roots import check
from ..warm import Warm


def run(spec: OpenTestSpec, context: Context) -> Generator[Report, None, None]:
    """Open the test; the result is that of the search, with the test's figures.

    Raises
    ------
    JobError
        The test was opened before (the message says when), or the search has no winner yet.
    UsageError
        It has no test split.
    AccessDenied
        The search names what lies outside the folders that the opening is held to.
    """
    path = record_of(context.home, spec.search)
    folder = path.parent
    memory = spec.memory if spec.memory is not None else context.settings.memory_bytes()
    threads = spec.threads or context.settings.thread_count()
    with (
        History(path) as history,
        open_findings(context.home, context.settings.cache_bytes()) as findings,
        Warm() as warm,
    ):
        options = RunOptions(
            scratch=folder / "scratch-test", memory=memory, threads=threads, findings=findings, warm=warm
        )
        ready = _ready(history, spec, context, folder, options)
        winner = (history.fact("finals") or {}).get("winner")
        if winner is None:
            raise JobError(
                f"{spec.search} has no winner yet, and its test opens once",
                hint="Let the search end first.",
                job=spec.search,
            )
        trials = {each.number: each for each in history.trials()}
        held = [trials[winner]]
        held += [
            each
            for each in trials.values()
            if each.origin != "optimiser" and each.state in ("scored", "dropped") and each.number != winner
        ]
        history.open_test(context.job_id)
        history.forgive(TEST)
        yield Planned({"models": ready.summary()["models"], "memory": memory})
        answered = yield from _score(history, ready, held)
        if trials[winner].number not in {each.number for each in answered}:
            raise JobError(
                f"{trials[winner].name}, the winner, could not be scored on the test",
                hint="The test stays open for this job: cure what is wrong, then resume it.",
            )
        try:
            ready.task.check_sources()
        except SourceChanged:
            history.forget([each.number for each in held], TEST)
            raise
        tasks = [each.task for each in ready.splits["test"]]
        history.close_test(opened_figures(history, TEST, tasks, winner=trials[winner], others=answered))
        # Once the test is closed nothing may be left to do that could be stopped: no source is read for its digest.
        result = publish(
            history,
            ready.searched(spec.search),
            winner=winner,
            folder=folder,
            home=context.home,
            settings=context.settings,
            findings=findings,
        ).result
    yield Finished(result)


def _ready(
    history: History, spec: OpenTestSpec, context: Context, folder: Path, options: RunOptions
) -> Ready:
    """The search as it was: what its models and tasks are not any more cannot be tested."""
    try:
        asked = msgspec.convert(history.fact("search"), SearchSpec)
    except msgspec.ValidationError as wrong:
        raise StoreError(
            f"{history.path} does not say which search it is of ({wrong})",
            hint="It was emptied or changed: search anew.",
            path=str(history.path),
        ) from None
    check(msgspec.structs.replace(asked, roots=spec.roots), context.settings, context.home)
    ready = make_ready(msgspec.structs.replace(asked, threads=spec.threads), context, folder, options)
    if "test" not in ready.splits:
        raise UsageError(
            f"{spec.search} has no test split to open", hint="Give its spec 'tasks: {test: ...}'."
        )
    check_record(history, ready)
    return ready


def _score(
    history: History, ready: Ready, trials: list[Trial]
) -> Generator[Progress | Note, None, list[Trial]]:
    """Score ``trials`` on all items of the test; returns those that answered."""
    running = answer_all(ready.task, history, ready.splits["test"], trials, rung=TEST, split="test")
    try:
        while True:
            said = next(running)
            if isinstance(said, Note):
                history.enter("note", said.text, {"level": said.level, "text": said.text})
            yield said
    except StopIteration as end:
        answered: list[Trial] = end.value
        return answered
    finally:
        running.close()


JOBS.register("open_test", JobKind(spec=OpenTestSpec, run=run))
