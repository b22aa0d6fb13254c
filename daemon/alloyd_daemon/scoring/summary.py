"""What a model's item scores come to: a figure a metric, with its 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..evaluator import ItemScore, Metric
from .intervals import bootstrap_interval, wilson_interval

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric of one model over ``n`` items, with the interval (``low``, ``high``) at 95 %.

    ``interval`` says how that was made: ``wilson`` for shares of 0 and 1, else ``bootstrap`` over the items; a single
    item has none (``low`` and ``high`` are then ``None``).
    """

    metric: Metric
    value: float
    low: float | None
    high: float | None
    n: int
    interval: str


@dataclass(frozen=True, slots=True)
class Columns:
    """Values and weights of one metric, float64 of shape (items,)."""

    metric: Metric
    values: Array
    weights: Array

    @property
    def is_share(self) -> bool:
        """Whether every value is 0 or 1 and counts alike."""
        return not self.metric.weight and bool(np.isin(self.values, (0.0, 1.0)).all())

    def figure(self) -> float:
        """The metric over all items."""
        return float(self.scaled(self.values.sum() / self.weights.sum()))

    def resampled(self, numbers: NDArray[np.int64]) -> Array:
        """The metric over each row of item numbers."""
        weights = self.weights[numbers].sum(axis=-1) if self.metric.weight else numbers.shape[-1]
        return self.scaled(self.values[numbers].sum(axis=-1) / weights)

    def scaled(self, ratio: Array) -> Array:
        """The ratio as the metric has it."""
        if self.metric.scale == "exp":
            with np.errstate(over="ignore"):
                return np.asarray(np.exp(ratio))
        return np.asarray(ratio / math.log(2) if self.metric.scale == "bits" else ratio)


def columns(metric: Metric, scores: Sequence[ItemScore]) -> Columns:
    """What ``metric`` is made of.

    Raises ValueError for no scores, and for an item without the metric's values.
    """
    name = metric.value or metric.name
    if not scores:
        raise ValueError("no figure of no scores")
    for each in scores:
        if name not in each.values or (metric.weight and metric.weight not in each.values):
            raise ValueError(f"item {each.id} has no value for the metric '{metric.name}'")
    values = np.array([each.values[name] for each in scores], np.float64)
    weights = np.array([each.values[metric.weight] if metric.weight else 1 for each in scores], np.float64)
    return Columns(metric, values, weights)


def metrics_of(metrics: Sequence[Metric], scores: Sequence[ItemScore]) -> tuple[Metric, ...]:
    """``metrics``, or where a task declares none, those that every score has a value of, in the order of the first."""
    if metrics or not scores:
        return tuple(metrics)
    return tuple(Metric(name) for name in scores[0].values if all(name in each.values for each in scores))


def summarise(metrics: Sequence[Metric], scores: Sequence[ItemScore]) -> tuple[Figure, ...]:
    """The figure of each metric (of :func:`metrics_of`) over the items' scores; none for no scores."""
    return tuple(_figure(columns(metric, scores)) for metric in metrics_of(metrics, scores) if scores)


def figures(metrics: Sequence[Metric], scores: Sequence[ItemScore]) -> Mapping[str, float]:
    """The figures alone, by metric, without the work of an interval."""
    return {metric.name: columns(metric, scores).figure() for metric in metrics_of(metrics, scores) if scores}


def _figure(parts: Columns) -> Figure:
    n = len(parts.values)
    if parts.is_share:
        low, high = wilson_interval(int(parts.values.sum()), n)
        return Figure(parts.metric, parts.figure(), low, high, n, "wilson")
    if n == 1:
        return Figure(parts.metric, parts.figure(), None, None, n, "none")
    low, high = bootstrap_interval(parts.resampled, n)
    return Figure(parts.metric, parts.figure(), low, high, n, "bootstrap")
