"""The phases of a search: one space and its optimiser, or a recipe's and then paths over its winner's layers."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import structs

from alloyd.errors import JobError, RecipeError
from alloyd.jobs import MergeSpec, Note, Progress
from alloyd.recipe import ModelRef
from alloyd.search_schema import DataFlow, OptimiserChoice, SearchFile

from ..adapters.opening import open_model
from ..checkpoints.checkpoint import Checkpoint, open_checkpoint
from ..job import JOBS, Context
from ..kinship.gram import task_vector_gram
from ..optimiser import OPTIMISERS, Sources
from ..recipes.models import as_given
from .choose import Chosen, check_objectives, choose
from .genome import Genome
from .model_shape import ModelShape
from .naming import bare, placed
from .options import check_options
from .search_task import MakePhase, Phase
from .space import Space
from .spaces.data_flow import DataFlowSpace
from .spaces.hybrid import HybridSpace
from .spaces.parameters import ParameterSpace
from .template import at_start, opened
from .trial import Trial


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a search, opened, by where they lie: those that are merged, in the recipe's order, and the base."""

    sources: Mapping[ModelRef, Checkpoint]
    base: ModelRef | None
    base_checkpoint: Checkpoint | None
    common: Mapping[str, Any]
    """What a recipe of them says beside models and method, such as ``dtype``."""

    @property
    def all(self) -> dict[ModelRef, Checkpoint]:
        """The sources, then the base."""
        if self.base is None or self.base_checkpoint is None:
            return dict(self.sources)
        return {**self.sources, self.base: self.base_checkpoint}


@dataclass(frozen=True, slots=True)
class Phases:
    """What is searched, one after the other; ``genomes`` and ``chosen`` of each phase as far as they are known.

    ``kinship`` gets ``models`` and their ``cosine`` matrix as soon as an optimiser has asked for it.
    """

    makers: tuple[MakePhase, ...]
    genomes: tuple[Genome, ...]
    chosen: tuple[Chosen, ...]
    models: Models
    warnings: tuple[str, ...]
    kinship: Mapping[str, Any]


_COMMON = ("dtype", "out_dtype", "tokenizer", "tokenizer_source", "chat_template")


def phases_of(spec: SearchFile, *, base_dir: Path, folder: Path, context: Context, memory: int) -> Phases:
    """What ``spec`` searches. ``folder`` is where the winner of a recipe is merged before paths go over its layers.

    Raises AlloydError for whatever is wrong with recipe, path, models or optimiser.
    """
    settings = context.settings
    template: dict[str, Any] | None = None
    merged: dict[ModelRef, Checkpoint] = {}
    base: ModelRef | None = None
    if spec.recipe is not None:
        template, merged = opened(spec.recipe, base_dir=base_dir, settings=settings)
        base = at_start(template).base_model
    flow = spec.path
    pool: list[Checkpoint] = []
    if flow is not None:
        _check_overrides(merged)
        named = [open_model(as_given(name), base_dir=base_dir, settings=settings) for name in flow.models]
        pool = named or [each for place, each in merged.items() if place != base] or list(merged.values())
    everything = merged or {placed(each): each for each in pool}
    models = Models(
        {place: each for place, each in everything.items() if base is None or bare(place) != bare(base)},
        base,
        None if base is None else everything.get(base),
        {key: template[key] for key in _COMMON if template and template.get(key) is not None},
    )
    objectives = len(spec.objectives) if spec.goal == "pareto" else 1
    kinship: dict[str, Any] = {}
    sources = _sources(models, context, memory, kinship)
    by_name = None if spec.optimiser.name == "auto" else OPTIMISERS.get(spec.optimiser.name)
    if by_name is not None and by_name.space is not None:
        if flow is not None:
            raise RecipeError(
                f"the optimiser '{by_name.name}' searches whole models, not paths over their layers",
                hint="Leave 'path' out, or choose another optimiser.",
                key="optimiser",
            )
        check_objectives(by_name, objectives)
        space = by_name.space(sources)
        chosen = Chosen(by_name, check_options(by_name, spec.optimiser.options), "it was asked for")
        return Phases((_maker(space, chosen, 1.0, sources),), (space.genome,), (chosen,), models, (), kinship)
    warnings: list[str] = []
    parameters: ParameterSpace | None = None
    if template is not None:
        parameters = ParameterSpace(template, ModelShape.of(merged))
        warnings += parameters.warnings
        if not parameters.genome and (flow is None or flow.after):
            raise RecipeError(
                "the recipe has no knob, and so there is nothing in it to search",
                hint="Write {low: 0, high: 1} in the place of a value under parameters; see docs/search.md.",
                key="recipe",
            )
    if flow is None or parameters is None or not flow.after:
        space = _one_space(parameters, flow, pool)
        warnings += [] if space is parameters else getattr(space, "warnings", ())
        chosen = choose(spec.optimiser, space.genome, objectives)
        return Phases(
            (_maker(space, chosen, 1.0, sources),),
            (space.genome,),
            (chosen,),
            models,
            tuple(warnings),
            kinship,
        )
    # The winner has the shape of the recipe, so what stands in its place shows now what would be wrong then.
    donor = next(iter(merged.values()))
    rehearsed = DataFlowSpace(flow, [donor, *pool])
    chosen = choose(spec.optimiser, parameters.genome, objectives)
    later = _later(spec.optimiser, rehearsed.genome, objectives)
    first = _maker(parameters, chosen, 1.0 - flow.share, sources)
    second = _after(flow, pool, later, folder=folder, context=context, memory=memory)
    return Phases(
        (first, second),
        (parameters.genome, rehearsed.genome),
        (chosen, later),
        models,
        tuple(warnings),
        kinship,
    )


