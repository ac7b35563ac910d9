"""Numbers and intervals as text."""

import math

import pytest

from metrics.metric import Metric
from reporting.words.formatting import few, interval, number, percent, plain, signed, with_interval


def test_a_metric_with_its_interval():
    assert with_interval(Metric(0.7421, 0.6412, 0.8358)) == "0.742 (0.641–0.836)"
    assert with_interval(Metric(0.62, -0.41, 0.93), 2) == "0.62 (−0.41 to 0.93)"
    assert with_interval(Metric(0.7421)) == "0.742"
    assert with_interval(Metric(math.nan)) == number(math.nan) == "undefined"
    assert with_interval(Metric(math.nan, 3.2), 2) == "above 3.20"
    assert with_interval(Metric(math.nan, reason="too few positives (9)")) == "too few positives (9)"


def test_no_interval_is_rounded_to_a_point():
    assert with_interval(Metric(0.9999, 0.99967, 0.99998)) == "1.000 (0.9997–1.0000)"
    assert few(0.52) == "0.5" and few(0.05) == "0.1" and few(0.04) == few(0) == "fewer than 0.1"


def test_a_page_has_dashes_and_minus_signs_and_what_is_printed_has_hyphens():
    shown = [interval(Metric(0.7, 0.6412, 0.8358)), interval(Metric(-0.3, -1.2, -0.11), 2), number(-0.3)]
    assert shown == ["0.641–0.836", "−1.20 to −0.11", "−0.300"]
    assert [signed(0.0214), signed(-0.5, 1)] == ["+0.021", "−0.5"]
    assert [signed(-0.0), number(-0.0), number(-0.0004)] == ["+0.000", "0.000", "−0.000"]
    assert [plain(text) for text in shown] == ["0.641-0.836", "-1.20 to -0.11", "-0.300"]


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.339, "33.9 %"),
        (0, "0.0 %"),
        (1e-5, "< 0.1 %"),
        (0.0005, "0.1 %"),
        (0.9996, "> 99.9 %"),
        (1, "100.0 %"),
    ],
)
def test_percent_rounds_no_probability_to_certainty(share, words):
    assert percent(share) == words
