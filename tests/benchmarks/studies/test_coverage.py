"""The study of the intervals: its truth against simulation, and that they hold in a small run of it."""

import math

import numpy as np
import pytest

from benchmarks.studies import coverage
from benchmarks.studies.coverage import Cell, Count
from metrics.metric import Metric
from metrics_and_performance import evaluate


@pytest.mark.parametrize("auroc", [0.5, 0.8])
def test_the_truth_is_that_of_a_very_large_study(auroc):
    cell = Cell(6_000, auroc, 1)
    y_true, score, other, patients = coverage.simulate(np.random.default_rng(0), cell)
    assert len(y_true) == 60_000 and patients.max() == 59_999
    label = evaluate(
        y_true,
        coverage.expit(score + coverage.LEVEL),
        thresholds=[coverage.expit(coverage.THRESHOLD + coverage.LEVEL)],
        label_names=["PE"],
        patient_ids=patients,
        n_resamples=2,
        prevalence=coverage.OTHER_PREVALENCE,
    )["labels"]["PE"]
    found = label | {f"{name}, 3 %": label["at_prevalence"][name] for name in ("ppv", "npv")}
    for name, value in coverage.true_values(auroc).items():
        if name != "difference":
            scale = 100 if name == "ct_avoided_per_100" else 1
            assert found[name].value == pytest.approx(value, rel=0.04, abs=0.03 * scale), name
    # two equally good models that share half of the variance
    noise = np.stack([score, other]) - coverage._shift(auroc) * y_true
    assert np.corrcoef(noise)[0, 1] == pytest.approx(math.sqrt(0.5), abs=0.01)


def test_ecgs_of_a_patient_are_alike():
    y_true, score, _, patients = coverage.simulate(np.random.default_rng(0), Cell(2000, 0.5, 2))
    first, second = (np.flatnonzero(patients[1:] == patients[:-1]) + later for later in (0, 1))
    assert (y_true[first] == y_true[second]).all()
    assert np.corrcoef(score[first], score[second])[0, 1] == pytest.approx(0.5, abs=0.03)
    assert np.bincount(patients).max() == 2


def test_misses_are_told_apart_by_hand():
    judged = np.array(
        [coverage.judge("auroc", metric, 0.7) for metric in (Metric(0.8, 0.75, 0.9), Metric(0.6, 0.5, 0.69))]
        + [coverage.judge("auroc", Metric(0.7, 0.6, 0.8), 0.7), coverage.judge("auroc", Metric(0.7), 0.7)]
    )
    third = pytest.approx(1 / 3)
    assert coverage.count("auroc", judged) == (0.75, third, third, third)
    judged = judged[[0, 2]]
    assert coverage.count("auroc", judged) == Count(1.0, 0.5, 0.5, 0.0)
    assert coverage.count("negative_likelihood_ratio", judged) == Count(1.0, 0.5, 0.0, 0.5)
    # an infinite ratio has no upper end
    assert coverage.judge("positive_likelihood_ratio", Metric(math.nan, 3.0), 50.0) == (True, False, False)


@pytest.mark.slow
def test_intervals_hold_in_a_small_run():
    cells = [Cell(9, 0.75, 1), Cell(9, 0.75, 3)]
    counts = coverage.coverage(cells, 60)
    for cell in cells:
        for name, one in counts[cell].items():
            if name.startswith(("specificity_at", "npv_at", "ct_")):
                assert one.printed == 0, name  # too few positives
            else:
                assert one.printed > 0.75, (cell, name)
                assert one.covers >= 0.90, (cell, name)  # 0.93 less a standard error
    table = coverage.table(counts)
    assert table.splitlines()[0] == "| | 0.75, one | 0.75, 1 to 3 |"
    assert "| npv at sensitivity 95 | – | – |" in table
