"""Where an output goes: the paths that belong to it, and what may be replaced there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alloyd.errors import OutputError, OutputExists

from .mounts import is_mount_point

STATE: Final = ".alloyd"
_MODEL_ENDINGS: Final = (
    *(".safetensors", ".safetensors.index.json", ".bin", ".gguf"),
    *("config.json", "alloyd_manifest.json"),
)
_BESIDE_A_MODEL: Final = (
    *_MODEL_ENDINGS,
    *(".json", ".jsonl", ".model", ".tiktoken", ".jinja", ".txt", ".md", ".py", ".yaml", ".yml", ".toml"),
    *(".pt", ".pth", ".h5", ".msgpack", ".onnx", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".pdf"),
)
_BESIDE_A_MODEL_NAMES: Final = (
    ".gitattributes",
    ".gitignore",
    "license",
    "licence",
    "notice",
    "copying",
    "readme",
    "use_policy",
)
_LONGEST_NAME: Final = 255
_HARMLESS_FOLDERS: Final = frozenset({STATE, ".cache", "additional_chat_templates"})


@dataclass(frozen=True, slots=True)
class Place:
    """The paths that belong to one output; symbolic links are resolved first."""

    final: Path
    staging: Path
    replaced: Path
    inside: bool

    @staticmethod
    def of(final: Path) -> Place:
        """The place of ``final``.

        Raises
        ------
        OutputError
            The root of the file system, or a name that leaves no room for its staging sibling's.
        """
        final = Path(os.path.realpath(final))
        if not final.name:
            raise OutputError(f"{final} cannot be an output", hint="Name a folder.", path=str(final))
        staged = len(os.fsencode(f".{final.name}.replaced"))
        if staged > _LONGEST_NAME:
            raise OutputError(
                f"the output's name is {staged - _LONGEST_NAME} bytes too long: {final.name}",
                hint="Choose a shorter name.",
                path=str(final),
            )
        inside = is_mount_point(final) or (final.is_dir() and not writable(final.parent))
        beside = final if inside else final.parent
        return Place(final, beside / f".{final.name}.partial", beside / f".{final.name}.replaced", inside)

    @property
    def state(self) -> Path:
        """Lock, journal and seal before the output is published."""
        return self.staging / STATE

    @property
    def left(self) -> Path:
        """The same after the folder was moved, until it is cleaned."""
        return self.final / STATE


def check_output(final: Path, force: bool) -> None:
    """Say now what would go wrong with ``final`` later; creates nothing.

    An empty folder is a fine output. ``force`` allows to replace a folder that holds a model and nothing
    else.

    Raises
    ------
    OutputExists
        Something is there, and ``force`` is not given or would destroy more than a model.
    OutputError
        The folder cannot be created or written.
    """
    place = Place.of(final)
    if os.path.lexists(place.final):
        if not place.final.is_dir():
            raise OutputExists(
                f"{place.final} is a file, not a folder", hint="Choose another output.", path=str(place.final)
            )
        check_occupants(place, force)
    folder = place.final if place.inside else place.final.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise OutputError(f"{folder} is not a folder", hint="Choose another output.", path=str(folder))
    if not writable(folder):
        fixed = os.statvfs(folder).f_flag & os.ST_RDONLY
        raise OutputError(
            f"{folder} cannot be written ({'Read-only file system' if fixed else 'Permission denied'})",
            hint=f"Choose another output, or {'have it mounted writable' if fixed else 'change its rights'}.",
            path=str(folder),
        )


def occupants(place: Place) -> list[str]:
    """What the final folder holds, apart from what is alloyd's or the file system's own."""
    own = {place.staging.name, "lost+found"} if place.inside else set()
    return sorted(set(os.listdir(place.final)) - own)


def check_occupants(place: Place, force: bool) -> None:
    """Raise :class:`OutputExists` unless the final folder is empty, or ``force`` may replace what it holds."""
    found = occupants(place)
    if not found:
        return
    if not force:
        raise exists(place)
    strange = [
        name
        for name in found
        if (place.final / name).is_dir()
        and not (place.final / name).is_symlink()
        and name not in _HARMLESS_FOLDERS
    ]
    others = [name for name in found if not (place.final / name).is_dir() and not _beside_a_model(name)]
    if strange or others or not any(name.endswith(_MODEL_ENDINGS) for name in found):
        what = "does not hold a model"
        if strange:
            what = f"holds the folder '{strange[0]}'"
        elif others and any(name.endswith(_MODEL_ENDINGS) for name in found):
            what = f"holds '{others[0]}', which is no part of a model"
        raise OutputExists(
            f"{place.final} {what}, so it is not replaced",
            hint="Only a folder that holds a model and nothing else is replaced; choose another output.",
            path=str(place.final),
        )


def _beside_a_model(name: str) -> bool:
    lower = name.lower()
    return lower.endswith(_BESIDE_A_MODEL) or lower.startswith(_BESIDE_A_MODEL_NAMES)


def check_sources(final: Path, sources: Iterable[Path]) -> None:
    """Refuse an output that would replace one of the files it is made from, by whatever path it is reached.

    Raises
    ------
    OutputError
        A source, or what a link of it leads to, lies in ``final``.
    """
    place = Path(os.path.realpath(final))
    for source in sources:
        here = Path(os.path.realpath(source.parent), source.name)
        if place in here.parents or place in Path(os.path.realpath(source)).parents:
            raise OutputError(
                f"the output {final} holds a source of this merge, {source}",
                hint="Choose another output; a source is never replaced.",
                path=str(final),
                source=str(source),
            )


def exists(place: Place) -> OutputExists:
    """The error for a final folder that is not empty."""
    return OutputExists(
        f"{place.final} exists and is not empty",
        hint="Choose another output, or use --force to replace it.",
        path=str(place.final),
    )


def writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
