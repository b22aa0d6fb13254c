"""adapter_config.json as PEFT writes it: what decides how large an adapter's change is; all else is refused by name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from blake3 import blake3

from alloyd.errors import PlanError, SourceChanged, SourceError, SourceNotFound

from ..checkpoints.fingerprint import FilePrint, look
from ..checkpoints.json_object import Lie, load_object
from ..checkpoints.small_file import read_small

CONFIG: Final = "adapter_config.json"
_LARGEST: Final = 16 << 20
_MOST_RANK: Final = 1 << 20
_PLAIN_STARTS: Final = (None, True, False, "gaussian", "eva", "orthogonal")
_BIAS: Final = ("none", "lora_only", "all")
_WHY_NOT: Final[Mapping[str, str]] = {
    "use_dora": "DoRA scales each row by a norm of the merged weight",
    "use_qalora": "QALoRA pools its inputs in groups",
    "use_bdlora": "its factors are block-diagonal",
    "velora_config": "VeLoRA compresses what enters a layer",
    "kasa_config": "KaSA changes the weights that it starts from",
    "monteclora_config": "MonteCLoRA draws its weights at random",
    "arrow_config": "Arrow chooses between adapters token by token",
    "alora_invocation_tokens": "an activated LoRA acts on some tokens only, and no weight can say that",
    "layer_replication": "it repeats layers of its model",
    "trainable_token_indices": "it changes rows of the embedding by their numbers",
    "target_parameters": "it changes parameters of several dimensions, such as fused experts",
    "lora_bias": "its factors have biases",
    "megatron_config": "it was trained on a model that Megatron had split",
}
"""Keys of PEFT that change what an adapter means, and why a plain W + scale * (B @ A) is not that."""
_SAFE: Final = re.compile(r"(?:[\w.^$|()-]|\\[.dw]|\[[\w-]+\])+")
_UNQUANTIFIED: Final = re.compile(r"(?<=[\w.\]])[*+](?!\?)")
_MOST_QUANTIFIERS: Final = 2

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """Rank and scale, for all modules and for those that a pattern names; ``fan_in_fan_out`` as PEFT means it."""

    rank: int
    alpha: float
    rank_stabilised: bool
    fan_in_fan_out: bool
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]

    def rank_of(self, module: str) -> int:
        """The rank that the config gives a module (``model.layers.0.self_attn.q_proj``)."""
        return _of_pattern(self.ranks, module, self.rank)

    def scale_of(self, module: str) -> float:
        """What the product of a module's factors is multiplied by."""
        rank = self.rank_of(module)
        return _of_pattern(self.alphas, module, self.alpha) / (
            math.sqrt(rank) if self.rank_stabilised else rank
        )


def read_adapter_config(folder: Path) -> tuple[AdapterConfig, FilePrint]:
    """The config of the adapter in ``folder``, and the print of its file.

    Raises
    ------
    SourceNotFound, SourceError, SourceChanged
        There is none; it cannot be read, or lies.
    PlanError
        It asks for something that is not W + scale * (B @ A).
    """
    path = folder / CONFIG
    try:
        text = read_small(path, at_most=_LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        raise SourceNotFound(
            f"{path} does not exist",
            hint="Give the folder of a LoRA adapter as PEFT writes it.",
            path=str(path),
        ) from None
    except OSError as wrong:
        raise _wrong(path, f"cannot be read ({wrong.strerror})") from None
    try:
        found = load_object(text)
    except Lie as lie:
        raise _wrong(path, lie.found) from None
    seen = look(path)
    # The print of a file that begins with text is over all of it.
    if seen.header != blake3(text).hexdigest():
        raise SourceChanged(
            f"source changed: {path}", hint="Leave the sources alone while they are read.", path=str(path)
        )
    return _checked(found, path), seen


def _checked(found: Mapping[str, Any], path: Path) -> AdapterConfig:
    kind = found.get("peft_type")
    if kind != "LORA":
        raise PlanError(
            f"{path}: an adapter of the type {kind!r} cannot be merged",
            hint="Only LoRA adapters (peft_type: LORA) can.",
            path=str(path),
        )
    for key, why in _WHY_NOT.items():
        if found.get(key) not in (None, False, [], {}):
            raise _unsupported(path, key, why)
    for key, value in found.items():
        if key.startswith("use_") and key not in ("use_rslora", *_WHY_NOT) and value not in (None, False):
            raise _unsupported(path, key, "this version does not know it")
    start = found.get("init_lora_weights")
    if not any(start is each or (isinstance(each, str) and start == each) for each in _PLAIN_STARTS):
        raise PlanError(
            f"{path} says init_lora_weights: {start!r}: the adapter belongs to weights that this changed",
            hint="Save it anew with path_initial_model_for_weight_conversion, as PEFT's documentation says.",
            path=str(path),
            key="init_lora_weights",
        )
    bias = found.get("bias", "none")
    if bias not in _BIAS:
        raise _wrong(path, f"says bias: {bias!r}", f"Expected {', '.join(_BIAS)}.")
    return AdapterConfig(
        rank=_rank(found.get("r"), "r", path),
        alpha=_number(found.get("lora_alpha"), "lora_alpha", path),
        rank_stabilised=_flag(found.get("use_rslora"), "use_rslora", path),
        fan_in_fan_out=_flag(found.get("fan_in_fan_out"), "fan_in_fan_out", path),
        ranks={
            key: _rank(value, f"rank_pattern.{key}", path)
            for key, value in _patterns(found.get("rank_pattern"), "rank_pattern", path).items()
        },
        alphas={
            key: _number(value, f"alpha_pattern.{key}", path)
            for key, value in _patterns(found.get("alpha_pattern"), "alpha_pattern", path).items()
        },
    )


def _patterns(value: Any, key: str, path: Path) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(path, f"says {key}: {value!r}", "Expected a mapping of modules' names to numbers.")
    for pattern in value:
        plain, count = _UNQUANTIFIED.subn("", pattern)
        # Anything else could look at a name for years.
        if count > _MOST_QUANTIFIERS or not _SAFE.fullmatch(plain):
            raise _wrong(
                path, f"has the {key} {pattern!r}, which is too intricate", "Write out the modules' names."
            )
        try:
            re.compile(pattern)
        except re.error as wrong:
            raise _wrong(path, f"has the {key} {pattern!r}, no regular expression ({wrong})") from None
    return value


def _of_pattern(values: Mapping[str, T], module: str, usual: T) -> T:
    """The value of the first pattern that fits the end of a module's name, as PEFT looks for it."""
    for pattern, value in values.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return usual


def _rank(value: Any, key: str, path: Path) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST_RANK:
        raise _wrong(path, f"says {key}: {value!r}", "A rank is a whole number from 1 on.")
    return value


def _number(value: Any, key: str, path: Path) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= 1e30:
        raise _wrong(path, f"says {key}: {value!r}", "Expected a finite number.")
    return float(value)


def _flag(value: Any, key: str, path: Path) -> bool:
    if value is not None and not isinstance(value, bool):
        raise _wrong(path, f"says {key}: {value!r}", "Expected true or false.")
    return bool(value)


def _unsupported(path: Path, key: str, why: str) -> PlanError:
    return PlanError(
        f"{path} sets '{key}', which cannot be merged: {why}",
        hint="Merge it with PEFT, and name the result.",
        path=str(path),
        key=key,
    )


def _wrong(
    path: Path, found: str, hint: str = "The file is damaged; download the adapter again."
) -> SourceError:
    return SourceError(f"{path} {found}", hint=hint, path=str(path))
