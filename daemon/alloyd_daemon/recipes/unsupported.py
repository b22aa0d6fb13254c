"""What a recipe may say and alloyd does not carry out yet; each thing is one clear error, never ignored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from alloyd.errors import PlanError
from alloyd.recipe import ModelRef, Recipe

from .findings import Findings


def check_supported(recipe: Recipe, vocabularies: Sequence[str | None], found: Findings) -> None:
    """Note every key of ``recipe`` that cannot be carried out yet.

    ``vocabularies`` has a digest of the token table of each referenced model, ``None`` where it is unknown.
    Models of one vocabulary need no new one: ``union``, ``base`` and the donor then mean the donor's tokenizer.
    """
    found.error(*_problems(recipe, vocabularies))
    source = _source(recipe)
    if source is not None and not _complete(recipe, vocabularies):
        found.warn(f"{_key(recipe)}: the models' vocabularies could not be compared and are taken as equal")


def _problems(recipe: Recipe, vocabularies: Sequence[str | None]) -> Iterator[PlanError]:
    if recipe.chat_template is not None:
        yield PlanError(
            "chat_template is not supported yet",
            hint="Leave it out: the output gets the template of base_model, or of the first model without one.",
            key="chat_template",
        )
    block = recipe.tokenizer
    if block is not None and (block.tokens or block.pad_to_multiple_of is not None):
        yield PlanError(
            "tokenizer.tokens and tokenizer.pad_to_multiple_of are not supported yet", key="tokenizer"
        )
    source = _source(recipe)
    if source is None:
        return
    donor = recipe.base_model or recipe.referenced_models()[0]
    differ = len({each for each in vocabularies if each is not None}) > 1
    foreign = isinstance(source, ModelRef) and source != donor
    if foreign and not differ and _complete(recipe, vocabularies):
        yield PlanError(
            f"{_key(recipe)}: only the tokenizer of {donor} can be taken, not that of {source}",
            hint=f"All models share one vocabulary: leave {_key(recipe)} out, or copy the files of {source}.",
            key=_key(recipe),
        )
    elif differ or foreign or (source != "base" and not _complete(recipe, vocabularies)):
        yield PlanError(
            f"{_key(recipe)}: {source} needs a vocabulary built from several, which is not supported yet",
            hint=f"Models that share one vocabulary merge without {_key(recipe)}.",
            key=_key(recipe),
        )


def _source(recipe: Recipe) -> ModelRef | str | None:
    return recipe.tokenizer_source if recipe.tokenizer is None else recipe.tokenizer.source


def _key(recipe: Recipe) -> str:
    return "tokenizer_source" if recipe.tokenizer is None else "tokenizer.source"


def _complete(recipe: Recipe, vocabularies: Sequence[str | None]) -> bool:
    return len(vocabularies) == len(recipe.referenced_models()) and None not in vocabularies
