"""What a GGUF file of a model will be, byte for byte except for the weights: pure, before anything is written.

    layout = describe(tensors, config, folder, "Q4_K_M", filename="merged.gguf")

A writer makes a file of ``layout.size`` zero bytes, writes ``layout.header`` at 0 and every constant at its offset, and
for every block of a source tensor encodes what ``layout.placements[n].extents(first, count)`` names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alloyd.errors import PlanError

from . import ggml, tokenizer, types
from .architecture import Constants, GgufArchitecture, Writer, architecture_of
from .element_type import F32, ElementType
from .header import GgufTensor, new_writer, render
from .hyperparameters import Hyperparameters
from .imatrix import Imatrix
from .library import gguf
from .metadata import add_general
from .placement import Part, Placement
from .tensors import Assignment, SourceTensor, Target, assign


@dataclass(frozen=True, slots=True)
class Constant:
    """Bytes of a tensor that no source holds (frequencies of a scaled rotary embedding)."""

    tensor: int
    """Number of the tensor in ``GgufLayout.tensors``."""
    offset: int
    """First byte in the file."""
    data: bytes


@dataclass(frozen=True, slots=True)
class GgufLayout:
    """A GGUF file without its weights. Bytes that belong to no header, constant or extent are zero."""

    header: bytes
    """Magic, metadata and tensor table, padded to the first tensor."""
    size: int
    """Bytes of the whole file."""
    tensors: tuple[GgufTensor, ...]
    placements: tuple[Placement, ...]
    """One for each source tensor, in the order they were given."""
    constants: tuple[Constant, ...]
    warnings: tuple[str, ...]
    """Sentences a user should read: types that fell back, no vocabulary..."""
    about_vocabulary: tuple[str, ...]
    """Those of ``warnings`` that do not concern a program which sends token ids."""


def describe(
    tensors: Sequence[SourceTensor],
    config: Mapping[str, Any],
    folder: Path,
    type_name: str,
    *,
    filename: str,
    imatrix: Imatrix | None = None,
    name: str = "",
) -> GgufLayout:
    """Describe the GGUF file of a model.

    Parameters
    ----------
    tensors:
        The tensors of the checkpoint to be written: name, dtype code of the values as they will arrive, shape.
    config:
        The model's config.json.
    folder:
        The folder that holds the tokenizer's files (config.json there is not read).
    type_name:
        What ``llama-quantize`` calls the file's type: ``F16``, ``Q8_0``, ``Q4_K_M``, ``IQ4_XS``... in any case.
    filename:
        The file's name, for messages.
    imatrix:
        Importance of each column, for types that use it.
    name:
        ``general.name``; empty: the file has none.

    Raises
    ------
    PlanError
        Architecture, tensor, shape or type that llama.cpp cannot hold, or a type that needs an imatrix.
    SourceError
        Tokenizer files that cannot be read.
    RecipeError
        An unknown type name, or the extra ``alloyd[gguf]`` is not installed.
    """
    kind = types.file_type(type_name)
    architecture = architecture_of(config)
    hyperparameters = Hyperparameters(config, architecture.defaults)
    _check_activation(architecture, hyperparameters)
    assignment = assign(tensors, architecture, hyperparameters)
    constants = architecture.constants(hyperparameters)
    shapes = {name: values.shape for name, values in constants.items()}
    shapes |= {target.name: target.shape for target in assignment.targets.values()}

    def begin() -> Writer:
        package = gguf()
        writer = new_writer(package.MODEL_ARCH_NAMES[package.MODEL_ARCH[architecture.model_arch]])
        add_general(writer, name=name, size_label=_size_label(assignment.targets))
        architecture.describe(writer, hyperparameters)
        writer.add_file_type(kind.code)
        writer.add_quantization_version(package.GGML_QUANT_VERSION)
        return writer

    plain = render(begin(), [(each, F32, shape) for each, shape in shapes.items()])
    choice = types.choose(plain, kind, with_importance=imatrix is not None)
    importance = _importance(assignment.targets, choice.types, kind, imatrix, filename)

    writer = begin()
    vocabulary = _rows_of_embedding(assignment.targets)
    warnings = tokenizer.add_vocabulary(
        writer, folder, config, vocabulary, space_prefix=architecture.space_prefix
    )
    head = render(writer, [(each, choice.types[each], shape) for each, shape in shapes.items()])
    numbers = {each.name: number for number, each in enumerate(head.tensors)}
    return GgufLayout(
        header=head.data,
        size=head.file_size,
        tensors=head.tensors,
        placements=_placements(tensors, assignment, head.tensors, numbers, importance),
        constants=_constants(constants, head.tensors, numbers),
        warnings=(*choice.warnings, *architecture.warnings(hyperparameters), *warnings),
        about_vocabulary=tuple(warnings),
    )


def _placements(
    sources: Sequence[SourceTensor],
    assignment: Assignment,
    tensors: Sequence[GgufTensor],
    numbers: Mapping[str, int],
    importance: Mapping[str, NDArray[np.float32]],
) -> tuple[Placement, ...]:
    found: list[Placement] = []
    for (name, _, shape), pieces, reason in zip(sources, assignment.pieces, assignment.reasons, strict=True):
        parts: list[Part] = []
        for piece in sorted(pieces, key=lambda each: each.first_row):
            target = assignment.targets[piece.tensor]
            number = numbers[piece.tensor]
            tensor = tensors[number]
            weights = importance.get(piece.tensor)
            matrix_size = tensor.type.size_of(target.rows * target.row_length)
            parts.append(
                Part(
                    tensor=number,
                    type=tensor.type,
                    row_length=target.row_length,
                    first_row=piece.first_row,
                    rows=piece.rows,
                    offset=tensor.offset + piece.matrix * matrix_size,
                    head_rows=piece.head_rows,
                    shift=target.shift,
                    importance=None if weights is None else weights[piece.matrix],
                )
            )
        found.append(Placement(name, int(np.prod(shape, dtype=object)), tuple(parts), reason))
    return tuple(found)


def _constants(
    constants: Constants, tensors: Sequence[GgufTensor], numbers: Mapping[str, int]
) -> tuple[Constant, ...]:
    return tuple(
        Constant(numbers[name], tensors[numbers[name]].offset, values.astype("<f4").tobytes())
        for name, values in constants.items()
    )


def _importance(
    targets: Mapping[str, Target],
    chosen: Mapping[str, ElementType],
    kind: types.FileType,
    imatrix: Imatrix | None,
    filename: str,
) -> dict[str, NDArray[np.float32]]:
    """The weights of each quantised tensor; every tensor that cannot do without has some."""
    found: dict[str, NDArray[np.float32]] = {}
    for name, target in targets.items():
        element = chosen[name]
        if element.block == 1:
            continue
        matrices = len(target.matrices)
        weights = None if imatrix is None else imatrix.weights.get(name)
        if weights is not None:
            if weights.size == matrices * target.row_length:
                found[name] = weights.reshape(matrices, target.row_length)
                continue
            # llama.cpp, too, goes without for the embedding, whose activations nobody measures.
            if name != "token_embd.weight":
                raise PlanError(
                    f"the imatrix weighs {weights.size} columns of {name}, which has "
                    f"{matrices * target.row_length}",
                    hint="Use an imatrix that was measured on a model of this shape.",
                    tensor=name,
                )
        embeds = name in ("token_embd.weight", "output.weight")
        if ggml.needs_importance(element) or (
            kind.name == "Q2_K_S" and element.name == "Q2_K" and not embeds
        ):
            said = "has no weights for it" if imatrix is not None else "is needed"
            raise PlanError(
                f"{filename}: {name} cannot be written as {element.name} without an importance matrix; one {said}",
                hint="Give an imatrix (made by llama-imatrix) that covers the tensor, or choose a type from Q2_K up.",
                tensor=name,
                type=kind.name,
            )
    return found


def _check_activation(architecture: GgufArchitecture, hyperparameters: Hyperparameters) -> None:
    named = hyperparameters.get("hidden_activation", "hidden_act") or architecture.activations[0]
    if named not in architecture.activations:
        raise PlanError(
            f"config.json: llama.cpp computes {architecture.activations[0]} for {architecture.names[0]}, "
            f"not '{named}'",
            hint="Models with another activation cannot be written as GGUF.",
            key="hidden_act",
        )


def _rows_of_embedding(targets: Mapping[str, Target]) -> int:
    embedding = targets.get("token_embd.weight")
    if embedding is None:
        raise PlanError(
            "the checkpoint has no token embedding, which every GGUF model needs", tensor="token_embd.weight"
        )
    return embedding.rows


def _size_label(targets: Mapping[str, Target]) -> str:
    """``7B``, ``8x7B``...: how the gguf package rounds the number of parameters."""
    shared = each_expert = experts = stacks = 0
    for target in targets.values():
        size = target.rows * target.row_length
        if target.stacked:
            each_expert += size
            experts += len(target.matrices)
            stacks += 1
        else:
            shared += size
    count = experts // stacks if stacks else 0
    label: str = gguf().size_label(shared + each_expert * max(count, 1), shared, each_expert, count)
    return label
