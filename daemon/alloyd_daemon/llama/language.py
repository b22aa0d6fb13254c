"""How a subject's text becomes tokens and back, and when its answers end: from a folder, or from the GGUF file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alloyd.errors import SourceError

from ..causal_lm.generation import MOST_NEW_TOKENS
from ..causal_lm.loading import load_generation_config, load_tokenizer
from .engine import Engine
from .messages import Detokenize, Loaded, Text, Tokenize, Tokens


@dataclass(frozen=True, slots=True)
class Language:
    """A tokenizer (transformers', or one that is used alike), the tokens that end an answer, and its most tokens."""

    tokenizer: Any
    ends: Collection[int]
    most_tokens: int

    def text_of(self, ids: Sequence[int]) -> str:
        """Text without special tokens."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text


def from_folder(folder: Path, config: Any = None, ends: Collection[int] = ()) -> Language:
    """The language of a Hugging Face folder; ``config`` is the model's config.json, ``ends`` are known beside it.

    Raises SourceError where the folder has no tokenizer.
    """
    tokenizer = load_tokenizer(folder)
    generation = load_generation_config(folder)
    said = generation.eos_token_id
    if said is None:
        said = (config or {}).get("eos_token_id")
    if said is None:
        said = tokenizer.eos_token_id
    own = () if said is None else (said,) if isinstance(said, int) else tuple(said)
    return Language(tokenizer, frozenset((*own, *ends)), generation.max_new_tokens or MOST_NEW_TOKENS)


def beside(file: Path) -> Path | None:
    """The folder of ``file`` where a Hugging Face tokenizer lies beside it, as beside every file that alloyd writes."""
    there = any((file.parent / name).is_file() for name in ("tokenizer.json", "tokenizer.model"))
    return file.parent if there else None


def from_file(engine: Engine, loaded: Loaded, name: str) -> Language:
    """The language of the vocabulary in the GGUF file that ``engine`` has open.

    Raises SourceError where it has none.
    """
    if not loaded.texts:
        raise SourceError(
            f"{name} has no vocabulary to turn text into tokens with",
            hint="Give the folder of the model's Hugging Face tokenizer: --option tokenizer=FOLDER.",
        )
    return Language(_Vocabulary(engine, loaded), frozenset(loaded.ends), MOST_NEW_TOKENS)


class _Vocabulary:
    """A GGUF file's own vocabulary, with those members of a transformers tokenizer that scoring uses."""

    def __init__(self, engine: Engine, loaded: Loaded) -> None:
        self._engine = engine
        self.bos_token_id = loaded.begin if loaded.begin >= 0 else None
        self.eos_token_id = loaded.end if loaded.end >= 0 else None
        self.bos_token = loaded.begin_text or None

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        reply = self._engine.ask(Tokenize(text, add_special_tokens), Tokens)
        ids: list[int] = np.frombuffer(reply.ids, np.int32).tolist()
        return ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return self._engine.ask(Detokenize(np.array(ids, np.int32).tobytes()), Text).text
