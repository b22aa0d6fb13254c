"""The verbs about jobs that exist: ps, show, logs, events, wait, cancel, pause, resume, retry, move."""

from __future__ import annotations

import argparse
import sys
import time

from . import render
from .api import Client
from .board import LIVING
from .connecting import client_of, is_far
from .console import Console
from .daemon_log import daemon_log
from .errors import AlloydError, UsageError, WaitTimedOut
from .foreign import printable
from .jobs import Job, JobState
from .near import near
from .verdicts import timed_out


def _client(options: argparse.Namespace) -> Client:
    return client_of(options)


def ps(options: argparse.Namespace, console: Console) -> int:
    """List jobs."""
    if options.watch:
        from .cli_live import watch

        return watch(options, console)
    with client_of(options, autostart=not options.no_start) as client:
        jobs = client.jobs(limit=options.limit) if options.all else _living(client, options.limit)
        left_out = _left_out(client, options, len(jobs))
    if options.quiet:
        for job in jobs:
            console.show(job.id)
    elif jobs:
        # Of another machine's paths nothing is known.
        for line in render.jobs_table(jobs, short=str if is_far(options) else near):
            console.show(line)
    else:
        console.say(
            "no jobs" if options.all else "no jobs wait, run or are paused; 'alloy ps --all' lists ended ones"
        )
    if left_out:
        console.say(f"and {left_out:,} more; 'alloy ps --limit N' shows N")
    console.result(jobs)
    return 0


def _living(client: Client, most: int) -> list[Job]:
    """Jobs that have not ended, by age; those that wait do not push out the others."""
    found: dict[str, Job] = {}
    for state in LIVING:
        found |= {job.id: job for job in client.jobs((state,), limit=most - len(found))}
    return sorted(found.values(), key=lambda job: int(job.id.rpartition("-")[2]))


def _left_out(client: Client, options: argparse.Namespace, shown: int) -> int:
    """How many jobs a list of so many does not show."""
    if shown < options.limit:
        return 0
    counts = client.status().jobs
    states = JobState if options.all else LIVING
    return max(0, sum(counts.get(state, 0) for state in states) - shown)


def show(options: argparse.Namespace, console: Console) -> int:
    """Show one job."""
    with _client(options) as client:
        job = client.job(options.job)
    for line in render.job_lines(job):
        console.show(line)
    for line in render.recipe_lines(job):
        console.show(line, as_it_is=True)
    console.result(job)
    return 0


def logs(options: argparse.Namespace, console: Console) -> int:
    """Print a job's log, or the daemon's."""
    if bool(options.job) == options.daemon:
        raise UsageError("'alloy logs' needs a job or --daemon", hint="'alloy ps --all' lists the jobs.")
    if options.daemon and not is_far(options):
        return daemon_log(options, console)
    name, offset = options.job or "daemon", 0
    with _client(options) as client:
        while True:
            piece = client.log(name, offset=offset)
            offset = piece.next
            console.line("log", {"text": piece.text, "offset": piece.offset})
            if not console.json:
                sys.stdout.write(_on_a_terminal(piece.text) if sys.stdout.isatty() else piece.text)
                sys.stdout.flush()
            if piece.end or (not options.follow and not piece.text):
                break
            if not piece.text:
                time.sleep(0.5)
    if not offset:
        console.say(f"nothing is in the log of {name}")
    console.result({"bytes": offset})
    return 0


def _on_a_terminal(text: str) -> str:
    """A log as a terminal may have it; what a library's bar said, each time on a line of its own."""
    return printable(text.replace("\r", "\n"))


def events(options: argparse.Namespace, console: Console) -> int:
    """Print what happened."""
    last = options.since
    with _client(options) as client:
        for event in client.events(options.job, since=options.since, follow=options.follow):
            last = event.seq or last
            if event.kind == "progress" and not console.json and not sys.stdout.isatty():
                continue
            console.line("progress" if event.kind == "progress" else "event", event)
            console.show(render.event_line(event))
    console.result({"last": last})
    return 0


def wait(options: argparse.Namespace, console: Console) -> int:
    """Wait for jobs; the status is that of the first that did not end well."""
    deadline = None if options.timeout is None else time.monotonic() + options.timeout
    ended: list[Job] = []
    first: AlloydError | None = None
    with _client(options) as client:
        for name in options.jobs:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                job = client.wait(name, timeout=left)
            except WaitTimedOut:
                raise timed_out(name, options.timeout) from None
            except AlloydError as error:
                job = client.job(name)
                if first is None:
                    first = error
            ended.append(job)
            console.show(f"{job.id} {job.state.value}")
    if first is not None:
        raise first
    console.result(ended)
    return 0


def cancel(options: argparse.Namespace, console: Console) -> int:
    """End jobs."""
    return _order(options, console, "cancel")


def pause(options: argparse.Namespace, console: Console) -> int:
    """Stop jobs, keeping what they staged."""
    return _order(options, console, "pause")


def resume(options: argparse.Namespace, console: Console) -> int:
    """Go on with jobs."""
    return _order(options, console, "resume")


def retry(options: argparse.Namespace, console: Console) -> int:
    """Begin failed, quarantined or cancelled jobs anew."""
    return _order(options, console, "retry")


def move(options: argparse.Namespace, console: Console) -> int:
    """Change the place of jobs in the queue."""
    if options.to == "top":  # the first that is named is the last to be put before all others
        options.jobs = options.jobs[::-1]
    return _order(options, console, "move", options.to)


def _order(options: argparse.Namespace, console: Console, verb: str, *how: str | int) -> int:
    done: list[Job] = []
    with _client(options) as client:
        for name in options.jobs:
            job: Job = getattr(client, verb)(name, *how)
            done.append(job)
            console.show(f"{job.id} {job.state.value}" + (f" ({job.reason})" if job.reason else ""))
    console.result(done)
    return 0
