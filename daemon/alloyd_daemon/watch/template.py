"""Puts models into the template of a rule: as values, never as text, so that no folder's name can be YAML."""

from __future__ import annotations

from collections.abc import Mapping

from alloyd.recipe_writer import as_json
from alloyd.strict_yaml import Plain, documents
from alloyd.watch_rules import PLACEHOLDER


def fill(template: str, name: str, models: Mapping[str, str]) -> str:
    """The documents of ``template`` as JSON (which is YAML), each placeholder being what ``models`` says.

    Raises RecipeError for a template that is no YAML.
    """
    return "\n---\n".join(as_json(_filled(each.value, models)) for each in documents(template, name=name))


def _filled(value: Plain, models: Mapping[str, str]) -> object:
    if isinstance(value, list):
        return [_filled(each, models) for each in value]
    if isinstance(value, dict):
        # Without quotes, {model} is a mapping to YAML.
        if len(value) == 1 and None in value.values() and next(iter(value)) in models:
            return _model(models[next(iter(value))])
        filled = {key: _filled(each, models) for key, each in value.items()}
        # Beside an adapter a model is only a half, and what says a path of one half is no model by itself.
        return {key: _half(each) for key, each in filled.items()} if "lora" in value else filled
    if not isinstance(value, str):
        return value
    whole = PLACEHOLDER.fullmatch(value.strip())
    if whole is not None:
        return _model(models[whole[1]])
    return PLACEHOLDER.sub(lambda found: models[found[1]], value)


def _half(value: object) -> object:
    return value["model"] if isinstance(value, dict) and value.keys() == {"model"} else value


def _model(path: str) -> object:
    """A path where a recipe names a model; ``+`` and ``@`` would mean something in plain text."""
    return {"model": {"path": path}} if "+" in path or "@" in path else path
