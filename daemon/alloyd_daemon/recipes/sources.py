"""The models of one recipe as a whole: what they hold, how they are laid out, whether they fit each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from alloyd.errors import PlanError
from alloyd.recipe import Recipe

from ..architecture import Architecture, named_in, table_for
from .findings import Findings
from .layers import Layout, Module, find_layout
from .outline import Model


class TensorLike(Protocol):
    """What is asked of a tensor here: its safetensors dtype code and its shape."""

    @property
    def dtype(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...


class Sources:
    """The models of a recipe in its order, each with its tensors, config, architecture and layout.

    ``index`` gives a reference's place; two spellings of one folder have one place. ``donor`` gives config,
    tokenizer and the spelling of names: the base model, else the first of the recipe.
    """

    def __init__(
        self,
        recipe: Recipe,
        models: Sequence[Model],
        names: Sequence[Mapping[str, TensorLike]],
        configs: Sequence[Mapping[str, Any] | None],
    ) -> None:
        refs = recipe.referenced_models()
        if not len(refs) == len(models) == len(names) == len(configs):
            raise ValueError(
                f"{len(refs)} models are referenced; got {len(models)} models, {len(names)}, {len(configs)}"
            )
        self.models = tuple(models)
        self.names = tuple(names)
        self.configs = tuple(configs)
        places = [each.place for each in models]
        self.index = {ref: places.index(places[number]) for number, ref in enumerate(refs)}
        self.architectures = [
            named_in(config, ref.override_architecture) for ref, config in zip(refs, configs, strict=True)
        ]
        self.tables = [table_for(each) for each in self.architectures]
        self.layouts = [
            find_layout(each, table, config)
            for each, table, config in zip(names, self.tables, configs, strict=True)
        ]
        self.donor = self.index[recipe.base_model or refs[0]]

    @property
    def table(self) -> Architecture:
        """The architecture of the output."""
        return self.tables[self.donor]

    @property
    def layout(self) -> Layout:
        """The layout that the output follows."""
        return self.layouts[self.donor]

    def name(self, model: int) -> str:
        return self.models[model].name

    def module(self, model: int, name: str) -> Module | None:
        return self.layouts[model].modules.get(name)

    def depth(self, model: int, module: str) -> int:
        """The number of layers of a model's module; 0 without a stack."""
        own = self.module(model, module)
        return own.stack.count if own is not None and own.stack is not None else 0

    def stored(self, model: int, name: str) -> str | None:
        """The stored tensor that gives ``name`` in a model: its own, else the one it is tied to."""
        stored = self.layouts[model].stored
        return stored.get(name) or stored.get(self.tables[model].tied.get(name, ""))

    def check(self, found: Findings, *, method: str, lenient: bool) -> None:
        """Note what concerns a model as a whole: no tensors, missing layers, quantisation, mixed architectures."""
        for place in sorted(set(self.index.values())):
            name = self.name(place)
            if not self.names[place]:
                found.error(PlanError(f"{name} holds no tensors", model=name))
            for module in self.layouts[place].modules.values():
                stack = module.stack
                if stack is not None and stack.declared is not None and stack.declared > stack.count:
                    found.error(
                        PlanError(
                            f"{name}: config.json declares {stack.declared} layers, and the tensors "
                            f"{stack.prefix}.* hold {stack.count}",
                            hint="Is the checkpoint complete?",
                            model=name,
                        )
                    )
            if (self.configs[place] or {}).get("quantization_config") and method != "passthrough":
                found.error(
                    PlanError(
                        f"{name} is quantised, and quantised weights cannot be combined",
                        hint="Use the checkpoint it was quantised from.",
                        model=name,
                    )
                )
        kinds = {each: self.name(place) for place, each in enumerate(self.architectures) if each}
        if len(kinds) > 1:
            listed = ", ".join(f"{model} is {kind}" for kind, model in kinds.items())
            message = f"the models are of different architectures: {listed}"
            if lenient:
                found.warn(f"{message}; the output is declared as {self.architectures[self.donor]}")
            else:
                found.error(
                    PlanError(message, hint="--lenient combines tensors of equal name and shape anyway.")
                )
