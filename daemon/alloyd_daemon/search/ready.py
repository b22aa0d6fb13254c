"""From a spec to a search that can run: read, models and tasks opened, all checked that can be before work begins."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

from alloyd import __version__, search_reader
from alloyd.errors import JobError, RecipeError, UsageError, did_you_mean
from alloyd.jobs import PlanSpec, SearchSpec
from alloyd.recipe_schema import MAX_SEED
from alloyd.search_schema import SearchFile

from .. import tasks
from ..candidate import Candidate, from_recipe
from ..checkpoints.files import side_digest
from ..checkpoints.fingerprint import check_unchanged, fingerprint
from ..evaluator import Choices
from ..job import Context
from ..kinship.gram import tensor_grams
from ..runner import RUNNERS, RunOptions
from ..scoring.choose import group
from ..scoring.run import Posed, Questions
from .baselines import NAMES, Baseline, baselines
from .genome import first_point
from .history import History
from .leakage import check as check_leaks
from .naming import short_names
from .objective import Goal, goal_of
from .phases import Models, Phases, phases_of
from .placed import place_of, weights_of
from .previous import previous_best
from .results import Searched
from .screen import Screen
from .search_task import SearchTask
from .space import PlainRecipe, Space


@dataclass(frozen=True, slots=True)
class Ready:
    """A search, made ready. ``splits``: the tasks of each split. ``identity``: what its scores follow from, as a
    digest; budgets are no part of it. ``notes`` are for people.
    """

    spec: SearchFile
    task: SearchTask
    splits: Mapping[str, tuple[Posed, ...]]
    phases: Phases
    identity: str
    notes: tuple[str, ...]

    def searched(self, job: str) -> Searched:
        """What results say of the search beside its record."""
        first = self.phases.chosen[0]
        later = [{"name": each.kind.name, "why": each.why} for each in self.phases.chosen[1:]]
        return Searched(
            job=job,
            spec=self.spec,
            genomes=self.phases.genomes,
            optimiser={
                "name": first.kind.name,
                "options": dict(first.options),
                "why": first.why,
                "reference": first.kind.reference,
                "after": later,
            },
            splits={name: tuple(each.task for each in posed) for name, posed in self.splits.items()},
            goal=self.task.goal,
            top=len(self.spec.rungs) - 1,
        )

    def summary(self) -> dict[str, Any]:
        """The plan of the job, for people and scripts."""
        first = self.phases.chosen[0]
        names = short_names(self.phases.models.all, taken=NAMES)
        budget = self.spec.budget
        limits = ((budget.candidates, "candidates"), (budget.items, "items"), (budget.seconds, "seconds"))
        return {
            "genes": sum(len(each) for each in self.phases.genomes),
            "optimiser": {"name": first.kind.name, "why": first.why},
            "tasks": [
                {
                    "split": split,
                    "name": each.task.name,
                    "evaluator": each.task.evaluator,
                    "items": len(each.task.items),
                }
                for split, posed in self.splits.items()
                for each in posed
            ],
            "rungs": [_rung_text(each) for each in self.spec.rungs],
            "baselines": [each.name for each in self.task.baselines],
            "budget": " or ".join(f"{limit:,} {name}" for limit, name in limits if limit is not None),
            "runner": self.spec.runner,
            "memory": self.task.options.memory,
            "models": [
                {
                    "name": names[ref],
                    "path": ref.path,
                    "adapter": None if ref.lora is None else ref.lora.path,
                    "bytes": each.nbytes,
                }
                for ref, each in self.phases.models.all.items()
            ],
        }


def make_ready(spec: SearchSpec, context: Context, folder: Path, options: RunOptions) -> Ready:
    """The search that ``spec`` asks for, whose files lie in ``folder``; ``options`` as far as the job decides them.

    Raises
    ------
    AlloydError
        Whatever is wrong with spec, recipe, models, tasks, optimiser or runner.
    """
    base_dir = Path(spec.base_dir)
    read = search_reader.read(spec.spec, name=spec.name or "search spec")
    file = search_reader.absolute(beside(read, spec), base_dir)
    options, given = _options(file, options)
    choices = Choices(options=given, functions=context.settings.scoring.functions)
    splits = {
        name: tuple(Posed(*each) for each in tasks.resolve(names, choices))
        for name in ("search", "validation", "test")
        if (names := getattr(file.tasks, name))
    }
    check_leaks({name: [each.task for each in posed] for name, posed in splits.items()})
    goal = goal_of(file.objectives, [each.task for each in splits["search"]], several=file.goal == "pareto")
    _check_splits(goal, splits)
    phases = phases_of(file, base_dir=base_dir, folder=folder, context=context, memory=options.memory)
    held, notes = _baselines(file, phases, context, base_dir)
    if goal.several:
        held = _placed(held, phases)

    def plan(recipe: PlainRecipe, name: str) -> Candidate:
        one = PlanSpec(json.dumps(recipe), "/", memory=options.memory, threads=spec.threads, recipe_name=name)
        return from_recipe(one, name=name, home=context.home, settings=context.settings)

    prints = [(each, fingerprint(each)) for each in phases.models.all.values()]

    def check_sources() -> None:
        for checkpoint, seen in prints:
            check_unchanged(checkpoint, seen)

    task = SearchTask(
        phases=phases.makers,
        baselines=held,
        goal=goal,
        search=splits["search"],
        validation=splits["validation"],
        rungs=file.rungs,
        budget=file.budget,
        plan=plan,
        options=options,
        check_sources=check_sources,
        runner=file.runner,
        finalists=file.finalists,
        confidence=file.confidence,
        one_at_a_time=file.mode == "async",
        batch=file.optimiser.batch,
        seed=file.seed,
        most_failed=file.most_failed,
        screen=_screen(file, phases.models, context, options),
        timeout=file.timeout,
    )
    _check_runners(task, phases)
    identity = _identity(file, splits, phases, goal)
    return Ready(file, task, splits, phases, identity, (*phases.warnings, *notes))


def _screen(file: SearchFile, models: Models, context: Context, options: RunOptions) -> Screen | None:
    """The screen, where it is on and there is a base that distances can be from."""
    if file.screen is None or models.base is None or models.base_checkpoint is None or not models.sources:
        return None
    measure = partial(
        tensor_grams,
        models.base,
        tuple(models.sources),
        home=context.home,
        settings=context.settings,
        memory=options.memory,
        threads=options.threads,
        findings=options.findings,
    )
    base = models.base_checkpoint
    return Screen(file.screen.norm_ratio, (base.path, base.adapter), measure)


def _check_splits(goal: Goal, splits: Mapping[str, tuple[Posed, ...]]) -> None:
    """Raise RecipeError where a split's task cannot be scored by the metric that the search is for."""
    for target in goal.targets:
        for split, posed in splits.items():
            task = posed[target.task].task
            names = [each.name for each in task.metrics]
            if names and target.metric.name not in names:
                raise RecipeError(
                    f"the {split} task {task.name} ({task.evaluator}) has no metric '{target.metric.name}', "
                    "which the search is for",
                    hint="Score each split by the same evaluator, in the same order.",
                    key="tasks",
                )


