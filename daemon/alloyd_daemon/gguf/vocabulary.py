"""A tokenizer's files as llama.cpp's vocabulary: tokens, their types and scores, and how text is cut.

Two kinds of tokenizer are held: byte-level BPE (``gpt2``), from tokenizer.json, and SentencePiece BPE (``llama``), from
tokenizer.model or a tokenizer.json that was made of one. What is none of both is told by a reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from alloyd.errors import SourceError

from ..checkpoints.json_object import Lie, load_object
from ..checkpoints.small_file import read_small
from .library import missing
from .pretokenizer import name_of
from .sentencepiece_model import kind_of

_BYTE: Final = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_LOOKS_SPECIAL: Final = re.compile(r"<\|.*\|>|<｜.*｜>|<unused.*>|<pad>|<mask>|<2mass>|\[@BOS@\]", re.DOTALL)
_ADDED_SCORE: Final = -1000.0
_PADDING_SCORE: Final = -10000.0
_MAX_TOKENIZER: Final = 1 << 28


class TokenType(IntEnum):
    """What a token is, as the file stores it."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """One entry a row of the embedding; ``pre`` is llama.cpp's name of the pre-tokenizer."""

    model: str
    """``gpt2`` or ``llama``."""
    pre: str
    tokens: Sequence[str]
    types: Sequence[TokenType]
    scores: Sequence[float] | None
    space_prefix: bool | None
    """Whether a space is put before the text, where the file must say so."""
    warnings: tuple[str, ...]


class Unheld(Exception):
    """A tokenizer that llama.cpp cannot hold; the text says why."""


class TokenizerFiles:
    """The tokenizer's files in ``folder``, each read once and strictly."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokenizer = self._object("tokenizer.json")
        self.config = self._object("tokenizer_config.json") or {}
        self.added = self._object("added_tokens.json") or {}

    @property
    def sentencepiece(self) -> Path | None:
        path = self.folder / "tokenizer.model"
        return path if path.is_file() else None

    def added_tokens(self) -> dict[int, tuple[str, bool]]:
        """Added tokens by id: their text, and whether they are special."""
        found: dict[int, tuple[str, bool]] = {}
        for text, number in self.added.items():
            found[self.id_of(number, "added_tokens.json", text)] = (text, False)
        decoder = self.config.get("added_tokens_decoder")
        if isinstance(decoder, dict):
            for number, entry in decoder.items():
                if not re.fullmatch("[0-9]{1,10}", number):
                    raise self.wrong("tokenizer_config.json", f"has an added token of the id '{number[:20]}'")
                found[int(number)] = self._entry(entry, "tokenizer_config.json")
        listed = (self.tokenizer or {}).get("added_tokens")
        for entry in listed if isinstance(listed, list) else ():
            content = self._entry(entry, "tokenizer.json")
            found[self.id_of(entry.get("id"), "tokenizer.json", content[0])] = content
        return found

    def id_of(self, number: object, file: str, token: str) -> int:
        """``number`` as a token's id."""
        if type(number) is not int or not 0 <= number < 2**31:
            raise self.wrong(file, f"gives the token {token[:40]!r} the id {number!r}")
        return number

    def wrong(self, file: str, found: str) -> SourceError:
        """The error for a file that ``found`` describes."""
        path = str(self.folder / file)
        return SourceError(f"{path} {found}", hint="Download or copy the tokenizer's files again.", path=path)

    def _entry(self, entry: object, file: str) -> tuple[str, bool]:
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
            raise self.wrong(file, "has an added token without a text")
        return entry["content"], entry.get("special") is True

    def _object(self, file: str) -> dict[str, Any] | None:
        path = self.folder / file
        try:
            return load_object(read_small(path, at_most=_MAX_TOKENIZER))
        except FileNotFoundError:
            return None
        except OSError as wrong:
            raise self.wrong(file, f"cannot be read: {wrong.strerror}") from wrong
        except Lie as wrong:
            raise self.wrong(file, wrong.found) from wrong


