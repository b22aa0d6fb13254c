"""The parts of a page that need no picture: facts, errors, plans, recipes, trials. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ..jobs import Job, JobState
from ..units import format_count, format_duration, format_size
from .goal import Result, axes
from .parts import Block, Code, Facts, Rows, Table, Words
from .story import Story
from .wording import counted, figure, finite, number, short, short_names, time

TRIALS: Final = 500
"""Rows of the table of trials; of more the best."""
SIZES: Final = ("memory", "shard_size")
"""Settings that are bytes."""
TEXT: Final = 200_000
"""Characters of a recipe or spec that are shown."""


def blocks(story: Story) -> Iterator[Block]:
    """What a job is, when, whose, where its outputs lie; what it failed with and what helps."""
    job = story.job
    if job.error is not None and job.state in (JobState.FAILED, JobState.CANCELLED):
        for each in job.error.get("problems") or (job.error,):
            said = [f"{each.get('message', '')} ({each.get('code', 'E_ALLOYD')})"]
            yield Words(said + ([f"What helps: {each['hint']}"] if each.get("hint") else []), "error")
    if job.quarantined:
        yield Words(
            [f"It crashed too often and is in quarantine; 'alloy retry {job.id}' tries it again."], "warning"
        )
    if story.missing:
        yield Words(story.missing, "info")
    yield Facts("Job", list(_facts(story)))
    outputs = list(_outputs(story))
    if outputs:
        yield Facts("Outputs", outputs)


def _facts(story: Story) -> Iterator[tuple[str, str]]:
    job = story.job
    yield "kind", job.kind
    yield "state", job.state.value + (f": {job.reason}" if job.reason else "")
    yield "submitted", f"{time(job.created)} by {job.owner}"
    if job.started is not None:
        yield "started", time(job.started)
    if job.ended is not None:
        yield "ended", time(job.ended)
    until = job.ended or (story.told if job.state is JobState.RUNNING else None)
    if job.started is not None and until is not None:
        yield (
            "took" if job.ended else "so far",
            format_duration(max(0.0, (until - job.started).total_seconds())),
        )
    if job.attempts > 1:
        yield "attempts", str(job.attempts)
    if job.priority:
        yield "priority", str(job.priority)
    if job.after:
        yield "after", ", ".join(job.after)
    yield "this page", f"as it was at {time(story.told)}"


def _outputs(story: Story) -> Iterator[tuple[str, str]]:
    job = story.job
    result: Mapping[str, Any] = job.result or {}
    if result.get("out") or job.out:
        ended = "was to be in" if job.state.ended else "will be in"
        yield "model" if job.state is JobState.DONE else ended, str(result.get("out") or job.out)
    if result.get("digest"):
        yield "digest", str(result["digest"])
    if result.get("items"):
        yield "every item", str(result["items"])
    if job.kind in ("search", "open_test") and story.home:
        folder = f"{story.home}/searches/{job.spec.get('search') or job.id}"
        yield "folder", folder
        recipes = (story.results or {}).get("recipes") or {}
        if recipes.get("alloyd"):
            yield "merge it by", f"alloy merge {folder}/{recipes['alloyd']} OUT"
        if recipes.get("mergekit"):
            yield "for mergekit", f"{folder}/{recipes['mergekit']}"
        if recipes.get("why_not") or recipes.get("remark"):
            yield "mergekit", str(recipes.get("why_not") or recipes.get("remark"))


def asked(job: Job) -> Iterator[Block]:
    """The recipe or spec as it was given, and all else that was asked for."""
    for name, key in (("Recipe", "recipe"), ("Search spec", "spec")):
        if job.spec.get(key):
            yield Code(name, _cut(str(job.spec[key])))
    for each in job.spec.get("subjects") or ():
        if each.get("recipe"):
            yield Code(f"Recipe of {short(each.get('name', ''))}", _cut(str(each["recipe"])), folded=True)
    left = {key: value for key, value in job.spec.items() if key not in ("recipe", "spec", "kind")}
    facts = [
        (key.replace("_", " "), format_size(value) if key in SIZES else _plain(value))
        for key, value in left.items()
        if value not in (None, "", False, [], {})
    ]
    if facts:
        yield Facts("Settings", facts)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(
            str(each.get("name", each)) if isinstance(each, dict) else str(each) for each in value
        )
    if isinstance(value, dict):
        return ", ".join(f"{key}: {each}" for key, each in value.items())
    return str(value)


def _cut(text: str) -> str:
    return text if len(text) <= TEXT else f"{text[:TEXT]}\n... and {len(text) - TEXT:,} characters more"


def plan(summary: Mapping[str, Any]) -> Iterator[Block]:
    """What a merge reads, writes and needs."""
    models: Sequence[Mapping[str, Any]] = summary.get("models") or ()
    facts: list[tuple[str, str]] = []
    if summary.get("method"):
        facts.append(("method", str(summary["method"])))
    if summary.get("tensors"):
        what = [counted(summary["tensors"], "tensor")]
        if summary.get("parameters"):
            what.append(f"{format_count(int(summary['parameters']))} parameters")
        facts.append(("tensors", ", ".join([*what, *filter(None, [summary.get("dtype")])])))
    if summary.get("shards"):
        facts.append(
            ("format", f"{summary.get('format', 'safetensors')}, {counted(summary['shards'], 'file')}")
        )
    passes = summary.get("passes") or 1
    swept = f", {format_size(summary['bytes_swept'])} in {passes} passes" if passes > 1 else ""
    facts += [
        ("reads", format_size(summary.get("bytes_read") or 0) + swept),
        ("writes", format_size(summary.get("bytes_write") or 0)),
    ]
    if summary.get("peak_memory") is not None:
        facts.append(
            (
                "memory",
                f"{format_size(summary['peak_memory'])} at most, of {format_size(summary.get('memory') or 0)}",
            )
        )
    if summary.get("disk_free") is not None:
        facts.append(
            (
                "disk",
                f"{format_size(summary.get('disk_needed') or 0)} needed, {format_size(summary['disk_free'])} free then",
            )
        )
    if summary.get("seconds") is not None:
        facts.append(("predicted", f"about {format_duration(summary['seconds'])}"))
    reader = f", reader {summary['reader']}" if summary.get("reader") else ""
    facts.append(("worked by", counted(summary.get("threads") or 1, "thread") + reader))
    yield Facts("Plan", facts)
    if models:
        rows = [
            (name, format_size(each.get("bytes") or 0), str(each.get("path")))
            for name, each in zip(
                short_names([str(each.get("name")) for each in models]), models, strict=True
            )
        ]
        yield Rows("Sources", "", Table(("model", "size", "path"), rows, frozenset({1})), half=True)
    if summary.get("warnings"):
        yield Words([str(each) for each in summary["warnings"]], "warning")


def search_plan(summary: Mapping[str, Any]) -> Iterator[Block]:
    """What a search looks for, and how."""
    facts: list[tuple[str, str]] = []
    if summary.get("genes"):
        facts.append(("genes", f"{summary['genes']:,}"))
    optimiser = summary.get("optimiser") or {}
    if optimiser.get("name"):
        facts.append(("optimiser", ": ".join(filter(None, (optimiser["name"], optimiser.get("why"))))))
    if summary.get("budget"):
        facts.append(("budget", str(summary["budget"])))
    rungs: Sequence[str] = summary.get("rungs") or ()
    facts += [
        ("every candidate" if len(rungs) == 1 else f"rung {place}", str(each))
        for place, each in enumerate(rungs, start=1)
    ]
    names: Sequence[str] = summary.get("baselines") or ()
    if names:
        facts.append(
            ("baselines", f"{len(names):,}, scored first: {', '.join(short(each) for each in names)}")
        )
    models = [str(each.get("name")) for each in summary.get("models") or ()]
    if models:
        facts.append(("models", ", ".join(map(short, models))))
    facts += [
        (
            f"{each['split']} split",
            f"{short(each['name'])} ({each['evaluator']}, {counted(each['items'], 'item')})",
        )
        for each in summary.get("tasks") or ()
    ]
    if facts:
        yield Facts("How it searches", facts, half=False)


def best(results: Result) -> Iterator[Block]:
    """Genes and recipe of the winner, or of the best so far."""
    found = results.get("winner") or results.get("leader")
    if not found:
        return
    genes = found.get("genes") or {}
    if genes:
        rows = [
            (short(name, 70), number(value) if finite(value) is not None else short(value, 80))
            for name, value in genes.items()
        ]
        yield Rows(
            "Its genes",
            f"{short(found['name'])} in {counted(len(rows), 'gene')}.",
            Table(("gene", "value"), rows, frozenset({1})),
            half=True,
        )
    if found.get("recipe"):
        text = json.dumps(found["recipe"], indent=2, ensure_ascii=False)
        yield Code("Its recipe", _cut(text), folded=True)


def sources(results: Result) -> Iterator[Block]:
    """What a replay of the search needs: its seed, its data, its versions, the winner's checkpoints."""
    told = results.get("lineage") or {}
    data = told.get("data") or ()
    if data:
        rows = [
            (
                str(each["split"]),
                str(each["task"]),
                str(each["evaluator"]),
                f"{each['items']:,}",
                str(each["digest"])[:16],
            )
            for each in data
        ]
        head = ("split", "task", "evaluator", "items", "BLAKE3 begins")
        yield Rows(
            "Tasks",
            f"Seed {told.get('seed')}. No item stands in two splits.",
            Table(head, rows, frozenset({3})),
        )
    found = told.get("sources") or ()
    if found:
        files = [
            (
                str(each.get("path") or each.get("name")),
                str(len(each.get("files") or ())),
                str(each["digest"])[:16] if each.get("digest") else short(each.get("why_not") or "", 80),
            )
            for each in found
        ]
        columns = ("checkpoint", "files", "BLAKE3 begins")
        yield Rows("The winner's checkpoints", "", Table(columns, files, frozenset({1})), half=True)
    if told.get("versions"):
        yield Facts("Versions", [(str(name), str(each)) for name, each in told["versions"].items() if each])


