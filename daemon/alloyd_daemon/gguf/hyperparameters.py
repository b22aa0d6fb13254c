"""A model's config.json as the GGUF tables read it: typed look-ups, defaults, one form of the rotary keys.

transformers leaves out of config.json what equals its default, so that a missing key means the default of the model's
class; each family's table lists those that matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alloyd.errors import PlanError

_ROPE_THETA = ("global_rope_theta", "rope_theta", "rotary_emb_base")
_LOCAL_THETA = ("local_rope_theta", "rope_local_base_freq")


class Hyperparameters:
    """The keys of the text model in ``config``, completed by ``defaults``."""

    def __init__(self, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        text = config.get("text_config")
        self._values: dict[str, Any] = {**config, **text} if isinstance(text, dict) else dict(config)
        self._defaults = defaults

    def get(self, *keys: str) -> Any:
        """The first of ``keys`` that is there and not null, else the first default, else None."""
        for source in (self._values, self._defaults):
            for key in keys:
                if source.get(key) is not None:
                    return source[key]
        return None

    def whole(self, *keys: str, least: int = 1) -> int:
        """A whole number of at least ``least``.

        Raises
        ------
        PlanError
            It is missing or something else.
        """
        found = self.get(*keys)
        if type(found) is not int or not least <= found < 2**31:
            raise _wrong(keys[0], f"a whole number from {least} up", found)
        return found

    def optional_whole(self, *keys: str, least: int = 0) -> int | None:
        """Like :meth:`whole`, or None where it is missing."""
        return None if self.get(*keys) is None else self.whole(*keys, least=least)

    def number(self, *keys: str) -> float:
        """A finite number.

        Raises
        ------
        PlanError
            It is missing or something else.
        """
        return number(self.get(*keys), keys[0])

    def optional_number(self, *keys: str) -> float | None:
        """Like :meth:`number`, or None where it is missing."""
        return None if self.get(*keys) is None else self.number(*keys)

    @property
    def layers(self) -> int:
        return self.whole("num_hidden_layers", "n_layers", "n_layer", "num_layers")

    @property
    def heads(self) -> int:
        return self.whole("num_attention_heads", "n_heads", "n_head")

    @property
    def kv_heads(self) -> int:
        return self.optional_whole("num_key_value_heads", "n_kv_heads", least=1) or self.heads

    @property
    def head_dim(self) -> int:
        """Elements of a head: stated, or the hidden size shared out among the heads."""
        stated = self.optional_whole("head_dim", least=1)
        return stated or self.whole("hidden_size", "n_embd") // self.heads

    @property
    def rope(self) -> dict[str, Any]:
        """The rotary embedding of layers that attend to everything: ``rope_type``, ``rope_theta``, scaling keys."""
        return self._rope("full_attention")

    @property
    def local_rope(self) -> dict[str, Any] | None:
        """The rotary embedding of layers with a sliding window, where it is one of its own."""
        parameters = self._mapping("rope_parameters") or {}
        if isinstance(parameters.get("sliding_attention"), dict):
            return self._rope("sliding_attention")
        theta = self.optional_number(*_LOCAL_THETA)
        return None if theta is None else {"rope_type": "default", "rope_theta": theta}

    def ignored_window(self) -> list[str]:
        """What to say of a sliding window that llama.cpp ignores; nothing where no token lies beyond it."""
        window = self.optional_whole("sliding_window")
        if not window or window >= self.whole("max_position_embeddings", "n_positions", "n_ctx"):
            return []
        return [f"llama.cpp attends to the whole context, where the model looks back {window} tokens"]

    def _rope(self, kind: str) -> dict[str, Any]:
        parameters = self._mapping("rope_parameters") or self._mapping("rope_scaling") or {}
        nested = parameters.get(kind)
        found = dict(nested) if isinstance(nested, dict) else dict(parameters)
        found.setdefault("rope_type", found.get("type") or "default")
        if found.get("rope_theta") is None:
            found["rope_theta"] = self.get(*_ROPE_THETA) or 10000.0
        for key in ("partial_rotary_factor", "original_max_position_embeddings"):
            if found.get(key) is None and self.get(key) is not None:
                found[key] = self.get(key)
        if not isinstance(found["rope_type"], str):
            raise _wrong("rope_type", "a name", found["rope_type"])
        return found

    def _mapping(self, key: str) -> Mapping[str, Any] | None:
        found = self.get(key)
        if found is not None and not isinstance(found, dict):
            raise _wrong(key, "an object", found)
        return found


def number(value: Any, key: str) -> float:
    """``value`` as a finite float.

    Raises
    ------
    PlanError
        It is something else.
    """
    if type(value) not in (int, float) or not abs(value) < 1e30:
        raise _wrong(key, "a finite number", value)
    return float(value)


def original_context(rope: Mapping[str, Any]) -> int:
    """Tokens of the context that a scaled rotary embedding ``rope`` was trained on.

    Raises
    ------
    PlanError
        It is missing, or no number of tokens from 2 up.
    """
    key = "original_max_position_embeddings"
    found = number(rope.get(key), key)
    if not 2 <= found < 2**31:
        raise _wrong(key, "a number of tokens from 2 up", found)
    return int(found)


def _wrong(key: str, wanted: str, found: Any) -> PlanError:
    said = "missing" if found is None else repr(found)[:60]
    return PlanError(
        f"config.json: '{key}' must be {wanted} to be written as GGUF; it is {said}",
        hint="Correct the model's config.json.",
        key=key,
    )
