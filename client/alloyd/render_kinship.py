"""Kinship as text for people: every pair, the parts where models are most and least alike. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .columns import columns
from .units import format_count


def kinship_table(result: Mapping[str, Any]) -> list[str]:
    """A line for every pair of models, the mean of several, then each pair's cosine by component and by layer."""
    pairs = result.get("pairs", [])
    rows = [
        (*each["models"], _cosine(each["cosine"]), _cosine(each["pearson"]), f"{each['euclidean']:.4g}")
        for each in pairs
    ]
    mean = result.get("mean", {})
    if len(pairs) > 1:
        rows.append(
            ("mean", "", _cosine(mean["cosine"]), _cosine(mean["pearson"]), f"{mean['euclidean']:.4g}")
        )
    lines = columns([("MODEL", "AND", "COSINE", "PEARSON", "DISTANCE"), *rows])
    for title, key, name in (("COMPONENT", "components", "component"), ("LAYER", "layers", "layer")):
        parts = result.get(key, [])
        if parts and pairs:
            lines += ["", *_by_part(title, name, parts, pairs)]
    lines += ["", _of_what(result)]
    parts = [*result.get("components", []), *result.get("layers", [])]
    if any(pair["cosine"] is None for part in (*parts, {"pairs": pairs}) for pair in part["pairs"]):
        lines.append("-: there at least one of the two is as the base was")
    return lines


def _by_part(
    title: str, name: str, parts: Sequence[Mapping[str, Any]], pairs: Sequence[Mapping[str, Any]]
) -> list[str]:
    head = (title, *(f"{each['models'][0]} AND {each['models'][1]}" for each in pairs), "WEIGHTS")
    rows = [
        (
            str(each[name]),
            *(_cosine(pair["cosine"]) for pair in each["pairs"]),
            format_count(each["parameters"]),
        )
        for each in parts
    ]
    return columns([head, *rows])


def _of_what(result: Mapping[str, Any]) -> str:
    norms = ", ".join(f"{each['name']} {each['norm']:.4g}" for each in result.get("models", []))
    return (
        f"of what was learnt since {result.get('base')}, in {format_count(result.get('parameters', 0))} weights; "
        f"norms: {norms}"
    )


def _cosine(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"
