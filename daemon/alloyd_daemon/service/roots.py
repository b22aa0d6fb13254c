"""What a confined job may touch: each path that its spec names is resolved, links and all, and must lie in its roots.

A job is confined when a remote key or a watch folder gave it. What its spec names is looked at when it is submitted and
once more by its own process before any of it is opened; that process is then held to the roots by the kernel, where it
can be (:mod:`..confinement`), so that a link that is put there later leads nowhere.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from alloyd import recipe as recipes
from alloyd import search_reader, task_name
from alloyd.errors import AccessDenied, AlloydError
from alloyd.jobs import (
    KinshipSpec,
    MergeSpec,
    OpenTestSpec,
    PlanSpec,
    RebuildSpec,
    ScoreSpec,
    SearchSpec,
    Spec,
    VerifySpec,
)
from alloyd.paths import expanded
from alloyd.recipe import ModelRef, Recipe

from ..recipes.models import as_given, resolve
from ..settings import Settings

CONFINED: Final = (MergeSpec, PlanSpec, VerifySpec, ScoreSpec, SearchSpec, KinshipSpec, RebuildSpec)
"""Specs that name files. An opening of a test names a search; what that names is looked at (:func:`check_opening`)."""
MOST_FILES: Final = 20_000
"""Of a model's folder, beyond which it is not looked through."""
READ_AT_ONCE: Final = 16_384
"""Characters of recipe or search spec that the daemon reads before it answers; a longer one is read by the job."""
SEEN_AT_ONCE: Final = 4_000
"""Files of all folders that the daemon looks at before it answers; more are looked at by the job."""


@dataclass(frozen=True, slots=True)
class Named:
    """Something on disk that a spec names. ``what`` is told to people.

    ``whole``: what lies in it is used, too. Of the folder where a recipe's paths begin only what is named is.
    """

    what: str
    path: str
    output: bool = False
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Bounds:
    """Resolved folders: ``roots`` may be read and written, ``models`` read."""

    roots: tuple[str, ...]
    models: tuple[str, ...]

    @staticmethod
    def of(roots: Sequence[str | Path], settings: Settings) -> Bounds:
        """The bounds of a job that is confined to ``roots``; models may also lie where the configuration has them."""
        return Bounds(
            tuple(os.path.realpath(each) for each in roots),
            tuple(os.path.realpath(each) for each in settings.model_roots()),
        )

    def check(self, named: Named, *, most: int | None = None) -> int:
        """Raise AccessDenied unless ``named`` lies in the bounds, with what it links to and what its files link to.

        An output's parent folder must lie there too, for a merge is staged beside its place. Returns how many files
        were looked at; after ``most`` the others are left unseen.
        """
        seen = 0
        try:
            real = os.path.realpath(named.path)
            inside = self._holds(real, writing=named.output)
            if named.output:
                inside = inside and self._holds(os.path.realpath(os.path.dirname(real)), writing=True)
            outside, seen = self._link_out(real, most) if inside and named.whole else ("", 0)
        except (OSError, ValueError) as wrong:
            raise _denied(f"{named.what} '{named.path!a}' cannot be resolved: {wrong}", named.path) from None
        if not inside:
            raise _denied(
                f"{named.what} {named.path} is outside the folders that this job may use", named.path
            )
        if outside:
            raise _denied(
                f"{named.what} {named.path} holds a link that leads outside the folders that this job may use: "
                f"{outside}",
                outside,
            )
        return seen

    def writable(self, path: str) -> bool:
        """Whether ``path``, links resolved, lies in a folder that may be written."""
        return "\0" not in path and self._holds(os.path.realpath(path), writing=True)

    def _holds(self, real: str, *, writing: bool = False) -> bool:
        held = self.roots if writing else (*self.roots, *self.models)
        return any(real == root or real.startswith(root.rstrip("/") + "/") for root in held)

    def _link_out(self, real: str, most: int | None) -> tuple[str, int]:
        """A link in the folder ``real``, below it, or in a folder that such a link leads to, that leads out (empty
        without one), and how many files were seen."""
        seen = 0
        places = [real]
        for place in places:
            for folder, folders, files in os.walk(place):
                for name in (*folders, *files):
                    if seen == most:
                        return "", seen
                    path = os.path.join(folder, name)
                    seen += 1
                    if not os.path.islink(path):
                        continue
                    target = os.path.realpath(path)
                    if not self._holds(target):
                        return path, seen
                    if os.path.isdir(target) and target not in places:
                        places.append(target)
                if seen > MOST_FILES:
                    raise OSError(f"it holds more than {MOST_FILES} files")
        return "", seen