def read_vocabulary(files: TokenizerFiles, rows: int) -> Vocabulary:
    """The vocabulary of a model whose embedding has ``rows`` rows.

    Raises
    ------
    Unheld
        There is no tokenizer, or one that llama.cpp cannot hold.
    SourceError
        A file that is damaged.
    """
    if files.sentencepiece is not None:
        return _from_sentencepiece(files, files.sentencepiece, rows)
    if files.tokenizer is None:
        raise Unheld(f"there is no tokenizer in {files.folder}")
    model = files.tokenizer.get("model")
    kind = model.get("type") if isinstance(model, dict) else None
    if not isinstance(model, dict) or kind != "BPE":
        raise Unheld(f"llama.cpp has no tokenizer of the type '{kind}'")
    vocabulary = _words(files, model)
    if model.get("byte_fallback") is True:
        return _from_merges(files, model, vocabulary, rows)
    pre = name_of(files.tokenizer)
    if pre is None:
        raise Unheld("llama.cpp has no pre-tokenizer with the rules of tokenizer.json")
    tokens = {number: (text, TokenType.NORMAL, 0.0) for text, number in vocabulary.items()}
    return _assemble("gpt2", pre, files, tokens, rows, scored=False)


def _words(files: TokenizerFiles, model: Mapping[str, Any]) -> dict[str, int]:
    listed = model.get("vocab")
    if not isinstance(listed, dict) or not listed:
        raise files.wrong("tokenizer.json", "has no vocabulary")
    found = {text: files.id_of(number, "tokenizer.json", text) for text, number in listed.items()}
    if len(set(found.values())) != len(found):
        raise files.wrong("tokenizer.json", "gives one id to two tokens")
    return found


def _from_sentencepiece(files: TokenizerFiles, path: Path, rows: int) -> Vocabulary:
    try:
        from sentencepiece import SentencePieceProcessor
    except ModuleNotFoundError:
        raise missing("sentencepiece") from None
    processor = SentencePieceProcessor()
    try:
        data = read_small(path, at_most=_MAX_TOKENIZER)
        processor.LoadFromSerializedProto(data)
        kind_said = kind_of(data)
    except (OSError, RuntimeError, ValueError) as wrong:
        raise files.wrong(path.name, f"is no SentencePiece model ({wrong})") from wrong
    if kind_said.name != "BPE":
        raise Unheld(f"llama.cpp has no SentencePiece tokenizer of the kind {kind_said.name}")
    tokens: dict[int, tuple[str, TokenType, float]] = {}
    for number in range(processor.vocab_size()):
        kind = TokenType.NORMAL
        if processor.IsUnknown(number):
            kind = TokenType.UNKNOWN
        elif processor.IsControl(number):
            kind = TokenType.CONTROL
        elif processor.IsUnused(number):
            kind = TokenType.UNUSED
        elif processor.IsByte(number):
            kind = TokenType.BYTE
        tokens[number] = (processor.IdToPiece(number), kind, processor.GetScore(number))
    vocabulary = _assemble("llama", "default", files, tokens, rows, scored=True)
    if vocabulary.space_prefix is None and not kind_said.space_prefix:
        vocabulary = replace(vocabulary, space_prefix=False)
    if kind_said.normalises:
        warning = "llama.cpp does not normalise text, which tokenizer.model does before it cuts it"
        vocabulary = replace(vocabulary, warnings=(*vocabulary.warnings, warning))
    return vocabulary


def _from_merges(
    files: TokenizerFiles, model: Mapping[str, Any], vocabulary: Mapping[str, int], rows: int
) -> Vocabulary:
    """A SentencePiece BPE out of its merges: a token's score is how early it is merged."""
    if not _spells_spaces(files.tokenizer or {}):
        raise Unheld("llama.cpp has no tokenizer with the normalizer and pre-tokenizer of tokenizer.json")
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise files.wrong("tokenizer.json", "has no merges")
    scores: dict[str, float] = {}
    for pair in merges:
        halves = pair.split(" ") if isinstance(pair, str) else pair
        if (
            not isinstance(halves, list)
            or len(halves) != 2
            or not all(isinstance(each, str) for each in halves)
        ):
            raise files.wrong("tokenizer.json", f"has a merge that is not two tokens: {str(pair)[:40]}")
        scores.setdefault("".join(halves), -float(len(scores)))
    last = -float(len(scores))
    unknown = model.get("unk_token")
    tokens: dict[int, tuple[str, TokenType, float]] = {}
    for text, number in vocabulary.items():
        kind = TokenType.NORMAL
        if text == unknown:
            kind = TokenType.UNKNOWN
        elif _BYTE.fullmatch(text):
            kind = TokenType.BYTE
        tokens[number] = (text, kind, scores.get(text, last))
    return _assemble("llama", "default", files, tokens, rows, scored=True)


