"""Recipes: mergekit's YAML schema read strictly, every mistake found at once and named with its line."""

from __future__ import annotations

from collections.abc import Iterable

from .errors import AlloydError, RecipeError, raise_all
from .recipe_reader import RecipeReader
from .recipe_schema import (
    Condition,
    Form,
    InputModel,
    ModelRef,
    ModelToken,
    Module,
    Recipe,
    Setting,
    Settings,
    Slice,
    Source,
    TokenEmbedding,
    Tokenizer,
)
from .strict_yaml import documents

__all__ = [
    "Condition",
    "Form",
    "InputModel",
    "ModelRef",
    "ModelToken",
    "Module",
    "Recipe",
    "Setting",
    "Settings",
    "Slice",
    "Source",
    "TokenEmbedding",
    "Tokenizer",
    "in_order",
    "load",
]


def load(text: str, *, name: str = "recipe", lenient: bool = False) -> tuple[Recipe, ...]:
    """Read a recipe file: one :class:`Recipe` for each YAML document, in order.

    ``name`` is what messages call the file. With ``lenient`` a key that means nothing is a warning of its
    recipe, since mergekit ignores it; otherwise it is an error with the nearest known key.

    Raises
    ------
    RecipeError, Problems
        What is wrong, with the line; all mistakes of one text together.
    """
    found = documents(text, name=name)
    if not found:
        raise RecipeError(
            f"{name} is empty", hint="A recipe needs at least merge_method and models.", file=name
        )
    readers = [RecipeReader(each, name, lenient) for each in found]
    recipes = [reader.recipe() for reader in readers]
    problems = [problem for reader in readers for problem in reader.problems]
    raise_all(problems)
    whole = tuple(each for each in recipes if each is not None)
    raise_all(_name_problems(whole, name))
    return whole


def in_order(
    recipes: Iterable[Recipe], *, name: str = "recipe"
) -> tuple[tuple[Recipe, tuple[str, ...]], ...]:
    """The documents of one file in an order in which each comes after those whose result it uses.

    A document uses another when a model's path is the other's ``name``; the names it uses stand beside it.

    Raises
    ------
    RecipeError
        Documents that need each other.
    """
    recipes = tuple(recipes)
    named = {each.name for each in recipes if each.name is not None}
    uses = {
        place: tuple(dict.fromkeys(ref.path for ref in each.referenced_models() if ref.path in named))
        for place, each in enumerate(recipes)
    }
    done: set[str | None] = set()
    ordered: list[tuple[Recipe, tuple[str, ...]]] = []
    waiting = list(range(len(recipes)))
    while waiting:
        ready = next((place for place in waiting if done.issuperset(uses[place])), None)
        if ready is None:
            circle = ", ".join(f"'{recipes[place].name}'" for place in waiting if recipes[place].name)
            raise RecipeError(
                f"{name}: the documents {circle} need each other's result", hint="Break the circle."
            )
        waiting.remove(ready)
        done.add(recipes[ready].name)
        ordered.append((recipes[ready], uses[ready]))
    return tuple(ordered)


def _name_problems(recipes: tuple[Recipe, ...], name: str) -> list[AlloydError]:
    names = [each.name for each in recipes]
    problems: list[AlloydError] = [
        RecipeError(
            f"{name}: two documents are named '{each}'", hint="Give each document its own name.", file=name
        )
        for each in dict.fromkeys(names)
        if each is not None and names.count(each) > 1
    ]
    if names.count(None) > 1:
        problems.append(
            RecipeError(
                f"{name}: {names.count(None)} documents have no name, at most one may",
                hint="Give each document but the last a name: key.",
                file=name,
            )
        )
    return problems
