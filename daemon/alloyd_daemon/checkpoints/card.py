"""The model card (README.md) of an output: front matter for hubs, parents with their licences, the recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .small_file import read_small

CARD: Final = "README.md"
RECIPE: Final = "alloyd_recipe.yaml"

_FRONT: Final = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_MAX_CARD: Final = 2**20

_PERMISSIVE: Final = frozenset(
    ("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "unlicense", "cc0-1.0", "zlib")
)


@dataclass(frozen=True, slots=True)
class Parent:
    """One model or adapter that went in: its name as the recipe has it (no path is resolved), its licence if known."""

    name: str
    revision: str | None = None
    licence: str | None = None
    adapter: bool = False


def licence_of(folder: Path) -> str | None:
    """The licence that the model card in ``folder`` declares, ``None`` when there is none."""
    try:
        text = read_small(folder / CARD)[:_MAX_CARD].decode("utf-8", errors="replace").replace("\r\n", "\n")
    except OSError:
        return None
    front = _FRONT.match(text)
    if front is None:
        return None
    declared = _values(front[1], "license")
    if declared == ["other"]:
        declared = _values(front[1], "license_name") or declared
    return ", ".join(declared) or None


def licence_warnings(parents: Sequence[Parent]) -> tuple[str, ...]:
    """What to tell the user about licences of the parents that differ or are unknown."""
    known = {parent.licence for parent in parents if parent.licence}
    unknown = [parent.name for parent in parents if not parent.licence]
    warnings: list[str] = []
    if len(known) > 1:
        each = "; ".join(f"{parent.name}: {parent.licence or 'unknown'}" for parent in parents)
        strict = known - _PERMISSIVE
        verdict = "may conflict" if strict else "differ, all permissive"
        warnings.append(f"the licences of the parents {verdict} ({each})")
    if unknown and known:
        warnings.append(f"no licence is declared by {', '.join(unknown)}")
    return tuple(warnings)


def render_card(
    *,
    title: str,
    recipe: str,
    methods: Sequence[str],
    parents: Sequence[Parent],
    base: str | None = None,
    dtype: str | None = None,
    parameters: int | None = None,
    warnings: Sequence[str] = (),
    library: str = "transformers",
    form: str | None = None,
) -> bytes:
    """The bytes of README.md.

    Parameters
    ----------
    title:
        The recipe's name; never the output's path.
    recipe:
        The recipe's text, verbatim.
    methods:
        Merge methods in the order they first appear.
    parents:
        In recipe order, the base included; names such as ``org/model`` become hub links.
    base:
        The base model's name, if there is one.
    library:
        What hubs load it with.
    form:
        What it is stored as, where that is not the values of ``dtype``.
    """
    known = {parent.licence for parent in parents}
    licence = known.pop() if len(known) == 1 else None
    hub = list(dict.fromkeys(parent.name for parent in parents if _is_hub_name(parent.name)))
    lines = ["---"]
    if hub:
        lines += ["base_model:", *(f"- {json.dumps(name)}" for name in hub), "base_model_relation: merge"]
    lines += [f"library_name: {library}", *([f"license: {json.dumps(licence)}"] if licence else [])]
    lines += [
        "tags:",
        "- merge",
        "- alloyd",
        "- mergekit",
        "---",
        "",
        f"# {_plain(title) or 'Merged model'}",
        "",
    ]
    how = ", ".join(f"`{name}`" for name in dict.fromkeys(methods)) or "no method"
    onto = f", with {_link(base)} as base" if base else ""
    adapters = sum(each.adapter for each in parents)
    models = f"{len(parents) - adapters} models" if len(parents) - adapters != 1 else "one model"
    with_them = f" and {adapters} adapters" if adapters > 1 else " and one adapter" if adapters else ""
    lines += [f"A merge of {models}{with_them} by {how}{onto}, made with alloyd.", ""]
    facts = [*([f"{parameters:,} parameters"] if parameters else []), *([f"`{dtype}`"] if dtype else [])]
    facts += [f"stored as {form}"] if form else []
    if facts:
        lines += [", ".join(facts) + ".", ""]
    lines += ["## Parents", "", "| model | revision | licence |", "|---|---|---|"]
    lines += [
        f"| {_link(each.name)} | {_plain(each.revision or '')} | {_plain(each.licence or 'not declared')} |"
        for each in parents
    ]
    lines.append("")
    for each in (*licence_warnings(parents), *warnings):
        lines += [f"> **Warning:** {_plain(each)}", ""]
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", recipe)), default=0))
    lines += [
        "## Recipe",
        "",
        f"The same recipe, sources and version give the same bytes; see `{RECIPE}`.",
        "",
    ]
    lines += [f"{fence}yaml", recipe.rstrip("\n"), fence, ""]
    return "\n".join(lines).encode("utf-8")


def _values(front: str, key: str) -> list[str]:
    """The text, or list of texts, of a top-level key of YAML front matter; nothing cleverer is needed."""
    found = re.search(rf"^{key}:[ \t]*(.*)$", front, re.MULTILINE)
    if found is None:
        return []
    inline = found[1].strip()
    if inline.startswith("["):
        parts = inline.strip("[]").split(",")
    elif inline:
        parts = [inline.split(" #")[0]]
    else:
        listed = re.match(r"(?:\r?\n[ \t]*-[ \t]+.*)+", front[found.end() :])
        parts = re.findall(r"-[ \t]+(.*)", listed[0]) if listed else []
    return [text for part in parts if (text := part.strip().strip("'\"").lower())]


def _is_hub_name(name: str) -> bool:
    return _HUB_NAME.fullmatch(name) is not None


def _link(name: str) -> str:
    return f"[{name}](https://huggingface.co/{name})" if _is_hub_name(name) else f"`{_plain(name)}`"


def _plain(text: str) -> str:
    """One line that breaks no table."""
    return " ".join(text.split()).replace("|", "\\|")
