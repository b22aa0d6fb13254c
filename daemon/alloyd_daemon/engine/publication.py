"""What a merged checkpoint has beside its weights: config, tokenizer, recipe, model card, manifest."""

from __future__ import annotations

from ..checkpoints.card import CARD, RECIPE, Parent, licence_of, licence_warnings, render_card
from ..checkpoints.files import side_files as donor_files
from ..checkpoints.manifest import MANIFEST, SourceEntry, render_manifest
from ..checkpoints.sink import StagedSink
from .merge import Merged
from .plan import ARITHMETIC
from .prepare import Prepared, output_config


def side_files(one: Prepared, merged: Merged, sink: StagedSink) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Name to bytes of every file but the weights and their index, and what to tell the user about licences.

    ``sink`` knows what was stored.
    """
    plan, recipe = one.plan, one.recipe
    files = donor_files(one.checkpoints[plan.outline.donor].folder)
    config = output_config(one)
    if config:
        configure = one.format.configure
        files["config.json"] = config if configure is None else configure(config, plan.layout)
    parents: dict[tuple[str, str | None], Parent] = {}
    for ref, checkpoint in zip(recipe.referenced_models(), one.checkpoints, strict=True):
        for named, folder in ((ref, checkpoint.folder), (ref.lora, checkpoint.adapter)):
            if named is not None and folder is not None:
                parent = Parent(named.path, named.revision, licence_of(folder), adapter=named is ref.lora)
                parents.setdefault((parent.name, parent.revision), parent)
    dtypes = sorted({each.dtype for each in plan.tensors})
    files[RECIPE] = one.text.encode("utf-8")
    files[CARD] = render_card(
        title=recipe.name or "",
        recipe=one.text,
        methods=(recipe.merge_method,),
        parents=tuple(parents.values()),
        base=recipe.base_model.path if recipe.base_model is not None else None,
        dtype=", ".join(dtypes) or None,
        parameters=plan.parameters,
        warnings=one.warnings,
        library=one.format.library,
        form=str(one.form) if plan.layout.encodes else None,
    )
    files[MANIFEST] = render_manifest(
        recipe=one.text,
        seed=plan.outline.seed,
        arithmetic=str(ARITHMETIC),
        layout=plan.layout,
        digests=merged.tensors,
        stored=sink.stored() if plan.layout.encodes else (),
        sources=[
            SourceEntry(model.name, merged.source_digest(place), len(merged.sources[place]))
            for place, model in enumerate(plan.outline.models)
        ],
        side_files=files | dict(plan.layout.sides),
        form=one.form,
        shard_size=one.shard_size,
    )
    return files, licence_warnings(tuple(parents.values()))
