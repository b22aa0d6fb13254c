"""What watched folders need of models that are there already: no weights of these are removed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from alloyd.errors import AlloydError
from alloyd.strict_yaml import documents
from alloyd.watch_schema import Rule, Watch

from .model_folders import soups_folder


def shield(watches: Iterable[Watch], roots: Sequence[Path]) -> Iterator[str]:
    """Folders whose models may be news to somebody or be named by what is dropped, running soups, and whatever rules
    name: seen from the watched folder, and from ``roots``, where models lie."""
    for each in watches:
        yield each.path
        yield from each.settings.roots
        yield str(soups_folder(each.path, each.settings))
        yield from (soup.current for soup in each.soups)
        for rule in each.settings.rules:
            for name in _names(rule):
                yield from (os.path.join(place, name) for place in (each.path, *map(str, roots)))


def _names(rule: Rule) -> Iterator[str]:
    """Every text of a rule that may be a model's name."""
    texts = [rule.base, *([rule.soup.start] if rule.soup else [])]
    try:
        for document in documents(rule.template, name=rule.name):
            texts += _texts(document.value)
    except AlloydError:
        texts += rule.template.split()
    for text in texts:
        yield from filter(None, {text, *re.split(r"[@+]", text)})


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
