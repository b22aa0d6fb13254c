"""Stories of real jobs, as the daemon of the tutorial told them, and what can be done to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from alloyd.page.parts import Block, Figure, Section
from alloyd.page.sections import sections
from alloyd.page.story import Story

FOLDER = Path(__file__).parent / "stories"
NAMES = sorted(file.stem for file in FOLDER.glob("*.json"))
HOSTILE = "</script><img src=x onerror=alert(1)>{{x}}\u2028\u202e%{x}\x1b[31m & '\" <b>$x$"


def told(name: str) -> Story:
    """The story that a real job of this name left."""
    story = msgspec.json.decode((FOLDER / f"{name}.json").read_bytes(), type=Story)
    return with_results(story, **(told("search").results or {})) if story.job.kind == "open_test" else story


def with_results(story: Story, **changes: Any) -> Story:
    """The story of a search whose results are others."""
    return replace(story, results={**(story.results or {}), **changes})


def renamed(value: Any, name: Callable[[str], str]) -> Any:
    """``value`` with every name in it replaced: of models, trials, genes, tasks, files."""
    if isinstance(value, dict):
        return {
            (name(key) if "[" in key or " " in key else key): renamed(each, name)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [renamed(each, name) for each in value]
    if isinstance(value, str) and value not in WORDS:
        return name(value)
    return value


WORDS = frozenset(
    "merge plan verify score search open_test rebuild kinship queued running paused done failed cancelled state note "
    "planned info warning baseline previous optimiser scored dropped duplicate asked higher lower better worse weight "
    "density attention mlp norms embeddings other real no\u00a0clear\u00a0difference".replace(
        "\u00a0", "_"
    ).split()
) | {"no clear difference", ""}
"""What has a meaning of its own where a page looks at it."""


def blocks(story: Story) -> list[Block]:
    """Everything on the page of a story."""
    return [block for section in sections(story) for block in section.blocks]


def figures(story: Story) -> dict[str, Figure]:
    """The pictures on a page by their titles."""
    return {each.title: each for each in blocks(story) if isinstance(each, Figure)}


def section(story: Story, key: str) -> Section:
    """One section of a page."""
    return next(each for each in sections(story) if each.key == key)


def texts(value: Any) -> list[str]:
    """Every text in plain data."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts(each)]
    if isinstance(value, list | tuple):
        return [text for each in value for text in texts(each)]
    return []


def plain(story: Story) -> Any:
    """A story as JSON has it."""
    return json.loads(msgspec.json.encode(story))
