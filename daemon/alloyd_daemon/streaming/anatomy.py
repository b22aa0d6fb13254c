"""Takes a transformers model apart: what comes before its layers, each layer, and what comes after them.

All three are the model's own code. What comes before is its forward up to the first layer; a layer gets the arguments
that the forward hands it; what comes after is the forward with layers that hand stored activations through, so that
final norms, soft caps, scales and tied heads are the model's own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from ..quantiser import Quantiser
from ..scoring.packing import Batch
from ..skeleton import Selection, Skeleton
from .fitting import fit, parameters
from .forwards import Arguments, Inputs, acting, refusal, stop, until_stopped
from .hollow import Hollow
from .rehearsal import find_layers, keeps_to_masks, recorded, take_apart

Layer = Callable[[torch.Tensor, Arguments], torch.Tensor]
"""A layer with its weights: of its input [rows, width, hidden] and what else it is called with, its output."""


class Anatomy:
    """A causal language model in parts, none of which holds weights.

    Parameters
    ----------
    config:
        The parsed config.json.
    shapes:
        The shapes of the checkpoint's tensors, by name; those that the model ignores may be among them.
    quantiser:
        What the layers' linear modules are quantised with; ``None`` leaves them.
    device:
        Where the parts are run.

    ``first``, ``last`` and each of ``layers`` give the parameters of a part with the tensors that fill them.
    ``shares`` says whether the model keeps to masks and positions that are handed to it, as shared rows need, and
    ``window`` how many tokens back its attention reaches (``None``: all).

    Raises
    ------
    PlanError
        transformers does not know the model, it cannot be taken apart, or names and parameters do not match.
    ShapeMismatch
        A tensor has another shape than its parameter.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        shapes: Mapping[str, tuple[int, ...]],
        *,
        quantiser: Quantiser | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self._skeleton = Skeleton(config)
        self._model = self._skeleton.model.eval()
        self._config = self._model.config
        facts = self._config.get_text_config()
        self.dtype: torch.dtype = self._model.dtype
        self.hidden_size: int = facts.hidden_size
        self.vocabulary: int = facts.vocab_size
        tensors = fit(self._skeleton, shapes)
        self._skeleton.restore_buffers(self.device)
        self._path, self._layers = find_layers(self._model)
        self._names = {id(each): name for name, each in parameters(self._model).items()}
        parts = take_apart(self._model, self._path, self._layers, self._names, tensors, self.device)
        self.first, self.layers, self.last = parts.first, parts.layers, parts.last
        self._wrapped = parts.wrapped
        self.shares = keeps_to_masks(self._model, self._layers, self._names, self.dtype, self.device)
        self.window = _window(facts)
        self._matrices = [each.shape for each in self._layers[0].parameters() if each.dim() > 1]
        self._quantiser = quantiser
        self._selection = Selection({}, (), False, ())
        if quantiser is not None:
            self._selection = self._skeleton.select(quantiser)
            outside = [each for each in self._selection.linears if not each.startswith(f"{self._path}.")]
            if outside:
                raise refusal(self._model, f"the quantised tensor '{outside[0]}' is outside of its layers")
            quantiser.prepare(self._model, self._selection.skipped)
            self._model.eval()
        self._head_is_checked = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """Tensors that the quantiser leaves as they are, and why."""
        return self._selection.warnings

    def dtype_of(self, place: str) -> torch.dtype:
        """The type that the parameter ``place`` is computed with."""
        found: torch.dtype = self._skeleton.dtype_of(place)
        return found

    def quantises(self, place: str) -> bool:
        """Whether the parameter ``place`` is held quantised."""
        return place in self._selection.linears

    def workspace(self, rows: int, width: int) -> int:
        """Private bytes that running a batch of this shape through one layer takes at most, quantising included.

        Every linear module's output, residuals and norms in float32, masks and (eager attention) scores, and what a
        product may make of the largest matrix: another order of its elements, or its dequantised values.
        """
        item, tokens = self.dtype.itemsize, rows * width
        most = tokens * (item * sum(max(shape) for shape in self._matrices) + 4 * 4 * self.hidden_size)
        most += rows * width * width * item
        if self._config._attn_implementation == "eager":
            most += rows * self._config.get_text_config().num_attention_heads * width * width * (2 * item + 4)
        most += max((shape.numel() for shape in self._matrices), default=0) * (4 if self._quantiser else item)
        if self._quantiser is not None:
            shapes = [each.shape for each in self._selection.linears.values()]
            most += max((self._quantiser.workspace(shape) for shape in shapes), default=0)
        return most

    def inputs(self, batch: Batch) -> Inputs:
        """The tensors of a batch, on the device."""
        ids = torch.from_numpy(batch.ids).to(self.device)
        seen = batch.seen()
        if seen is None or batch.positions is None:
            return Inputs(ids)
        mask = torch.zeros(seen.shape, dtype=self.dtype)
        mask.masked_fill_(torch.from_numpy(seen).logical_not_(), torch.finfo(self.dtype).min)
        return Inputs(ids, torch.from_numpy(batch.positions).to(self.device), mask[:, None].to(self.device))

    def arguments(self, inputs: Inputs) -> tuple[Arguments, ...]:
        """What each layer is called with beside its input; it does not depend on the weights."""
        return recorded(self._model, self._layers, self._names, self._wrapped, inputs, self.device)

    def embed(self, inputs: Inputs, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The first layer's input [rows, width, hidden]; ``tensors`` are those of ``first`` by parameter."""
        hollow = Hollow(self._names, device=self.device)
        return until_stopped(self._model, self._layers, stop, hollow, tensors, inputs)

    def layer(self, number: int, tensors: Mapping[str, torch.Tensor]) -> Layer:
        """Layer ``number`` with the weights ``tensors`` (by parameter of ``layers[number]``), quantised where asked.

        Raises JobError for values that the quantiser cannot hold.
        """
        original = self._layers[number]
        # What has no values need not be copied, and what is quantised cannot be without values.
        shared = (self._config, *original.parameters(), *original.buffers())
        module = copy.deepcopy(original, {id(each): each for each in shared})
        prefix = f"{self._path}.{number}."
        for place, tensor in tensors.items():
            path, _, leaf = place.removeprefix(prefix).rpartition(".")
            owner = module.get_submodule(path)
            linear = self._selection.linears.get(place)
            if linear is not None and self._quantiser is not None:
                self._quantiser.load(owner, place, tensor.T if linear.transposed else tensor)
            elif leaf in owner._buffers:
                owner._buffers[leaf] = tensor
            else:
                owner._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)

        def run(hidden: torch.Tensor, rest: Arguments) -> torch.Tensor:
            positional, keywords = rest
            found = module(hidden, *positional, **keywords)
            output: torch.Tensor = found[0] if self._wrapped[number] else found
            return output

        return run

    def logits(self, hidden: torch.Tensor, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Logits [n, vocabulary] of the last layer's outputs [n, hidden] at any ``n`` places.

        ``tensors`` are those of ``last`` by parameter. Raises PlanError for a model whose head looks at more than one
        place.
        """
        if not self._head_is_checked and len(hidden) > 1:
            pair = hidden[:2]
            straight = self._head(pair, tensors).float()
            turned = self._head(pair.flip(0), tensors).flip(0).float()
            if not torch.allclose(straight, turned, rtol=0.02, atol=1e-3, equal_nan=True):
                raise refusal(self._model, "what comes after its layers looks at more than one token")
            self._head_is_checked = True
        return self._head(hidden, tensors)

    def _head(self, hidden: torch.Tensor, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        def hand_through(number: int, given: torch.Tensor, rest: Arguments) -> Any:
            return (hidden[None],) if self._wrapped[number] else hidden[None]

        keywords = {"inputs_embeds": hidden[None], "use_cache": False}
        with acting(self._layers, hand_through), Hollow(self._names, device=self.device):
            found = functional_call(self._model, dict(tensors), args=(), kwargs=keywords)
        logits: torch.Tensor = found.logits[0]
        return logits


def _window(config: Any) -> int | None:
    """Tokens back that the nearest-sighted layer sees, its own included."""
    reaches = [getattr(config, "attention_chunk_size", None)]
    if getattr(config, "use_sliding_window", True):
        reaches.append(getattr(config, "sliding_window", None))
    return min((each for each in reaches if isinstance(each, int) and each > 0), default=None)
