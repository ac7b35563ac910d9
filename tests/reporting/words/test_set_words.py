"""What a report says of sets of PE, no PE or not sure: counts, guarantee, and why there are none."""

import numpy as np
import pandas as pd

from inference.abstention import CalibrationScores
from metrics.conformal import ConformalSets
from reporting.words.set_words import report_sentences, sets_line

TESTED = [(1, 0.9), (1, 0.5), (1, 0.05), (0, 0.15), (0, 0.95)]


def scores(n_positive=9, rough=""):
    """Positives of 0.61 and more and negatives of 0.39 and less calibrate; five ECGs are tested."""
    sets = ConformalSets(0.6 + np.arange(1, n_positive + 1) / 100, np.arange(31, 40) / 100)
    tested = pd.DataFrame(TESTED, columns=["y_true_PE", "y_score_PE"]).assign(patient_id=list("abcde"))
    return CalibrationScores("PE", sets, "validation", rough, tested)


def test_counts_and_intervals():
    """Below 0.61 is not PE, above 0.39 not "no PE": 0.5 is neither, and not sure."""
    what, holds = report_sentences(scores())
    assert "by the validation scores of 9 patients with and 9 without PE (conformal sets)" in what
    assert "Of the test ECGs 4 of 5 (0.800, 95 % CI 0.284–0.995) are decided" in what
    assert "of these 2 of 4 (0.500, 95 % CI 0.068–0.932) rightly" in what
    assert "1 of 3 with PE are called no PE, and 1 of 2 without it are called PE." in what
    assert holds.startswith("Of patients with PE at most 10 % are called no PE, and as few of those without")
    assert "not at another hospital" in holds and holds.endswith("unlike the training.")


def test_where_it_holds_roughly_it_is_said_why():
    _, holds = report_sentences(scores(rough="the validation ECGs chose the epoch too"))
    assert "about 10 % are called no PE" in holds
    assert holds.endswith("Here it holds roughly, as the validation ECGs chose the epoch too.")


def test_too_few_patients_are_said():
    assert report_sentences(scores(n_positive=8)) == [
        "predict.py --alpha cannot call an ECG PE, no PE or not sure here: found 8 patients with PE among "
        "the validation ECGs, expected 9 or more for alpha 0.1. With a larger alpha it can."
    ]


def test_line():
    assert sets_line(scores().at(0.1)) == (
        "PE at alpha 0.1, from 9 patients with and 9 without, validation; on the run's test ECGs 4 of 5 "
        "decided, 2 of them right; 1 of 3 with PE called no PE, 1 of 2 without called PE"
    )
