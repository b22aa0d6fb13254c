"""Which GGUF tensor each tensor of a checkpoint belongs to, and which of its rows go where."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from alloyd.errors import PlanError

from .architecture import GgufArchitecture
from .hyperparameters import Hyperparameters
from .library import gguf

SourceTensor = tuple[str, str, tuple[int, ...]]
"""Name in the checkpoint, safetensors dtype code of the values that arrive, shape."""

_FLOATS: Final = frozenset(("BF16", "F16", "F32", "F64", "F8_E4M3", "F8_E5M2"))
_BUFFERS: Final = (".rotary_emb.inv_freq", ".attention.masked_bias", ".attention.bias")
_NOT_TEXT: Final = re.compile(r"^(model\.)?(vision_tower|multi_modal_projector|visual|embed_vision)\.")
_EXPERT: Final = re.compile(
    r"^model\.layers\.(\d+)\.(?:block_sparse_moe|mlp)\.experts\.(\d+)\.(w1|w2|w3|gate_proj|up_proj|down_proj)\.weight$"
)
_FUSED: Final = re.compile(
    r"^model\.layers\.(\d+)\.(?:block_sparse_moe|mlp)\.experts\.(gate_up_proj|down_proj)(?:\.weight)?$"
)
_PROJECTION: Final = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a source tensor that make one matrix (or the vector) of a GGUF tensor."""

    tensor: str
    matrix: int
    first_row: int
    rows: int
    head_rows: int


@dataclass(slots=True)
class Target:
    """One GGUF tensor: its shape, and for each of its matrices the source that holds it."""

    name: str
    rows: int
    row_length: int
    shift: float
    vector: bool
    matrices: dict[int, str] = field(default_factory=dict)
    stacked: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """In the checkpoint's order."""
        if self.vector:
            return (self.rows * self.row_length,)
        if self.stacked:
            return (len(self.matrices), self.rows, self.row_length)
        return (self.rows, self.row_length)


@dataclass(frozen=True, slots=True)
class Assignment:
    """``targets`` in the order of the file; for each source its pieces, or the reason why it has none."""

    targets: Mapping[str, Target]
    pieces: tuple[tuple[Piece, ...], ...]
    reasons: tuple[str, ...]


def assign(
    sources: Sequence[SourceTensor], architecture: GgufArchitecture, hyperparameters: Hyperparameters
) -> Assignment:
    """Give every source tensor its place.

    Raises
    ------
    PlanError
        A tensor that the family does not have, of a dtype or shape that GGUF cannot hold, or experts that miss.
    """
    names = _Names(architecture, hyperparameters)
    targets: dict[str, Target] = {}
    pieces: list[tuple[Piece, ...]] = []
    reasons: list[str] = []
    strangers: list[str] = []
    for name, dtype, shape in sources:
        plain = name.replace("language_model.", "")
        reason = _reason(name, plain, architecture)
        found: list[Piece] = []
        if not reason:
            if dtype not in _FLOATS:
                raise PlanError(
                    f"tensor '{name}' of {dtype} cannot be written as GGUF",
                    hint="Only floating-point checkpoints can be written; merge the model before it was quantised.",
                    tensor=name,
                )
            for piece, target in names.pieces(name, plain, shape):
                _join(targets, target, piece, name)
                found.append(piece)
            if not found:
                strangers.append(name)
        pieces.append(tuple(found))
        reasons.append(reason)
    if strangers:
        more = f" (and {len(strangers) - 1} more)" if len(strangers) > 1 else ""
        raise PlanError(
            f"tensor '{strangers[0]}'{more} has no place in a GGUF of {architecture.names[0]}",
            hint="llama.cpp's table of the architecture does not have it.",
            tensor=strangers[0],
        )
    _check_whole(targets, hyperparameters)
    return Assignment(targets, tuple(pieces), tuple(reasons))


