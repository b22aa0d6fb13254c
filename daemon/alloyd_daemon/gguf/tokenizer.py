"""The keys of a GGUF file that hold the vocabulary, its special tokens and the chat template."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from alloyd.errors import SourceError

from .architecture import Writer
from .library import gguf
from .vocabulary import TokenizerFiles, Unheld, read_vocabulary

_SPECIAL_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "merges.txt",
    "chat_template.json",
    "chat_template.jinja",
    "additional_chat_templates",
)


def add_vocabulary(
    writer: Writer,
    folder: Path,
    config: Mapping[str, Any],
    rows: int,
    *,
    space_prefix: bool | None,
) -> list[str]:
    """Add the vocabulary of a model whose embedding has ``rows`` rows; return what a user should be told.

    ``space_prefix`` is what the family says of a space before the text, if it says anything. A tokenizer that llama.cpp
    cannot hold leaves the file without a vocabulary: programs that send numbers of tokens can use it.

    Raises
    ------
    SourceError
        A tokenizer file that is damaged.
    """
    files = TokenizerFiles(folder)
    try:
        vocabulary = read_vocabulary(files, rows)
    except Unheld as reason:
        writer.add_tokenizer_model("none")
        if not _has_vocab_size(writer):
            writer.add_vocab_size(rows)
        return [f"the file has no vocabulary, only numbers of tokens: {reason}"]
    if vocabulary.model == "llama":
        prefix = vocabulary.space_prefix if space_prefix is None else space_prefix
        if prefix is not None:
            writer.add_add_space_prefix(prefix)
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(list(vocabulary.tokens))
    if vocabulary.scores is not None:
        writer.add_token_scores(list(vocabulary.scores))
    writer.add_token_types([int(kind) for kind in vocabulary.types])
    _add_special(writer, folder, config, rows, merges=vocabulary.model == "gpt2")
    return list(vocabulary.warnings)


def _add_special(writer: Writer, folder: Path, config: Mapping[str, Any], rows: int, *, merges: bool) -> None:
    """Numbers of special tokens, which of them begin and end a text, merges, the chat template."""
    package = gguf()
    # SpecialVocab reads a folder; the model's config may not be the one that lies beside its tokenizer.
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        for name in _SPECIAL_FILES:
            if (folder / name).exists():
                (place / name).symlink_to((folder / name).resolve())
        (place / "config.json").write_text(json.dumps(dict(config)), encoding="utf-8")
        log = logging.getLogger("gguf.vocab")
        before, log.disabled = log.disabled, True
        try:
            special = package.SpecialVocab(place, load_merges=merges, n_vocab=rows)
            special.add_to_gguf(writer, quiet=True)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, OSError) as wrong:
            raise SourceError(
                f"the tokenizer's files in {folder} cannot be understood: {wrong}",
                hint="Download or copy the tokenizer's files again.",
                path=str(folder),
            ) from wrong
        finally:
            log.disabled = before


def _has_vocab_size(writer: Writer) -> bool:
    return any(key.endswith(".vocab_size") for data in writer.kv_data for key in data)
