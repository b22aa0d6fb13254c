"""A transformers model without weights: its parameters by checkpoint name, and the linear modules a quantiser takes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from alloyd.errors import PlanError

from .checkpoints.config import TORCH_NAMES
from .late import library
from .quantiser import Quantiser

USER: Final = "a model in memory"
EXTRA: Final = "score"

DTYPE_CODES: Final[Mapping[str, str]] = {name: code for code, name in TORCH_NAMES.items()}
"""torch's name of a dtype to its code in safetensors."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear module: its path, its matrix's (outputs, inputs), and whether a checkpoint keeps the inputs first."""

    path: str
    shape: tuple[int, int]
    transposed: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """The linear modules that a quantiser takes, by the name of their weight.

    ``skipped`` are the patterns of module names that transformers must leave out for the same choice; ``unusual``
    says that they are more than it leaves out by itself. ``warnings`` name the tensors for which that is so.
    """

    linears: Mapping[str, Linear]
    skipped: tuple[str, ...]
    unusual: bool
    warnings: tuple[str, ...]


class Skeleton:
    """The model that a config.json describes, on the meta device: nothing is allocated.

    Parameters
    ----------
    config:
        The parsed config.json. Code that it names outside of transformers is not used.
    dtype:
        The dtype code (``BF16``, ``F16``, ``F32``) of the parameters; ``None`` for what the config says.

    Raises
    ------
    PlanError
        transformers does not know the model, or cannot make sense of its config; the weights are quantised already.
    UsageError
        torch or transformers is not installed.
    """

    def __init__(self, config: Mapping[str, Any], *, dtype: str | None = None) -> None:
        torch = library("torch", user=USER, extra=EXTRA)
        self.model = _build(torch, config, dtype)
        self.dtype = self.model.dtype
        loading = library("transformers.core_model_loading", user=USER, extra=EXTRA)
        mapping = library("transformers.conversion_mapping", user=USER, extra=EXTRA)
        rules = mapping.get_model_conversion_mapping(self.model)
        self._renamings = [each for each in rules if isinstance(each, loading.WeightRenaming)]
        self._converters = [each for each in rules if isinstance(each, loading.WeightConverter)]
        self._rename = loading.rename_source_key
        self._state = dict(self.model.state_dict())
        ignored = getattr(self.model, "_keys_to_ignore_on_load_unexpected", None) or ()
        self._ignored = [re.compile(each) for each in (*ignored, r"rotary_emb\.inv_freq", r"position_ids$")]
        self._plan = self.model._get_dtype_plan(self.dtype)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Every parameter and persistent buffer with its shape; tied ones under each of their names."""
        return {name: tuple(each.shape) for name, each in self._state.items()}

    def place(self, name: str) -> str | None:
        """The parameter or buffer that the checkpoint's tensor ``name`` fills; ``None`` where the model ignores it.

        Raises PlanError where the model has no place for it, or would fuse or split it first.
        """
        prefix = self.model.base_model_prefix
        found, pattern = self._rename(name, self._renamings, self._converters, prefix, self._state)
        if found not in self._state and name in self._state:
            return name
        if pattern is not None:
            raise PlanError(
                f"tensor '{name}' of {type(self.model).__name__} is fused with others before it is computed with,"
                " which a model that is filled tensor by tensor cannot do",
                hint="Write the checkpoint and let transformers load it.",
                tensor=name,
            )
        if found in self._state:
            return str(found)
        if any(each.search(found) for each in self._ignored):
            return None
        raise PlanError(
            f"tensor '{name}' fits nowhere in {type(self.model).__name__}",
            hint=_near(name, self._state),
            tensor=name,
        )

    def dtype_of(self, place: str) -> Any:
        """torch's dtype of a parameter or buffer once it is filled."""
        kept = next((dtype for pattern, dtype in self._plan.items() if re.search(pattern, place)), None)
        return self._state[place].dtype if kept is None else kept

    def select(self, quantiser: Quantiser) -> Selection:
        """The linear modules that ``quantiser`` takes: transformers' choice, less those whose shape it cannot hold.

        transformers leaves out the output embeddings, tied weights, the last module, and what an architecture keeps
        in float32.
        """
        rules = library("transformers.quantizers.base", user=USER, extra=EXTRA)
        kept = sorted(map(str, self.model._keep_in_fp32_modules or ()))
        usual = sorted(rules.HfQuantizer.get_modules_to_not_convert(self.model, None, kept))
        linears = self._linears(usual)
        refused = {each.path: why for each in linears if (why := quantiser.refusal(each.shape)) is not None}
        skipped = (*usual, *refused)
        taken = self._linears(skipped) if refused else linears
        return Selection(
            {f"{each.path}.weight": each for each in taken},
            skipped,
            bool(refused),
            _warnings(refused, quantiser.name),
        )

    def restore_buffers(self, device: Any) -> None:
        """Compute on ``device`` what no checkpoint holds (rotary frequencies, scales of embeddings), as transformers
        does; parameters stay as they are.

        Raises PlanError for a buffer that does not follow from the config.
        """
        torch = library("torch", user=USER, extra=EXTRA)
        # What is left of two different fillings was not computed.
        first, second = (self._compute_buffers(torch, device, filling) for filling in (0, 1))
        for name, value in first.items():
            if not torch.equal(value, second[name]):
                raise PlanError(
                    f"the buffer '{name}' of {type(self.model).__name__} does not follow from its config",
                    hint="Write the checkpoint and let transformers load it.",
                    tensor=name,
                )

    def _compute_buffers(self, torch: Any, device: Any, filling: int) -> dict[str, Any]:
        fresh = {}
        for path, module in self.model.named_modules():
            fleeting = module._non_persistent_buffers_set
            for leaf, held in module._buffers.items():
                if leaf in fleeting and held is not None:
                    value = torch.full(held.shape, filling, dtype=held.dtype, device=device)
                    module._buffers[leaf] = fresh[f"{path}.{leaf}"] = value
            lasting = (each for leaf, each in module._buffers.items() if leaf not in fleeting)
            for given in (*module._parameters.values(), *lasting):
                if given is not None:
                    given._is_hf_initialized = True
            module._is_hf_initialized = False
        self.model.initialize_weights()
        return fresh

    def _linears(self, skipped: tuple[str, ...] | list[str]) -> list[Linear]:
        nn = library("torch.nn", user=USER, extra=EXTRA)
        conv = library("transformers.pytorch_utils", user=USER, extra=EXTRA).Conv1D
        converts = library("transformers.quantizers.quantizers_utils", user=USER, extra=EXTRA)
        found = []
        for path, module in self.model.named_modules():
            transposed = isinstance(module, conv)
            if not (transposed or type(module) is nn.Linear):
                continue
            if converts.should_convert_module(path, list(skipped)):
                rows, columns = module.weight.shape
                found.append(Linear(path, (columns, rows) if transposed else (rows, columns), transposed))
        return found