def _check_overrides(merged: Iterable[ModelRef]) -> None:
    """Raise RecipeError where a path would read a model's adapter by its config's architecture, not the recipe's."""
    for ref in merged:
        if ref.lora is not None and ref.override_architecture is not None:
            raise RecipeError(
                f"a path over layers does not know the override_architecture of '{ref}', by which its adapter is read",
                hint="Write that architecture into its config.json, or leave the path out.",
                key="path",
            )


def _one_space(parameters: ParameterSpace | None, flow: DataFlow | None, pool: Sequence[Checkpoint]) -> Space:
    if flow is None:
        if parameters is None:
            raise RecipeError("a search needs a recipe with knobs, or a path", key="recipe")
        return parameters
    return DataFlowSpace(flow, pool) if parameters is None else HybridSpace(parameters, flow, pool)


def _later(choice: OptimiserChoice, genome: Genome, objectives: int) -> Chosen:
    """The optimiser of the second phase: the one that was asked for where it can, else what suits."""
    try:
        return choose(choice, genome, objectives)
    except RecipeError:
        return choose(structs.replace(choice, name="auto", options={}), genome, objectives)


def _maker(space: Space, chosen: Chosen, until: float, sources: Sources) -> MakePhase:
    def make(_: Trial | None) -> Generator[Progress | Note, None, Phase]:
        yield from ()
        return Phase(space=space, kind=chosen.kind, options=chosen.options, until=until, sources=sources)

    return make


def _after(
    flow: DataFlow,
    pool: Sequence[Checkpoint],
    chosen: Chosen,
    *,
    folder: Path,
    context: Context,
    memory: int,
) -> MakePhase:
    def make(best: Trial | None) -> Generator[Progress | Note, None, Phase]:
        if best is None:
            raise JobError(
                "no candidate of the recipe was scored, so there is none whose layers a path could take",
                hint="Look at why they failed.",
            )
        out = folder / "pool" / f"trial-{best.number}"
        merge = MergeSpec(json.dumps(best.recipe), "/", str(out), memory=memory, recipe_name=best.name)
        for said in JOBS.get("merge").run(merge, context):
            if isinstance(said, Note) and said.level == "warning":
                yield said
            elif isinstance(said, Progress):
                yield Progress(0, 1, "items", f"merging {best.name}, whose layers join the pool")
        space = DataFlowSpace(flow, [open_checkpoint(out), *pool])
        return Phase(space=space, kind=chosen.kind, options=chosen.options)

    return make


def _sources(models: Models, context: Context, memory: int, measured: dict[str, Any]) -> Sources:
    """The models as optimisers know them; how alike they are is kept in ``measured`` when it is asked for."""
    places = tuple(models.sources)

    def gram() -> Sequence[Sequence[float]]:
        if models.base is None:
            raise RecipeError(
                "kinship is measured from a base, and the recipe has no base_model", key="base_model"
            )
        running = task_vector_gram(
            models.base,
            places,
            home=context.home,
            settings=context.settings,
            memory=memory,
        )
        try:
            while True:
                next(running)
        except StopIteration as end:
            found: Sequence[Sequence[float]] = end.value
            measured.update(models=[str(each) for each in places], cosine=_cosines(found))
            return found

    return Sources(places, models.base, gram, models.common)


def _cosines(gram: Sequence[Sequence[float]]) -> list[list[float | None]]:
    """Signed cosines of a Gram matrix; ``None`` with a model that is its base."""
    norms = [math.sqrt(row[place]) for place, row in enumerate(gram)]
    return [
        [
            max(-1.0, min(1.0, float(each) / (norm * other))) if norm and other else None
            for each, other in zip(row, norms, strict=True)
        ]
        for row, norm in zip(gram, norms, strict=True)
    ]
