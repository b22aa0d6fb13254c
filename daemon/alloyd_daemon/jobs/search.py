"""The job `search`: from a spec to the best recipe that its budget finds, with the evidence.

Everything lies in a folder of the job's own: the record (:mod:`alloyd_daemon.search.history`), from which a job that
was stopped goes on, and the results. A job that ``continues`` another begins with all that the other one knows.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from alloyd import __version__
from alloyd.errors import AlloydError, UsageError
from alloyd.jobs import Finished, Note, Planned, Report, SearchSpec

from ..engine.findings import open_findings
from ..job import JOBS, Context, JobKind
from ..runner import RunOptions
from ..search.export import WINNER
from ..search.history import History
from ..search.history_file import RECORD, folder_of, record_of
from ..search.publish import publish, so_far
from ..search.ready import Ready, check_record, make_ready
from ..search.results import Searched
from ..search.run import search
from ..settings import MOST_THREADS
from ..warm import Warm

TELL_EVERY: Final = 10.0
"""Seconds between results that are written while a search runs."""


def run(spec: SearchSpec, context: Context) -> Generator[Report, None, None]:
    """Search; docs/search.md says what the result holds.

    Raises
    ------
    AlloydError
        Before work: what is wrong with the spec, its models, tasks and optimiser. Later: what no candidate can be
        scored for; so many failed one after the other that something must be wrong.
    """
    _check(spec)
    folder = folder_of(context.home, context.job_id)
    memory = spec.memory if spec.memory is not None else context.settings.memory_bytes()
    threads = spec.threads or context.settings.thread_count()
    with (
        open_findings(context.home, context.settings.cache_bytes(), contents=True) as findings,
        Warm() as warm,
    ):
        options = RunOptions(
            scratch=folder / "scratch", memory=memory, threads=threads, findings=findings, warm=warm
        )
        ready = make_ready(spec, context, folder, options)
        yield Planned(ready.summary())
        yield from (Note("warning", text) for text in ready.notes)
        with History(folder / RECORD) as history:
            _begin(history, spec, ready, context)
            searched = ready.searched(context.job_id)
            due = time.monotonic()
            running = search(ready.task, history)
            try:
                while True:
                    said = next(running)
                    if isinstance(said, Note):
                        if not history.enter("note", said.text, {"level": said.level, "text": said.text}):
                            continue
                    elif time.monotonic() >= due:
                        due = _tell_so_far(history, searched, folder, context)
                    yield said
            except StopIteration as end:
                winner: int | None = end.value
            except (GeneratorExit, AlloydError):
                running.close()
                # Whoever looks at a search that was stopped sees all of it.
                with suppress(AlloydError):
                    _tell_so_far(history, searched, folder, context)
                raise
            finally:
                running.close()
            if (note := _nothing_more(history, ready)) is not None:
                history.enter("note", note.text, {"level": note.level, "text": note.text})
                yield note
            if ready.phases.kinship:
                history.set_fact("kinship", dict(ready.phases.kinship))
            warm.close()  # nothing is scored any more
            published = publish(
                history,
                searched,
                winner=winner,
                folder=folder,
                home=context.home,
                settings=context.settings,
                findings=findings,
            )
            yield from published.read_sources(history, findings)
        shutil.rmtree(folder / "scratch", ignore_errors=True)
    yield Finished(published.result)


def _tell_so_far(history: History, searched: Searched, folder: Path, context: Context) -> float:
    """Write the results as they stand; returns when that is due again: it never takes more than a twentieth."""
    begun = time.monotonic()
    if _is_over(folder):
        return math.inf  # this one only goes through its record again
    so_far(history, searched, folder=folder, home=context.home, settings=context.settings)
    now = time.monotonic()
    return now + max(TELL_EVERY, 20 * (now - begun))


def discard(_: SearchSpec, context: Context) -> None:
    """Remove all that a cancelled search left behind; of one that was over, and read its sources, the results stay."""
    folder = folder_of(context.home, context.job_id)
    shutil.rmtree(folder / "scratch" if _is_over(folder) else folder, ignore_errors=True)


def _is_over(folder: Path) -> bool:
    """Whether the results of the search's end are written: only those have a winner's recipe."""
    return (folder / WINNER).is_file()


def _check(spec: SearchSpec) -> None:
    if spec.threads is not None and not 1 <= spec.threads <= MOST_THREADS:
        raise UsageError(
            f"the number of threads must be 1 to {MOST_THREADS}, not {spec.threads}",
            hint="Leave it out for the usual.",
        )


def _begin(history: History, spec: SearchSpec, ready: Ready, context: Context) -> None:
    """Say in the record what it is of, and refuse to go on with one of something else."""
    if history.fact("identity") is None and spec.continues:
        earlier = record_of(context.home, spec.continues)
        history.copy_from(earlier)
        history.set_fact("continued", {"search": spec.continues, "trials": len(history.trials())})
    if history.fact("identity") is not None:
        check_record(history, ready)
    history.set_fact("identity", ready.identity)
    history.set_fact("version", __version__)
    history.set_fact("finals", None)  # that of the search it continues is not its own
    history.set_fact("search", msgspec.to_builtins(spec))


def _nothing_more(history: History, ready: Ready) -> Note | None:
    """What to say where a search that was to go on had spent its budget before."""
    continued = history.fact("continued")
    if continued is None or len(history.trials()) > continued["trials"]:
        return None
    budget = ready.summary()["budget"]
    return Note("warning", f"nothing was added to {continued['search']}: its budget is {budget} in all")


JOBS.register("search", JobKind(spec=SearchSpec, run=run, discard=discard))
