"""The verbs that make a job and wait for it: merge, convert, plan, verify, rebuild, score."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from . import render, render_kinship, render_scores
from .api import Client
from .cli_form import conversion, form_of
from .connecting import client_of, is_far
from .console import Console
from .errors import AlloydError, Interrupted, JobError, UsageError, WaitTimedOut
from .jobs import KEPT, Event, Job, JobState, Spec, VerifySpec
from .recipe_file import MAX_BYTES, decode
from .render_live import Live, live
from .specs import merge_spec, place_for, plan_spec, queueing, rebuild_spec, score_spec
from .units import format_duration, format_size, parse_size
from .verdicts import ended_well

LOOK = 1.5
"""Seconds until a job that waits is looked at again."""


def merge(options: argparse.Namespace, console: Console) -> int:
    """Merge and say where the result lies."""
    place = _place(options)
    if place is None:
        raise UsageError("where should the merge go?", hint=f"alloy merge {options.recipe} FOLDER")
    spec = merge_spec(_recipe(options), place, _settings(options), far=is_far(options))
    return work(options, console, spec)


def convert(options: argparse.Namespace, console: Console) -> int:
    """Write one model in another form and say where the result lies."""
    place = _place(options)
    if place is None:
        raise UsageError(
            "where should the model go?", hint=f"alloy convert {options.model} FOLDER --gguf Q4_K_M"
        )
    recipe = conversion(options.model, options.dtype, form_of(options))
    return work(options, console, merge_spec(recipe, place, _settings(options), far=is_far(options)))


def plan(options: argparse.Namespace, console: Console) -> int:
    """Print the plan."""
    options.detach = False
    return work(
        options,
        console,
        plan_spec(_recipe(options), _place(options), _settings(options), far=is_far(options)),
    )


def verify(options: argparse.Namespace, console: Console) -> int:
    """Say whether a checkpoint is what its manifest says."""
    return work(options, console, VerifySpec(place_for(options.path, is_far(options))))


def rebuild(options: argparse.Namespace, console: Console) -> int:
    """Print the path of the model that was made again."""
    settings: dict[str, Any] = {
        "threads": options.threads,
        "reader": options.reader,
        "imatrix": None if options.imatrix is None else place_for(options.imatrix, is_far(options)),
    }
    if options.memory is not None:
        settings["memory"] = parse_size(options.memory)
    spec = rebuild_spec(options.path, options.place, settings, far=is_far(options))
    return work(options, console, spec)


def score(options: argparse.Namespace, console: Console) -> int:
    """Print the scores."""
    chosen: dict[str, str] = {}
    for text in options.option:
        key, equals, value = text.partition("=")
        if not equals or not key or key in chosen:
            raise UsageError(
                f"--option {text} is not KEY=VALUE, each key once", hint="Such as --option pattern='[0-9]+'."
            )
        chosen[key] = value
    if options.out and is_far(options):
        raise UsageError(
            "--out would be a file of this machine, and the items stay on the daemon's",
            hint="Leave it out: the result says where they are.",
        )
    settings = {
        "runner": options.runner,
        "quantise": options.quantise,
        "limit": options.limit,
        "batch_size": options.batch_size,
        "threads": options.threads,
        "options": chosen,
    }
    if options.memory is not None:
        settings["memory"] = parse_size(options.memory)
    return work(options, console, score_spec(options.models, options.task, settings, far=is_far(options)))


def work(options: argparse.Namespace, console: Console, spec: Spec) -> int:
    """Have a job done, show how it goes, and tell its result."""
    with connected(options) as client:
        job = done(client, options, console, spec)
        if job.state is JobState.DONE:
            _tell_result(options, console, job)
            return _status(job)
        console.show(job.id)
        console.result(job)
        return 0


@contextlib.contextmanager
def connected(options: argparse.Namespace) -> Iterator[Client]:
    """A client of the daemon that a command uses; a private one is left at once where the person who waits leaves."""
    client = client_of(options, private=options.no_daemon)
    now = False
    try:
        yield client
    except Interrupted:
        now = True
        raise
    finally:
        client.close(now=now)


def done(client: Client, options: argparse.Namespace, console: Console, spec: Spec) -> Job:
    """The job of ``spec`` once it is done, shown while it runs; with ``--detach`` as it was submitted.

    Raises
    ------
    AlloydError
        What it ended with, else.
    """
    since = client.status().last_event
    how, _ = queueing(vars(options))
    job = client.submit(spec, **how)
    if options.detach:
        return job
    job = _follow(client, console, job, since, private=options.no_daemon)
    if job.state is not JobState.DONE and options.no_daemon:
        _tell_log(client, console, job)
    return ended_well(job)


def _status(job: Job) -> int:
    """0, or the status of the first model that a score could not have, so that a script notices."""
    models = (job.result or {}).get("models", []) if job.kind == "score" else []
    errors = [each["error"] for each in models if each.get("error") is not None]
    return AlloydError.from_dict(errors[0]).status if errors else 0


def _follow(client: Client, console: Console, job: Job, since: int, *, private: bool) -> Job:
    """Show what happens to ``job`` until it has ended; Ctrl-C stops it, a second one leaves."""
    stopping = False
    try:
        view = _View(console, job)
        while True:
            try:
                with contextlib.closing(view):
                    look = LOOK if view.waiting else None
                    for event in client.events(job.id, since=since, follow=True, timeout=look):
                        since = event.seq or since
                        view.take(event)
                        if stopping and event.body.get("state") == JobState.PAUSED:
                            raise _kept(job, "paused", private=private)
                return client.job(job.id)
            except WaitTimedOut:
                view.look(client.job(job.id))
            except KeyboardInterrupt:
                if stopping:
                    raise
                stopping = view.stopping = True
                console.say("stopping at the end of the block; Ctrl-C again leaves at once")
                with contextlib.suppress(JobError):
                    client.pause(job.id) if job.kind in KEPT else client.cancel(job.id)
    except KeyboardInterrupt:  # the second may come while the first is still being passed on
        raise _kept(job, "left behind", private=private) from None


def _kept(job: Job, how: str, *, private: bool) -> Interrupted:
    if private:
        return Interrupted(f"{job.id} is stopped", hint="The same command goes on where it was.", job=job.id)
    hint = f"'alloy resume {job.id}' or the same command goes on; 'alloy cancel {job.id}' throws it away."
    return Interrupted(f"{job.id} is {how}", hint=hint, job=job.id)


class _View:
    """What is shown of a job while it runs."""

    def __init__(self, console: Console, job: Job) -> None:
        self._console = console
        self._job = job
        self._live: Live | None = None
        self._told: set[str] = set()
        self.stopping = False
        self.waiting = job.state is JobState.QUEUED
        if job.reason or job.attempts:
            line = f"{job.id} is {job.state.value}" + (f": {job.reason}" if job.reason else "")
            self._told.add(line)  # the event that it comes from may follow
            console.say(line)
        elif job.kind in KEPT:
            console.say(job.id)
        if job.summary is not None:
            self._plan(job.summary)

    def close(self) -> None:
        """Take the bar away."""
        if self._live is not None:
            self._live.close()
            self._live = None

    def look(self, job: Job) -> None:
        """Of a job that waits, say for what: no event tells it, as it follows from the jobs beside it."""
        self.waiting = job.state is JobState.QUEUED
        line = f"{job.id} {job.reason}; 'alloy ps' shows the queue"
        if self.waiting and job.reason.startswith("waits") and line not in self._told:
            self._told.add(line)
            self._say(line)

    def take(self, event: Event) -> None:
        """Show one event."""
        if event.kind == "state":
            self.waiting = event.body["state"] == JobState.QUEUED
        self._console.line("progress" if event.kind == "progress" else "event", event)
        if self._console.json:
            return
        if event.kind == "progress":
            if self._live is None:
                self._live = live()
            self._live.update(event.body)
            return
        if event.kind == "planned" and self._job.kind != "plan":
            self.close()
            self._plan(event.body)
        elif event.kind == "note":
            self._say(f"{event.body.get('level')}: {event.body.get('text')}")
        elif event.kind == "state" and event.body.get("reason") and not self._expected(event):
            line = f"{self._job.id} is {event.body['state']}: {event.body['reason']}"
            if line not in self._told:
                self._say(line)
        if event.kind == "state" and event.body["state"] != JobState.RUNNING:
            self.close()

    def _expected(self, event: Event) -> bool:
        """Whether an event's reason is told in another way: by the error, or by what the person just did."""
        return self.stopping or bool(event.body.get("error"))

    def _plan(self, summary: dict[str, Any]) -> None:
        # A job that goes on after a stop plans again; nothing is new but how much disk is free.
        name = f"plan of {summary.get('name')} to {summary.get('out')}"
        if name in self._told:
            return
        self._told.add(name)
        for line in render.PLANS.get(self._job.kind, render.plan_lines)(summary):
            self._say(line)

    def _say(self, line: str) -> None:
        # A warning of the plan comes again as the job's note, and what a runner has to say with each candidate.
        if line.startswith(("warning: ", "info: ")):
            if line in self._told:
                return
            self._told.add(line)
        if self._live is not None:
            self._live.close()
            self._live = None
        self._console.say(line)


