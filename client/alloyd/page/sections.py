"""Which sections a job's page has, by its kind and by what is there. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

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
from .parts import Block, Head, Section
from .story import Story
from .wording import finite


def head(story: Story) -> Head:
    """The top of a job's page."""
    return Head(title(story), story.job.state.value, outcome(story), story.job.kind)


def sections(story: Story) -> list[Section]:
    """Everything that can be told of a job; what has nothing to say is left out."""
    found = [
        Section("overview", "Overview", list(overview.blocks(story))),
        *(_found(story.results, story.job.kind) if story.results is not None else []),
        *_made(story),
        Section("resources", "Resources", _there(_resources(story))),
        Section("history", "What happened", list(history.blocks(story))),
        Section("asked", "What was asked", list(overview.asked(story.job))),
    ]
    return [each for each in found if each.blocks]


def _there(blocks: Sequence[Block | None]) -> list[Block]:
    return [each for each in blocks if each is not None]


def _found(results: Result, kind: str) -> list[Section]:
    """What a search has found; of an opened test, that first."""
    winner = results.get("winner") or {}
    told = Section("test", "Locked test", locked_test(results))
    search = Section(
        "search", "Search", _there([convergence(results), *front(results), hypervolume(results)])
    )
    board = Section("leaderboard", "Leaderboard", validation(results))
    rest = [
        Section("winner", "The winner", [*by_layer(winner.get("by_layer")), *overview.winner(results)]),
        Section("learnt", "What was learnt", [*importance(results), *genes(results)]),
        Section("lineage", "Lineage", _there([lineage(results), *overview.sources(results)])),
        Section("trust", "Trust and cost", _there([rungs(results), spent(results)])),
        Section("similarity", "How alike the models are", _there([_kinship(results.get("kinship"))])),
        Section("trials", "Trials", list(overview.trials(results))),
    ]
    return [told, search, board, *rest] if kind == "open_test" else [search, board, told, *rest]


def _kinship(found: Result | None) -> Block | None:
    return None if not found else similarity([str(each) for each in found["models"]], found["cosine"])


def _made(story: Story) -> Iterator[Section]:
    """What a job of another kind plans and gives."""
    job = story.job
    result: dict[str, Any] = job.result or {}
    plan = result if job.kind == "plan" else job.summary or {}
    if job.kind == "score":
        yield Section("scores", "Scores", [*scores(result), *overview.lost(result)])
    if job.kind == "kinship":
        yield Section("similarity", "How alike the models are", list(kinship(result)))
    if "bytes_read" in plan:
        yield Section("plan", "Plan", list(overview.plan(plan)))
    yield Section("weights", "What the recipe comes to", list(by_layer(plan.get("by_layer"))))


def _resources(story: Story) -> Sequence[Block | None]:
    budget = finite((story.job.summary or {}).get("memory"))
    return [
        memory(story.samples, int(budget) if budget else None),
        throughput(story.samples),
        processors(story.samples),
    ]
