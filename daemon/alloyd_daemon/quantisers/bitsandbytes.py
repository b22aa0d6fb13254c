"""NF4, FP4 and LLM.int8 as bitsandbytes computes and stores them: rows of one table.

NF4 and FP4: blocks of one row's weights share a scale (QLoRA, arXiv:2305.14314); with double quantisation the scales
are quantised again. int8: one scale a row (LLM.int8(), arXiv:2208.07339). A matrix is quantised in pieces, so that the
memory this takes does not grow with the matrix.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from alloyd.errors import JobError, PlanError

from ..checkpoints.config import TORCH_NAMES
from ..checkpoints.libc import release_heap
from ..late import library
from ..quantiser import QUANTISERS, Option, OptionValue, QuantiserKind, StoredTensor
from ..torch_bytes import tensor_bytes

USER: Final = "quantising to nf4, fp4 or int8"
EXTRA: Final = "bitsandbytes"

QUANTISABLE: Final = ("BF16", "F16", "F32")
PIECE: Final = 1 << 20
"""Elements that are quantised at a time: a whole number of blocks of every size."""

PIECE_BYTES: Final = 40
"""Scratch of bitsandbytes for each element of a piece, at most (float32 copies, and indices before packing)."""

ROWS: Final = 32
"""bitsandbytes packs this many rows together for processors with AVX512-BF16, and fails on other counts."""

NESTED_BLOCK: Final = 256
LONGEST_FLOAT: Final = 24
"""Characters of the longest float64 that Python writes in JSON."""

_ONE_THREAD: Final = threading.Lock()


class _Quiet(logging.Filter):
    """Drops remarks about what is as it should be: an optional kernel, and a cast in every product of int8."""

    REMARKS: Final = ("Failed to load CPU gemm_4bit_forward", "MatMul8bitLt: inputs will be cast")

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.msg.startswith(self.REMARKS)


_QUIET: Final = _Quiet()


def _bitsandbytes() -> Any:
    for name in ("bitsandbytes.backends.cpu.ops", "bitsandbytes.autograd._functions"):
        logging.getLogger(name).addFilter(_QUIET)
    return library("bitsandbytes", user=USER, extra=EXTRA)


def _torch() -> Any:
    return library("torch", user=USER, extra=EXTRA)


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


def _check_dtype(name: str, dtype: str) -> None:
    if dtype not in QUANTISABLE:
        raise PlanError(
            f"tensor '{name}' is {dtype}; bitsandbytes quantises {', '.join(QUANTISABLE)}",
            hint="Set out_dtype: bfloat16 in the recipe.",
            tensor=name,
        )


def _check_finite(torch: Any, name: str, scales: Any, kind: str) -> None:
    if not bool(torch.isfinite(scales).all()):
        raise JobError(
            f"tensor '{name}' has values that {kind} cannot hold: NaN, infinite or too large",
            hint="Look at the merge's weights: its result overflows or a source has such values.",
            tensor=name,
        )


@dataclass(frozen=True, slots=True)
class FourBit:
    """NF4 or FP4; ``kind`` is bitsandbytes' name of the code."""

    kind: str
    block_size: int
    double_quant: bool
    compute_dtype: str

    @property
    def name(self) -> str:
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
        _check_dtype(name, dtype)
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
        return _bitsandbytes().functional.dequantize_4bit(packed, state)

    def prepare(self, model: Any, skipped: Sequence[str]) -> None:
        """Linear4bit for every linear module but the skipped."""
        _replace(model, skipped, self.config(None))

    def load(self, module: Any, name: str, tensor: Any) -> None:
        """Give the module new weights and scales; what a forward made of the old ones goes with them."""
        packed, state = self._quantise(name, tensor)
        module.weight = _bitsandbytes().nn.Params4bit(
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
        return _config(
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
        torch, library = _torch(), _bitsandbytes().functional
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
        _check_finite(torch, name, absmax, self.kind)
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


@dataclass(frozen=True, slots=True)
class Int8:
    """LLM.int8: rows of eight bits, and activations beyond ``threshold`` multiplied in 16."""

    threshold: float

    @property
    def name(self) -> str:
        return "int8"

    def refusal(self, shape: Sequence[int]) -> str | None:
        """Every matrix, but for one column: torch's product of 8-bit matrices is wrong there."""
        if len(shape) != 2 or 0 in shape:
            return f"has the shape {list(shape)}, which is no matrix"
        return "has a single column" if shape[1] == 1 else None

    def stored(self, name: str, dtype: str, shape: Sequence[int]) -> tuple[StoredTensor, ...]:
        """Weights, one scale a row, and the number of the row-major format."""
        _check_dtype(name, dtype)
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
        found = _bitsandbytes().functional.int8_vectorwise_dequant(weights, scales)
        return found.to(tensor.dtype if dtype is None else dtype)

    def prepare(self, model: Any, skipped: Sequence[str]) -> None:
        """Linear8bitLt for every linear module but the skipped."""
        _replace(model, skipped, self.config(None))

    def load(self, module: Any, name: str, tensor: Any) -> None:
        """Give the module new weights and scales; the next forward takes them up."""
        weights, scales = self._quantise(name, tensor)
        module.weight = _bitsandbytes().nn.Int8Params(
            weights, requires_grad=False, has_fp16_weights=False, CB=weights, SCB=scales
        )
        module.state.CB = module.state.SCB = None

    def config(self, skipped: Sequence[str] | None) -> Mapping[str, Any]:
        """The keys that transformers writes."""
        return _config(skipped, load_in_8bit=True, llm_int8_threshold=self.threshold)

    def workspace(self, shape: Sequence[int]) -> int:
        """Weights, scales, and one piece's scratch."""
        elements = shape[0] * shape[1]
        return elements + 4 * shape[0] + max(min(elements, PIECE), shape[1]) * PIECE_BYTES

    def _quantise(self, name: str, tensor: Any) -> tuple[Any, Any]:
        """Weights (int8, rows by columns) and the largest magnitude of each row (float32)."""
        torch, library = _torch(), _bitsandbytes().functional
        weights = torch.empty(tensor.shape, dtype=torch.int8, device=tensor.device)
        largest = torch.empty(tensor.shape[0], dtype=torch.float32, device=tensor.device)
        rows = max(1, PIECE // tensor.shape[1])
        kept = zip(weights.split(rows), largest.split(rows), tensor.detach().split(rows), strict=True)
        for place, scales, piece in kept:
            found, scale, _ = library.int8_vectorwise_quant(piece.to(torch.float16).contiguous())
            place.copy_(found)
            scales.copy_(scale)
        release_heap()
        _check_finite(torch, name, largest, "int8")
        return weights, largest


def _config(skipped: Sequence[str] | None, **changed: Any) -> dict[str, Any]:
    """transformers' own defaults with ``changed``, as it writes them to config.json."""
    return {
        "_load_in_4bit": changed.get("load_in_4bit", False),
        "_load_in_8bit": changed.get("load_in_8bit", False),
        "bnb_4bit_compute_dtype": "float32",
        "bnb_4bit_quant_storage": "uint8",
        "bnb_4bit_quant_type": "fp4",
        "bnb_4bit_use_double_quant": False,
        "llm_int8_enable_fp32_cpu_offload": False,
        "llm_int8_has_fp16_weight": False,
        "llm_int8_skip_modules": None if skipped is None else list(skipped),
        "llm_int8_threshold": 6.0,
        "load_in_4bit": False,
        "load_in_8bit": False,
        "quant_method": "bitsandbytes",
    } | changed


def _replace(model: Any, skipped: Sequence[str], config: Mapping[str, Any]) -> None:
    """transformers' own replacement, as it is done before weights are loaded."""
    _bitsandbytes()
    transformers = library("transformers", user=USER, extra=EXTRA)
    integration = library("transformers.integrations.bitsandbytes", user=USER, extra=EXTRA)
    with library("transformers.modeling_utils", user=USER, extra=EXTRA).local_torch_dtype(model.dtype):
        integration.replace_with_bnb_linear(
            model,
            modules_to_not_convert=list(skipped),
            quantization_config=transformers.BitsAndBytesConfig.from_dict(dict(config)),
        )


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