def _check_runners(task: SearchTask, phases: Phases) -> None:
    """Plan the point where the search begins, and find who runs it on every rung. Raises what is wrong with either."""
    space = _first_space(phases)
    if any(gene.kind == "text" for gene in space.genome):
        return  # such a point is the optimiser's to write
    candidate = task.plan(space.recipe(first_point(space.genome)), "where the search begins")
    generates = any(Questions(posed).prompts for posed in (task.search, task.validation))
    for quantise in dict.fromkeys([*(each.quantise for each in task.rungs), None]):
        group([candidate], runner=task.runner, quantise=quantise, generates=generates)


def _first_space(phases: Phases) -> Space:
    first = phases.makers[0](None)
    try:
        while True:
            next(first)
    except StopIteration as end:
        space: Space = end.value.space
        return space


def beside(file: SearchFile, spec: SearchSpec) -> SearchFile:
    """The spec's file with what was said beside it."""
    replaced = msgspec.structs.replace
    given = {name: getattr(spec, name) for name in ("candidates", "items", "seconds")}
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if not 0 < value < math.inf:
            raise UsageError(f"a budget of {value} {name} is none", hint="Give a number above 0.", key=name)
    if spec.seed is not None and not 0 <= spec.seed <= MAX_SEED:
        raise UsageError(
            f"the seed must be a whole number from 0 to {MAX_SEED}, not {spec.seed}",
            hint="Leave it out for the spec's own.",
            key="seed",
        )
    if spec.mode not in (None, "deterministic", "async"):
        raise UsageError(
            f"mode must be deterministic or async, not '{spec.mode}'",
            hint=did_you_mean(spec.mode, ("deterministic", "async")),
            key="mode",
        )
    if given:
        file = replaced(file, budget=replaced(file.budget, **given))
    if spec.optimiser is not None and spec.optimiser != file.optimiser.name:
        file = replaced(file, optimiser=replaced(file.optimiser, name=spec.optimiser, options={}))
    for name in ("seed", "mode", "runner"):
        if getattr(spec, name) is not None:
            file = replaced(file, **{name: getattr(spec, name)})
    if file.budget.seconds is not None and file.mode == "deterministic":
        raise UsageError(
            "a search that ends by the clock cannot repeat itself after a kill",
            hint="Add --async, or give the budget in candidates or items.",
            key="seconds",
        )
    return file


