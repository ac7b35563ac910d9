"""Numbers as people read them: metrics with their intervals, percentages, minus signs."""

import math
import re

from metrics.metric import Metric


def number(value: float, digits: int = 3) -> str:
    """Return text such as "0.742"; "undefined" for nan."""
    return "undefined" if math.isnan(value) else f"{value:.{digits}f}"


def interval(metric: Metric, digits: int = 3) -> str:
    """Return text such as "0.641-0.836", with a word between the ends where one is negative."""
    to = " to " if metric.low < 0 else "-"
    return f"{metric.low:.{digits}f}{to}{metric.high:.{digits}f}"


def with_interval(metric: Metric, digits: int = 3) -> str:
    """Return text such as "0.742 (0.641-0.836)", the value alone where no interval is defined."""
    value = number(metric.value, digits)
    return f"{value} ({interval(metric, digits)})" if metric.is_defined and metric.has_interval else value


def typeset(numbers: str) -> str:
    """Return numbers as a page has them: an en dash between the ends of an interval, minus signs."""
    return re.sub(r"(?<=\d)-(?=\d)", "–", numbers).replace("-", "−")


def percent(share: float) -> str:
    """Return a probability as text such as "33.9 %"; only 0 and 1 are written as 0 and 100."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %"