def _build(torch: Any, config: Mapping[str, Any], dtype: str | None) -> Any:
    transformers = library("transformers", user=USER, extra=EXTRA)
    facts = {key: value for key, value in config.items() if key != "auto_map"}
    kind = facts.get("model_type")
    if facts.get("quantization_config"):
        raise PlanError(
            f"config.json says that the weights of this {kind} model are quantised already",
            hint="Use the checkpoint that it was made from.",
            key="quantization_config",
        )
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        raise PlanError(
            f"transformers {transformers.__version__} does not know a model_type {kind!r}",
            hint=_near(str(kind), transformers.CONFIG_MAPPING.keys()),
            key="model_type",
        )
    try:
        read = transformers.CONFIG_MAPPING[kind].from_dict(facts)
        wanted = read.dtype or torch.float32 if dtype is None else getattr(torch, TORCH_NAMES[dtype])
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(read, dtype=wanted)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise PlanError(
            f"transformers cannot make a causal language model of this {kind} config: {reason}",
            hint="Compare config.json with that of a checkpoint that loads.",
            key="model_type",
        ) from error
    return model


def _near(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.8)
    return f"Did you mean '{near[0]}'?" if near else "Look at the config.json of the model it was made from."


def _warnings(refused: Mapping[str, str], quantiser: str) -> tuple[str, ...]:
    """One sentence for all modules of one kind that were refused for one reason."""
    alike: dict[tuple[str, str], list[str]] = {}
    for path, why in refused.items():
        alike.setdefault((path.rpartition(".")[2], why), []).append(path)
    return tuple(
        f"tensor '{paths[0]}.weight'{f' and {len(paths) - 1} like it' if len(paths) > 1 else ''} {why}: "
        f"left as it is, not quantised to {quantiser}"
        for (_, why), paths in alike.items()
    )
