"""A number with its interval, and how it stands in `metrics.json`, where null takes the place of nan."""

import math
from typing import Any, NamedTuple


class Metric(NamedTuple):
    """A metric with its interval; nan where undefined. What is None does not belong to this metric.

    A high end that is nan beside a low end that is not is infinite, and so is such a value: a likelihood
    ratio of at least `low`.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    n_resamples: int | None = None  # that define the metric, of a bootstrap interval
    missed_per_100: float | None = None  # of the ECGs ruled out, those with the disease
    successes: int | None = None  # of a share: right decisions
    n: int | None = None  # of a share: all decisions
    reason: str | None = None  # why the value, or its interval, is not defined

    @property
    def is_defined(self) -> bool:
        return not math.isnan(self.value)

    @property
    def has_interval(self) -> bool:
        return not math.isnan(self.low)


def metrics_to_json(metrics: Any) -> Any:
    """Return metrics in nested dictionaries and lists as JSON has them: `metrics_from_json` reads it back."""
    if isinstance(metrics, Metric):
        metrics = {key: part for key, part in metrics._asdict().items() if part is not None}
    if isinstance(metrics, dict):
        return {key: metrics_to_json(part) for key, part in metrics.items()}
    if isinstance(metrics, list):
        return [metrics_to_json(part) for part in metrics]
    return None if isinstance(metrics, float) and math.isnan(metrics) else metrics


def metrics_from_json(content: Any) -> Any:
    """Return the content of `metrics.json`: what has value, low and high is a `Metric`, null is nan."""
    if isinstance(content, list):
        return [metrics_from_json(part) for part in content]
    if not isinstance(content, dict):
        return math.nan if content is None else content
    parts = {key: metrics_from_json(part) for key, part in content.items()}
    if {"value", "low", "high"} <= parts.keys():
        return Metric(**{key: part for key, part in parts.items() if key in Metric._fields})
    return parts
