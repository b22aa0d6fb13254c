"""NF4 and FP4 of bitsandbytes (QLoRA, arXiv:2305.14314): blocks of a row's weights share a scale.

With double quantisation the scales are quantised again. A matrix is quantised in pieces, so that the memory this takes
does not grow with the matrix.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..checkpoints.config import TORCH_NAMES
from ..checkpoints.libc import release_heap
from ..quantiser import QUANTISERS, Option, OptionValue, QuantiserKind, StoredTensor
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

ROWS: Final = 32
"""bitsandbytes packs this many rows together for processors with AVX512-BF16, and fails on other counts."""

NESTED_BLOCK: Final = 256
LONGEST_FLOAT: Final = 24
"""Characters of the longest float64 that Python writes in JSON."""

_ONE_THREAD: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class FourBit:
    """NF4 or FP4; ``kind`` is bitsandbytes' name of the code."""

    kind: str
    block_size: int
    double_quant: bool
    compute_dtype: str

    @property
    def name(self) -> str:
        """The name that it is registered at."""
        return self.kind

    def refusal(self, shape: Sequence[int]) -> str | None:
        """Rows and columns that bitsandbytes computes with on every device."""
        if len(shape) != 2 or 0 in shape:
            return f"has the shape {list(shape)}, which is no matrix"
        outputs, inputs = shape
        if inputs % self.block_size:
            return f"has {inputs} columns, not a multiple of the block size {self.block_size}"
        if outputs % ROWS:
            return f"has {outputs} rows, not a multiple of {ROWS}"
        return None

    def stored(self, name: str, dtype: str, shape: Sequence[int]) -> tuple[StoredTensor, ...]:
        """Packed weights, scales, the code's 16 values, a JSON text; for nested scales their own scales and code."""
        check_dtype(name, dtype)
        elements = shape[0] * shape[1]
        blocks = elements // self.block_size
        found = [
            StoredTensor(name, "U8", (elements // 2, 1)),
            StoredTensor(f"{name}.absmax", "U8" if self.double_quant else "F32", (blocks,)),
            StoredTensor(f"{name}.quant_map", "F32", (16,)),
        ]
        if self.double_quant:
            found += [
                StoredTensor(f"{name}.nested_absmax", "F32", (-(-blocks // NESTED_BLOCK),)),
                StoredTensor(f"{name}.nested_quant_map", "F32", (256,)),
            ]
        text = self._text(TORCH_NAMES[dtype], shape)
        return (*found, StoredTensor(f"{name}.quant_state.bitsandbytes__{self.kind}", "U8", (len(text),)))

    def encode(self, name: str, tensor: Any) -> Mapping[str, memoryview]:
        """The bytes of what :meth:`stored` lists."""
        packed, state = self._quantise(name, tensor)
        found = {
            name: packed,
            f"{name}.absmax": state.absmax,
            f"{name}.quant_map": state.code,
        }
        offset = None
        if state.nested:
            found |= {
                f"{name}.nested_absmax": state.state2.absmax,
                f"{name}.nested_quant_map": state.state2.code,
            }
            offset = state.offset.item()
        text = self._text(str(tensor.dtype).removeprefix("torch."), tensor.shape, offset)
        return {key: tensor_bytes(value) for key, value in found.items()} | {
            f"{name}.quant_state.bitsandbytes__{self.kind}": memoryview(text)
        }

    def round_trip(self, name: str, tensor: Any, *, dtype: Any = None) -> Any:
        """Weights as the forward sees them, where it does not round their scales to bfloat16."""
        packed, state = self._quantise(name, tensor)
        state.dtype = tensor.dtype if dtype is None else dtype
        return bitsandbytes().functional.dequantize_4bit(packed, state)

    def prepare(self, model: Any, skipped: Sequence[str]) -> None:
        """Linear4bit for every linear module but the skipped."""
        replace_linears(model, skipped, self.config(None))

    def load(self, module: Any, name: str, tensor: Any) -> None:
        """Give the module new weights and scales; what a forward made of the old ones goes with them."""
        packed, state = self._quantise(name, tensor)
        module.weight = bitsandbytes().nn.Params4bit(
            packed,
            requires_grad=False,
            quant_state=state,
            blocksize=self.block_size,
            compress_statistics=self.double_quant,
            quant_type=self.kind,
            quant_storage=packed.dtype,
            module=module,
            bnb_quantized=True,
        )
        module.quant_state = state

    def config(self, skipped: Sequence[str] | None) -> Mapping[str, Any]:
        """The keys that transformers writes; the block size stands with each tensor."""
        return quantization_config(
            skipped,
            load_in_4bit=True,
            bnb_4bit_quant_type=self.kind,
            bnb_4bit_use_double_quant=self.double_quant,
            bnb_4bit_compute_dtype=self.compute_dtype,
        )

    def workspace(self, shape: Sequence[int]) -> int:
        """Packed weights, scales, and one piece's scratch."""
        elements = shape[0] * shape[1]
        return elements // 2 + elements // self.block_size * 8 + min(elements, PIECE) * PIECE_BYTES

    def _quantise(self, name: str, tensor: Any) -> tuple[Any, Any]:
        """Packed weights (uint8, one column) and bitsandbytes' QuantState."""
        torch, library = torch_library(), bitsandbytes().functional
        # What stays is allocated before what goes, so that holes on the heap are few.
        packed = torch.empty((tensor.numel() // 2, 1), dtype=torch.uint8, device=tensor.device)
        absmax = torch.empty(tensor.numel() // self.block_size, dtype=torch.float32, device=tensor.device)
        code = library.get_4bit_type(self.kind, device=tensor.device)
        pieces = tensor.detach().contiguous().reshape(-1).split(PIECE)
        kept = zip(packed.split(PIECE // 2), absmax.split(PIECE // self.block_size), pieces, strict=True)
        for weights, scales, piece in kept:
            found, state = library.quantize_4bit(piece, blocksize=self.block_size, quant_type=self.kind)
            weights.copy_(found)
            scales.copy_(state.absmax)
        release_heap()
        check_finite(torch, name, absmax, self.kind)
        offset = nested = None
        if self.double_quant:
            with _one_thread(torch):
                offset = absmax.mean()
            absmax, nested = library.quantize_blockwise(absmax - offset, blocksize=NESTED_BLOCK)
        return packed, library.QuantState(
            absmax=absmax,
            shape=tensor.shape,
            code=code,
            blocksize=self.block_size,
            quant_type=self.kind,
            dtype=tensor.dtype,
            offset=offset,
            state2=nested,
        )

    def _text(self, dtype: str, shape: Sequence[int], offset: float | None = None) -> bytes:
        """What bitsandbytes packs as JSON, with blanks up to a length that does not depend on the offset's digits."""
        facts: dict[str, Any] = {
            "quant_type": self.kind,
            "blocksize": self.block_size,
            "dtype": dtype,
            "shape": list(shape),
        }
        if not self.double_quant:
            return json.dumps(facts).encode()
        facts |= {"nested_blocksize": NESTED_BLOCK, "nested_dtype": "float32", "nested_offset": 0}
        length = len(json.dumps(facts)) - 1 + LONGEST_FLOAT
        return json.dumps(facts | {"nested_offset": offset}).ljust(length).encode()


@contextlib.contextmanager
def _one_thread(torch: Any) -> Iterator[None]:
    """A sum of floats depends on the number of threads that share it."""
    with _ONE_THREAD:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _register(kind: str, summary: str) -> None:
    def make(options: Mapping[str, OptionValue]) -> FourBit:
        return FourBit(
            kind,
            int(options["block_size"]),
            bool(options["double_quant"]),
            str(options["compute_dtype"]),
        )

    QUANTISERS.register(
        kind,
        QuantiserKind(
            summary=summary,
            reference="arXiv:2305.14314",
            options=(
                Option(name="double_quant", default=False, about="quantise the blocks' scales as well"),
                Option(
                    name="block_size",
                    default=64,
                    choices=(64, 128, 256, 512, 1024, 2048, 4096),
                    about="weights of a row that share one scale",
                ),
                Option(
                    name="compute_dtype",
                    default="float32",
                    choices=("float32", "bfloat16", "float16"),
                    about="what products are computed in",
                ),
            ),
            make=make,
        ),
    )


_register("nf4", "4 bits, values at the quantiles of a normal distribution")
_register("fp4", "4 bits, values of a float of two exponent bits and one mantissa bit")
