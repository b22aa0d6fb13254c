"""The output's config.json: the donor's, re-cut for the layers, dtype and vocabulary that the output has."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from alloyd.errors import PlanError

from ..recipes.outline import LayerStack, Outline

TORCH_NAMES: Final[Mapping[str, str]] = {
    "BF16": "bfloat16",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
"""Dtype code of the format to the name that config.json uses."""

_COUNTS: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth")
_ENCODER_COUNTS: Final = ("encoder_layers", "num_encoder_layers", "encoder_num_hidden_layers", *_COUNTS)
_DECODER_COUNTS: Final = ("decoder_layers", "num_decoder_layers", "decoder_num_hidden_layers", *_COUNTS)
_LISTS: Final = frozenset(
    (
        "layer_types",
        "layers_block_type",
        "mlp_layer_types",
        "block_configs",
        "no_rope_layers",
        "layer_rope_theta",
    )
)
_INDEX_LISTS: Final = frozenset(
    ("mlp_only_layers", "moe_layers", "cross_attention_layers", "attn_layer_indices", "hybrid_layer_ids")
)
_NEVER_LISTS: Final = (
    "token_id",
    "tokens",
    "architectures",
    "feature_layer",
    "feature_layers",
    "feature_select",
)
_SURE_LENGTH: Final = 8
_TEXT: Final = ("text_config", "llm_config", "language_config", "thinker_config")

# Keys that say by a layer's number what kind of layer it is: key, list that outranks it, (i + 1) % value != 0
# means.
_PATTERNS: Final = (
    ("sliding_window_pattern", "sliding_attention"),
    ("_sliding_window_pattern", "sliding_attention"),
    ("full_attention_interval", "linear_attention"),
)
_PATTERN_OF_TYPE: Final = {"gemma2": 2}
_PERIODS: Final = {
    "attn_layer_period": "layers_block_type",
    "expert_layer_period": "mlp_layer_types",
    "decoder_sparse_step": "mlp_layer_types",
    "interleave_moe_layer_step": "moe_layers",
    "no_rope_layer_interval": "no_rope_layers",
    "global_attn_every_n_layers": "layer_types",
    "layer_group_size": "layer_types",
    "moe_layer_freq": "mlp_layer_types",
}
_FIRST: Final = {"first_k_dense_replace": "mlp_layer_types", "max_window_layers": "layer_types"}
_LAST: Final = ("num_kv_shared_layers",)

Config = Mapping[str, Any]


def recut(
    configs: Sequence[Config | None],
    outline: Outline,
    *,
    out_dtype: str | None,
    vocabulary: int | None,
    count_keys: Iterable[str] = (),
    list_keys: Iterable[str] = (),
    index_keys: Iterable[str] = (),
) -> bytes:
    """The bytes of the output's config.json; empty when the donor has none.

    Parameters
    ----------
    configs:
        The parsed config.json of each model of the outline.
    out_dtype:
        The dtype of the output's floating tensors (a code such as ``BF16``, or torch's name); ``None`` leaves
        the donor's. It goes to the key that the donor uses (``torch_dtype`` or ``dtype``), in nested parts as
        well.
    vocabulary:
        The output's vocabulary; ``None`` leaves the donor's.
    count_keys, list_keys, index_keys:
        What the architecture's table adds to the usual names: keys of the number of layers, of lists with one
        entry per layer, of lists of layer numbers.

    For a stack that the recipe sliced, the number of layers changes, and every list with one entry per layer
    is built anew, each entry from the config of the model that the layer comes from. Keys are kept in the
    donor's order.

    Raises
    ------
    PlanError
        The donor's config cannot say what the output's layers are.
    """
    donor = configs[outline.donor]
    if donor is None:
        return b""
    config: dict[str, Any] = copy.deepcopy(dict(donor))
    config.pop("_name_or_path", None)
    for stack in outline.stacks:
        if stack.resliced:
            _Slicer(configs, outline, stack, tuple(count_keys), tuple(list_keys), tuple(index_keys)).cut(
                config
            )
    if out_dtype is not None:
        _set_dtype(config, TORCH_NAMES.get(out_dtype, out_dtype))
    if vocabulary is not None:
        _set_vocabulary(config, vocabulary)
    return (json.dumps(config, indent=2) + "\n").encode("ascii")


class _Slicer:
    """Re-cuts the part of a config that describes one stack of layers."""

    def __init__(
        self,
        configs: Sequence[Config | None],
        outline: Outline,
        stack: LayerStack,
        count_keys: tuple[str, ...],
        list_keys: tuple[str, ...],
        index_keys: tuple[str, ...],
    ) -> None:
        self.stack = stack
        self.donor = outline.donor
        self.names = [model.name for model in outline.models]
        self.parts = [_part(each, stack.config_path) for each in configs]
        self.lists = _LISTS | set(list_keys)
        self.indexes = _INDEX_LISTS | set(index_keys)
        usual: tuple[str, ...] = _COUNTS
        if "decoder" in stack.prefix:
            usual = _DECODER_COUNTS
        elif "encoder" in stack.prefix:
            usual = _ENCODER_COUNTS
        self.counts = (*count_keys, *usual)

    def cut(self, config: dict[str, Any]) -> None:
        """Change the part of ``config`` that belongs to the stack."""
        part: Any = config
        for key in self.stack.config_path:
            part = part.get(key) if isinstance(part, dict) else None
        before = self._count(self.donor)
        if not isinstance(part, dict) or before is None:
            raise PlanError(
                f"config.json of {self.names[self.donor]} does not say how many layers '{self.stack.prefix}' has",
                hint="Slices need a donor whose config.json has the number of layers.",
                model=self.names[self.donor],
            )
        moved = any(layer != place for place, (_, layer) in enumerate(self.stack.origins))
        if moved:
            self._spell_out_types(part)
            self._check_periods(part)
        for key, value in list(part.items()):
            if key in self.counts and value == before:
                part[key] = len(self.stack.origins)
            elif key in self.indexes and isinstance(value, list):
                part[key] = self._follow_indexes(key)
            elif self._is_per_layer(key, value, before):
                part[key] = self._follow_list(key)
            elif key in _FIRST and type(value) is int and not self._idle(part, key):
                part[key] = self._recount(key, from_end=False)
            elif key in _LAST and type(value) is int:
                part[key] = self._recount(key, from_end=True)

    def _count(self, model: int) -> int | None:
        part = self.parts[model] or {}
        return next((part[key] for key in self.counts if type(part.get(key)) is int), None)

    def _is_per_layer(self, key: str, value: object, count: int) -> bool:
        if not isinstance(value, list) or len(value) != count or key.endswith(_NEVER_LISTS):
            return False
        return key in self.lists or "layer" in key or "block" in key or count >= _SURE_LENGTH

    def _follow_list(self, key: str) -> list[Any]:
        result = []
        for place, (model, layer) in enumerate(self.stack.origins):
            entries = (self.parts[model] or {}).get(key)
            if not isinstance(entries, list):
                entries = (self.parts[self.donor] or {})[key]
            if layer >= len(entries):
                raise self._error(key, f"has no entry for layer {layer}, which becomes layer {place}", model)
            result.append(copy.deepcopy(entries[layer]))
        return result

    def _follow_indexes(self, key: str) -> list[int]:
        result = []
        for place, (model, layer) in enumerate(self.stack.origins):
            listed = (self.parts[model] or {}).get(key)
            if not isinstance(listed, list):
                listed = (self.parts[self.donor] or {})[key]
            if layer in listed:
                result.append(place)
        return result

    def _recount(self, key: str, *, from_end: bool) -> int:
        """A key that counts layers from one end: the same kinds of layers must be at that end again."""
        counted = []
        for model, layer in self.stack.origins:
            number = (self.parts[model] or {}).get(key)
            total = self._count(model)
            if type(number) is not int or total is None:
                raise self._error(key, "is not a whole number", model)
            counted.append(layer >= total - number if from_end else layer < number)
        run = list(reversed(counted)) if from_end else counted
        number = run.index(False) if False in run else len(run)
        if any(run[number:]):
            raise self._error(key, "cannot say which of the sliced layers it means", self.donor)
        return number

    def _spell_out_types(self, part: dict[str, Any]) -> None:
        """Say in ``layer_types`` what follows from the layers' numbers, before these change."""
        if isinstance(part.get("layer_types"), list):
            return
        types = [self._implied_type(model, layer) for model, layer in self.stack.origins]
        if any(each is None for each in types):
            return
        now = [self._implied_type(self.donor, place) for place in range(len(types))]
        if types != now:
            part["layer_types"] = types

    def _implied_type(self, model: int, layer: int) -> str | None:
        part = self.parts[model] or {}
        explicit = part.get("layer_types")
        if isinstance(explicit, list) and layer < len(explicit):
            return str(explicit[layer])
        period = _PATTERN_OF_TYPE.get(str(part.get("model_type")))
        if period is not None:
            return "sliding_attention" if (layer + 1) % period else "full_attention"
        for key, other in _PATTERNS:
            period = part.get(key)
            if type(period) is int and period > 0:
                return other if (layer + 1) % period else "full_attention"
        first = part.get("max_window_layers")
        if part.get("use_sliding_window") and type(first) is int:
            return "sliding_attention" if layer >= first else "full_attention"
        return None

    def _check_periods(self, part: Mapping[str, Any]) -> None:
        for key, explicit in _PERIODS.items():
            period = part.get(key)
            if type(period) is not int or period < 2 or self._outranked(part, explicit):
                continue
            if any(layer % period != place % period for place, (_, layer) in enumerate(self.stack.origins)):
                raise self._error(
                    key, f"({period}) gives layers their kind by their number, and the slices shift it", 0
                )

    def _idle(self, part: Mapping[str, Any], key: str) -> bool:
        """Whether a key of :data:`_FIRST` says nothing: a list outranks it, or what it parts is switched off."""
        off = key == "max_window_layers" and not part.get("use_sliding_window")
        return off or self._outranked(part, _FIRST[key])

    @staticmethod
    def _outranked(part: Mapping[str, Any], key: str) -> bool:
        return isinstance(part.get(key), list)

    def _error(self, key: str, what: str, model: int) -> PlanError:
        return PlanError(
            f"config.json of {self.names[model]}: '{key}' {what}",
            hint="Choose slices that keep the pattern of the layers.",
            model=self.names[model],
            key=key,
        )


def _part(config: Config | None, path: Sequence[str]) -> Config | None:
    part: Any = config
    for key in path:
        part = part.get(key) if isinstance(part, Mapping) else None
    return part if isinstance(part, Mapping) else None


def _set_dtype(config: dict[str, Any], name: str) -> None:
    found = [key for key in ("torch_dtype", "dtype") if key in config]
    for key in found or ["torch_dtype"]:
        config[key] = name
    waiting = [
        each for key, each in config.items() if key.endswith("_config") and key != "quantization_config"
    ]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, dict):
            continue
        for key in ("torch_dtype", "dtype"):
            if isinstance(part.get(key), str):
                part[key] = name
        waiting.extend(each for key, each in part.items() if key.endswith("_config"))


def _set_vocabulary(config: dict[str, Any], size: int) -> None:
    parts = [config, *(config[key] for key in _TEXT if isinstance(config.get(key), dict))]
    holders = [part for part in parts if "vocab_size" in part]
    for part in holders or [config]:
        part["vocab_size"] = size