class _Names:
    """llama.cpp's names of one model's tensors."""

    def __init__(self, architecture: GgufArchitecture, hyperparameters: Hyperparameters) -> None:
        package = gguf()
        self._map: Any = package.get_tensor_name_map(
            package.MODEL_ARCH[architecture.model_arch], hyperparameters.layers
        )
        self._architecture = architecture
        self._hyperparameters = hyperparameters

    def pieces(self, name: str, plain: str, shape: tuple[int, ...]) -> Iterator[tuple[Piece, Target]]:
        """The pieces of a source tensor and what is known of their targets; none: the family has no such tensor."""
        if found := _EXPERT.match(plain):
            layer, expert, projection = int(found[1]), int(found[2]), _PROJECTION.get(found[3], found[3])
            if target := self._stack(layer, projection, name, shape, 2):
                yield Piece(target.name, expert, 0, target.rows, 0), target
            return
        if found := _FUSED.match(plain):
            layer, fused = int(found[1]), found[2]
            parts = ("gate_proj", "up_proj") if fused == "gate_up_proj" else ("down_proj",)
            if len(shape) != 3 or shape[1] % len(parts):
                raise _shape(name, shape)
            for part, projection in enumerate(parts):
                rows = shape[1] // len(parts)
                if target := self._stack(layer, projection, name, (rows, shape[2]), 2):
                    for expert in range(shape[0]):
                        first = expert * shape[1] + part * rows
                        yield Piece(target.name, expert, first, rows, 0), target
            return
        mapped = self._map.get_name(plain, try_suffixes=(".weight", ".bias"))
        if mapped is None:
            return
        if len(shape) not in (1, 2) or not all(shape):
            raise _shape(name, shape)
        head_rows = self._head_rows(plain, name, shape)
        # A vector whose elements change places is a column: rows of one element.
        row_length = 1 if len(shape) == 1 and head_rows else shape[-1]
        rows = shape[0] if len(shape) == 2 or head_rows else 1
        shift = self._architecture.norm_shift if plain.endswith("norm.weight") else 0.0
        target = Target(mapped, rows, row_length, shift, vector=len(shape) == 1)
        yield Piece(mapped, 0, 0, rows, head_rows), target

    def _stack(
        self, layer: int, projection: str, name: str, shape: tuple[int, ...], dimensions: int
    ) -> Target | None:
        mapped = self._map.get_name(f"model.layers.{layer}.mlp.experts.{projection}")
        if mapped is None:
            return None
        if len(shape) != dimensions or not all(shape):
            raise _shape(name, shape)
        return Target(f"{mapped}.weight", shape[0], shape[1], 0.0, vector=False, stacked=True)

    def _head_rows(self, plain: str, name: str, shape: tuple[int, ...]) -> int:
        if not self._architecture.interleaved:
            return 0
        if plain.endswith(("q_proj.weight", "q_proj.bias")):
            heads = self._hyperparameters.heads
        elif plain.endswith(("k_proj.weight", "k_proj.bias")):
            heads = self._hyperparameters.kv_heads
        else:
            return 0
        rows, rest = divmod(shape[0], heads)
        if rest or rows % 2:
            raise PlanError(
                f"tensor '{name}' has {shape[0]} rows, which are not {heads} heads of an even size",
                hint="Check 'num_attention_heads' and 'num_key_value_heads' in config.json.",
                tensor=name,
            )
        return rows


def _join(targets: dict[str, Target], target: Target, piece: Piece, source: str) -> None:
    known = targets.setdefault(target.name, target)
    if (known.rows, known.row_length) != (target.rows, target.row_length):
        raise PlanError(
            f"tensor '{source}' is {target.rows} x {target.row_length} where another expert of {target.name} is "
            f"{known.rows} x {known.row_length}",
            tensor=source,
        )
    if piece.matrix in known.matrices:
        raise PlanError(
            f"tensors '{known.matrices[piece.matrix]}' and '{source}' both belong at {target.name}",
            hint="Remove one of them from the checkpoint.",
            tensor=source,
        )
    known.matrices[piece.matrix] = source


def _reason(name: str, plain: str, architecture: GgufArchitecture) -> str:
    if plain.endswith(_BUFFERS):
        return "llama.cpp computes it"
    if architecture.dropped and plain.endswith(architecture.dropped):
        return "llama.cpp uses the embedding instead"
    if _NOT_TEXT.match(plain) or _NOT_TEXT.match(name):
        return "it belongs to the vision part, which is a file of its own"
    return ""


def _check_whole(targets: Mapping[str, Target], hyperparameters: Hyperparameters) -> None:
    experts = hyperparameters.optional_whole("num_local_experts", "num_experts") or 0
    for target in targets.values():
        if target.stacked and sorted(target.matrices) != list(range(experts)):
            missing = next((n for n in range(experts) if n not in target.matrices), len(target.matrices))
            raise PlanError(
                f"{target.name} should hold {experts} experts; the checkpoint has {len(target.matrices)}, "
                f"and not number {missing}",
                hint="Check the number of experts in config.json.",
                tensor=target.name,
            )
    for layer in range(hyperparameters.layers):
        if f"blk.{layer}.attn_norm.weight" not in targets:
            raise PlanError(
                f"config.json says {hyperparameters.layers} layers, but the checkpoint has no norm for layer {layer}",
                hint="Check 'num_hidden_layers' in config.json.",
                key="num_hidden_layers",
            )


def _shape(name: str, shape: tuple[int, ...]) -> PlanError:
    return PlanError(f"tensor '{name}' has the shape {list(shape)}, which has no place in GGUF", tensor=name)
