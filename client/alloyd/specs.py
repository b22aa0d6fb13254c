"""What is said to a client becomes a spec: recipes and searches as text, paths made absolute, fields checked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypedDict, TypeVar

from . import recipe_file, task_name, wire
from .errors import UsageError
from .jobs import (
    Job,
    KinshipSpec,
    MergeSpec,
    OpenTestSpec,
    PlanSpec,
    RebuildSpec,
    ScoreSpec,
    SearchSpec,
    Spec,
    spec_fields,
)
from .priority import LARGEST_PRIORITY

LONGEST_KEY: Final = 200
T = TypeVar("T")
PathLike = str | os.PathLike[str]


class Queueing(TypedDict, total=False):
    """How a job stands in the queue; see :meth:`alloyd.Client.submit`."""

    priority: int
    after: Sequence[str]
    key: str | None
    confined: Sequence[str]


def queueing(options: Mapping[str, Any]) -> tuple[Queueing, dict[str, Any]]:
    """Of a verb's options those that say how its job stands in the queue, and the rest: fields of its spec."""
    how = Queueing(**{key: options[key] for key in options if key in Queueing.__annotations__})  # type: ignore[typeddict-item]
    return how, {key: each for key, each in options.items() if key not in how}


def submission(spec: Spec, how: Queueing) -> wire.Submit:
    """The request that puts ``spec`` into the queue.

    Raises
    ------
    UsageError
        A priority, key or list of jobs that cannot be.
    """
    key, after = how.get("key"), how.get("after", ())
    if isinstance(after, str):
        raise UsageError(f"after is a list of jobs, not '{after}'", hint=f"after=['{after}']")
    priority = how.get("priority", 0)
    if abs(priority) > LARGEST_PRIORITY:
        raise UsageError(
            f"there is no priority {priority}",
            hint=f"They go from {-LARGEST_PRIORITY} to {LARGEST_PRIORITY}; 0 is usual.",
        )
    if key is not None and not 0 < len(key) <= LONGEST_KEY:
        raise UsageError(f"a key has 1 to {LONGEST_KEY} characters", hint="Such as nightly-2026-03-01.")
    fields = spec_fields(spec)
    return wire.Submit(fields, wire.token_of(key), priority, tuple(after), tuple(how.get("confined", ())))


def merge_spec(
    recipe: PathLike | Mapping[str, Any], out: PathLike, options: Mapping[str, Any], *, far: bool = False
) -> MergeSpec:
    """The spec of a merge; see :meth:`alloyd.Client.merge`. ``far``: for the daemon of another machine."""
    fields = {**recipe_fields(recipe, far=far), **options, "out": place_for(out, far), "kind": "merge"}
    return _convert(fields, MergeSpec)


def plan_spec(
    recipe: PathLike | Mapping[str, Any],
    out: PathLike | None,
    options: Mapping[str, Any],
    *,
    far: bool = False,
) -> PlanSpec:
    """The spec of a plan; see :meth:`alloyd.Client.plan`."""
    place = "" if out is None else place_for(out, far)
    return _convert({**recipe_fields(recipe, far=far), **options, "out": place, "kind": "plan"}, PlanSpec)


def rebuild_spec(
    path: PathLike, out: PathLike | None, options: Mapping[str, Any], *, far: bool = False
) -> RebuildSpec:
    """The spec of a rebuild; see :meth:`alloyd.Client.rebuild`."""
    there = place_for(path, far)
    places = {"path": there, "out": there if out is None else place_for(out, far), "base_dir": _here(far)}
    return _convert({**options, **places, "kind": "rebuild"}, RebuildSpec)


def score_spec(
    models: PathLike | Sequence[PathLike | Mapping[str, Any]] | Mapping[str, PathLike | Mapping[str, Any]],
    tasks: PathLike | Sequence[PathLike],
    options: Mapping[str, Any],
    *,
    far: bool = False,
) -> ScoreSpec:
    """The spec of a scoring; see :meth:`alloyd.Client.score`."""
    if isinstance(models, Mapping):
        subjects = [subject_fields(model, name, far=far) for name, model in models.items()]
    else:
        several = [models] if isinstance(models, str | os.PathLike) else models
        subjects = [subject_fields(model, "", far=far) for model in several]
    named = [tasks] if isinstance(tasks, str | os.PathLike) else tasks
    chosen = options.get("options") or {}
    if not far:
        chosen = task_name.absolute_options(chosen, Path.cwd())
    fields = {
        **options,
        "options": chosen,
        "subjects": subjects,
        "tasks": [
            os.fspath(task) if far else task_name.absolute(os.fspath(task), Path.cwd()) for task in named
        ],
        "kind": "score",
    }
    return _convert(fields, ScoreSpec)


