"""The structs of a recipe: mergekit 0.1.5's ``MergeConfiguration``, plus ``seed``, ``name`` and ``out``.

Values of parameters stay as written; which parameters a method has, and of what type, is known to the daemon alone.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from .errors import RecipeError

Scalar = bool | int | float | str

DTYPES: Final = ("bfloat16", "float16", "float32", "float64")
CHAT_TEMPLATES: Final = ("alpaca", "chatml", "exaone", "llama3", "mistral")
FORMATS: Final = ("safetensors", "gguf", "bitsandbytes")
MAX_SEED: Final = (1 << 63) - 1


class ModelRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model as a recipe names it: a path or ``org/name``, with its revision and LoRA adapter."""

    path: str
    revision: str | None = None
    lora: ModelRef | None = None
    override_architecture: str | None = None

    def __str__(self) -> str:
        text = f"{self.path}@{self.revision}" if self.revision else self.path
        return f"{text}+{self.lora}" if self.lora else text

    @staticmethod
    def parse(text: str) -> ModelRef:
        """Read ``path[@revision][+lora[@revision]]``.

        Raises
        ------
        RecipeError
            More than one ``+``, more than one ``@`` on a side, or an empty part.
        """
        parts = text.split("+")
        if len(parts) > 2 or any(part.count("@") > 1 for part in parts):
            raise RecipeError(
                f"'{text}' is not a model: expected path[@revision][+lora[@revision]]",
                hint="A path that itself holds '+' or '@' is written as a mapping: {model: {path: ...}}.",
            )
        halves = [part.split("@") for part in parts]
        if any(not each.strip() for half in halves for each in half):
            raise RecipeError(
                f"'{text}' is not a model: a part of it is empty",
                hint="Expected path[@revision][+lora[@revision]].",
            )
        sides = [ModelRef(half[0], half[1] if len(half) == 2 else None) for half in halves]
        return msgspec.structs.replace(sides[0], lora=sides[1]) if len(sides) == 2 else sides[0]


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value or gradient for the tensors whose name contains ``filter`` (``None`` or ``*``: all)."""

    value: Scalar | tuple[Scalar, ...]
    filter: str | None = None


Setting = Scalar | tuple[Scalar, ...] | tuple[Condition, ...] | Condition
Settings = dict[str, Setting]


class InputModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of ``models``: every layer of one model."""

    model: ModelRef
    parameters: Settings = {}


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of a slice's ``sources``: layers ``[start, end)`` of one model."""

    model: ModelRef
    layer_range: tuple[int, int]
    parameters: Settings = {}


class Slice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run of output layers, merged from equally many layers of each source."""

    sources: tuple[Source, ...]
    base_model: ModelRef | None = None
    parameters: Settings = {}


class Module(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One part (text decoder, vision tower...) of a model with several: slices or whole models."""

    slices: tuple[Slice, ...] = ()
    models: tuple[InputModel, ...] = ()
    parameters: Settings = {}


class ModelToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token's embedding taken from one model, by the token's text or its id (exactly one of them)."""

    model: ModelRef
    token: str | None = None
    token_id: int | None = None


class TokenEmbedding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the embedding of one token comes from; ``force`` overrides models that have their own."""

    source: ModelRef | ModelToken | Literal["zero"] | None = None
    force: bool = False


class Tokenizer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``tokenizer`` block."""

    source: ModelRef | Literal["union", "base"] = "union"
    tokens: dict[str, TokenEmbedding] = {}
    pad_to_multiple_of: int | None = None


class Form(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an output is stored as; ``type`` names the quantisation where the format has several.

    Which types and options a format knows, and their defaults, is known to the daemon alone. ``imatrix`` is the path
    of an importance matrix.
    """

    format: str = "safetensors"
    type: str | None = None
    imatrix: str | None = None
    options: dict[str, Scalar] = {}

    def __str__(self) -> str:
        return self.format if self.type is None else f"{self.format} {self.type}"


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One merge. Exactly one of ``models``, ``slices`` and ``modules`` is filled; ``out=None`` is safetensors."""

    merge_method: str
    models: tuple[InputModel, ...] = ()
    slices: tuple[Slice, ...] = ()
    modules: dict[str, Module] = {}
    base_model: ModelRef | None = None
    dtype: str | None = None
    out_dtype: str | None = None
    tokenizer_source: ModelRef | Literal["union", "base"] | None = None
    tokenizer: Tokenizer | None = None
    chat_template: str | None = None
    parameters: Settings = {}
    seed: int = 0
    name: str | None = None
    out: Form | None = None
    warnings: tuple[str, ...] = ()

    def referenced_models(self) -> tuple[ModelRef, ...]:
        """Every model the recipe reads, once, in the order of the recipe; bases named nowhere else last."""
        runs = [self.slices, *(module.slices for module in self.modules.values())]
        listed = [self.models, *(module.models for module in self.modules.values())]
        refs = [each.model for models in listed for each in models]
        refs += [source.model for run in runs for each in run for source in each.sources]
        refs += [each.base_model for run in runs for each in run if each.base_model is not None]
        refs += [self.base_model] if self.base_model is not None else []
        return tuple(dict.fromkeys(refs))
