"""Reads a search spec strictly: every mistake at once, each with its line."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any, Final

import msgspec

from . import task_name
from .document_reader import DocumentReader
from .errors import RecipeError, did_you_mean, raise_all
from .knob_reader import KnobReader, knobs_of
from .paths import expanded
from .recipe_reader import RecipeReader
from .recipe_schema import MAX_SEED, Scalar
from .search_json_schema import json_schema
from .search_schema import (
    Budget,
    DataFlow,
    Number,
    Objective,
    OptimiserChoice,
    Rung,
    Screen,
    SearchFile,
    Splits,
)
from .strict_yaml import Document, Plain, documents, kind_of
from .strict_yaml import Path as Place

__all__ = ["SearchReader", "absolute", "json_schema", "read"]

MOST: Final = 1_000_000_000
LEAST_SCALE: Final = 0.05
"""Nearer to nothing a hop's scale cannot be folded into weights without losing them."""


def read(text: str, *, name: str = "search") -> SearchFile:
    """Read the text of a search spec; ``name`` is what messages call it.

    The recipe stays plain data, as mergekit writes it, in which every value to be searched is a
    :class:`~alloyd.search_schema.Knob`. Paths stay as written: see :func:`absolute`.

    Raises
    ------
    RecipeError, Problems
        What is wrong, with the line; all mistakes together.
    """
    found = documents(text, name=name)
    if len(found) != 1:
        what = "is empty" if not found else f"holds {len(found)} documents"
        raise RecipeError(
            f"{name} {what}, and a search spec is one document",
            hint="It needs at least recipe, tasks and budget.",
            file=name,
        )
    reader = SearchReader(found[0], name, lenient=False)
    search = reader.search()
    raise_all(sorted(reader.problems, key=lambda each: int(each.facts.get("line") or 0)))
    return search


def absolute(search: SearchFile, folder: FilePath) -> SearchFile:
    """``search`` with its task files, the files among ``previous`` and options that are paths seen from ``folder``."""
    splits = {
        split: tuple(task_name.absolute(each, folder) for each in getattr(search.tasks, split))
        for split in Splits.__struct_fields__
    }
    previous = tuple(
        str(path) if os.path.isfile(path := folder / expanded(each)) else each for each in search.previous
    )
    options = task_name.absolute_options(search.options, folder)
    return msgspec.structs.replace(search, tasks=Splits(**splits), previous=previous, options=options)


class _Beginning(RecipeReader):
    """A template's recipe at its start; ``places`` are those of its problems."""

    def __init__(self, document: Document, name: str, lenient: bool) -> None:
        super().__init__(document, name, lenient)
        self.places: list[Place] = []

    def problem(self, place: Place, message: str, hint: str) -> None:
        self.places.append(place)
        super().problem(place, message, hint)


