"""bitsandbytes as quantisers meet it: loaded late and kept quiet, its config, its modules in transformers' models."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from alloyd.errors import JobError, PlanError

from ..late import library

USER: Final = "quantising to nf4, fp4 or int8"
EXTRA: Final = "bitsandbytes"

QUANTISABLE: Final = ("BF16", "F16", "F32")
PIECE: Final = 1 << 20
"""Elements that are quantised at a time: a whole number of blocks of every size."""

PIECE_BYTES: Final = 40
"""Scratch of bitsandbytes for each element of a piece, at most (float32 copies, and indices before packing)."""


class _Quiet(logging.Filter):
    """Drops remarks about what is as it should be: an optional kernel, and a cast in every product of int8."""

    REMARKS: Final = ("Failed to load CPU gemm_4bit_forward", "MatMul8bitLt: inputs will be cast")

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.msg.startswith(self.REMARKS)


_QUIET: Final = _Quiet()


def bitsandbytes() -> Any:
    """The library. Raises UsageError where it is not installed."""
    for name in ("bitsandbytes.backends.cpu.ops", "bitsandbytes.autograd._functions"):
        logging.getLogger(name).addFilter(_QUIET)
    return library("bitsandbytes", user=USER, extra=EXTRA)


def torch_library() -> Any:
    """torch. Raises UsageError where it is not installed."""
    return library("torch", user=USER, extra=EXTRA)


def check_dtype(name: str, dtype: str) -> None:
    """Raise PlanError for the tensor ``name`` of a dtype code that bitsandbytes does not quantise from."""
    if dtype not in QUANTISABLE:
        raise PlanError(
            f"tensor '{name}' is {dtype}; bitsandbytes quantises {', '.join(QUANTISABLE)}",
            hint="Set out_dtype: bfloat16 in the recipe.",
            tensor=name,
        )


def check_finite(torch: Any, name: str, scales: Any, kind: str) -> None:
    """Raise JobError for the tensor ``name`` if one of its ``scales`` is no number or infinite."""
    if not bool(torch.isfinite(scales).all()):
        raise JobError(
            f"tensor '{name}' has values that {kind} cannot hold: NaN, infinite or too large",
            hint="Look at the merge's weights: its result overflows or a source has such values.",
            tensor=name,
        )


def quantization_config(skipped: Sequence[str] | None, **changed: Any) -> dict[str, Any]:
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


def replace_linears(model: Any, skipped: Sequence[str], config: Mapping[str, Any]) -> None:
    """transformers' own replacement, as it is done before weights are loaded."""
    bitsandbytes()
    transformers = library("transformers", user=USER, extra=EXTRA)
    integration = library("transformers.integrations.bitsandbytes", user=USER, extra=EXTRA)
    with library("transformers.modeling_utils", user=USER, extra=EXTRA).local_torch_dtype(model.dtype):
        integration.replace_with_bnb_linear(
            model,
            modules_to_not_convert=list(skipped),
            quantization_config=transformers.BitsAndBytesConfig.from_dict(dict(config)),
        )
