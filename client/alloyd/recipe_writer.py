"""A recipe as YAML text, and as the YAML that mergekit 0.1.5 reads, where that can say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import yaml

Plain = Mapping[str, Any]

_BEYOND_ASCII: Final = re.compile(r"[^ -~\n]")
_LEVELS: Final = ("models", "slices", "sources", "modules")

_TASK_VECTORS: Final = frozenset({"weight", "density", "normalize", "rescale", "lambda", "int8_mask"})
_SPEAKS: Final[Mapping[str, frozenset[str]]] = {
    "linear": frozenset({"weight", "normalize"}),
    "slerp": frozenset({"t"}),
    "nuslerp": frozenset({"weight", "nuslerp_flatten", "nuslerp_row_wise"}),
    "multislerp": frozenset({"weight", "normalize_weights", "eps"}),
    "karcher": frozenset({"max_iter", "tol"}),
    "task_arithmetic": _TASK_VECTORS,
    "ties": _TASK_VECTORS,
    "dare_linear": _TASK_VECTORS,
    "dare_ties": _TASK_VECTORS,
    "breadcrumbs": _TASK_VECTORS | {"gamma"},
    "breadcrumbs_ties": _TASK_VECTORS | {"gamma"},
    "della": _TASK_VECTORS | {"epsilon"},
    "della_linear": _TASK_VECTORS | {"epsilon"},
    "sce": frozenset({"select_topk", "int8_mask"}),
    "ram": frozenset({"epsilon"}),
    "ramplus_tl": frozenset({"r", "alpha", "epsilon"}),
    "model_stock": frozenset({"filter_wise"}),
    "nearswap": frozenset({"t"}),
    "arcee_fusion": frozenset(),
    "passthrough": frozenset({"scale"}),
}
"""The methods of mergekit 0.1.5 and their parameters."""

RANDOM: Final = frozenset({"dare_linear", "dare_ties", "della", "della_linear"})
"""Methods whose masks are drawn: by mergekit from a stream of its own, so that they are alike but not the same."""


class CannotSay(ValueError):
    """mergekit has no words for a recipe; the text is a sentence that says for what."""


def write(recipe: Plain, *, head: Sequence[str] = ()) -> str:
    """``recipe`` as YAML, with the lines of ``head`` as comments before it; reading it gives ``recipe`` again."""
    comments = "".join(f"# {_one_line(line)}\n" for line in head)
    return comments + yaml.safe_dump(
        dict(recipe), sort_keys=False, allow_unicode=True, default_flow_style=None, width=120
    )


def as_json(value: object) -> str:
    """``value`` as JSON that is YAML too: what is beyond ASCII is escaped as YAML does it.

    JSON's own escapes make two halves of a character beyond the first 65,536, which YAML does not put together again.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return _BEYOND_ASCII.sub(lambda found: f"\\U{ord(found[0]):08x}", text)


def to_mergekit(recipe: Plain, *, out_dtype: str) -> dict[str, Any]:
    """``recipe`` in mergekit's words: the same arithmetic in float32, rounded once to ``out_dtype``.

    Raises
    ------
    CannotSay
        Its method or one of its parameters is unknown to mergekit, or a path cannot be written there.
    """
    method = recipe["merge_method"]
    if method not in _SPEAKS:
        raise CannotSay(f"mergekit 0.1.5 has no merge method '{method}'")
    for name in _parameter_names(recipe):
        if name not in _SPEAKS[method]:
            raise CannotSay(f"{method} has no parameter '{name}' in mergekit 0.1.5")
    said = {key: _plain(value) for key, value in recipe.items() if key not in ("seed", "name", "out")}
    return {**said, "dtype": "float32", "out_dtype": out_dtype}


def _parameter_names(level: Plain) -> Iterator[str]:
    """The parameters that are set anywhere below ``level``."""
    yield from level.get("parameters") or {}
    for key in _LEVELS:
        below = level.get(key) or ()
        for each in below.values() if isinstance(below, Mapping) else below:
            yield from _parameter_names(each)


def _plain(value: Any) -> Any:
    """``value`` with what mergekit wants longer written out: a lone condition is a list there."""
    if isinstance(value, Mapping):
        fields = {key: _plain(each) for key, each in value.items()}
        parameters = fields.get("parameters")
        if isinstance(parameters, dict):
            fields["parameters"] = {
                name: [each] if isinstance(each, Mapping) else each for name, each in parameters.items()
            }
        return fields
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _one_line(text: str) -> str:
    """``text`` without what would end a comment."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())
