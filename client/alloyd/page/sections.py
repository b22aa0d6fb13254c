"""Which sections a job's page has, by its kind and by what is there. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..jobs import Job, JobState
from ..units import format_duration
from .figures.convergence import convergence
from .figures.resources import memory, processors, throughput
from .outcome import outcome, title
from .parts import Block, Code, Facts, Head, Section, Words
from .story import Story
from .wording import finite, short, time


def head(story: Story) -> Head:
    """The top of a job's page."""
    return Head(title(story.job), story.job.state.value, outcome(story), story.job.kind)


def sections(story: Story) -> list[Section]:
    """Everything that can be told of a job; what has nothing to say is left out."""
    found = [
        Section("overview", "Overview", list(_overview(story))),
        Section("search", "Search", list(_search(story))),
        Section("resources", "Resources", _there(_resources(story))),
        Section("recipe", "Recipe", list(_texts(story.job))),
    ]
    return [each for each in found if each.blocks]


def _there(blocks: Sequence[Block | None]) -> list[Block]:
    return [each for each in blocks if each is not None]


def _overview(story: Story) -> Iterator[Block]:
    job = story.job
    if job.error is not None and job.state in (JobState.FAILED, JobState.CANCELLED):
        yield from _error(job)
    if story.missing:
        yield Words(story.missing, "info")
    yield Facts("Job", list(_facts(story)))


def _error(job: Job) -> Iterator[Block]:
    error = job.error or {}
    for each in error.get("problems") or (error,):
        said = [f"{each.get('message', '')} ({each.get('code', 'E_ALLOYD')})"]
        yield Words(said + ([f"What helps: {each['hint']}"] if each.get("hint") else []), "error")


def _facts(story: Story) -> Iterator[tuple[str, str]]:
    job = story.job
    yield "kind", job.kind
    yield "state", job.state.value + (f": {job.reason}" if job.reason else "")
    yield "created", time(job.created)
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
    yield "submitted by", job.owner
    if job.priority:
        yield "priority", str(job.priority)
    if job.after:
        yield "after", ", ".join(job.after)
    if job.out:
        yield "output", job.out
    if job.kind in ("search", "open_test") and story.home:
        yield "files", f"{story.home}/searches/{job.spec.get('search') or job.id}"
    if (job.result or {}).get("items"):
        yield "every item", str((job.result or {})["items"])


def _search(story: Story) -> Iterator[Block]:
    if story.results is None or story.job.kind != "search":
        return
    yield from _there([convergence(story.results)])


def _resources(story: Story) -> Sequence[Block | None]:
    budget = finite((story.job.summary or {}).get("memory"))
    return [
        memory(story.samples, int(budget) if budget else None),
        throughput(story.samples),
        processors(story.samples),
    ]


def _texts(job: Job) -> Iterator[Block]:
    for name, key in (("Recipe", "recipe"), ("Search spec", "spec")):
        if job.spec.get(key):
            yield Code(name, str(job.spec[key]))
    for each in job.spec.get("subjects") or ():
        if each.get("recipe"):
            yield Code(f"Recipe of {short(each['name'])}", str(each["recipe"]), folded=True)