def trials(results: Result) -> Iterator[Block]:
    """Every trial, the best first, and what failed."""
    known = results.get("trials") or ()
    measures = axes(results)
    if not measures or all(each["state"] == "asked" for each in known):
        return

    def rank(trial: Result) -> tuple[int, float]:
        value = finite((trial.get("losses") or [None])[0])
        states = ("scored", "dropped", "duplicate", "asked", "failed")
        state = states.index(trial["state"]) if trial["state"] in states else len(states)
        return state, float("inf") if value is None else value

    ordered = sorted(known, key=rank)
    rows = []
    for each in ordered[:TRIALS]:
        losses = list(each.get("losses") or ())
        values = [
            figure(measure.value(losses[place])) if place < len(losses) else "–"
            for place, measure in enumerate(measures)
        ]
        items = sum(count for rung, count in (each.get("items") or {}).items() if int(rung) >= 0)
        state = f"{each['state']} of {each['of']}" if each["state"] == "duplicate" else str(each["state"])
        rows.append(
            (
                str(each["trial"]),
                short(each["name"], 30),
                state,
                *values,
                f"{items:,}",
                short(each.get("how") or "–", 50),
            )
        )
    head = ("trial", "name", "state", *(each.title for each in measures), "items", "how it was made")
    numeric = frozenset({0, *range(3, 4 + len(measures))})
    said = "Scores of the search split, which chose: they flatter. Those of dropped trials are estimates."
    yield Rows("All trials", said, Table(head, rows, numeric, max(0, len(ordered) - TRIALS)))
    failed = [each for each in known if each.get("error")]
    if failed:
        told = [
            (
                short(each["name"], 30),
                str(each["error"].get("message", "")),
                str(each["error"].get("hint", "")),
            )
            for each in failed[:TRIALS]
        ]
        table = Table(
            ("trial", "what it failed with", "what helps"), told, left_out=max(0, len(failed) - TRIALS)
        )
        yield Rows(
            "Failed trials",
            f"{counted(len(failed), 'trial')} of {len(known):,} failed; the search went on.",
            table,
        )


def lost(result: Result) -> Iterator[Block]:
    """Models that could not be scored."""
    for each in result.get("models") or ():
        error = each.get("error")
        if error is not None:
            said = [f"{short(each['name'], 80)} could not be scored: {error.get('message', '')}"]
            yield Words(said + ([f"What helps: {error['hint']}"] if error.get("hint") else []), "error")
