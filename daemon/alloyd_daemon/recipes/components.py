"""Which part of a model a tensor belongs to, by its name: embeddings, attention, mlp, norms."""

from __future__ import annotations

import re
from typing import Final

COMPONENTS: Final = ("embeddings", "attention", "mlp", "norms", "other")

_PARTS: Final = (
    ("norms", re.compile(r"norm|(^|[._])ln_?([0-9]|f|1|2)?([._]|$)")),
    ("embeddings", re.compile(r"embed|(^|\.)(wte|wpe|lm_head|output)\.")),
    ("attention", re.compile(r"attn|attention")),
    ("mlp", re.compile(r"mlp|feed_forward|ffn|experts|moe")),
)


def component_of(name: str) -> str:
    """The part of a model that the tensor called ``name`` belongs to, one of :data:`COMPONENTS`.

    The norm inside an attention (``self_attn.q_norm``) is a norm; an output head is one of the embeddings.
    """
    lowered = name.lower()
    return next((part for part, pattern in _PARTS if pattern.search(lowered)), "other")
