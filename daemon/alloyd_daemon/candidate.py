"""What can be scored: a recipe laid over its sources without being written, a checkpoint as it stands, a GGUF file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import structs

from alloyd.errors import PlanError, UsageError
from alloyd.jobs import PlanSpec
from alloyd.recipe import Form, ModelRef

from .engine.prepare import Prepared, output_config, prepare
from .recipes.models import as_mapping
from .settings import Settings


@dataclass(frozen=True, slots=True)
class Candidate:
    """One point: its name for people, and its plan over sources that were opened.

    ``checkpoint`` is the folder itself where the candidate is a checkpoint as it stands (its plan then copies).
    """

    name: str
    prepared: Prepared
    checkpoint: Path | None = None

    @property
    def folder(self) -> Path:
        """The donor's folder, where tokenizer and generation config are."""
        plan = self.prepared.plan
        return self.prepared.checkpoints[plan.outline.donor].folder

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the plan warns of, for people."""
        return tuple(self.prepared.plan.outline.warnings)

    @property
    def config(self) -> Mapping[str, Any]:
        """The config.json that the candidate would be published with."""
        config = output_config(self.prepared)
        return dict(json.loads(config)) if config else {}


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A GGUF file as it stands, which llama.cpp scores; ``name`` is for people.

    ``tokenizer`` is a folder with a Hugging Face tokenizer; ``None``: the vocabulary in the file itself, or, where it
    has none, the tokenizer beside it.
    """

    name: str
    path: Path
    tokenizer: Path | None = None


Subject = Candidate | GgufFile
"""Whatever can be scored."""


def candidates_only(subjects: Iterable[Subject], *, runner: str) -> list[Candidate]:
    """``subjects`` for a runner that reads safetensors.

    Raises
    ------
    UsageError
        One of them is a GGUF file.
    """
    found: list[Candidate] = []
    for subject in subjects:
        if isinstance(subject, GgufFile):
            raise UsageError(
                f"the runner '{runner}' cannot run the GGUF file {subject.path}",
                hint="GGUF files are scored with --runner gguf.",
                path=str(subject.path),
            )
        found.append(subject)
    return found


def from_recipe(spec: PlanSpec, *, name: str, home: Path, settings: Settings) -> Candidate:
    """The candidate of a recipe's last document, whatever form its ``out`` asks for.

    Raises PlanError where that uses the result of another document, and what ``engine.prepare.prepare`` raises.
    """
    whole = structs.replace(spec, form=Form())
    prepared = prepare(whole, home=home, settings=settings)[-1]
    for model, checkpoint in zip(prepared.plan.outline.models, prepared.checkpoints, strict=True):
        if not checkpoint.prints:
            raise PlanError(
                f"{name} uses '{model.name}', which another document of the recipe makes",
                hint="Such a recipe cannot be scored unwritten: merge it, and score the result.",
            )
    return Candidate(name, prepared)


def from_checkpoint(
    folder: Path, *, name: str, home: Path, settings: Settings, memory: int | None = None
) -> Candidate:
    """The candidate that a checkpoint folder is: every tensor of it as it stands."""
    recipe = json.dumps(
        {"merge_method": "passthrough", "models": [{"model": {"model": {"path": str(folder)}}}]}
    )
    spec = PlanSpec(recipe=recipe, base_dir="/", memory=memory, recipe_name=name)
    return Candidate(name, prepare(spec, home=home, settings=settings)[-1], folder)


def from_adapter(
    ref: ModelRef, *, base_dir: str, name: str, home: Path, settings: Settings, memory: int | None = None
) -> Candidate:
    """The candidate that a model becomes by its adapter."""
    recipe = json.dumps({"merge_method": "passthrough", "models": [{"model": as_mapping(ref)}]})
    spec = PlanSpec(recipe=recipe, base_dir=base_dir, memory=memory, recipe_name=name)
    return Candidate(name, prepare(spec, home=home, settings=settings)[-1])
