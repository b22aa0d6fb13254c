"""Which element type each tensor gets: asked of llama.cpp itself, by a quantisation that only pretends.

``llama_model_quantize`` chooses by architecture, layer, experts, attention heads and importance. A file that is all
hole but for its head goes through it with ``dry_run``, and what it says of each tensor is read from its log, strictly:
a line that is not understood is an error, never a guess.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from alloyd.errors import PlanError, RecipeError, did_you_mean

from . import ggml
from .element_type import ElementType
from .header import Head
from .library import gguf, llama, log_lines

_TENSOR: Final = re.compile(
    r"\[ *(\d+)/ *(\d+)\] +(\S+) +- \[[ \d,]+\], type = +(\S+), size = +[\d.]+ MiB"
    r"(?: -> +[\d.]+ MiB \((\S+)\))?"
)
_FALL_BACK: Final = re.compile(
    r"warning: +(\S+) +- ncols +(\d+) not divisible by +(\d+) .*-> falling back to +(\S+)"
)
_FAILED: Final = re.compile(r"failed to quantize: (.*)")
_NEVER_WRITTEN: Final = frozenset(("GUESSED", "NVFP4", "MOSTLY_Q4_1_SOME_F16"))
_ALIASES: Final = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}


@dataclass(frozen=True, slots=True)
class FileType:
    """What a file is said to be as a whole: ``name`` as llama-quantize spells it, ``code`` as the file stores it."""

    name: str
    code: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The type of each tensor by its name, and a sentence for every one that could not have the intended type."""

    types: Mapping[str, ElementType]
    warnings: tuple[str, ...]


def file_type(name: str) -> FileType:
    """The file type that people call ``name``, in any case.

    Raises
    ------
    RecipeError
        There is none of that name, or the extra ``alloyd[gguf]`` is not installed.
    """
    known = file_types()
    wanted = name.upper().replace("-", "_")
    wanted = _ALIASES.get(wanted, wanted)
    if wanted not in known:
        raise RecipeError(f"GGUF has no type '{name[:40]}'", hint=did_you_mean(wanted, known), type=name[:40])
    return FileType(wanted, known[wanted])


def file_types() -> Mapping[str, int]:
    """Every file type that can be written, name to code."""
    members = {member.name.partition("_")[2] or member.name: member for member in gguf().LlamaFileType}
    return {name: int(member) for name, member in members.items() if name not in _NEVER_WRITTEN}


def choose(head: Head, kind: FileType, *, with_importance: bool) -> Choice:
    """The element type of every tensor of a file whose tensors are all F32 in ``head``.

    Raises
    ------
    PlanError
        llama.cpp does not accept the model's description, or says something that is not understood.
    """
    lines = _pretend(head, kind, with_importance=with_importance)
    failed = [found[1] for line in lines if (found := _FAILED.search(line))]
    if failed:
        raise PlanError(
            f"llama.cpp does not accept this model as {kind.name}: {failed[0]}",
            hint="Check the model's config.json, or choose another type.",
            type=kind.name,
        )
    known = {each.name.lower(): each for each in ggml.types().values()}
    types: dict[str, ElementType] = {}
    for line in lines:
        if not (found := _TENSOR.match(line)):
            continue
        spelt = (found[5] or found[4]).lower()
        if spelt not in known:
            raise _not_understood(f"the type '{spelt}' of {found[3]}")
        types[found[3]] = known[spelt]
    missing = [each.name for each in head.tensors if each.name not in types]
    if missing or len(types) != len(head.tensors):
        raise _not_understood(f"no type for {missing[0] if missing else 'a tensor'}")
    return Choice(types, tuple(_fall_backs(lines, types)))


def _fall_backs(lines: list[str], types: Mapping[str, ElementType]) -> list[str]:
    return [
        f"{found[1]}: rows of {found[2]} do not fill blocks of {found[3]}; it is written as {types[found[1]].name}"
        for line in lines
        if (found := _FALL_BACK.search(line)) and found[1] in types
    ]


def _pretend(head: Head, kind: FileType, *, with_importance: bool) -> list[str]:
    """The log of a dry run over a file in memory that has only its head."""
    library = llama()
    handle = os.memfd_create("alloyd-gguf-head", os.MFD_CLOEXEC)
    try:
        os.write(handle, head.data)
        os.ftruncate(handle, head.file_size)
        parameters = library.llama_model_quantize_default_params()
        parameters.ftype = kind.code
        parameters.nthread = 1
        parameters.dry_run = True
        if with_importance:
            # That there is one changes some choices; what it holds changes none.
            weight = (ctypes.c_float * 1)(1.0)
            entries = (library.llama_model_imatrix_data * 2)()
            entries[0].name, entries[0].data, entries[0].size = b"any", weight, 1
            parameters.imatrix = entries
        path = f"/proc/self/fd/{handle}".encode()
        with log_lines() as lines:
            status = library.llama_model_quantize(path, b"", ctypes.byref(parameters))
        if status and not any(_FAILED.search(line) for line in lines):
            lines.append("failed to quantize: it gives no reason")
        return lines
    finally:
        os.close(handle)


def _not_understood(found: str) -> PlanError:
    return PlanError(
        f"llama.cpp's choice of types is not understood: {found}",
        hint="Install the version of llama-cpp-python that 'alloyd[gguf]' asks for.",
    )