class SearchReader(DocumentReader):
    """Reads one spec, collecting what is wrong with it."""

    what = "the search spec"

    def search(self) -> SearchFile:
        """The whole document; problems are collected, and what is wrong is read as its default."""
        value = self.document.value
        if (
            isinstance(value, dict)
            and "merge_method" in value
            and not value.keys() & {"recipe", "path", "tasks"}
        ):
            hint = "'alloy merge FILE OUT' merges it; a search has it under 'recipe', beside 'tasks' and 'budget'."
            self.problem((), "this is a recipe, not a search spec", hint)
            return SearchFile(tasks=Splits((), ()), budget=Budget())
        known = tuple(field for field in SearchFile.__struct_fields__ if field != "warnings")
        fields = {key: each for key, each in self.mapping(value, (), known).items() if each is not None}
        if isinstance(value, dict):
            for key, example in (
                ("tasks", "tasks: {search: [a.jsonl], validation: [b.jsonl]}"),
                ("budget", "budget: {candidates: 200}"),
            ):
                if key not in fields:
                    message = f"the search spec needs the key '{key}'"
                    self.needs((), (key,), message, f"For example {example}.")
            if not fields.keys() & {"recipe", "path"}:
                self.needs(
                    (),
                    ("recipe", "path"),
                    "the search spec needs the key 'recipe' or 'path', or both",
                    "A recipe is what mergekit reads, with {low: ..., high: ...} for a value to be found.",
                )
        recipe = self.recipe(fields["recipe"]) if "recipe" in fields else None
        path = self.path(fields["path"], recipe) if "path" in fields else None
        tasks = self.splits(fields["tasks"]) if "tasks" in fields else Splits((), ())
        search = SearchFile(
            tasks=tasks,
            budget=self.budget(fields["budget"]) if "budget" in fields else Budget(),
            recipe=recipe,
            path=path,
            name=self.text(fields["name"], ("name",)) or "" if "name" in fields else "",
            objectives=self.objectives(fields.get("objectives"), len(tasks.search)),
            goal=self.choice(fields, (), "goal", ("one", "pareto")),
            optimiser=self.optimiser(fields.get("optimiser")),
            screen=self.screen(fields.get("screen")),
            rungs=self.rungs(fields.get("rungs")),
            timeout=self.positive(fields, (), "timeout"),
            baselines=self.switch(fields, (), "baselines", True),
            previous=self.texts(fields["previous"], ("previous",)) if "previous" in fields else (),
            finalists=self.count(fields, (), "finalists", 1, 1000) or 4,
            confidence=self.fraction(fields, (), "confidence", 0.5, 0.95),
            mode=self.choice(fields, (), "mode", ("deterministic", "async")),
            seed=self.count(fields, (), "seed", 0, MAX_SEED) or 0,
            runner=self.text(fields["runner"], ("runner",)) or "auto" if "runner" in fields else "auto",
            batch_size=self.count(fields, (), "batch_size", 1, MOST),
            options=self.options(fields.get("options")),
            most_failed=self.count(fields, (), "most_failed", 1, MOST) or 20,
            warnings=tuple(self.warnings),
        )
        self.check(search, fields)
        return search

    def check(self, search: SearchFile, fields: Mapping[str, Plain]) -> None:
        """Note what does not fit together."""
        if search.goal == "pareto" and len(search.objectives) < 2:
            self.problem(("goal",), "a pareto front needs two objectives or more", "Add them to objectives.")
        if search.budget.seconds is not None and search.mode == "deterministic":
            self.problem(
                ("budget", "seconds"),
                "a search that ends by the clock cannot repeat itself after a kill",
                "Write mode: async, or give the budget in candidates or items.",
            )
        if search.path is not None and search.path.after and "recipe" not in fields:
            self.problem(
                ("path", "after"),
                "there is no recipe after which the path could be searched",
                "Leave it out.",
            )
        if search.path is not None and "recipe" not in fields and not search.path.models:
            self.problem(
                ("path",),
                "path needs the key 'models', for there is no recipe that names any",
                "For example models: [org/one, org/other].",
            )

    def recipe(self, value: Plain) -> dict[str, Any] | None:
        """The template: plain data with knobs, whose recipe at its start has been read as any recipe is."""
        if not isinstance(value, dict):
            self.problem(
                ("recipe",),
                f"recipe must be a mapping, as a recipe file holds it, not {kind_of(value)}",
                "Write the recipe itself here, with its merge_method and models.",
            )
            return None
        lines = {place[1:]: line for place, line in self.document.lines.items() if place[:1] == ("recipe",)}
        reader = KnobReader(Document(value, lines), self.name, lenient=False)
        template, plain = reader.template(value)
        reader.check_names(knobs_of(template))
        beginning = _Beginning(Document(plain, lines), self.name, lenient=False)
        beginning.recipe()
        found = zip(beginning.places, beginning.problems, strict=True)
        self.problems += reader.problems + [each for place, each in found if not reader.spoils(place)]
        self.warnings += beginning.warnings
        return template if isinstance(template, dict) else None

    def path(self, value: Plain, recipe: dict[str, Any] | None) -> DataFlow:
        at: Place = ("path",)
        fields = self.fields(value, at, DataFlow)
        path = DataFlow(
            models=self.texts(fields["models"], (*at, "models")) if "models" in fields else (),
            repeat=self.count(fields, at, "repeat", 1, 64) or 1,
            first=self.count(fields, at, "first", 1, 1000, 1),
            last=self.count(fields, at, "last", 1, 1000, 1),
            scale=self.scale(fields["scale"], (*at, "scale")) if "scale" in fields else None,
            sign=self.switch(fields, at, "sign", False),
            longest=self.count(fields, at, "longest", 1, 100_000),
            after=self.switch(fields, at, "after", False),
            share=self.fraction(fields, at, "share", 0.0, 0.5),
        )
        if path.sign and path.scale is None:
            self.problem(
                (*at, "sign"), "path.sign has no meaning without path.scale", "Add scale: [0.5, 1.5]."
            )
        if path.longest is not None and path.longest < path.first + path.last:
            self.problem(
                (*at, "longest"),
                f"path.longest is {path.longest}, and {path.first + path.last} layers are always taken",
                "Raise it, or leave it out.",
            )
        return path

    def scale(self, value: Plain, at: Place) -> tuple[Number, Number] | None:
        expected = f"[low, high] with {LEAST_SCALE} <= low < high"
        numbers = [each for each in value if not isinstance(each, bool)] if isinstance(value, list) else []
        pair = [each for each in numbers if isinstance(each, int | float) and math.isfinite(each)]
        if (
            not isinstance(value, list)
            or len(value) != 2
            or len(pair) != 2
            or not LEAST_SCALE <= pair[0] < pair[1]
        ):
            found = value if isinstance(value, list) else kind_of(value)
            self.problem(
                at,
                f"{self.dotted(at)} must be {expected}, not {found}",
                "With sign: true they bound the magnitude.",
            )
            return None
        return pair[0], pair[1]

    def splits(self, value: Plain) -> Splits:
        at: Place = ("tasks",)
        fields = self.fields(value, at, Splits)
        if isinstance(value, dict):
            for key in ("search", "validation"):
                if key not in fields:
                    example = f"For example {key}: [task.{key}.jsonl]."
                    self.needs(at, (key,), f"tasks needs the key '{key}'", example)
        read = {key: self.texts(each, (*at, key)) for key, each in fields.items()}
        seen: dict[str, str] = {}
        for key, names in read.items():
            if names and len(names) != len(read.get("search") or names):
                self.problem(
                    (*at, key),
                    f"tasks.{key} holds {len(names)} tasks, and tasks.search {len(read['search'])}",
                    "Each task stands in every split, at the same place.",
                )
            for place, name in enumerate(names):
                if name in seen:
                    self.problem(
                        (*at, key, place),
                        f"the task {name} stands in tasks.{seen[name]} already",
                        "Splits share no items: 'alloy split' parts a file.",
                    )
                seen.setdefault(name, key)
        return Splits(read.get("search", ()), read.get("validation", ()), read.get("test", ()))

    def objectives(self, value: Plain, tasks: int) -> tuple[Objective, ...]:
        if value is None:
            return (Objective(),)

        def read_one(each: Plain, at: Place) -> Objective:
            fields = self.fields(each, at, Objective)
            metric = self.text(fields["metric"], (*at, "metric")) if "metric" in fields else None
            weight = self.between(fields, at, "weight", 0.0, MOST) if "weight" in fields else None
            task = self.count(fields, at, "task", 1, max(tasks, 1), 1)
            return Objective(task, metric, 1.0 if weight is None else weight)

        found = self.entries(value, ("objectives",), read_one)
        pairs = [(each.task, each.metric) for each in found]
        for index, pair in enumerate(pairs):
            if pair in pairs[:index]:
                self.problem(
                    ("objectives", index), "this objective stands above already", "Keep one of them."
                )
        return found

    def optimiser(self, value: Plain) -> OptimiserChoice:
        at: Place = ("optimiser",)
        if value is None:
            return OptimiserChoice()
        if isinstance(value, str) and value.strip():
            return OptimiserChoice(value)
        fields = self.fields(value, at, OptimiserChoice)
        options: dict[str, Scalar] = {}
        if "options" in fields:
            for key, each in self.mapping(fields["options"], (*at, "options"), None).items():
                option = self.scalar(each, (*at, "options", key))
                if option is not None:
                    options[key] = option
        name = self.text(fields["name"], (*at, "name")) if "name" in fields else None
        return OptimiserChoice(name or "auto", options, self.count(fields, at, "batch", 1, 100_000))

    def screen(self, value: Plain) -> Screen | None:
        """The limits of the screen; ``false`` switches it off."""
        if value is None or value is False:
            return Screen() if value is None else None
        at: Place = ("screen",)
        if not isinstance(value, dict):
            self.problem(
                at,
                f"screen must be false or a mapping, not {kind_of(value)}",
                "For example screen: {norm_ratio: 10}.",
            )
            return Screen()
        ratio = self.positive(self.fields(value, at, Screen), at, "norm_ratio")
        return Screen() if ratio is None else Screen(ratio)

    def rungs(self, value: Plain) -> tuple[Rung, ...]:
        if value is None:
            return (Rung(race=True),)

        def read_one(each: Plain, at: Place) -> Rung:
            fields = self.fields(each, at, Rung)
            return Rung(
                items=self.count(fields, at, "items", 1, MOST),
                quantise=self.text(fields["quantise"], (*at, "quantise")) if "quantise" in fields else None,
                race=self.switch(fields, at, "race", False),
                block=self.count(fields, at, "block", 1, MOST) or 25,
            )

        return self.entries(value, ("rungs",), read_one)

    def budget(self, value: Plain) -> Budget:
        at: Place = ("budget",)
        fields = self.fields(value, at, Budget)
        if isinstance(value, dict) and not fields:
            self.problem(
                at, "budget needs one of candidates, items and seconds", "For example {candidates: 200}."
            )
        return Budget(
            candidates=self.count(fields, at, "candidates", 1, MOST),
            items=self.count(fields, at, "items", 1, MOST),
            seconds=self.positive(fields, at, "seconds"),
        )

    def options(self, value: Plain) -> dict[str, str]:
        """Options of evaluators and runners; numbers and switches become the text that they read."""
        if value is None:
            return {}
        found = {}
        for key, each in self.mapping(value, ("options",), None).items():
            option = self.scalar(each, ("options", key))
            if option is not None:
                found[key] = str(option).lower() if isinstance(option, bool) else str(option)
        return found

    def fields(self, value: Plain, at: Place, kind: type[msgspec.Struct]) -> dict[str, Plain]:
        """``value`` as a mapping of the fields of ``kind``, those that say nothing left out."""
        known = kind.__struct_fields__
        return {key: each for key, each in self.mapping(value, at, known).items() if each is not None}

    def count(
        self, fields: Mapping[str, Plain], at: Place, key: str, low: int, high: int, default: Any = None
    ) -> Any:
        found = self.whole(fields[key], (*at, key), low, high) if key in fields else None
        return default if found is None else found

    def switch(self, fields: Mapping[str, Plain], at: Place, key: str, default: bool) -> bool:
        value = fields.get(key, default)
        if not isinstance(value, bool):
            self.problem(
                (*at, key),
                f"{self.dotted((*at, key))} must be true or false, not {kind_of(value)}",
                f"Leave it out for {str(default).lower()}.",
            )
            return default
        return value

    def choice(self, fields: Mapping[str, Plain], at: Place, key: str, choices: tuple[str, ...]) -> Any:
        value = fields.get(key, choices[0])
        if value in choices:
            return value
        found = f"'{value}'" if isinstance(value, str) else kind_of(value)
        hint = did_you_mean(value if isinstance(value, str) else "", choices)
        self.problem(
            (*at, key), f"{self.dotted((*at, key))} must be {' or '.join(choices)}, not {found}", hint
        )
        return choices[0]

    def positive(self, fields: Mapping[str, Plain], at: Place, key: str) -> float | None:
        return self.between(fields, at, key, 0.0, math.inf) if key in fields else None

    def fraction(self, fields: Mapping[str, Plain], at: Place, key: str, low: float, default: float) -> float:
        found = self.between(fields, at, key, low, 1.0) if key in fields else None
        return default if found is None else found

    def between(
        self, fields: Mapping[str, Plain], at: Place, key: str, low: float, high: float
    ) -> float | None:
        """A number above ``low`` and below ``high``."""
        value = fields[key]
        if isinstance(value, int | float) and not isinstance(value, bool) and low < value < high:
            return float(value)
        found = value if isinstance(value, int | float | str) else kind_of(value)
        bounds = f" and below {high:g}" if math.isfinite(high) else ""
        self.problem(
            (*at, key),
            f"{self.dotted((*at, key))} must be a number above {low:g}{bounds}, not {found}",
            "Leave it out to get its default.",
        )
        return None
