"""Which sections a job's page has, by its kind and by what is there. Pure.

A record that was damaged, or changed by hand, costs the section that is made of it, and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from . import history, overview
from .figures.by_layer import by_layer
from .figures.convergence import convergence
from .figures.front import front
from .figures.genes import genes
from .figures.hypervolume import hypervolume
from .figures.importance import importance
from .figures.leaderboard import locked_test, validation
from .figures.lineage import lineage
from .figures.resources import memory, processors, throughput
from .figures.rungs import rungs
from .figures.scores import scores
from .figures.similarity import kinship, similarity
from .figures.spent import spent
from .goal import Result
from .outcome import outcome, title
from .parts import Block, Head, Section, Words
from .story import Story
from .wording import finite

DAMAGE: Final = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What a record raises that does not hold what it should."""


def head(story: Story) -> Head:
    """The top of a job's page."""
    job = story.job
    try:
        return Head(title(story), job.state.value, outcome(story), job.kind)
    except DAMAGE:
        return Head(job.id, job.state.value, "", job.kind)


def sections(story: Story) -> list[Section]:
    """Everything that can be told of a job; what has nothing to say is left out."""
    found = [
        _section("overview", "Overview", lambda: list(overview.blocks(story))),
        *(_found(story.results, story.job.kind) if story.results is not None else []),
        *_made(story),
        _section("resources", "Resources", lambda: _resources(story)),
        _section("history", "What happened", lambda: list(history.blocks(story))),
        _section("asked", "What was asked", lambda: list(overview.asked(story.job))),
        _section("replay", "What a replay needs", lambda: list(overview.sources(story.results or {}))),
    ]
    return [each for each in found if each.blocks]


def _section(key: str, title: str, blocks: Callable[[], Sequence[Block | None]]) -> Section:
    try:
        return Section(key, title, _there(blocks()))
    except DAMAGE as wrong:
        said = f"This cannot be shown: the record that it is made of is damaged ({type(wrong).__name__}: {wrong})."
        return Section(key, title, [Words([said], "error")])


def _there(blocks: Sequence[Block | None]) -> list[Block]:
    return [each for each in blocks if each is not None]


def _found(results: Result, kind: str) -> list[Section]:
    """What a search has found; of an opened test, that first."""
    told = _section("test", "Locked test", lambda: locked_test(results))
    search = _section(
        "search", "Search", lambda: [convergence(results), *front(results), hypervolume(results)]
    )
    board = _section("leaderboard", "Leaderboard", lambda: validation(results))
    rest = [
        _section(
            "winner", "The winner" if results.get("winner") else "The best so far", lambda: _best(results)
        ),
        _section("learnt", "What was learnt", lambda: [*importance(results), *genes(results)]),
        _section("lineage", "Lineage", lambda: [lineage(results)]),
        _section("trust", "Trust and cost", lambda: [rungs(results), spent(results)]),
        _section("similarity", "How alike the models are", lambda: [_kinship(results.get("kinship"))]),
        _section("trials", "Trials", lambda: list(overview.trials(results))),
    ]
    if kind == "open_test":
        return [told, board, search, *rest]
    # What it came to stands before how it came to that.
    return [board, told, search, *rest] if results.get("winner") else [search, board, told, *rest]


def _best(results: Result) -> list[Block]:
    best = results.get("winner") or results.get("leader") or {}
    return [*by_layer(best.get("by_layer")), *overview.best(results)]


def _kinship(found: Result | None) -> Block | None:
    return None if not found else similarity([str(each) for each in found["models"]], found["cosine"])


def _made(story: Story) -> Iterator[Section]:
    """What a job of another kind plans and gives."""
    job = story.job
    result: dict[str, Any] = job.result or {}
    plan = result if job.kind == "plan" else job.summary or {}
    if job.kind == "score":
        yield _section("scores", "Scores", lambda: [*scores(result), *overview.lost(result)])
    if job.kind == "kinship":
        yield _section("similarity", "How alike the models are", lambda: list(kinship(result)))
    if job.kind == "search":
        yield _section("plan", "Plan", lambda: list(overview.search_plan(plan)))
    if "bytes_read" in plan:
        yield _section("plan", "Plan", lambda: list(overview.plan(plan)))
    yield _section("weights", "What the recipe comes to", lambda: list(by_layer(plan.get("by_layer"))))


def _resources(story: Story) -> Sequence[Block | None]:
    budget = finite((story.job.summary or {}).get("memory"))
    return [
        memory(story.samples, int(budget) if budget else None),
        throughput(story.samples),
        processors(story.samples),
    ]
