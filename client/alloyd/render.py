"""Plans, jobs and events as text for people. Pure: values in, lines out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from . import render_kinship, render_scores, render_search
from .columns import columns
from .facts import listed, told
from .jobs import Event, Job, JobState
from .units import format_count, format_duration, format_size


def plan_lines(summary: Mapping[str, Any], *, full: bool = False) -> list[str]:
    """A plan as a small table; ``full`` names every model's path and how it will be worked."""
    models = [model for model in summary.get("models", []) if isinstance(model, Mapping)]
    rows: list[tuple[str, str]] = []
    if summary.get("method"):
        rows.append(("method", str(summary["method"])))
    if models:
        names = ", ".join(str(model.get("name", "?")) for model in models)
        size = sum(int(model.get("bytes") or 0) for model in models)
        rows.append(
            ("models", f"{len(models)} ({format_size(size)})" if full else f"{names} ({format_size(size)})")
        )
        if full:
            cells = [
                (str(each.get("name", "?")), format_size(each.get("bytes") or 0), str(each.get("path")))
                for each in models
            ]
            rows += [("", line) for line in columns(cells)]
    if "tensors" in summary:
        what = f"{summary['tensors']}"
        if summary.get("parameters"):
            what += f" ({format_count(summary['parameters'])} parameters)"
        if summary.get("dtype"):
            what += f", {summary['dtype']}"
        if summary.get("format", "safetensors") != "safetensors":
            what += f" to {summary['format']}"
        shards = summary.get("shards")
        rows.append(("tensors", what + (f", {shards} file{'' if shards == 1 else 's'}" if shards else "")))
    if "bytes_read" in summary:
        passes = summary.get("passes", 1)
        rows.append(
            ("read", format_size(summary["bytes_read"]) + (f" in {passes} passes" if passes != 1 else ""))
        )
    if "bytes_write" in summary:
        rows.append(("write", format_size(summary["bytes_write"])))
    if summary.get("peak_memory") is not None:
        budget = f" of {format_size(summary['memory'])}" if summary.get("memory") else ""
        rows.append(("memory", f"{format_size(summary['peak_memory'])} at most{budget}"))
    if summary.get("disk_free") is not None:
        needed = format_size(summary.get("disk_needed") or 0)
        rows.append(("disk", f"{needed} needed, {format_size(summary['disk_free'])} free"))
    if summary.get("seconds") is not None:
        rows.append(("time", f"about {format_duration(summary['seconds'])}"))
    if full:
        rows += [(name, str(summary[name])) for name in ("threads", "reader") if summary.get(name)]
    if summary.get("out"):
        rows.append(("out", str(summary["out"])))
    lines = [f"  {name:<8} {text}" for name, text in rows]
    return lines + [f"warning: {text}" for text in summary.get("warnings", [])]


def jobs_table(
    jobs: Sequence[Job], *, now: datetime | None = None, short: Callable[[str], str] = str
) -> list[str]:
    """Jobs as a table: id, state, how far, since when, and why it is where it is or where the result lies.

    ``short`` says a path as short as it can be said.
    """
    now = datetime.now(UTC) if now is None else now
    rows = [("JOB", "STATE", "DONE", "SPEED", "LEFT", "CREATED", "WHAT")]
    for job in jobs:
        rows.append(
            (
                job.id,
                job.state.value,
                format_share(job),
                format_speed(job),
                format_left(job),
                f"{format_duration(max(0.0, (now - job.created).total_seconds()))} ago",
                _one_line(job, short),
            )
        )
    return columns(rows)


PLANS: Final[Mapping[str, Callable[[Mapping[str, Any]], list[str]]]] = {
    "score": render_scores.run_lines,
    "search": render_search.run_lines,
    "open_test": render_search.run_lines,
}
"""What a job of a kind is about to do, in lines."""

_RESULTS: Final[Mapping[str, Callable[[Mapping[str, Any]], list[str]]]] = {
    "kinship": render_kinship.kinship_table,
    "score": render_scores.scores_table,
    "search": render_search.result_lines,
    "open_test": render_search.test_lines,
}


def job_lines(job: Job) -> list[str]:
    """All that is known of a job, for people, but the recipes that it was given."""
    rows: list[tuple[str, str]] = [("state", job.state.value + (f" ({job.reason})" if job.reason else ""))]
    if job.progress is not None:
        rows.append(
            (
                "done",
                f"{format_share(job)}  {format_speed(job)}  {format_left(job)} left  {job.progress.what}",
            )
        )
    rows.append(("created", format_time(job.created)))
    if job.started is not None:
        rows.append(("started", format_time(job.started)))
    if job.ended is not None:
        rows.append(("ended", format_time(job.ended)))
    rows.append(("attempts", str(job.attempts)))
    tables = _RESULTS.get(job.kind) if job.result is not None else None
    facts = job.result or {}
    if tables is not None:  # what they do not show
        facts = {key: value for key, value in facts.items() if key in ("items", "results")}
    rows += told({"out": job.out} | facts)
    lines = [job.id, *(f"  {name:<14} {text}" for name, text in rows)]
    if tables is not None:
        lines += ["result", *(f"  {line}" for line in tables(job.result or {}))]
    if job.error is not None:
        lines += [f"error: {job.error.get('message', '')}"]
        lines += [f"hint: {job.error['hint']}"] if job.error.get("hint") else []
    if job.summary is not None:
        if job.kind in PLANS:
            lines += ["plan", *PLANS[job.kind](job.summary)]
        else:
            lines += ["plan", *plan_lines(job.summary, full=True)]
    spec = {key: value for key, value in job.spec.items() if key not in _NOT_ASKED and value is not False}
    if job.spec.get("subjects"):
        spec["models"] = [each.get("path") or each["name"] for each in job.spec["subjects"]]
    return [*lines, "asked", *(f"  {name:<14} {text}" for name, text in told(spec))]


