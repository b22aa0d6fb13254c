"""Running soups: which model one is now, whether a candidate takes its place, and the pointer that people see.

The ledger says which model a soup is. ``soups/RULE/current`` follows it, a link or, where the file system has none, a
text file; what a candidate was and why it was kept or not stays beside it, and of those that were not only that.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from alloyd import task_name
from alloyd.errors import AlloydError, SourceNotFound, UsageError
from alloyd.jobs import Job, ScoreSpec, Subject
from alloyd.recipe import ModelRef
from alloyd.watch_schema import Rule, Soup

from ..checkpoints.card import RECIPE
from ..checkpoints.durable import sync_folder
from ..checkpoints.small_file import read_small
from ..faults import reach
from . import moves
from .fine_tune import Resolve
from .ledger import Claim, Folder, Ledger
from .model_folders import SOUPS, soups_folder

CURRENT: Final = "current"
SOUP, CANDIDATE = "soup", "candidate"
LOST: Final = "Put it back; or give the rule another 'name', under which a soup begins anew."


def folder_of(folder: Folder, rule: str) -> Path:
    """The folder of a running soup."""
    return soups_folder(folder.path, folder.settings) / rule


def current(folder: Folder, rule: Rule, soup: Soup, ledger: Ledger, resolve: Resolve) -> str:
    """The model that a soup is now; the pointer says so too.

    Raises
    ------
    SourceNotFound
        It is not there, or the model that it is to begin with is not.
    OSError
        The pointer cannot be written now.
    """
    now = ledger.soup(folder.id, rule.name)
    if not now:
        found = resolve(ModelRef.parse(soup.start), base_dir=Path(folder.path))
        now = ledger.begin_soup(folder.id, rule.name, os.path.normpath(found))
    see(now, "running soup", hint=LOST)
    _point(folder_of(folder, rule.name), Path(now))
    return now


def see(path: str, what: str, *, hint: str) -> None:
    """Raise SourceNotFound unless a soup or its candidate is there."""
    if not os.path.isdir(path):
        raise SourceNotFound(f"the {what} {path} is not there", hint=hint, path=path)


def candidate_place(folder: Folder, claim: Claim, ledger: Ledger) -> str:
    """Where the candidate of a claim is merged to."""
    number = ledger.tried(folder.id, claim.rule)
    return str(moves.free_place(folder_of(folder, claim.rule), f"{number:04d}-{moves.flat(claim.name)}"))


def comparison(folder: Folder, soup: Soup, claim: Claim) -> ScoreSpec:
    """The scoring of a candidate and of the soup that it was made from, on the same items."""
    tasks = tuple(task_name.absolute(each, Path(folder.path)) for each in soup.score)
    return ScoreSpec((Subject(SOUP, claim.soup), Subject(CANDIDATE, claim.out)), tasks)


def verdicts(job: Job) -> list[dict[str, Any]]:
    """How the candidate of a scoring that is done compares with the soup: by the first metric of each task.

    Raises
    ------
    AlloydError
        One of the two could not be scored.
    """
    result: Mapping[str, Any] = job.result or {}
    for each in result.get("models", ()):
        if each.get("error"):
            raise AlloydError.from_dict(each["error"])
    first = {each["name"]: each["metrics"][0]["name"] for each in result.get("tasks", ()) if each["metrics"]}
    found = [
        each
        for each in result.get("comparisons", ())
        if each["model"] == CANDIDATE and first.get(each["task"]) == each["metric"]
    ]
    if not found:
        raise AlloydError(f"{job.id} compared nothing", hint="Has the task items, and a figure of them?")
    return found


def keeps(soup: Soup, compared: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a candidate takes the soup's place."""
    found = {each["verdict"] for each in compared}
    return "worse" not in found and (soup.keep == "not_worse" or "better" in found)


def is_of(job: Job, out: Path) -> bool:
    """Whether the model in ``out`` was made by the recipe of ``job``, which names the soup and the model taken in."""
    try:
        return read_small(out / RECIPE) == str(job.spec.get("recipe", "")).encode()
    except OSError:
        return False


def settle(folder: Folder, claim: Claim, ledger: Ledger) -> None:
    """Have the pointer follow the ledger, or take a candidate away that was not kept; it may be repeated."""
    place = folder_of(folder, claim.rule)
    now = ledger.soup(folder.id, claim.rule)
    if claim.out and claim.out != now:
        # Of the claim's own place: outputs of the folder may go elsewhere by now.
        above = Path(claim.out).parent
        real = Path(os.path.realpath(above.parent.parent), SOUPS, claim.rule)
        if Path(os.path.realpath(above)) != real:
            raise UsageError(
                f"the candidate {claim.out} is not removed: a link leads to it",
                hint="A folder of soups must be one, and no link.",
                path=claim.out,
            )
        remove(Path(claim.out))
    if now:
        _point(place, Path(now))


def remove(path: Path) -> None:
    """Take a model away so that nobody ever sees half of it; of a link only itself, and no file in its place."""
    gone = path.with_name(f".{path.name}.removed")
    if path.is_symlink():
        path.unlink()
    elif path.is_dir():
        os.rename(path, gone)
    reach("watch-soup-hidden")
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(gone)


def _point(place: Path, now: Path) -> None:
    pointer = place / CURRENT
    wanted = os.path.relpath(now, place) if now.is_relative_to(place) else str(now)
    try:
        if os.readlink(pointer) == wanted:
            return
    except OSError:
        pass
    place.mkdir(parents=True, exist_ok=True)
    fresh = place / f".{CURRENT}.new"
    fresh.unlink(missing_ok=True)
    try:
        os.symlink(wanted, fresh)
        os.replace(fresh, pointer)
    except OSError:
        # A share without links, say.
        told = place / f"{CURRENT}.txt"
        if not told.is_file() or told.read_text() != f"{now}\n":
            moves.replace(told, f"{now}\n")
    sync_folder(place)
