"""Safetensors: the merged tensors as they are, in shards as Hugging Face names them."""

from __future__ import annotations

from ..checkpoints.safetensors_layout import lay_out
from ..checkpoints.sink import StagedSink
from ..output_format import OUTPUT_FORMATS, OutputFormat

OUTPUT_FORMATS.register(
    "safetensors",
    OutputFormat(
        name="safetensors",
        summary="the merged tensors as they are",
        lay_out=lambda model: lay_out(model.tensors, shard_size=model.shard_size),
        sink=StagedSink,
        source=True,
    ),
)
