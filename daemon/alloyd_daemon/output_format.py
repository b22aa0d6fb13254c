"""What an output format is (a layout of files for a model, and a sink that fills them) and the door it registers at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from alloyd.recipe import Form

from .checkpoints.layout import Layout
from .checkpoints.sink import StagedSink
from .plugins import Door

TensorSpec = tuple[str, str, tuple[int, ...]]
"""A merged tensor: name, dtype code, shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that is to be laid out.

    Parameters
    ----------
    tensors:
        What the merge makes, in the order of the plan.
    config:
        Its config.json; empty where the donor has none.
    folder:
        The donor's folder, for tokenizer files.
    title:
        The recipe's name, or empty.
    form:
        What was asked for; its paths start at ``base_dir``.
    shard_size:
        Most bytes of one file, where the format allows several.
    """

    tensors: Sequence[TensorSpec]
    config: Mapping[str, Any]
    folder: Path
    title: str
    form: Form
    base_dir: Path
    shard_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFormat:
    """One format.

    ``lay_out`` raises, before a byte is written, whatever keeps a model from being stored so. ``sink`` is called as
    :class:`StagedSink` is. ``library`` is what hubs say it is loaded with. ``source`` says whether an output of this
    format can be merged again. ``configure`` makes its config.json from that of the merged model.
    """

    name: str
    summary: str
    lay_out: Callable[[Model], Layout]
    sink: type[StagedSink]
    library: str = "transformers"
    source: bool = False
    configure: Callable[[bytes, Layout], bytes] | None = None


OUTPUT_FORMATS: Final[Door[OutputFormat]] = Door("output format", "alloyd_daemon.output_formats")
