"""Finds the folder of a model that a recipe names: a path, a configured root, or the Hugging Face cache."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from alloyd.errors import PlanError, SourceNotFound
from alloyd.paths import expanded
from alloyd.recipe import ModelRef

_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_COMMIT: Final = re.compile(r"[0-9a-f]{7,40}")


def resolve(ref: ModelRef, *, base_dir: Path, roots: Sequence[Path], hf_home: Path | None) -> Path:
    """The folder (or single file) that holds the model or adapter ``ref``; nothing is opened but the cache's own files.

    Tried in this order: the path itself, relative to ``base_dir`` (a recipe's or a user's folder);
    ``root/org/name`` and ``root/name`` of each of ``roots``; the cache in ``hf_home``. A revision exists
    only in the cache.

    Raises
    ------
    PlanError
        The reference has an adapter, which lies in another place.
    SourceNotFound
        It is in none of these places (all are listed), or a cached snapshot is not complete.
    """
    if ref.lora is not None:
        raise PlanError(
            f"'{ref}' is a model with an adapter, and here only a model can stand",
            hint="Merge the adapter into its model first, and name the result.",
            model=str(ref),
        )
    local = expanded(ref.path)
    folders = [base_dir / local]
    if not local.is_absolute():
        folders += [
            root.expanduser() / part for root in roots for part in dict.fromkeys((local, Path(local.name)))
        ]
    tried: list[str] = []
    if ref.revision is None:
        for folder in folders:
            try:
                folder.stat()
                return folder.absolute()
            except (FileNotFoundError, NotADirectoryError, ValueError):
                tried.append(str(folder))
            except OSError as wrong:
                tried.append(f"{folder} ({wrong.strerror})")
    cached = _cached(ref, hf_home, tried)
    if cached is not None:
        return cached
    hint = "Check the spelling; names are folders, org/name under models.roots, or repositories in the cache."
    if ref.revision is not None and any(os.path.exists(folder) for folder in folders):
        hint = f"The folder {ref.path} exists, but a folder has no revisions: leave out @{ref.revision}."
    raise SourceNotFound(
        f"the model '{ref}' was not found; tried {', '.join(tried) or 'no place'}", hint=hint, model=str(ref)
    )


def as_given(text: str) -> ModelRef:
    """What ``text`` names outside of a recipe: an absolute path that is there is that path, whatever signs it holds.

    Raises RecipeError as :meth:`ModelRef.parse` does.
    """
    return ModelRef(text) if os.path.isabs(text) and os.path.lexists(text) else ModelRef.parse(text)


def as_mapping(ref: ModelRef) -> dict[str, Any]:
    """``ref`` as a recipe's mapping names it: paths are taken as they are, whatever they hold."""

    def half(one: ModelRef) -> dict[str, Any]:
        return {"path": one.path} | ({"revision": one.revision} if one.revision else {})

    found: dict[str, Any] = {"model": half(ref)}
    if ref.lora is not None:
        found["lora"] = half(ref.lora)
    if ref.override_architecture is not None:
        found["override_architecture"] = ref.override_architecture
    return found


def _cached(ref: ModelRef, hf_home: Path | None, tried: list[str]) -> Path | None:
    """The snapshot of a repository in the Hugging Face cache, or ``None`` after adding to ``tried``."""
    if hf_home is None or not _REPOSITORY.fullmatch(ref.path):
        return None
    name = "models--" + ref.path.replace("/", "--")
    repository = next(
        (each for each in (hf_home / "hub" / name, hf_home / name) if os.path.isdir(each)), None
    )
    if repository is None:
        tried.append(str(hf_home / "hub" / name))
        return None
    snapshot = _snapshot(repository, ref.revision or "main")
    if snapshot is None:
        known = ", ".join(sorted(_refs(repository))) or "none"
        tried.append(f"{repository} (no revision '{ref.revision or 'main'}'; it knows: {known})")
        return None
    _check_complete(ref, repository, snapshot)
    return snapshot.absolute()


def _snapshot(repository: Path, revision: str) -> Path | None:
    """The snapshot of a branch, tag, pull request or commit; a commit may be shortened to seven digits."""
    snapshots = repository / "snapshots"
    if ".." not in Path(revision).parts and not revision.startswith("/"):
        ref = repository / "refs" / revision
        if os.path.isfile(ref):
            commit = ref.read_text(encoding="ascii", errors="replace").strip()
            if _COMMIT.fullmatch(commit) and (snapshots / commit).is_dir():
                return snapshots / commit
    if _COMMIT.fullmatch(revision) and snapshots.is_dir():
        found = [each for each in snapshots.iterdir() if each.name.startswith(revision)]
        if len(found) == 1:
            return found[0]
    return None


def _refs(repository: Path) -> list[str]:
    """Every revision that a cached repository can give: its refs, and the commits of its snapshots."""
    refs = repository / "refs"
    named = (
        [str(each.relative_to(refs)) for each in refs.rglob("*") if each.is_file()] if refs.is_dir() else []
    )
    snapshots = repository / "snapshots"
    commits = [each.name[:12] for each in snapshots.iterdir()] if snapshots.is_dir() else []
    return named + commits


def _check_complete(ref: ModelRef, repository: Path, snapshot: Path) -> None:
    """Refuse a snapshot whose links lead nowhere, or whose index names files that were never fetched."""
    broken = sorted(each.name for each in snapshot.rglob("*") if each.is_symlink() and not each.exists())
    missing = broken + sorted(_indexed(snapshot) - {each.name for each in snapshot.iterdir()})
    has_weights = any(snapshot.glob("*.safetensors"))
    if not missing and has_weights:
        return
    blobs = repository / "blobs"
    partial = sorted(each.name for each in blobs.glob("*.incomplete")) if blobs.is_dir() else []
    if missing:
        what = f"{len(missing)} of its files are missing, among them {missing[0]}"
    else:
        what = "it holds no .safetensors file"
    download = f"; a download stopped half way ({len(partial)} .incomplete)" if partial else ""
    raise SourceNotFound(
        f"the cached model '{ref}' is not complete: {what}{download}",
        hint=f"Download it again: hf download {ref.path}"
        + (f" --revision {ref.revision}." if ref.revision else "."),
        model=str(ref),
        path=str(snapshot),
        file=missing[0] if missing else None,
    )


def _indexed(snapshot: Path) -> set[str]:
    """The files that a snapshot's safetensors index names; empty without a readable index."""
    try:
        index = json.loads((snapshot / "model.safetensors.index.json").read_bytes())
        return {str(each) for each in index["weight_map"].values()}
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return set()