def confine(spec: Spec, roots: Sequence[str | Path], settings: Settings, home: Path) -> Spec:
    """``spec`` held to ``roots``, in the first of which its relative paths start; checked.

    Raises
    ------
    AccessDenied
        It names a path outside of them, or code; or there are none.
    """
    if not roots:
        raise AccessDenied(
            "no folder of this machine is open to you",
            hint='Its owner lists some: [remote] roots = ["/folder"] in the daemon\'s configuration.',
        )
    held = _anchored(spec, Path(os.path.abspath(roots[0])), tuple(os.path.abspath(each) for each in roots))
    check(held, settings, home, most=READ_AT_ONCE)
    return held


def narrowed(wanted: Sequence[str], roots: Sequence[Path], settings: Settings) -> Sequence[str | Path]:
    """The folders that a caller with these ``roots`` wants a job held to; the roots themselves where it names none.

    Raises AccessDenied for one outside of them.
    """
    bounds = Bounds.of(roots, settings)
    for each in wanted:
        if not os.path.isabs(each) or not bounds.writable(each):
            raise _denied(f"the folder {each} is outside the folders that this job may use", each)
    return wanted or roots


def check(spec: Spec, settings: Settings, home: Path, *, most: int | None = None) -> None:
    """Check a confined ``spec``; texts of more than ``most`` characters are left to the job's own check.

    Raises
    ------
    AccessDenied
        It names a path outside its roots, links included, or code that the configuration does not list.
    """
    if not isinstance(spec, CONFINED) or not spec.roots:
        return
    bounds = Bounds.of(spec.roots, settings)
    left = None if most is None else SEEN_AT_ONCE
    for each in named(spec, settings, home, most):
        seen = bounds.check(each, most=left)
        left = None if left is None else max(0, left - seen)


def check_opening(opening: OpenTestSpec, search: Spec, settings: Settings, home: Path) -> None:
    """Check ``search``, whose test a confined ``opening`` is to open, as if it were submitted with the same roots.

    Raises AccessDenied; longer texts are left to the job's own check.
    """
    if opening.roots and isinstance(search, SearchSpec):
        check(msgspec.structs.replace(search, roots=opening.roots), settings, home, most=READ_AT_ONCE)


def _anchored(spec: Any, start: Path, roots: tuple[str, ...]) -> Spec:
    """``spec`` with its relative paths seen from ``start``."""

    def seen(text: str) -> str:
        return os.path.normpath(start / text) if text else text

    changes: dict[str, Any] = {"roots": roots}
    if hasattr(spec, "base_dir"):
        changes["base_dir"] = str(start / spec.base_dir)
    match spec:
        case MergeSpec() | PlanSpec():
            changes["out"] = seen(spec.out)
        case VerifySpec():
            changes["path"] = seen(spec.path)
        case RebuildSpec():
            changes["path"], changes["out"] = seen(spec.path), seen(spec.out)
        case ScoreSpec():
            changes["subjects"] = tuple(
                msgspec.structs.replace(each, base_dir=str(start / each.base_dir)) for each in spec.subjects
            )
            changes["tasks"] = tuple(task_name.absolute(each, start) for each in spec.tasks)
            changes["options"] = task_name.absolute_options(spec.options, start)
    found: Spec = msgspec.structs.replace(spec, **changes)
    return found


def named(spec: Spec, settings: Settings, home: Path, most: int | None = None) -> Iterator[Named]:
    """Everything on disk that ``spec`` names, but what longer texts than ``most`` do; raises AccessDenied for code."""

    def short(text: str) -> bool:
        return most is None or len(text) <= most

    match spec:
        case MergeSpec() | PlanSpec():
            base = Path(spec.base_dir)
            yield Named("the folder of the recipe", str(base), whole=False)
            if spec.out:
                yield Named("the output", spec.out, output=True)
                yield Named("the output", f"{spec.out}.parts", output=True)
            if spec.form is not None and spec.form.imatrix is not None:
                yield Named("the importance matrix", str(base / spec.form.imatrix))
            if short(spec.recipe):
                yield from in_recipe(spec.recipe, base, settings)
        case VerifySpec():
            yield Named("the checkpoint", spec.path)
        case RebuildSpec():
            base = Path(spec.base_dir)
            yield Named("the folder of the recipe", str(base), whole=False)
            yield Named("the manifest", spec.path)
            yield Named("the output", spec.out, output=True)
            yield Named("the output", f"{spec.out}.parts", output=True)
            if spec.imatrix is not None:
                yield Named("the importance matrix", str(base / spec.imatrix))
            if most is None:  # the recipe is read by the job, not by the daemon
                from ..engine.rebuilding import read_manifest

                yield from in_recipe(read_manifest(Path(spec.path)).recipe, base, settings)
        case ScoreSpec():
            for subject in spec.subjects:
                if subject.recipe and short(subject.recipe):
                    yield from in_recipe(subject.recipe, Path(subject.base_dir), settings)
                elif not subject.recipe:
                    yield from _models([subject.path], Path(subject.base_dir), settings)
            yield from _tasks(spec.tasks, settings)
            yield from _options(spec.options)
        case SearchSpec():
            yield Named("the folder of the spec", spec.base_dir, whole=False)
            if short(spec.spec):
                yield from _in_search(spec, settings, home)
        case KinshipSpec():
            yield from _models([spec.base, *spec.models], Path(spec.base_dir), settings)


