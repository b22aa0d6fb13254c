"""From what a client sent to plans: read the recipe, find its models, read their headers, lay everything out.

Everything that text, headers and configs can reveal is raised here, before a byte of a tensor is read: each document's
missing models together, then all else that is wrong with it together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from alloyd import recipe as recipes
from alloyd.errors import AlloydError, RecipeError, UsageError, raise_all
from alloyd.foreign import in_one_line
from alloyd.jobs import MergeSpec, PlanSpec

from ..adapters.opening import open_model
from ..architecture import named_in, table_for
from ..checkpoints.checkpoint import Checkpoint, Tensor, open_checkpoint
from ..checkpoints.config import recut
from ..checkpoints.files import side_digest
from ..checkpoints.fingerprint import Fingerprint, fingerprint
from ..checkpoints.layout import Layout
from ..checkpoints.reader import open_reader
from ..output_format import OUTPUT_FORMATS, OutputFormat, TensorSpec
from ..output_format import Model as LaidOut
from ..recipes.assign import assign
from ..recipes.by_layer import by_layer
from ..recipes.outline import Model, Outline
from ..recipes.vocabulary import vocabulary_digest
from ..settings import MOST_THREADS, Settings
from .outputs import SIDE_BYTES, check_outputs, folders, form_of, free_bytes, last_of
from .plan import Plan, make_plan
from .rates import seconds_for

Door = Literal["auto", "mmap", "pread"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One document of a recipe, ready to merge: ``out`` is its own output folder, or ``None`` when only planning.

    ``form`` is what its output is stored as, ``format`` the plug-in that does so.
    """

    recipe: recipes.Recipe
    text: str
    plan: Plan
    checkpoints: tuple[Checkpoint, ...]
    fingerprints: tuple[Fingerprint, ...]
    doors: tuple[Door, ...]
    out: Path | None
    memory: int
    home: Path
    form: recipes.Form
    format: OutputFormat
    shard_size: int

    @property
    def rate(self) -> str:
        """Under which name the speed of such merges is remembered."""
        return (
            f"{self.recipe.merge_method} {self.form}"
            if self.plan.layout.encodes
            else self.recipe.merge_method
        )

    @property
    def warnings(self) -> list[str]:
        """What the user should know, from the recipe and from the output's format."""
        return [in_one_line(each) for each in (*self.plan.outline.warnings, *self.plan.layout.warnings)]

    def summary(self) -> dict[str, Any]:
        """The plan for people and scripts; docs/protocol.md names the keys."""
        plan = self.plan
        free = free_bytes(self.out) if self.out is not None else None
        return {
            "name": self.recipe.name,
            "out": str(self.out) if self.out is not None else None,
            "method": self.recipe.merge_method,
            "tensors": len(plan.tensors),
            "parameters": plan.parameters,
            "bytes_read": plan.bytes_read,
            "bytes_swept": plan.bytes_sweep,
            "bytes_write": plan.bytes_write,
            "passes": plan.passes,
            "peak_memory": plan.budget.peak,
            "memory": self.memory,
            "disk_needed": plan.bytes_write + SIDE_BYTES,
            "disk_free": free,
            "seconds": seconds_for(self.home, self.rate, plan.bytes_sweep + plan.bytes_write),
            "threads": plan.budget.threads,
            "reader": ", ".join(sorted(set(self.doors))),
            "dtype": ", ".join(sorted({each.dtype for each in plan.tensors})),
            "shards": len(plan.layout.shards),
            "format": str(self.form),
            "models": [
                {
                    "name": model.name,
                    "path": str(model.path),
                    "adapter": str(model.adapter) if model.adapter is not None else None,
                    "bytes": checkpoint.nbytes,
                }
                for model, checkpoint in zip(plan.outline.models, self.checkpoints, strict=True)
            ],
            "by_layer": self.by_layer(),
            "warnings": self.warnings,
        }

    def by_layer(self) -> dict[str, Any] | None:
        """What the recipe comes to in each layer."""
        outline = self.plan.outline
        return by_layer(outline, table_for(named_in(self.checkpoints[outline.donor].config)))


def prepare(spec: MergeSpec | PlanSpec, *, home: Path, settings: Settings) -> tuple[Prepared, ...]:
    """Plan every document of the spec's recipe, in an order in which each comes after those whose result it uses.

    A document whose source is another document's result is planned from that document's plan.

    Raises
    ------
    AlloydError
        All that is wrong, together: the recipe, its models, shapes, the budget, the output.
    """
    if spec.reader not in ("auto", "mmap", "pread"):
        raise UsageError(f"unknown reader '{spec.reader}'", hint="Known: auto, mmap, pread.")
    if spec.threads is not None and not 1 <= spec.threads <= MOST_THREADS:
        raise UsageError(f"{spec.threads} threads make no sense", hint=f"Give 1 to {MOST_THREADS}.")
    name = spec.recipe_name or "recipe"
    documents = recipes.in_order(recipes.load(spec.recipe, name=name, lenient=spec.lenient), name=name)
    outs = folders(spec, [recipe for recipe, _ in documents])
    last = last_of([recipe for recipe, _ in documents])
    used = {each for _, names in documents for each in names}
    prepared: list[Prepared] = []
    pending: dict[str, Checkpoint] = {}
    for recipe, _ in documents:
        out = outs[recipe.name]
        form = form_of(spec, recipe, last=recipe.name == last.name)
        one = _prepare_one(spec, recipe, form, out, pending, home, settings)
        prepared.append(one)
        if recipe.name in used and not one.format.source:
            raise RecipeError(
                f"the result of document '{recipe.name}' is used by another one and cannot be {form}",
                hint="Leave its 'out' out, so that it is safetensors.",
            )
        if recipe.name is not None and out is not None and one.format.source:
            pending[recipe.name] = _promised(one, out)
    if spec.out:
        check_outputs(prepared, force=spec.force)
    return tuple(prepared)


