"""Every reader that is fuzzed, by name."""

from __future__ import annotations

from collections.abc import Callable

from . import documents, formats, requests
from .target import Target

TARGETS: dict[str, Callable[[], Target]] = {
    "header": formats.header,
    "checkpoint": formats.checkpoint,
    "recipe_text": documents.recipe_text,
    "recipe_tree": documents.recipe_tree,
    "outline": documents.outline,
    "search_text": documents.search_text,
    "search_tree": documents.search_tree,
    "dropped": documents.dropped,
    "task": documents.task,
    "evaluated_task": documents.evaluated_task,
    "gguf": formats.gguf,
    "imatrix": formats.imatrix,
    "settings": documents.settings,
    "manifest": formats.manifest,
    "submitted": requests.submitted,
    "planned": requests.planned,
    "keys": requests.keys,
    "rules": documents.rules,
    "adapter": formats.adapter,
}