def in_recipe(text: str, base: Path, settings: Settings) -> Iterator[Named]:
    """Everything on disk that the recipe ``text`` names."""
    try:
        found = recipes.load(text, lenient=True)
    except AlloydError:
        return  # the job says what is wrong with it, and opens nothing
    own = {each.name for each in found if each.name is not None}
    for recipe in found:
        refs = [ref for ref in _references(recipe) if ref.path not in own]
        yield from _places(refs, base, settings)
        if recipe.out is not None and recipe.out.imatrix is not None:
            yield Named("the importance matrix", str(base / recipe.out.imatrix))


def _references(recipe: Recipe) -> Iterator[ModelRef]:
    """Every model that a recipe names, adapters and those of its tokenizer included."""
    found: list[Any] = [*recipe.referenced_models(), recipe.tokenizer_source]
    if recipe.tokenizer is not None:
        found.append(recipe.tokenizer.source)
        for token in recipe.tokenizer.tokens.values():
            found.append(getattr(token.source, "model", token.source))
    for each in found:
        if isinstance(each, ModelRef):
            yield each
            if each.lora is not None:
                yield each.lora


def _in_search(spec: SearchSpec, settings: Settings, home: Path) -> Iterator[Named]:
    # Loaded here: a plain merge does not need what a search is made of.
    from ..search.previous import previous_best
    from ..search.template import as_recipe, at_start

    base = Path(spec.base_dir)
    try:
        file = search_reader.absolute(search_reader.read(spec.spec), base)
        recipe = None if file.recipe is None else at_start(file.recipe)
    except AlloydError:
        return
    if recipe is not None:
        yield from _places(_references(recipe), base, settings)
    if file.path is not None:
        yield from _models(file.path.models, base, settings)
    yield from _tasks((*file.tasks.search, *file.tasks.validation, *file.tasks.test), settings)
    yield from _options(file.options)
    for name in file.previous:
        # A job's id, or what lies in the folder of the spec by that name; its recipe names models in its turn.
        place = base / expanded(name)
        if "/" in name or os.path.lexists(place):
            yield Named("the earlier search", str(place))
        with contextlib.suppress(AlloydError):
            best = as_recipe(previous_best(name, home=home, base_dir=base).recipe)
            yield from _places(_references(best), base, settings)


def _models(names: Sequence[str], base: Path, settings: Settings) -> Iterator[Named]:
    for name in names:
        try:
            ref = as_given(name)
        except AlloydError:
            continue
        yield from _places([ref] if ref.lora is None else [ref, ref.lora], base, settings)


def _places(refs: Iterable[ModelRef], base: Path, settings: Settings) -> Iterator[Named]:
    """Where models are found; one that is nowhere counts as the path that it reads as."""
    for ref in refs:
        plain = msgspec.structs.replace(ref, lora=None)
        try:
            place = resolve(plain, base_dir=base, roots=settings.model_roots(), hf_home=settings.hub())
        except AlloydError:
            place = base / expanded(ref.path)
        except (OSError, RuntimeError, ValueError) as wrong:
            raise _denied(f"the model '{ref!s}' cannot be looked for: {wrong}", ref.path) from None
        yield Named("the model", str(place))


def _tasks(names: Sequence[str], settings: Settings) -> Iterator[Named]:
    listed = {os.path.realpath(os.path.expanduser(each)) for each in settings.scoring.harness_files}
    for name in names:
        evaluator, source = task_name.split(name)
        path = source if os.path.isabs(source) else ""
        if evaluator == "lm_eval" and (path or source.endswith((".yaml", ".yml"))):
            if not path or os.path.realpath(path) not in listed:
                raise _denied(
                    f"the task file {source} can hold code, and the daemon's configuration does not list it",
                    source,
                    hint='Its owner lists it: [scoring] harness_files = ["/folder/task.yaml"].',
                )
            continue
        if path or evaluator != "lm_eval":
            yield Named("the task file", path or source)


def _options(options: Mapping[str, str]) -> Iterator[Named]:
    for key in ("imatrix", "tokenizer"):
        if key in options:
            yield Named(f"the option {key},", options[key])


def _denied(text: str, path: str, *, hint: str = "") -> AccessDenied:
    return AccessDenied(
        text,
        hint=hint
        or "Name a path in one of [remote] roots of the daemon's configuration, or of the watch folder.",
        path=path,
    )
