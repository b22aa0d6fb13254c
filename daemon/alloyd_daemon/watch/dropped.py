"""What a dropped file is: a recipe or a search spec, told apart by its keys, read, and held to the folder's roots."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Literal

from alloyd import recipe as recipes
from alloyd import search_reader, task_name
from alloyd.errors import AlloydError, RecipeError, UsageError
from alloyd.jobs import MergeSpec, SearchSpec, Spec
from alloyd.paths import expanded
from alloyd.recipe_file import MAX_BYTES, decode
from alloyd.strict_yaml import documents
from alloyd.watch_schema import WatchSettings

from ..checkpoints.small_file import read_small

_SEARCH_KEYS: Final = frozenset({"tasks", "budget"})


@dataclass(frozen=True, slots=True)
class Dropped:
    """The bytes of a dropped file and what names them: a digest of the content alone."""

    name: str
    data: bytes

    @property
    def digest(self) -> str:
        return blake2b(self.data, digest_size=16).hexdigest()


def read(path: Path) -> Dropped:
    """Read a dropped file.

    Raises
    ------
    OSError
        It cannot be read now, or is gone.
    UsageError
        It is a link, no regular file, or larger than a recipe can be.
    """
    if path.is_symlink():
        raise UsageError(
            f"{path.name} is a link, and what is dropped must be the file itself", hint="Copy it there."
        )
    try:
        return Dropped(path.name, read_small(path, at_most=MAX_BYTES))
    except OSError as wrong:
        if wrong.errno == errno.EFBIG:
            text = f"{path.name} is larger than {MAX_BYTES:,} bytes, too large for a recipe"
            raise UsageError(text, hint="Is this the recipe, and not a model file?") from None
        if wrong.errno in (errno.EINVAL, errno.EISDIR):
            raise UsageError(f"{path.name} is no regular file", hint="Drop the recipe itself.") from None
        raise


def kind_of(dropped: Dropped) -> tuple[Literal["recipe", "search"], str]:
    """Whether it is a recipe or a search spec, and its text; read to the end, so that every mistake has its line.

    Raises
    ------
    AlloydError
        It is neither, or a wrong one.
    """
    text = decode(dropped.data, dropped.name)
    found = documents(text, name=dropped.name)
    keys = {key for each in found if isinstance(each.value, dict) for key in each.value}
    if "merge_method" in keys:
        recipes.load(text, name=dropped.name)
        return "recipe", text
    if keys >= _SEARCH_KEYS or (keys & {"recipe", "path"} and keys & _SEARCH_KEYS):
        search_reader.read(text, name=dropped.name)
        return "search", text
    meant = next((key for key in sorted(map(str, keys)) if get_close_matches(key, ("merge_method",))), "")
    raise RecipeError(
        f"{dropped.name} is neither a merge recipe nor a search spec",
        hint=f"Did you mean 'merge_method' by '{meant}'?"
        if meant
        else "A recipe has merge_method, a search spec tasks and budget. '.mergeignore' leaves files alone.",
        file=dropped.name,
    )


def spec_of(kind: Literal["recipe", "search"], text: str, name: str, folder: str, out: str) -> Spec:
    """The job of a dropped file: relative paths start at its folder, the output goes to ``out``."""
    if kind == "search":
        return SearchSpec(spec=text, base_dir=folder, name=name)
    return MergeSpec(recipe=text, base_dir=folder, out=out, recipe_name=name)


def confine(text: str, name: str, base: Path, roots: Sequence[Path]) -> None:
    """Refuse a recipe or spec that names something outside ``roots``, links resolved.

    Every text in it is taken for a path where one exists, whatever key it stands under.

    Raises
    ------
    UsageError
        It names such a path.
    """
    hold([each for one in documents(text, name=name) for each in _texts(one.value)], name, base, roots)


def hold(texts: Iterable[str], name: str, base: Path, roots: Sequence[Path]) -> None:
    """Refuse ``texts`` of which one, as ``name`` has it, is a path that exists outside ``roots``. Raises UsageError."""
    allowed = [Path(os.path.realpath(root)) for root in roots]
    for each in (part for text in texts for part in _paths(text)):
        try:
            path = base / expanded(each)
            if not os.path.lexists(path):
                continue
        except (ValueError, OSError):
            continue
        real = Path(os.path.realpath(path))
        if not any(real.is_relative_to(root) for root in allowed):
            raise UsageError(
                f"{name} names {each}, which lies outside the folders that recipes dropped here may use",
                hint="Add its folder: alloy watch add DIR --root FOLDER.",
                path=str(real),
            )


def allowed(folder: str, settings: WatchSettings, places: Sequence[Path]) -> list[Path]:
    """The folders that recipes and rules of a watched folder may use; ``places`` are those of every folder."""
    own = (folder, settings.out, *settings.roots)
    return [*(Path(each) for each in own if each), *places]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _texts(key)
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _paths(text: str) -> Iterator[str]:
    """``text``, and its parts as in ``EVALUATOR:SOURCE`` and ``model@revision+lora``."""
    yield text
    yield task_name.split(text)[1]
    for half in text.split("+"):
        yield half
        yield half.split("@")[0]


def as_error(wrong: Exception) -> AlloydError:
    """An error that can be written beside a failed drop."""
    if isinstance(wrong, AlloydError):
        return wrong
    if isinstance(wrong, OSError):
        return UsageError(f"it cannot be read: {wrong.strerror or wrong}", hint="Check its rights.")
    return AlloydError(f"internal error: {type(wrong).__name__}: {wrong}", hint="See the daemon's log.")