def _prepare_one(
    spec: MergeSpec | PlanSpec,
    recipe: recipes.Recipe,
    form: recipes.Form,
    out: Path | None,
    pending: Mapping[str, Checkpoint],
    home: Path,
    settings: Settings,
) -> Prepared:
    problems: list[AlloydError] = []
    models: list[Model] = []
    checkpoints: list[Checkpoint] = []
    for ref in recipe.referenced_models():
        try:
            checkpoint = open_model(ref, base_dir=Path(spec.base_dir), settings=settings, made=pending)
            models.append(Model(str(ref), checkpoint.path, checkpoint.adapter))
            checkpoints.append(checkpoint)
        except AlloydError as problem:
            problems.append(problem)
    raise_all(problems)
    outline = assign(
        recipe,
        models,
        [checkpoint.tensors for checkpoint in checkpoints],
        [checkpoint.config for checkpoint in checkpoints],
        vocabularies=[vocabulary_digest(checkpoint.folder) for checkpoint in checkpoints]
        if recipe.tokenizer is not None or recipe.tokenizer_source is not None
        else (),
        lenient=spec.lenient,
    )
    prints = tuple(fingerprint(checkpoint) for checkpoint in checkpoints)
    doors = tuple(_door(checkpoint, cast(Door, spec.reader)) for checkpoint in checkpoints)
    memory = spec.memory if spec.memory is not None else settings.memory_bytes()
    stored = OUTPUT_FORMATS.get(form.format)
    configs = [checkpoint.config for checkpoint in checkpoints]

    def lay_out(tensors: Sequence[TensorSpec]) -> Layout:
        config = _config(outline, configs, [dtype for _, dtype, _ in tensors])
        return stored.lay_out(
            LaidOut(
                tensors=tensors,
                config=json.loads(config) if config else {},
                folder=checkpoints[outline.donor].folder,
                title=recipe.name or "",
                form=form,
                base_dir=Path(spec.base_dir),
                shard_size=spec.shard_size,
            )
        )

    plan = make_plan(
        outline,
        checkpoints,
        memory=memory,
        threads=spec.threads or settings.thread_count(),
        lay_out=lay_out,
        buffered="pread" in doors,
        fingerprints=[
            *(msgspec.json.encode(each).decode() for each in prints),
            # Configs and the donor's files become part of the output, and decide how a candidate scores.
            json.dumps(configs, sort_keys=True),
            side_digest(checkpoints[outline.donor].folder),
        ],
    )
    return Prepared(
        recipe,
        spec.recipe,
        plan,
        tuple(checkpoints),
        prints,
        doors,
        out,
        memory,
        home,
        form,
        stored,
        spec.shard_size,
    )


def _door(checkpoint: Checkpoint, wanted: Door) -> Door:
    if not checkpoint.prints:
        return "mmap"
    with open_reader(checkpoint, wanted) as reader:
        return reader.door


def _promised(prepared: Prepared, out: Path) -> Checkpoint:
    """The checkpoint that a plan will write, as far as its headers and config tell."""
    layout = prepared.plan.layout
    tensors = {
        slot.name: Tensor(slot.name, slot.dtype, slot.shape, slot.shard, slot.offset, slot.nbytes)
        for slot in layout.slots
    }
    config = None
    if prepared.checkpoints[prepared.plan.outline.donor].config is not None:
        config = json.loads(output_config(prepared))
    return Checkpoint(out, tuple(out / shard.filename for shard in layout.shards), tensors, config, {}, ())


def output_config(prepared: Prepared) -> bytes:
    """config.json of the merged model, before its weights are encoded."""
    configs = [checkpoint.config for checkpoint in prepared.checkpoints]
    return _config(prepared.plan.outline, configs, [each.dtype for each in prepared.plan.tensors])


def _config(
    outline: Outline, configs: Sequence[Mapping[str, Any] | None], dtypes_of_all: Iterable[str]
) -> bytes:
    table = table_for(named_in(configs[outline.donor]))
    dtypes = set(dtypes_of_all)
    wanted = outline.out_dtype or outline.dtype
    return recut(
        configs,
        outline,
        out_dtype=wanted or _NAMES.get(next(iter(dtypes)) if len(dtypes) == 1 else ""),
        vocabulary=None,
        count_keys=table.layer_count_keys,
        list_keys=table.per_layer_lists,
        index_keys=table.layer_index_lists,
    )


_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}


def again(prepared: Prepared, spec: MergeSpec, settings: Settings) -> Prepared:
    """The same document planned anew, now that what it uses was published."""
    named: dict[str, Checkpoint] = {}
    for ref, checkpoint in zip(prepared.recipe.referenced_models(), prepared.checkpoints, strict=True):
        if not checkpoint.prints:
            named[ref.path] = open_checkpoint(checkpoint.path)
    fresh = _prepare_one(spec, prepared.recipe, prepared.form, prepared.out, named, prepared.home, settings)
    return replace(fresh, memory=prepared.memory)