def _tell_result(options: argparse.Namespace, console: Console, job: Job) -> None:
    result = job.result or {}
    if job.kind == "plan":
        for each in (*result.get("before", []), result):
            if each.get("name"):
                console.show(str(each["name"]))
            for line in render.plan_lines(each, full=True):
                console.show(line)
    elif job.kind in ("merge", "rebuild"):
        seconds = result.get("seconds") or 0.0
        written = result.get("bytes_written") or 0
        if result.get("already_there"):
            console.say(f"{job.id} done: it was there already")
        else:
            speed = (
                f" ({format_size(written / seconds)}/s)"
                if seconds and not result.get("resumed_blocks")
                else ""
            )
            console.say(f"{job.id} done: {format_size(written)} in {format_duration(seconds)}{speed}")
        console.show(str(result.get("out", job.out)))
    elif job.kind == "score":
        _tell_scores(options, console, result)
    elif job.kind == "kinship":
        for line in render_kinship.kinship_table(result):
            console.show(line)
    else:
        console.show(render.verified(result))
    console.result(msgspec.structs.replace(job, result=result))


def _tell_scores(options: argparse.Namespace, console: Console, result: dict[str, Any]) -> None:
    for line in render_scores.scores_table(result):
        console.show(line)
    items = result.get("items")
    if options.out and items:
        shutil.copyfile(items, options.out)
        result["items"] = os.path.abspath(options.out)
    elif options.no_daemon:
        result["items"] = None  # they go with the private daemon's home
    if result.get("items"):
        console.say(f"every item: {result['items']}")


def _tell_log(client: Client, console: Console, job: Job) -> None:
    """The end of a job's log, when the log is about to go with its private daemon."""
    if (job.error or {}).get("code") in ("E_ALLOYD", "E_CHILD_DIED"):
        for line in client.log(job.id, offset=-4096).text.splitlines()[-20:]:
            console.say(f"  {line}")


def _place(options: argparse.Namespace) -> str | None:
    if options.place and options.out and options.place != options.out:
        raise UsageError(f"two places for the result: {options.place} and {options.out}")
    chosen: str | None = options.out or options.place
    return chosen


def _recipe(options: argparse.Namespace) -> str:
    if options.recipe != "-":
        # An absolute path never holds a line break that would make it be taken for the text.
        return os.path.abspath(str(options.recipe))
    text = decode(sys.stdin.buffer.read(MAX_BYTES + 1), "stdin")
    return text if "\n" in text else text + "\n"


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "reader": options.reader,
        "lenient": getattr(options, "lenient", False),
        "form": form_of(options),
        "force": options.force,
        "threads": options.threads,
    }
    if options.memory is not None:
        settings["memory"] = parse_size(options.memory)
    if options.shard_size is not None:
        settings["shard_size"] = parse_size(options.shard_size)
    return settings
