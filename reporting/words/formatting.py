"""Numbers as people read them: metrics with their intervals, percentages, minus signs.

All have the en dashes and minus signs of a page; `plain` makes hyphens of them, for what is printed.
"""

import math

from metrics.metric import Metric

MOST_DIGITS = 6  # of the ends of an interval
EN_DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def number(value: float, digits: int = 3) -> str:
    """Return text such as "0.742" or "−0.300"; "undefined" for nan."""
    return "undefined" if math.isnan(value) else f"{value + 0.0:.{digits}f}".replace("-", MINUS)


def signed(value: float, digits: int = 3) -> str:
    """Return text such as "+0.021" or "−0.300"."""
    return f"{value + 0.0:+.{digits}f}".replace("-", MINUS)  # 0.0 makes a negative zero positive


def interval(metric: Metric, digits: int = 3) -> str:
    """Return text such as "0.641–0.836", with a word between the ends where one is negative.

    Where the upper end is infinite, it is "above 0.641".
    An interval that rounding would leave without width has more digits: "0.9996–0.9998".
    """
    if math.isnan(metric.high):
        return f"above {number(metric.low, digits)}"
    to = " to " if metric.low < 0 else EN_DASH
    ends = [number(end, digits) for end in (metric.low, metric.high)]
    while ends[0] == ends[1] and digits < MOST_DIGITS:
        digits += 1
        ends = [number(end, digits) for end in (metric.low, metric.high)]
    return to.join(ends)


def with_interval(metric: Metric, digits: int = 3) -> str:
    """Return text such as "0.742 (0.641–0.836)", the value alone where no interval is defined.

    An infinite value has a lower bound only: "above 3.20". One of which too few ECGs tell is the reason.
    """
    if not metric.is_defined:
        return (
            f"above {number(metric.low, digits)}"
            if metric.has_interval
            else metric.reason or number(math.nan)
        )
    value = number(metric.value, digits)
    return f"{value} ({interval(metric, digits)})" if metric.has_interval else value


def few(number_of_100: float) -> str:
    """Return a small number as text such as "0.5"; what rounds to nothing is "fewer than 0.1"."""
    return f"{number_of_100:.1f}" if number_of_100 >= 0.05 else "fewer than 0.1"


def plain(text: str) -> str:
    """Return text as it is printed, where people copy it from: hyphens for en dashes and minus signs."""
    return text.replace(EN_DASH, "-").replace(MINUS, "-")


def percent(share: float) -> str:
    """Return a probability as text such as "33.9 %"; only 0 and 1 are written as 0 and 100."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %"
