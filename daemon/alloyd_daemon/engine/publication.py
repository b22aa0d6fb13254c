"""What a merged checkpoint has beside its weights: config, tokenizer, recipe, model card, manifest."""

from __future__ import annotations

from ..checkpoints.card import CARD, RECIPE, Parent, licence_of, licence_warnings, render_card
from ..checkpoints.files import side_files as donor_files
from ..checkpoints.manifest import MANIFEST, SourceEntry, render_manifest
from .merge import Merged
from .plan import ARITHMETIC
from .prepare import Prepared, output_config


def side_files(one: Prepared, merged: Merged) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Name to bytes of every file but the weights and their index, and what to tell the user about licences."""
    plan, recipe = one.plan, one.recipe
    files = donor_files(one.checkpoints[plan.outline.donor].folder)
    config = output_config(one)
    if config:
        files["config.json"] = config
    parents = [
        Parent(ref.path, ref.revision, licence_of(checkpoint.folder))
        for ref, checkpoint in zip(recipe.referenced_models(), one.checkpoints, strict=True)
    ]
    dtypes = sorted({each.dtype for each in plan.tensors})
    files[RECIPE] = one.text.encode("utf-8")
    files[CARD] = render_card(
        title=recipe.name or "",
        recipe=one.text,
        methods=(recipe.merge_method,),
        parents=parents,
        base=recipe.base_model.path if recipe.base_model is not None else None,
        dtype=", ".join(dtypes) or None,
        parameters=plan.parameters,
        warnings=plan.outline.warnings,
    )
    sides = files | (
        {"model.safetensors.index.json": plan.layout.index} if plan.layout.index is not None else {}
    )
    files[MANIFEST] = render_manifest(
        recipe=one.text,
        seed=plan.outline.seed,
        arithmetic=str(ARITHMETIC),
        layout=plan.layout,
        digests=merged.tensors,
        sources=[
            SourceEntry(model.name, merged.source_digest(place), len(merged.sources[place]))
            for place, model in enumerate(plan.outline.models)
        ],
        side_files=sides,
    )
    return files, licence_warnings(parents)
