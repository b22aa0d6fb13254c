"""Tells whether models share one vocabulary: a digest of each token table, read from tokenizer.json."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ..checkpoints.small_file import read_small


def vocabulary_digest(folder: Path) -> str | None:
    """A digest of the map from tokens to ids, added tokens included; ``None`` without a readable tokenizer.json.

    Two models with equal digests give every token the same row.
    """
    try:
        table = _token_table(json.loads(read_small(folder / "tokenizer.json")))
    except (OSError, ArithmeticError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    return hashlib.sha256(json.dumps(sorted(table.items())).encode()).hexdigest()


def _token_table(tokenizer: Any) -> dict[str, int]:
    """Token -> id of a parsed tokenizer.json (BPE, WordPiece, WordLevel: a mapping; Unigram: a list)."""
    vocabulary = tokenizer["model"]["vocab"]
    if isinstance(vocabulary, dict):
        table = {str(token): int(number) for token, number in vocabulary.items()}
    else:
        table = {str(entry[0]): number for number, entry in enumerate(vocabulary)}
    for added in tokenizer.get("added_tokens") or ():
        table[str(added["content"])] = int(added["id"])
    return table
