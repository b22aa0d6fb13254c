"""The winner as files: a recipe for alloyd and one for mergekit, each read back and planned before it is believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from alloyd.errors import AlloydError
from alloyd.jobs import PlanSpec
from alloyd.recipe_writer import RANDOM, CannotSay, to_mergekit, write

from ..candidate import Candidate, from_recipe
from ..checkpoints.durable import replace_file
from ..settings import Settings
from .space import PlainRecipe

WINNER: Final = "winner.yaml"
MERGEKIT: Final = "winner.mergekit.yaml"

_DTYPES: Final = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
"""What recipes call the element types that checkpoints name."""

_MASKS: Final = "mergekit draws other random masks: the result is alike, not the same."
_ADAPTERS: Final = (
    "mergekit merges adapters first: it needs --lora-merge-cache FOLDER, and --lora-merge-dtype float32 to do it "
    "in this arithmetic."
)


@dataclass(frozen=True, slots=True)
class Exported:
    """A recipe in both dialects, the ``candidate`` that it is, and what it comes to in each layer.

    ``mergekit`` is ``None`` where ``why_not`` says what mergekit has no words for; ``remark`` says in what way its
    result is another, or what it must be told beside it, where that is so.
    """

    alloyd: str
    mergekit: str | None
    candidate: Candidate
    by_layer: Mapping[str, Any] | None
    why_not: str = ""
    remark: str = ""


def export(recipe: PlainRecipe, *, head: Sequence[str], home: Path, settings: Settings) -> Exported:
    """``recipe`` as text, ``head`` being comments at the top.

    Each text is read again as a user's would be, and must plan the same tensors from the same bytes.

    Raises
    ------
    AlloydError
        The recipe is none, or its text does not give it again.
    """
    wanted = _planned(write(recipe), home, settings)
    by_layer = wanted.prepared.by_layer()
    text = write(recipe, head=head)
    _must_equal(_planned(text, home, settings), wanted, "its YAML")
    try:
        said = to_mergekit(recipe, out_dtype=_out_dtype(wanted))
    except CannotSay as why:
        return Exported(text, None, wanted, by_layer, f"{why}.")
    remarks = [
        each
        for each, holds in (
            (_MASKS, recipe["merge_method"] in RANDOM),
            (_ADAPTERS, any(each.adapter is not None for each in wanted.prepared.plan.outline.models)),
        )
        if holds
    ]
    theirs = write(said, head=(*head, *remarks))
    # Read by alloyd, which promises mergekit's float32 arithmetic; a seed is not among mergekit's words.
    seeded = write({**said, **({"seed": recipe["seed"]} if "seed" in recipe else {})})
    _must_equal(_planned(seeded, home, settings), wanted, "its YAML for mergekit")
    return Exported(text, theirs, wanted, by_layer, remark=" ".join(remarks))


def by_layer_of(recipe: PlainRecipe, home: Path, settings: Settings) -> Mapping[str, Any] | None:
    """What a recipe comes to in each layer. Raises AlloydError where it cannot be planned."""
    return _planned(write(recipe), home, settings).prepared.by_layer()


def write_files(exported: Exported, folder: Path) -> None:
    """Put the texts into ``folder``; a file of an earlier winner does not stay."""
    replace_file(folder / WINNER, exported.alloyd.encode())
    if exported.mergekit is None:
        (folder / MERGEKIT).unlink(missing_ok=True)
    else:
        replace_file(folder / MERGEKIT, exported.mergekit.encode())


def _planned(text: str, home: Path, settings: Settings) -> Candidate:
    return from_recipe(PlanSpec(text, "/", recipe_name=WINNER), name=WINNER, home=home, settings=settings)


def _out_dtype(candidate: Candidate) -> str:
    codes = {each.dtype for each in candidate.prepared.plan.tensors}
    if len(codes) != 1 or not codes <= _DTYPES.keys():
        listed = ", ".join(sorted(codes))
        raise CannotSay(f"mergekit writes every tensor in one type, and these are {listed}")
    return _DTYPES[codes.pop()]


def _must_equal(found: Candidate, wanted: Candidate, what: str) -> None:
    if found.prepared.plan.identity != wanted.prepared.plan.identity:
        raise AlloydError(
            f"the winner as {what} gives other tensors than the winner",
            hint="This is a fault of alloyd: please report it with the search's history.db.",
        )
