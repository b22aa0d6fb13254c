"""Prometheus' text format, version 0.0.4: families of samples as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple


class Family(NamedTuple):
    """One metric: its samples are the end of their name (``_sum``, or nothing), labels and value."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: Sequence[tuple[str, Mapping[str, str], float]]


def single(name: str, kind: Literal["counter", "gauge"], help: str, value: float) -> Family:
    """A metric of one value."""
    return Family(name, kind, help, [("", {}, value)])


def by_label(
    name: str, kind: Literal["counter", "gauge"], help: str, label: str, values: Mapping[str, float]
) -> Family:
    """A metric of one value for each value of ``label``."""
    return Family(name, kind, help, [("", {label: key}, value) for key, value in values.items()])


class Histogram:
    """Counts observations in buckets that hold what is at most their bound."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = (*bounds, math.inf)
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._sum += value
        self._counts[next(place for place, bound in enumerate(self._bounds) if value <= bound)] += 1

    def family(self, name: str, help: str) -> Family:
        """The metric as it is now; its buckets are cumulative, as the format wants them."""
        samples: list[tuple[str, Mapping[str, str], float]] = []
        total = 0
        for bound, count in zip(self._bounds, self._counts, strict=True):
            total += count
            samples.append(("_bucket", {"le": _number(bound)}, total))
        return Family(name, "histogram", help, [*samples, ("_sum", {}, self._sum), ("_count", {}, total)])


def text(families: Iterable[Family]) -> str:
    """All of ``families``, as a scrape answers."""
    return "".join(f"{line}\n" for family in families for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {_escaped(family.help)}"
    yield f"# TYPE {family.name} {family.kind}"
    for end, labels, value in family.samples:
        pairs = ",".join(f'{name}="{_escaped(each, quotes=True)}"' for name, each in labels.items())
        yield f"{family.name}{end}{f'{{{pairs}}}' if pairs else ''} {_number(value)}"


def _escaped(value: str, *, quotes: bool = False) -> str:
    value = value.replace("\\", r"\\").replace("\n", r"\n")
    return value.replace('"', r"\"") if quotes else value


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))
