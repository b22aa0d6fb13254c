"""What tests of quantised models share: checkpoints whose shapes quantise, their tensors, their logits, publishing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from alloyd_daemon.quantised_layout import QuantisedLayout, quantised_layout
from alloyd_daemon.quantiser import Quantiser
from alloyd_daemon.torch_bytes import torch_tensor
from checkpoint_factory import (
    NUMPY_DTYPES,
    SAFETENSORS_CODES,
    Architecture,
    Model,
    read_checkpoint,
    write_safetensors,
)

transformers.utils.logging.disable_progress_bar()


def model_of(architecture: Architecture, **changes: Any) -> Model:
    """A model whose matrices have whole blocks of 64 columns and multiples of 32 rows."""
    shape = {"hidden": 128, "heads": 4, "kv_heads": 2, "intermediate": 192}
    return Model(architecture=architecture, **(shape | changes))


def config_of(folder: Path) -> dict[str, Any]:
    """The parsed config.json."""
    return dict(json.loads((folder / "config.json").read_text()))


def torch_tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of a checkpoint, each in memory of its own that nothing else holds."""
    for name, values in sorted(read_checkpoint(folder).items()):
        yield name, torch_tensor(values.tobytes(), SAFETENSORS_CODES[values.dtype], values.shape)


def publish(folder: Path, quantiser: Quantiser, out: Path) -> QuantisedLayout:
    """Write the pre-quantised checkpoint of the one in ``folder`` as a layout says, and give the layout."""
    weights = read_checkpoint(folder)
    entries = [(name, SAFETENSORS_CODES[each.dtype], each.shape) for name, each in weights.items()]
    layout = quantised_layout(entries, config_of(folder), quantiser)
    written = {}
    for place, tensor in enumerate(layout.tensors):
        encoded = layout.encode(place, weights[tensor.name].tobytes())
        assert {each.name: each.nbytes for each in tensor.stored} == {
            name: each.nbytes for name, each in encoded.items()
        }
        for each in tensor.stored:
            flat = np.frombuffer(encoded[each.name], dtype=NUMPY_DTYPES[each.dtype])
            written[each.name] = flat.reshape(each.shape)
    out.mkdir()
    write_safetensors(out / "model.safetensors", written)
    (out / "config.json").write_bytes(layout.config((folder / "config.json").read_bytes()))
    return layout


def loaded(folder: Path, quantiser: Quantiser | None = None) -> Any:
    """The checkpoint as transformers loads it, quantised at load by transformers itself where asked."""
    how = {}
    if quantiser is not None:
        config = dict(quantiser.config(None))
        how["quantization_config"] = transformers.BitsAndBytesConfig.from_dict(config)
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype="auto", **how
    )


def logits(model: Any, *, batch: int = 2, length: int = 17) -> torch.Tensor:
    """float32 logits (batch, length, vocabulary) of fixed token ids."""
    ids = torch.arange(batch * length).reshape(batch, length) * 7 % model.config.vocab_size
    with torch.no_grad():
        return model(ids.to(model.device)).logits.float().cpu()


def live_bytes(model: Any) -> int:
    """Bytes that a model's parameters hold, quantised scales included; tied ones count once."""
    held = {}
    for each in model.parameters():
        tensors = [each, getattr(each, "SCB", None)]
        state = getattr(each, "quant_state", None)
        if state is not None:
            tensors += [state.absmax, state.code, *([state.state2.absmax] if state.nested else [])]
        for tensor in tensors:
            if tensor is not None:
                held[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
    return sum(held.values())