def _options(file: SearchFile, options: RunOptions) -> tuple[RunOptions, dict[str, str]]:
    """The runners' options with what the spec says, and what it says to evaluators."""
    own = {key for _, each in RUNNERS.items() for key in each.reads}
    runners = {key: value for key, value in file.options.items() if key in own}
    if file.runner != "auto":
        known = RUNNERS.get(file.runner).reads
        for key in runners:
            if key not in known:
                raise UsageError(
                    f"the runner '{file.runner}' has no option '{key}'", hint="Leave it out.", key=key
                )
    rest = {key: value for key, value in file.options.items() if key not in own}
    return replace(options, batch_size=file.batch_size, settings=runners), rest


def _baselines(
    file: SearchFile, phases: Phases, context: Context, base_dir: Path
) -> tuple[tuple[Baseline, ...], tuple[str, ...]]:
    """What the search is held against; a previous winner keeps its genes where they are this search's, too."""
    models = phases.models
    held: list[Baseline] = []
    notes: list[str] = []
    if file.baselines:
        names = short_names(models.all, taken=NAMES)
        base = None if models.base is None else (names[models.base], models.base)
        sources = {names[ref]: ref for ref in models.sources}
        found, said = baselines(sources, base, models.common)
        held, notes = list(found), list(said)
    for name in file.previous:
        one = previous_best(name, home=context.home, base_dir=base_dir)
        fits = one.point is not None and set(one.point) == {gene.name for gene in phases.genomes[0]}
        if (
            fits
            and one.point is not None
            and all(gene.holds(one.point[gene.name]) for gene in phases.genomes[0])
        ):
            held.append(one)
        else:
            held.append(replace(one, point=None))
    if len({each.name for each in held}) < len(held):
        raise RecipeError("previous: a search is named twice", hint="Name each once.", key="previous")
    return tuple(held), tuple(notes)


def _placed(held: tuple[Baseline, ...], phases: Phases) -> tuple[Baseline, ...]:
    """The baselines, with genes where they are points of the space: the ends of a front are often near a source."""
    models, space = phases.models, _first_space(phases)
    if models.base is None:
        return held
    found = []
    for each in held:
        weights = None if each.previous else weights_of(each.recipe, models.sources, models.base)
        point = each.point if weights is None else place_of(space, weights)
        found.append(replace(each, point=point))
    return tuple(found)


def check_record(history: History, ready: Ready) -> None:
    """Raise JobError where a record is of something else than this search, or of another version's scores."""
    known, version = history.fact("identity"), history.fact("version")
    if known == ready.identity:
        return
    if version not in (None, __version__):
        raise JobError(
            f"this search began with alloyd {version}, and this is {__version__}: their scores may differ",
            hint=f"Go on with alloyd {version}, or search anew.",
            began=version,
        )
    raise JobError(
        "the spec, the models or the tasks are not what they were when this search began",
        hint="Its scores would be of two kinds: bring back what changed, or search anew.",
    )


def _identity(file: SearchFile, splits: Mapping[str, tuple[Posed, ...]], phases: Phases, goal: Goal) -> str:
    spec = msgspec.to_builtins(file)
    for key in ("budget", "finalists", "most_failed", "name", "previous"):
        spec.pop(key, None)
    facts = [
        __version__,
        spec,
        goal.plain(),
        [
            [
                split,
                each.task.evaluator,
                each.task.code,
                [[item.id, item.content] for item in each.task.items],
            ]
            for split, posed in splits.items()
            for each in posed
        ],
        [
            [str(ref), msgspec.to_builtins(fingerprint(each)), side_digest(each.folder)]
            for ref, each in phases.models.all.items()
        ],
        [each.kind.name for each in phases.chosen],
    ]
    return blake3(json.dumps(facts, default=str).encode("utf-8", "backslashreplace")).hexdigest()


def _rung_text(rung: Any) -> str:
    items = "all items" if rung.items is None else f"{rung.items} items of each task"
    kind = f" as {rung.quantise}" if rung.quantise else ""
    return f"{items}{kind}{f', raced by {rung.block}' if rung.race else ''}"