def _spells_spaces(tokenizer: Mapping[str, Any]) -> bool:
    """Whether spaces become '▁' and nothing else happens to the text before it is merged."""
    space = "\N{LOWER ONE EIGHTH BLOCK}"
    replaces = False
    for step in _steps(tokenizer.get("normalizer"), "normalizers"):
        if (
            step.get("type") == "Replace"
            and step.get("pattern") == {"String": " "}
            and step.get("content") == space
        ):
            replaces = True
        elif not (step.get("type") == "Prepend" and step.get("prepend") == space):
            return False
    for step in _steps(tokenizer.get("pre_tokenizer"), "pretokenizers"):
        if (
            step.get("type") == "Metaspace"
            and step.get("replacement") == space
            and step.get("split") is False
        ):
            replaces = True
        elif not (step.get("type") == "Split" and step.get("pattern") == {"String": " "} and replaces):
            return False
    return replaces


def _steps(step: object, key: str) -> list[dict[str, Any]]:
    if not isinstance(step, dict):
        return []
    if step.get("type") == "Sequence" and isinstance(step.get(key), list):
        return [each for inner in step[key] for each in _steps(inner, key)]
    return [step]


def _assemble(
    model: str,
    pre: str,
    files: TokenizerFiles,
    tokens: dict[int, tuple[str, TokenType, float]],
    rows: int,
    *,
    scored: bool,
) -> Vocabulary:
    """One token for each row of the embedding: those of the tokenizer, the added ones over them, padding."""
    for number, (text, special) in files.added_tokens().items():
        if scored and tokens.get(number, ("", None, 0))[1] is TokenType.UNKNOWN and tokens[number][0] == text:
            kind = TokenType.CONTROL if special else TokenType.UNKNOWN
            tokens[number] = (text, kind, _ADDED_SCORE)
        elif special or _LOOKS_SPECIAL.fullmatch(text):
            tokens[number] = (text, TokenType.CONTROL, _ADDED_SCORE)
        else:
            spaced = text.replace("\N{LOWER ONE EIGHTH BLOCK}", " ")
            tokens[number] = (spaced, TokenType.USER_DEFINED, _ADDED_SCORE)
    beyond = sorted(number for number in tokens if number >= rows)
    warnings: tuple[str, ...] = ()
    if beyond:
        warnings = (
            f"{len(beyond)} tokens from {tokens[beyond[0]][0]!r} on have no row in the embedding and are left out",
        )
    padding = [(f"[PAD{number}]", TokenType.UNUSED, _PADDING_SCORE) for number in range(rows)]
    whole = [tokens.get(number, padding[number]) for number in range(rows)]
    return Vocabulary(
        model=model,
        pre=pre,
        tokens=[each[0] for each in whole],
        types=[each[1] for each in whole],
        scores=[each[2] for each in whole] if scored else None,
        space_prefix=_space_prefix(files) if model == "llama" else None,
        warnings=warnings,
    )


def _space_prefix(files: TokenizerFiles) -> bool | None:
    """Whether SentencePiece text begins with a space: as the files say, None where they say llama.cpp's default."""
    stated = files.config.get("add_prefix_space")
    if isinstance(stated, bool):
        return stated
    tokenizer = files.tokenizer
    if tokenizer is None:
        return None
    normalizers = _steps(tokenizer.get("normalizer"), "normalizers")
    cutters = _steps(tokenizer.get("pre_tokenizer"), "pretokenizers")
    prefixed = any(step.get("type") == "Prepend" for step in normalizers) or any(
        step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never"
        for step in cutters
    )
    return None if prefixed else False
