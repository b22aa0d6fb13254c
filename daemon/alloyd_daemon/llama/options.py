"""What people can set of the llama.cpp engine with ``--option``, and what it is otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alloyd.errors import UsageError

KEYS: Final[Mapping[str, str]] = {
    "kv": "type of the cache of keys and values: f16 (as llama.cpp has it) or f32 (nearest to transformers)",
    "flash": "flash attention: off or on",
    "gpu_layers": "layers that a GPU takes, where llama.cpp was built for one: all, or a number",
    "imatrix": "importance matrix that candidates are quantised with, a file of llama.cpp's imatrix program",
    "tokenizer": "folder of the Hugging Face tokenizer of a GGUF file, instead of the file's own vocabulary",
}


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """The engine's settings; ``gpu_layers`` is -1 for all."""

    full_cache: bool = False
    flash: bool = False
    gpu_layers: int = -1
    imatrix: Path | None = None
    tokenizer: Path | None = None

    @staticmethod
    def read(settings: Mapping[str, str]) -> EngineOptions:
        """The options among ``settings``; other keys belong to others.

        Raises
        ------
        UsageError
            A value that the key does not take.
        """
        layers = settings.get("gpu_layers", "all")
        if layers != "all" and not re.fullmatch("[0-9]{1,9}", layers):
            raise UsageError(
                f"the option gpu_layers is '{layers}', which is no number of layers",
                hint="Write all or a number.",
            )
        return EngineOptions(
            full_cache=_one_of(settings, "kv", "f16", "f32"),
            flash=_one_of(settings, "flash", "off", "on"),
            gpu_layers=-1 if layers == "all" else int(layers),
            imatrix=_path(settings, "imatrix"),
            tokenizer=_path(settings, "tokenizer"),
        )


def _path(settings: Mapping[str, str], key: str) -> Path | None:
    value = settings.get(key)
    if value is not None and not Path(value).is_absolute():
        raise UsageError(
            f"the option {key} is '{value}', which is no absolute path",
            hint="A daemon runs in a folder of its own.",
        )
    return None if value is None else Path(value)


def _one_of(settings: Mapping[str, str], key: str, no: str, yes: str) -> bool:
    """Whether ``key`` is set to ``yes`` and not to ``no``, its default."""
    value = settings.get(key, no)
    if value not in (no, yes):
        raise UsageError(f"the option {key} is '{value}'", hint=f"Write {no} or {yes}.")
    return value == yes
