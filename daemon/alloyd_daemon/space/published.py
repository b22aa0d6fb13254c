"""Whose weights may go because they can be made again: outputs that are as published, whose sources are all there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec import UNSET

from alloyd import recipe as recipes
from alloyd import wire
from alloyd.errors import AlloydError
from alloyd.paths import Home

from ..checkpoints.manifest import MANIFEST, Manifest, parse_manifest
from ..checkpoints.place import Place
from ..checkpoints.small_file import read_small
from ..checkpoints.staging import published_as
from ..service.roots import in_recipe, named
from ..service.store_prune import Weights
from ..settings import Settings
from .rows import Row

WEIGHTS: Final = (".safetensors", ".gguf")
_MODEL: Final = "the model"
_FOLDER: Final = "the folder of the recipe"


class Stays(Exception):
    """Why weights stay."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What the jobs of a home are made from: for each resolved path the jobs that name it."""

    by_path: dict[str, set[str]]

    @staticmethod
    def of(rows: Iterable[Row], home: Home, settings: Settings) -> Sources:
        """The models that ``rows`` name, and of those that still live everything else too."""
        found: dict[str, set[str]] = {}
        for row in rows:
            for path in _named(row, home, settings):
                found.setdefault(os.path.realpath(path), set()).add(row.id)
        return Sources(found)

    def naming(self, folder: str, *, but: str) -> str | None:
        """A job other than ``but`` that names ``folder``, something in it, or a model whose files lie in it."""
        for path, jobs in self.by_path.items():
            others = jobs - {but}
            if others and (_inside(path, folder) or _inside(folder, path) or _leads(path, folder)):
                return sorted(others)[0]
        return None


def weights_of(
    final: Path, row: Row, sources: Sources, shielded: Iterable[str], settings: Settings
) -> Weights:
    """The weights at ``final`` that the job ``row`` made and that can be made again.

    Raises
    ------
    Stays
        They cannot, or somebody needs them, or nobody knows; the reason is told.
    """
    place = Place.of(final)
    folder = str(place.final)
    manifest = _manifest(place.final)
    if published_as(place) is None:
        raise Stays("it is not as alloyd published it, or its file system cannot tell")
    digest = row.result.get("digest")
    if digest is not None and digest != manifest.digest:
        raise Stays("another merge has taken its place")
    if manifest.stored is not UNSET and "imatrix" in manifest.stored.form:
        raise Stays("it was quantised with an importance matrix, which its manifest does not hold")
    for path in shielded:
        real = os.path.realpath(path)
        if _inside(folder, real) or _inside(real, folder):
            raise Stays(f"a watched folder needs {path}")
    needs = sources.naming(folder, but=row.id)
    if needs is not None:
        raise Stays(f"{needs} is made from it")
    made = os.lstat(place.final / MANIFEST).st_mtime
    base = Path(str(row.spec.get("base_dir", "/")))
    for each in in_recipe(manifest.recipe, base, settings):
        if each.what == _MODEL:
            _check_source(each.path, made, folder)
    files = []
    with os.scandir(folder) as entries:
        for entry in entries:
            facts = entry.stat(follow_symlinks=False)
            if (
                entry.name.endswith(WEIGHTS)
                and entry.is_file(follow_symlinks=False)
                and entry.name not in manifest.files
            ):
                files.append((entry.name, facts.st_size, facts.st_mtime_ns, facts.st_ino))
    if not files:
        raise Stays("its weights are gone already")
    return Weights(folder, tuple(sorted(files)))


def _manifest(folder: Path) -> Manifest:
    file = folder / MANIFEST
    try:
        found = parse_manifest(read_small(file), file=str(file))
        recipes.load(found.recipe, lenient=True)
    except OSError:
        raise Stays("there is no manifest to make it again from") from None
    except AlloydError as wrong:
        raise Stays(wrong.message) from None
    return found


def _check_source(path: str, made: float, folder: str) -> None:
    """Raise Stays unless the model at ``path`` is there, and was not touched since the output was made."""
    real = os.path.realpath(path)
    if _inside(real, folder):
        raise Stays(f"it was made from {path}, which lies in it")
    files = [real]
    if os.path.isdir(real):
        files = [os.path.join(real, each) for each in os.listdir(real) if each.endswith((*WEIGHTS, ".json"))]
    if not any(each.endswith(WEIGHTS) for each in files):
        raise Stays(f"the model {path} that it was made from is not there")
    for each in files:
        try:
            facts = os.stat(each)
        except OSError:
            raise Stays(f"the model {path} that it was made from is not there") from None
        if max(facts.st_mtime, facts.st_ctime) > made:
            raise Stays(f"the model {path} that it was made from was changed since")


def _named(row: Row, home: Home, settings: Settings) -> Iterator[str]:
    with contextlib.suppress(AlloydError, OSError, RuntimeError, ValueError):
        for each in named(wire.read_spec(row.spec), settings, home.root):
            if each.what == _MODEL or (row.living and each.what != _FOLDER):
                yield each.path


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _leads(path: str, folder: str) -> bool:
    """Whether a file of the model at ``path`` is a link into ``folder``."""
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        return any(entry.is_symlink() and _inside(os.path.realpath(entry.path), folder) for entry in entries)
    return False
