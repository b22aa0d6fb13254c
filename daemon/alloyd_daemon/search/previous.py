"""What an earlier search found best, from its results: a baseline of a later one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import msgspec

from alloyd.errors import RecipeError, SourceNotFound
from alloyd.paths import expanded

from ..checkpoints.small_file import read_small
from .baselines import Baseline

MOST_BYTES: Final = 1 << 30


def previous_best(name: str, *, home: Path, base_dir: Path) -> Baseline:
    """The winner of the search ``name``: a job of this home, a search's folder, or its results.json.

    Raises
    ------
    SourceNotFound
        There are no such results.
    RecipeError
        They are no results of a search, or of one without a winner.
    """
    given = base_dir / expanded(name)
    places = [given, given / "results.json", home / "searches" / name / "results.json"]
    path = next((each for each in places if os.path.isfile(each)), None)
    if path is None:
        raise SourceNotFound(
            f"previous: there are no results of a search '{name}'",
            hint="Name a job whose search has ended, or its results.json.",
            path=str(given),
        )
    winner = _winner(path)
    genes = winner.get("genes")
    return Baseline(
        f"best of {name}",
        winner["recipe"],
        point=genes if isinstance(genes, dict) and genes else None,
        previous=True,
    )


def _winner(path: Path) -> dict[str, Any]:
    problem = f"previous: {path} is not the results of a search"
    hint = "Name the results.json of a search."
    try:
        found = msgspec.json.decode(read_small(path, at_most=MOST_BYTES))
    except OSError as wrong:
        raise RecipeError(f"{problem}: {wrong.strerror}", hint=hint, path=str(path)) from wrong
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise RecipeError(f"{problem}: {wrong}", hint=hint, path=str(path)) from wrong
    winner = found.get("winner", problem) if isinstance(found, dict) else problem
    if winner is None:
        raise RecipeError(
            f"previous: the search of {path} has no winner", hint="Leave it out.", path=str(path)
        )
    if not isinstance(winner, dict) or not isinstance(winner.get("recipe"), dict):
        raise RecipeError(problem, hint=hint, path=str(path))
    return winner
