"""Reads one YAML document as a recipe, collecting every mistake with its line instead of stopping at the first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from .document_reader import DocumentReader
from .errors import RecipeError, did_you_mean
from .recipe_schema import (
    CHAT_TEMPLATES,
    DTYPES,
    FORMATS,
    MAX_SEED,
    Condition,
    Form,
    InputModel,
    ModelRef,
    ModelToken,
    Module,
    Recipe,
    Scalar,
    Setting,
    Settings,
    Slice,
    Source,
    TokenEmbedding,
    Tokenizer,
)
from .strict_yaml import Path as Place
from .strict_yaml import Plain, kind_of

_OUT_KEYS: Final = {
    "safetensors": ("format",),
    "gguf": ("format", "type", "imatrix"),
    "bitsandbytes": ("format", "type"),
}
_OUT_EXAMPLE: Final = "For example out: {format: gguf, type: Q4_K_M}."
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class RecipeReader(DocumentReader):
    """Reads one recipe, collecting what is wrong with it."""

    what = "the recipe"

    def model(self, value: Plain, place: Place) -> ModelRef | None:
        """A model as a string, or as a mapping of ``model``, ``lora`` and ``override_architecture``."""
        if not isinstance(value, dict):
            text = self.text(value, place)
            return None if text is None else self.parsed(text, place)
        fields = self.mapping(value, place, ("model", "lora", "override_architecture"))
        if "model" not in fields:
            if value:
                message = f"{self.dotted(place)} needs the key 'model'"
                self.needs(place, ("model",), message, "Expected {model: {path: ...}}.")
            else:
                self.problem(place, f"{self.dotted(place)} is empty", "Name a model: org/name or a path.")
            return None
        whole = self.half(fields["model"], (*place, "model"))
        lora = self.half(fields["lora"], (*place, "lora")) if fields.get("lora") is not None else None
        override = fields.get("override_architecture")
        architecture = None if override is None else self.text(override, (*place, "override_architecture"))
        if whole is None:
            return None
        return msgspec.structs.replace(whole, lora=lora or whole.lora, override_architecture=architecture)

    def half(self, value: Plain, place: Place) -> ModelRef | None:
        """``path[@revision]`` or ``{path, revision}``; in the mapping the path is taken as it is."""
        if not isinstance(value, dict):
            text = self.text(value, place)
            return None if text is None else self.parsed(text, place)
        fields = self.mapping(value, place, ("path", "revision"))
        path = self.text(fields.get("path"), (*place, "path"))
        revision = fields.get("revision")
        if revision is not None:
            revision = self.text(revision, (*place, "revision"))
        return None if path is None else ModelRef(path, revision)

    def parsed(self, text: str, place: Place) -> ModelRef | None:
        try:
            return ModelRef.parse(text)
        except RecipeError as error:
            self.problem(place, f"{self.dotted(place)}: {error.message}", error.hint)
            return None

    def settings(self, value: Plain, place: Place) -> Settings:
        if value is None:
            return {}
        found: Settings = {}
        for key, each in self.mapping(value, place, None).items():
            setting = self.setting(each, (*place, key))
            if setting is not None:
                found[key] = setting
        return found

    def setting(self, value: Plain, place: Place) -> Setting | None:
        """A scalar, a gradient, a list of conditions, or one condition."""
        if isinstance(value, dict):
            return self.condition(value, place)
        if not isinstance(value, list):
            return self.scalar(value, place)
        if not value:
            self.warnings.append(
                f"{self.where(place)}: {self.dotted(place)} is an empty list and sets nothing"
            )
            return None
        if all(isinstance(each, dict) for each in value):
            conditions = [self.condition(each, (*place, index)) for index, each in enumerate(value)]
            return tuple(each for each in conditions if each is not None)
        if any(isinstance(each, dict | list) for each in value):
            self.problem(
                place,
                f"{self.dotted(place)} mixes values with mappings or lists",
                "Write a gradient [0, 0.5, 1], or a list of {filter: ..., value: ...} and nothing else.",
            )
            return None
        return self.gradient(value, place)

    def gradient(self, value: list[Plain], place: Place) -> tuple[Scalar, ...]:
        points = [self.scalar(each, (*place, index)) for index, each in enumerate(value)]
        return tuple(each for each in points if each is not None)

    def condition(self, value: Plain, place: Place) -> Condition | None:
        fields = self.mapping(value, place, ("filter", "value"))
        text = fields.get("filter")
        if text is not None and not isinstance(text, str):
            self.problem(
                (*place, "filter"),
                f"{self.dotted(place)}.filter must be part of a tensor's name, not {kind_of(text)}",
                f'Quote it: "{text}".' if isinstance(text, bool | int | float) else "For example mlp.",
            )
            return None
        if "value" not in fields:
            message = f"{self.dotted(place)} needs the key 'value'"
            self.needs(place, ("value",), message, "Expected {filter: ..., value: ...}.")
            return None
        within, at = fields["value"], (*place, "value")
        if isinstance(within, dict) or (
            isinstance(within, list) and any(isinstance(e, dict | list) for e in within)
        ):
            self.problem(
                at,
                f"{self.dotted(at)} must be a value or a gradient; a filter cannot hold another filter",
                "For example {filter: mlp, value: 0.5}.",
            )
            return None
        if isinstance(within, list):
            return Condition(self.gradient(within, at), text)
        scalar = self.scalar(within, at)
        return None if scalar is None else Condition(scalar, text)

    def input_model(self, value: Plain, place: Place) -> InputModel | None:
        fields = self.mapping(value, place, ("model", "parameters"))
        model = self.required_model(value, fields, place)
        parameters = self.settings(fields.get("parameters"), (*place, "parameters"))
        return None if model is None else InputModel(model, parameters)

    def required_model(self, value: Plain, fields: Mapping[str, Plain], place: Place) -> ModelRef | None:
        if "model" in fields:
            return self.model(fields["model"], (*place, "model"))
        if isinstance(value, dict):
            message = f"{self.dotted(place)} needs the key 'model'"
            self.needs(place, ("model",), message, "Expected {model: org/name or a path}.")
        return None

    def source(self, value: Plain, place: Place) -> Source | None:
        fields = self.mapping(value, place, ("model", "layer_range", "parameters"))
        model = self.required_model(value, fields, place)
        layers = None
        if isinstance(value, dict):
            layers = self.layer_range(fields.get("layer_range"), (*place, "layer_range"))
        parameters = self.settings(fields.get("parameters"), (*place, "parameters"))
        return None if model is None or layers is None else Source(model, layers, parameters)

    def layer_range(self, value: Plain, place: Place) -> tuple[int, int] | None:
        expected = "[start, end]: two whole numbers, the end not included"
        pair = value if isinstance(value, list) else []
        numbers = [each for each in pair if isinstance(each, int) and not isinstance(each, bool)]
        if len(pair) != 2 or len(numbers) != 2:
            found = value if isinstance(value, list) else kind_of(value)
            self.problem(
                place, f"{self.dotted(place)} must be {expected}, not {found}", "For example [0, 8]."
            )
            return None
        if not 0 <= numbers[0] < numbers[1]:
            self.problem(
                place,
                f"{self.dotted(place)} is {numbers}, which holds no layer",
                "Layers count from 0 and the end is not included: [0, 8] holds layers 0 to 7.",
            )
            return None
        return numbers[0], numbers[1]

    def slice(self, value: Plain, place: Place) -> Slice | None:
        fields = self.mapping(value, place, ("sources", "base_model", "parameters", "residual_weight"))
        if not isinstance(value, dict):
            return None
        if fields.get("residual_weight") is not None:
            self.warnings.append(
                f"{self.where(place)}: residual_weight has no effect (nor has it in mergekit)"
            )
        sources = self.entries(fields.get("sources"), (*place, "sources"), self.source)
        lengths = {each.layer_range[1] - each.layer_range[0] for each in sources}
        if len(lengths) > 1:
            ranges = ", ".join(f"{each.model} {list(each.layer_range)}" for each in sources)
            self.problem(
                (*place, "sources"),
                f"the sources of {self.dotted(place)} hold different numbers of layers: {ranges}",
                "Every source of a slice gives the same number of layers.",
            )
        base = fields.get("base_model")
        model = None if base is None else self.model(base, (*place, "base_model"))
        return Slice(sources, model, self.settings(fields.get("parameters"), (*place, "parameters")))

    def module(self, value: Plain, place: Place) -> Module | None:
        fields = self.mapping(value, place, ("slices", "models", "parameters"))
        if not isinstance(value, dict):
            return None
        given = [key for key in ("slices", "models") if fields.get(key) is not None]
        if len(given) != 1:
            self.problem(
                place,
                f"{self.dotted(place)} needs exactly one of 'slices' and 'models', not {len(given)}",
                "Give models to merge every layer, slices to choose layers.",
            )
        parameters = self.settings(fields.get("parameters"), (*place, "parameters"))
        return Module(*self.sources_of(fields, place), parameters)

    def sources_of(
        self, fields: Mapping[str, Plain], place: Place
    ) -> tuple[tuple[Slice, ...], tuple[InputModel, ...]]:
        slices: tuple[Slice, ...] = ()
        models: tuple[InputModel, ...] = ()
        if fields.get("slices") is not None:
            slices = self.entries(fields["slices"], (*place, "slices"), self.slice)
        if fields.get("models") is not None:
            models = self.entries(fields["models"], (*place, "models"), self.input_model)
        return slices, models

    def dtype(self, value: Plain, place: Place) -> str | None:
        if value is None:
            return None
        text = self.text(value, place)
        if text is None:
            return None
        plain = text.removeprefix("torch.")
        if plain not in DTYPES:
            self.problem(place, f"'{text}' is not a dtype to merge in", did_you_mean(plain, DTYPES))
            return None
        return plain

    def token_source(self, value: Plain, place: Place) -> ModelRef | ModelToken | Literal["zero"] | None:
        """Where one token's embedding comes from."""
        if value is None:
            return None
        if not (isinstance(value, dict) and "kind" in value):
            return self.model(value, place)
        if value["kind"] == "zero":
            self.mapping(value, place, ("kind",))
            return "zero"
        if value["kind"] != "model_token":
            found = value["kind"] if isinstance(value["kind"], str) else kind_of(value["kind"])
            self.problem(
                (*place, "kind"),
                f"{self.dotted(place)}.kind must be 'model_token' or 'zero', not {found}",
                "For example {kind: model_token, model: org/name, token: x}.",
            )
            return None
        fields = self.mapping(value, place, ("kind", "model", "token", "token_id"))
        model = self.required_model(value, fields, place)
        token, token_id = fields.get("token"), fields.get("token_id")
        if (token is None) == (token_id is None):
            self.problem(
                place, f"{self.dotted(place)} needs exactly one of 'token' and 'token_id'", "Keep one."
            )
            return None
        if token is not None:
            text = self.text(token, (*place, "token"))
            return None if model is None or text is None else ModelToken(model, token=text)
        number = self.whole(token_id, (*place, "token_id"), 0, MAX_SEED)
        return None if model is None or number is None else ModelToken(model, token_id=number)

    def token(self, value: Plain, place: Place) -> TokenEmbedding:
        fields = self.mapping(value, place, ("source", "force"))
        force = fields.get("force", False)
        if not isinstance(force, bool):
            self.problem(
                (*place, "force"),
                f"{self.dotted(place)}.force must be true or false, not {kind_of(force)}",
                "Leave it out for false.",
            )
            force = False
        return TokenEmbedding(self.token_source(fields.get("source"), (*place, "source")), force)

    def tokenizer(self, value: Plain, place: Place) -> Tokenizer | None:
        if value is None:
            return None
        fields = self.mapping(value, place, ("source", "tokens", "pad_to_multiple_of"))
        source = self.tokenizer_source(fields.get("source", "union"), (*place, "source"))
        tokens: dict[str, TokenEmbedding] = {}
        if fields.get("tokens") is not None:
            within = self.mapping(fields["tokens"], (*place, "tokens"), None)
            tokens = {key: self.token(each, (*place, "tokens", key)) for key, each in within.items()}
        pad = fields.get("pad_to_multiple_of")
        if pad is not None:
            pad = self.whole(pad, (*place, "pad_to_multiple_of"), 1, 1 << 20)
        return Tokenizer(source or "union", tokens, pad)

    def tokenizer_source(self, value: Plain, place: Place) -> ModelRef | Literal["union", "base"] | None:
        if value is None:
            return None
        if value == "union":
            return "union"
        if value == "base":
            return "base"
        return self.model(value, place)

    def chat_template(self, value: Plain, place: Place) -> str | None:
        if value is None:
            return None
        text = self.text(value, place)
        if text is None or text == "auto" or text in CHAT_TEMPLATES or (len(text) >= 20 and "{" in text):
            return text
        self.problem(
            place,
            f"'{text}' is neither auto, a known chat template nor a Jinja template",
            did_you_mean(text, ("auto", *CHAT_TEMPLATES)),
        )
        return None

    def document_name(self, value: Plain, place: Place) -> str | None:
        if value is None:
            return None
        text = self.text(value, place)
        if text is None or _NAME.fullmatch(text):
            return text
        self.problem(
            place,
            f"'{text}' cannot name a document",
            "A name becomes a folder: letters, digits, '.', '_' and '-', beginning with a letter or digit.",
        )
        return None

    def form(self, value: Plain, place: Place) -> Form | None:
        """What the output is stored as: ``{format, type, ...}``."""
        if value is None:
            return None
        format = value.get("format") if isinstance(value, dict) else None
        if not isinstance(format, str) or format not in FORMATS:
            known = f"one of {', '.join(FORMATS)}"
            if not isinstance(value, dict) or format is None:
                self.problem(
                    place,
                    f"{self.dotted(place)} must be a mapping whose key 'format' is {known}",
                    _OUT_EXAMPLE,
                )
            else:
                near = did_you_mean(format, FORMATS) if isinstance(format, str) else _OUT_EXAMPLE
                found = f"'{format}'" if isinstance(format, str) else kind_of(format)
                self.problem(
                    (*place, "format"), f"{self.dotted(place)}.format must be {known}, not {found}", near
                )
            return None
        # The options of a bitsandbytes quantiser have names that only the daemon knows.
        fields = self.mapping(value, place, None if format == "bitsandbytes" else _OUT_KEYS[format])
        named = ("format", "type", "imatrix") if format == "gguf" else ("format", "type")
        texts = {
            key: self.text(fields[key], (*place, key)) for key in named[1:] if fields.get(key) is not None
        }
        if "type" in _OUT_KEYS[format] and fields.get("type") is None:
            example = "Q4_K_M" if format == "gguf" else "nf4"
            message = f"{self.dotted(place)} needs the key 'type'"
            self.needs(place, ("type",), message, f"For example type: {example}.")
            return None
        scalars = {key: self.scalar(each, (*place, key)) for key, each in fields.items() if key not in named}
        options = {key: each for key, each in scalars.items() if each is not None}
        return Form(format, texts.get("type"), texts.get("imatrix"), options)

    def recipe(self) -> Recipe | None:
        """The whole document, or ``None`` when it has no method; problems are collected either way."""
        value = self.document.value
        if not isinstance(value, dict):
            self.problem(
                (),
                f"a recipe is a mapping of keys to values, not {kind_of(value)}",
                "It begins with a line such as merge_method: linear.",
            )
            return None
        if value.keys() >= {"recipe", "tasks"} and "merge_method" not in value:
            self.problem((), "this is a search spec, not a recipe", "'alloy search FILE' runs it.")
            return None
        known = tuple(field for field in Recipe.__struct_fields__ if field != "warnings")
        fields = self.mapping(value, (), known)
        method = None
        if fields.get("merge_method") is None:
            example = "For example merge_method: linear."
            self.needs((), ("merge_method",), "the recipe needs the key 'merge_method'", example)
        else:
            method = self.text(fields["merge_method"], ("merge_method",))
        given = [key for key in ("models", "slices", "modules") if fields.get(key) is not None]
        if len(given) != 1:
            found = " and ".join(f"'{key}'" for key in given) or "none"
            self.needs(
                (),
                () if given else ("models", "slices", "modules"),
                f"the recipe needs exactly one of 'models', 'slices' and 'modules'; it has {found}",
                "Give models to merge every layer, slices to choose layers, modules for models of several parts.",
            )
        slices, models = self.sources_of(fields, ())
        modules: dict[str, Module] = {}
        if fields.get("modules") is not None:
            within = self.mapping(fields["modules"], ("modules",), None)
            if not within and fields["modules"] == {}:
                self.problem(("modules",), "modules is empty", "Name a part, or leave it out.")
            read_modules = {key: self.module(each, ("modules", key)) for key, each in within.items()}
            modules = {key: each for key, each in read_modules.items() if each is not None}
        if fields.get("tokenizer") is not None and fields.get("tokenizer_source") is not None:
            self.problem(
                ("tokenizer_source",), "'tokenizer' and 'tokenizer_source' exclude each other", "Keep one."
            )
        base = fields.get("base_model")
        seed = 0 if fields.get("seed") is None else self.whole(fields["seed"], ("seed",), 0, MAX_SEED)
        recipe = Recipe(
            merge_method=method or "",
            models=models,
            slices=slices,
            modules=modules,
            base_model=None if base is None else self.model(base, ("base_model",)),
            dtype=self.dtype(fields.get("dtype"), ("dtype",)),
            out_dtype=self.dtype(fields.get("out_dtype"), ("out_dtype",)),
            tokenizer_source=self.tokenizer_source(fields.get("tokenizer_source"), ("tokenizer_source",)),
            tokenizer=self.tokenizer(fields.get("tokenizer"), ("tokenizer",)),
            chat_template=self.chat_template(fields.get("chat_template"), ("chat_template",)),
            parameters=self.settings(fields.get("parameters"), ("parameters",)),
            seed=seed or 0,
            name=self.document_name(fields.get("name"), ("name",)),
            out=self.form(fields.get("out"), ("out",)),
        )
        return msgspec.structs.replace(recipe, warnings=tuple(self.warnings))
