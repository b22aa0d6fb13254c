"""How a byte-level BPE cuts text into words before it merges: the rules of tokenizer.json, llama.cpp's name for them.

llama.cpp has a fixed list of pre-tokenizers, each a name for some regular expressions and for whether a word that is a
token is taken whole (``ignore_merges``). A tokenizer whose rules are none of them cannot be held.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Rule = tuple[str, ...]

_CONTRACTION: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS: Final = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_OTHERS: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED: Final = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
)
_SLASHED: Final = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_DEEPSEEK: Final = (
    r'[!"#$%&'
    r"'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _split(expression: str) -> Rule:
    return ("split", expression)


_BYTES: Final[Rule] = ("bytes",)
_GPT2: Final[Rule] = ("gpt-2",)

_NAMES: Final[Mapping[tuple[tuple[Rule, ...], bool], str]] = {
    ((_GPT2,), False): "gpt-2",
    ((("digits", "each"), _GPT2), False): "smollm",
    ((_split(rf"{_CONTRACTION}|{_WORDS}|\p{{N}}{{1,3}}|{_OTHERS}"), _BYTES), True): "llama-bpe",
    ((_split(rf"{_CONTRACTION}|{_WORDS}|\p{{N}}{{1,3}}|{_OTHERS}"), _BYTES), False): "dbrx",
    ((_split(rf"{_CONTRACTION}|{_WORDS}|\p{{N}}|{_OTHERS}"), _BYTES), False): "qwen2",
    (
        (
            _split(
                rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
                r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            ),
            _BYTES,
        ),
        False,
    ): "qwen35",
    ((_split(rf"{_CASED[0]}|{_CASED[1]}|\p{{N}}|{_SLASHED}"), _BYTES), True): "tekken",
    (
        (
            _split(rf"{_CASED[0]}{_CONTRACTION}?|{_CASED[1]}{_CONTRACTION}?|\p{{N}}{{1,3}}|{_SLASHED}"),
            _BYTES,
        ),
        False,
    ): "gpt-4o",
    (
        (_split(r"\p{N}{1,3}"), _split("[一-龥぀-ゟ゠-ヿ]+"), _split(_DEEPSEEK), _BYTES),
        False,
    ): "deepseek-v3",
    (
        (("punctuation", "Contiguous"), _GPT2, ("digits", "together"), _split("[0-9][0-9][0-9]")),
        False,
    ): "falcon",
}


def name_of(tokenizer: Mapping[str, Any]) -> str | None:
    """llama.cpp's name of the pre-tokenizer of a byte-level BPE, or None where it has none of that kind."""
    rules = _rules(tokenizer.get("pre_tokenizer"))
    if rules is None or not _harmless(tokenizer.get("normalizer")):
        return None
    model = tokenizer.get("model")
    whole = isinstance(model, dict) and model.get("ignore_merges") is True
    return _NAMES.get((rules, whole))


def _rules(step: object) -> tuple[Rule, ...] | None:
    if not isinstance(step, dict):
        return None
    kind = step.get("type")
    if kind == "Sequence" and isinstance(step.get("pretokenizers"), list):
        found: list[Rule] = []
        for each in step["pretokenizers"]:
            rules = _rules(each)
            if rules is None:
                return None
            found.extend(rules)
        return tuple(found)
    if kind == "ByteLevel" and not step.get("add_prefix_space"):
        return (_BYTES if step.get("use_regex") is False else _GPT2,)
    if kind == "Digits":
        return (("digits", "each" if step.get("individual_digits") else "together"),)
    if kind == "Punctuation":
        return (("punctuation", str(step.get("behavior", "Isolated"))),)
    if kind == "Split" and step.get("behavior") == "Isolated" and not step.get("invert"):
        pattern = step.get("pattern")
        expression = pattern.get("Regex") if isinstance(pattern, dict) else None
        return (_split(expression),) if isinstance(expression, str) else None
    return None


def _harmless(normalizer: object) -> bool:
    """Whether llama.cpp, which normalises nothing, does the same to ordinary text (NFC changes only odd text)."""
    if normalizer is None:
        return True
    if not isinstance(normalizer, dict):
        return False
    if normalizer.get("type") == "Sequence":
        steps = normalizer.get("normalizers")
        return isinstance(steps, list) and all(_harmless(each) for each in steps)
    return normalizer.get("type") == "NFC"
