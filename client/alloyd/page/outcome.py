"""A job in one sentence: what came of it, or how far it is. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from ..jobs import Job, JobState
from ..units import format_duration, format_size
from .goal import bare, of
from .story import Story
from .wording import counted, figure, finite, interval, listed, short, short_names, with_interval

Result = Mapping[str, Any]


def title(story: Story) -> str:
    """What people call a job: the name of its recipe, search or output, and its id."""
    job = story.job
    spec = job.spec
    file = spec.get("recipe_name") or spec.get("name") or job.out or spec.get("path") or ""
    names = ((each or {}).get("name") for each in (story.results, job.summary, job.result))
    named = next(filter(None, names), None) or PurePath(str(file)).name
    return f"{short(named, 60)} · {job.id}" if named else job.id


def outcome(story: Story) -> str:
    """The sentence at the top of a page."""
    job = story.job
    match job.state:
        case JobState.QUEUED:
            return f"It waits{f': {job.reason}' if job.reason else ''}."
        case JobState.RUNNING:
            return running(job)
        case JobState.PAUSED:
            return f"It is paused{f' ({job.reason})' if job.reason else ''}; 'alloy resume {job.id}' goes on."
        case JobState.CANCELLED:
            return "It was cancelled."
        case JobState.FAILED:
            return str((job.error or {}).get("message") or "It failed.")
        case _:
            return _done(story)


def running(job: Job) -> str:
    """How far a running job is."""
    progress = job.progress
    if progress is None or not progress.total:
        return "It has begun."
    said = f"{100 * progress.done / progress.total:.0f} % is done"
    if progress.eta is not None and progress.eta >= 1:
        said += f", about {format_duration(progress.eta)} are left"
    if progress.what:
        said += f": {short(progress.what, 160)}"
    return f"{said}."


def _done(story: Story) -> str:
    job = story.job
    result = job.result or {}
    match job.kind:
        case "merge" | "rebuild":
            return _merged(job, result)
        case "search":
            return searched(story.results or result)
        case "open_test":
            return tested(story.results or result)
        case "score":
            return _scored(result)
        case "kinship":
            return _kin(result)
        case "verify":
            return _verified(result)
        case "plan":
            return (
                f"It would read {format_size(result.get('bytes_read') or 0)} "
                f"and write {format_size(result.get('bytes_write') or 0)}."
            )
        case _:
            return "It is done."


def _merged(job: Job, result: Result) -> str:
    out = result.get("out") or job.out
    if result.get("already_there"):
        return f"{out} held this very model already; nothing was written."
    summary = job.summary or {}
    models = summary.get("models") or ()
    what = f"Merged from {counted(len(models), 'model')} by {summary.get('method')}" if models else "Made"
    took = format_duration(finite(result.get("seconds")) or 0.0)
    said = f"{what} into {out}: {format_size(result.get('bytes_written') or 0)} in {took}."
    if result.get("non_finite"):
        said += f" {counted(result['non_finite'], 'element')} of it are NaN or infinite."
    return said


def searched(results: Result) -> str:
    """The winner with its figures, beside the best of its rivals that it is held against."""
    winner = results.get("winner")
    if not winner:
        return "It has no winner: nothing could be scored on the validation split."
    said = []
    for objective in results.get("objectives") or ():
        score = of(objective, winner.get("figures") or ())
        if score is not None:
            said.append(
                f"{bare(objective['task'])} {objective['metric']} "
                f"{with_interval(score['value'], score.get('low'), score.get('high'))}"
            )
    text = f"The winner is {short(winner['name'])} with {listed(said)} on the validation split"
    rival = _rival(results, winner)
    return f"{text}; {rival}." if rival else f"{text}."


def _rival(results: Result, winner: Result) -> str:
    """How the winner stands to the best baseline in the first objective."""
    objectives: Sequence[Result] = results.get("objectives") or ()
    if not objectives:
        return ""
    first = objectives[0]
    scored = [
        (score["value"], each)
        for each in results.get("baselines") or ()
        if winner["trial"] not in (each["trial"], each.get("of"))
        and (score := of(first, each["figures"]))
        and score["value"] is not None
    ]
    if not scored:
        return ""
    choose = min if first.get("better") == "lower" else max
    _, best = choose(scored, key=lambda each: each[0])
    pairs = next(
        (each["comparisons"] for each in winner.get("against") or () if each["trial"] == best["trial"]), ()
    )
    pair = of(first, pairs)
    if pair is None:
        return ""
    between = interval(pair.get("low"), pair.get("high"), "+")
    where = f" in {bare(first['task'])}" if len(objectives) > 1 else ""
    return (
        f"against {short(best['name'])}, the best baseline{where}, that is {figure(pair['difference'], '+')}"
        f"{f' ({between})' if between != '–' else ''}: {pair['verdict']}"
    )


def tested(results: Result) -> str:
    """What an opened test showed."""
    test = results.get("test") or {}
    models = test.get("models") or ()
    if not models:
        return "The locked test is open."
    said = [
        f"{bare(each['task'])} {each['metric']} {with_interval(each['value'], each.get('low'), each.get('high'))}"
        for each in models[0]["figures"]
    ]
    return f"On the locked test {short(models[0]['name'])} has {listed(said)}."


def _scored(result: Result) -> str:
    models = [each for each in result.get("models") or () if each.get("error") is None]
    lost = len(result.get("models") or ()) - len(models)
    said = f"{counted(len(models), 'model')} scored on {counted(len(result.get('tasks') or ()), 'task')}"
    return said + (f"; {counted(lost, 'model')} could not be." if lost else ".")


def _kin(result: Result) -> str:
    models = result.get("models") or ()
    cosine = (result.get("mean") or {}).get("cosine")
    names = listed(short_names([str(each["name"]) for each in models]))
    return (
        f"{names}: the mean cosine of what they learnt since {result.get('base')} is {figure(cosine, '+')}."
    )


def _verified(result: Result) -> str:
    tensors = counted(result.get("tensors") or 0, "tensor")
    if result.get("manifest"):
        return f"All of it ({tensors}) is as its manifest says."
    return f"Headers and index of {tensors} agree; there is no manifest to compare their bytes with."
