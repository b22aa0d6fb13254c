"""LLM.int8 of bitsandbytes (arXiv:2208.07339): one scale a row. A matrix is quantised some rows at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..checkpoints.libc import release_heap
from ..quantiser import QUANTISERS, Option, QuantiserKind, StoredTensor
from ..torch_bytes import tensor_bytes
from ._bitsandbytes import (
    PIECE,
    PIECE_BYTES,
    bitsandbytes,
    check_dtype,
    check_finite,
    quantization_config,
    replace_linears,
    torch_library,
)


@dataclass(frozen=True, slots=True)
class Int8:
    """LLM.int8: rows of eight bits, and activations beyond ``threshold`` multiplied in 16."""

    threshold: float

    @property
    def name(self) -> str:
        """The name that it is registered at."""
        return "int8"

    def refusal(self, shape: Sequence[int]) -> str | None:
        """Every matrix, but for one column: torch's product of 8-bit matrices is wrong there."""
        if len(shape) != 2 or 0 in shape:
            return f"has the shape {list(shape)}, which is no matrix"
        return "has a single column" if shape[1] == 1 else None

    def stored(self, name: str, dtype: str, shape: Sequence[int]) -> tuple[StoredTensor, ...]:
        """Weights, one scale a row, and the number of the row-major format."""
        check_dtype(name, dtype)
        module = name.removesuffix("weight")
        return (
            StoredTensor(name, "I8", (shape[0], shape[1])),
            StoredTensor(f"{module}SCB", "F32", (shape[0],)),
            StoredTensor(f"{module}weight_format", "U8", ()),
        )

    def encode(self, name: str, tensor: Any) -> Mapping[str, memoryview]:
        """The bytes of what :meth:`stored` lists."""
        weights, scales = self._quantise(name, tensor)
        module = name.removesuffix("weight")
        return {
            name: tensor_bytes(weights),
            f"{module}SCB": tensor_bytes(scales),
            f"{module}weight_format": memoryview(b"\0"),
        }

    def round_trip(self, name: str, tensor: Any, *, dtype: Any = None) -> Any:
        """The weights alone: a forward of LLM.int8 quantises activations too."""
        weights, scales = self._quantise(name, tensor)
        found = bitsandbytes().functional.int8_vectorwise_dequant(weights, scales)
        return found.to(tensor.dtype if dtype is None else dtype)

    def prepare(self, model: Any, skipped: Sequence[str]) -> None:
        """Linear8bitLt for every linear module but the skipped."""
        replace_linears(model, skipped, self.config(None))

    def load(self, module: Any, name: str, tensor: Any) -> None:
        """Give the module new weights and scales; the next forward takes them up."""
        weights, scales = self._quantise(name, tensor)
        module.weight = bitsandbytes().nn.Int8Params(
            weights, requires_grad=False, has_fp16_weights=False, CB=weights, SCB=scales
        )
        module.state.CB = module.state.SCB = None

    def config(self, skipped: Sequence[str] | None) -> Mapping[str, Any]:
        """The keys that transformers writes."""
        return quantization_config(skipped, load_in_8bit=True, llm_int8_threshold=self.threshold)

    def workspace(self, shape: Sequence[int]) -> int:
        """Weights, scales, and one piece's scratch."""
        elements = shape[0] * shape[1]
        return elements + 4 * shape[0] + max(min(elements, PIECE), shape[1]) * PIECE_BYTES

    def _quantise(self, name: str, tensor: Any) -> tuple[Any, Any]:
        """Weights (int8, rows by columns) and the largest magnitude of each row (float32)."""
        torch, library = torch_library(), bitsandbytes().functional
        # What stays is allocated before what goes, so that holes on the heap are few.
        weights = torch.empty(tensor.shape, dtype=torch.int8, device=tensor.device)
        largest = torch.empty(tensor.shape[0], dtype=torch.float32, device=tensor.device)
        rows = max(1, PIECE // tensor.shape[1])
        kept = zip(weights.split(rows), largest.split(rows), tensor.detach().split(rows), strict=True)
        for place, scales, piece in kept:
            found, scale, _ = library.int8_vectorwise_quant(piece.to(torch.float16).contiguous())
            place.copy_(found)
            scales.copy_(scale)
        release_heap()
        check_finite(torch, name, largest, "int8")
        return weights, largest


QUANTISERS.register(
    "int8",
    QuantiserKind(
        summary="8 bits, one scale a row; large activations are multiplied in 16 bits",
        reference="arXiv:2208.07339",
        options=(
            Option(
                name="threshold",
                default=6.0,
                low=0.0,
                about="activations of this magnitude are multiplied in 16 bits (0: none)",
            ),
        ),
        make=lambda options: Int8(float(options["threshold"])),
    ),
)