_NOT_ASKED: Final = ("kind", "recipe", "spec", "subjects", "out")
"""Of a job's spec: what is told elsewhere."""


def recipe_lines(job: Job) -> list[str]:
    """The recipes and the spec that a job was given, each under its name, as they were written."""
    texts = {"recipe": job.spec.get("recipe", ""), "spec": job.spec.get("spec", "")}
    texts |= {f"recipe {each['name']}": each.get("recipe", "") for each in job.spec.get("subjects", ())}
    return [
        line
        for name, text in texts.items()
        if text
        for line in (name, *(f"  {each}" for each in str(text).splitlines()))
    ]


def event_line(event: Event) -> str:
    """An event as one line."""
    body = event.body
    if event.kind == "state":
        text = str(body.get("state"))
        if body.get("reason"):
            text += f" ({body['reason']})"
        if body.get("error"):
            text += f": {body['error'].get('message', '')}"
    elif event.kind == "note":
        text = f"{body.get('level')}: {body.get('text')}"
    elif event.kind == "planned" and "genes" in body:
        text = f"planned: {body['genes']} genes by {body['optimiser']['name']}, {body['budget']}"
    elif event.kind == "planned" and "runs" in body:
        text = "planned: " + "; ".join(
            f"{each['runner']} runs {', '.join(each['models'])}" for each in body["runs"]
        )
    elif event.kind == "planned":
        read, write = body.get("bytes_read") or 0, body.get("bytes_write") or 0
        text = f"planned: read {format_size(read)}, write {format_size(write)}"
    elif event.kind == "progress":
        share = 100 * body["done"] / body["total"] if body.get("total") else 0.0
        text = f"{share:.1f}% {body.get('what', '')}"
    elif event.kind == "gap":
        text = f"events {body.get('first')} to {body.get('last')} were pruned"
    elif event.kind == "daemon" and body.get("what") == "pruned":
        text = f"pruned {body.get('jobs')} jobs and {body.get('events')} events ({body.get('reason')})"
    else:
        text = str(body)
    return f"{event.seq or '-':>6}  {format_time(event.at)}  {event.job:<12} {text}"


def verified(result: Mapping[str, Any]) -> str:
    """What a check of a checkpoint found."""
    tensors, path = result.get("tensors", 0), result.get("path")
    if result.get("manifest"):
        return f"{path}: all {tensors} tensors ({format_size(result.get('bytes_read') or 0)}) are as the manifest says"
    return f"{path}: headers and index of {tensors} tensors agree; there is no manifest to compare their bytes with"


def format_share(job: Job) -> str:
    """How much of a job is done."""
    if job.state is JobState.DONE:
        return "100%"
    if job.progress is None or not job.progress.total:
        return "-"
    return f"{100 * job.progress.done / job.progress.total:.1f}%"


def format_speed(job: Job) -> str:
    """How fast a job runs."""
    if job.progress is None or job.progress.rate is None:
        return "-"
    rate = job.progress.rate
    return f"{format_size(rate)}/s" if job.progress.unit == "bytes" else f"{rate:.1f}/s"


def format_left(job: Job) -> str:
    """How long a job will still run."""
    if job.progress is None or job.progress.eta is None:
        return "-"
    return format_duration(job.progress.eta)


def format_time(when: datetime) -> str:
    """A time in the reader's own zone."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _one_line(job: Job, short: Callable[[str], str]) -> str:
    place = what_of(job, short)
    return f"{place} ({job.reason})" if job.reason and job.state is not JobState.FAILED else place


def what_of(job: Job, short: Callable[[str], str] = str) -> str:
    """What a job makes or looks at; what it failed with, if it did."""
    if job.error is not None and job.state is JobState.FAILED:
        return str(job.error.get("message", ""))
    spec = job.spec
    # What is made or read again, what the recipe or spec is called, whose test is opened.
    one = job.out or spec.get("path") or spec.get("recipe_name") or spec.get("name") or spec.get("search")
    several = spec.get("tasks") or spec.get("models") or ()  # of a score, of kinship
    return short(str(one)) if one else listed([short(str(each)) for each in several])
