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
class Part:
    """What one tensor of a checkpoint fills: ``shape`` at ``index`` of a parameter or buffer, all of it for ``()``.

    An expert's matrix fills ``(expert,)`` or ``(expert, (first row, last row + 1))`` of a stack.
    """

    place: str
    shape: tuple[int, ...]
    expert: int | None = None
    rows: tuple[int, int] | None = None

    @property
    def index(self) -> tuple[Any, ...]:
        """What torch is given to index the parameter with."""
        if self.expert is None:
            return ()
        return (self.expert,) if self.rows is None else (self.expert, slice(*self.rows))


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

    ``shapes`` has every parameter and persistent buffer; tied ones stand under each of their names.

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
        self._rename, self._apply = loading.rename_source_key, loading.apply_renamings
        self._state = dict(self.model.state_dict())
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tuple(each.shape) for name, each in self._state.items()
        }
        ignored = getattr(self.model, "_keys_to_ignore_on_load_unexpected", None) or ()
        self._ignored = [re.compile(each) for each in (*ignored, r"rotary_emb\.inv_freq", r"position_ids$")]
        self._plan = self.model._get_dtype_plan(self.dtype)

    def place(self, name: str) -> str | None:
        """The parameter or buffer that the checkpoint's tensor ``name`` fills; ``None`` where the model ignores it.

        Raises PlanError where the model has no place for it, or would fuse or split it first.
        """
        part = self.part(name)
        if part is not None and part.expert is not None:
            raise self._fused(name)
        return None if part is None else part.place

    def part(self, name: str) -> Part | None:
        """What the checkpoint's tensor ``name`` fills, an expert's part of a stack included; ``None`` if it is ignored.

        Raises PlanError where the model has no place for it, or makes it by more than stacking experts.
        """
        prefix = self.model.base_model_prefix
        found, pattern = self._rename(name, self._renamings, self._converters, prefix, self._state)
        if found not in self._state and name in self._state:
            return Part(name, self.shapes[name])
        if pattern is not None:
            return self._stacked(name, found, pattern)
        if found in self._state:
            return Part(found, self.shapes[found])
        if any(each.search(found) for each in self._ignored):
            return None
        raise PlanError(
            f"tensor '{name}' fits nowhere in {type(self.model).__name__}",
            hint=_near(name, self._state),
            tensor=name,
        )

    def _stacked(self, name: str, place: str, pattern: str) -> Part:
        """An expert's part of the stack ``place``: all of its rows, or as many as each of the sources has."""
        rule = next(each for each in self._converters if pattern in each.source_patterns)
        steps = [(type(step).__name__, getattr(step, "dim", None)) for step in rule.operations]
        numbers = re.findall(pattern.replace("*.", r"(\d+)\."), self._apply(name, self._renamings))
        stacks = steps[:1] == [("MergeModulelist", 0)] and steps[1:] in ([], [("Concatenate", 1)])
        if not stacks or len(rule.target_patterns) != 1 or place not in self._state or len(numbers) != 1:
            raise self._fused(name)
        expert, shape = int(numbers[0]), self.shapes[place]
        sources = len(rule.source_patterns)
        if expert >= shape[0] or shape[1] % sources or (sources > 1) != (len(steps) > 1):
            raise self._fused(name)
        if sources == 1:
            return Part(place, shape[1:], expert)
        rows = shape[1] // sources
        first = rule.source_patterns.index(pattern) * rows
        return Part(place, (rows, *shape[2:]), expert, (first, first + rows))

    def _fused(self, name: str) -> PlanError:
        return PlanError(
            f"tensor '{name}' of {type(self.model).__name__} is fused with others or split before it is computed with",
            hint="Write the checkpoint and let transformers load it.",
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
            (*_warnings(refused, quantiser.name), *self._stacks(quantiser.name)),
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

    def _stacks(self, quantiser: str) -> tuple[str, ...]:
        """A warning for stacks of experts, which are no linear modules."""
        stacks = [name for name, shape in self.shapes.items() if len(shape) == 3 and ".experts." in name]
        if not stacks:
            return ()
        return (
            f"tensor '{stacks[0]}' and {len(stacks) - 1} like it are stacks of experts: left as they are, "
            f"not quantised to {quantiser}, as transformers leaves them",
        )

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