def kinship_spec(
    base: PathLike, models: Sequence[PathLike], options: Mapping[str, Any], *, far: bool = False
) -> KinshipSpec:
    """The spec of a kinship; see :meth:`alloyd.Client.kinship`."""

    def named(model: PathLike) -> str:
        text = os.fspath(model)
        if far:
            return text
        return os.path.abspath(text) if os.path.exists(text) else text

    fields = {
        **options,
        "base": named(base),
        "models": [named(each) for each in models],
        "base_dir": _here(far),
        "kind": "kinship",
    }
    return _convert(fields, KinshipSpec)


def search_spec(
    spec: PathLike | Mapping[str, Any], options: Mapping[str, Any], *, far: bool = False
) -> SearchSpec:
    """The spec of a search; see :meth:`alloyd.Client.search`. Relative paths start where the command is given."""
    fields = recipe_fields(spec, what="search spec", far=far)
    text = {"spec": fields["recipe"], "base_dir": fields["base_dir"], "name": fields.get("recipe_name", "")}
    return _convert({**text, **options, "kind": "search"}, SearchSpec)


BUDGETS: Final = ("candidates", "items", "seconds")


def extension(job: Job, options: Mapping[str, Any]) -> SearchSpec:
    """The spec of a search that goes on from ``job``; see :meth:`alloyd.Client.extend_search`."""
    if job.kind != "search":
        raise UsageError(f"{job.id} is no search", hint="'alloy ps --all' lists jobs.", job=job.id)
    if all(options.get(each) is None for each in BUDGETS):
        raise UsageError(
            "how far should the search go on?", hint=f"alloy search --extend {job.id} --candidates N"
        )
    # A budget that was given beside the spec gives way: what counts is what is said now.
    kept = {key: value for key, value in job.spec.items() if key not in (*BUDGETS, "kind")}
    return _convert({**kept, **options, "continues": job.id, "kind": "search"}, SearchSpec)


def open_test_spec(job: str, options: Mapping[str, Any]) -> OpenTestSpec:
    """The spec of opening a locked test; see :meth:`alloyd.Client.open_test`."""
    return _convert({**options, "search": job, "kind": "open_test"}, OpenTestSpec)


def subject_fields(model: PathLike | Mapping[str, Any], name: str, *, far: bool = False) -> dict[str, str]:
    """What is to be scored, as fields of :class:`alloyd.jobs.Subject`: a recipe's text, an absolute path, or a name.

    A file whose name ends in .yaml, .yml or .json is a recipe, and so is a text that holds a line break. What does not
    exist here and is no .gguf file is a model's name, which the daemon looks for as it does for a recipe's. Without a
    ``name`` it is called by its path.
    """
    text = "recipe" if isinstance(model, Mapping) else os.fspath(model)
    if isinstance(model, Mapping) or "\n" in text or text.endswith((".yaml", ".yml", ".json")):
        fields = recipe_fields(model, far=far)
        called = name or (text if "recipe_name" in fields else "recipe")
        return {"name": called, "recipe": fields["recipe"], "base_dir": fields["base_dir"]}
    if far:
        return {"name": name or text, "path": text, "base_dir": ""}
    if os.path.exists(text) or text.endswith(".gguf"):
        return {"name": name or text, "path": os.path.abspath(text)}
    return {"name": name or text, "path": text, "base_dir": os.getcwd()}


def recipe_fields(
    recipe: PathLike | Mapping[str, Any], *, what: str = "recipe", far: bool = False
) -> dict[str, Any]:
    """A recipe's text, the folder its relative paths start at, and its name; or those of another spec, ``what``.

    A mapping is written as JSON, which is YAML. A string that holds a line break is the text itself. What goes to a
    daemon ``far`` away names no folder: relative paths start in the first of its ``remote.roots``.

    Raises
    ------
    UsageError
        The file cannot be read, or cannot be a recipe.
    """
    if isinstance(recipe, Mapping):
        from .recipe_writer import as_json

        return {"recipe": as_json(recipe), "base_dir": _here(far)}
    if isinstance(recipe, str) and "\n" in recipe:
        return {"recipe": recipe, "base_dir": _here(far)}
    path = Path(recipe).absolute()
    # As mergekit takes them, paths are relative to where the command is given, not to where the recipe lies.
    return {"recipe": recipe_file.read(path, what=what), "base_dir": _here(far), "recipe_name": path.name}


def _here(far: bool) -> str:
    return "" if far else os.getcwd()


def place_for(path: PathLike, far: bool) -> str:
    """A path as a daemon is told it: absolute, but for one ``far`` away, where it means what it means there."""
    return os.fspath(path) if far else os.path.abspath(path)


def _convert(fields: dict[str, Any], kind: type[T]) -> T:
    spec = wire.read_spec(fields)
    assert isinstance(spec, kind)
    return spec
