"""Sets of a run's predictions: of which ECGs they are fitted, what is counted, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from one_line import failure_of

from inference.abstention import abstentions


def write_run(folder, rows, ensemble=False):
    columns = ["patient_id", "fold", "repeat", "split", "y_true_PE", "y_score_PE"]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(0, "file", [f"{number}.xml" for number in range(len(table))])
    table.to_csv(folder / "predictions.csv", index=False)
    if ensemble:
        (folder / "ensemble.json").write_text("{}")
    return folder


def single(folder, n_positive=3):
    """Three positives of 0.6, 0.7, 0.8 and negatives of 0.1, 0.2, 0.3 validate; five ECGs are tested."""
    rows = [(f"p{n}", 0, 0, "validation", 1, 0.6 + n / 10) for n in range(n_positive)]
    rows += [(f"n{n}", 0, 0, "validation", 0, 0.1 + n / 10) for n in range(3)]
    rows += [("p0", 0, 0, "validation", 1, 0.0)]  # a second ECG of a patient counts no second time
    rows += [("u", 0, 0, "validation", None, 0.0)]  # nor does one of which the label is not known
    tested = [(1, 0.9), (1, 0.5), (1, 0.05), (0, 0.15), (0, 0.75)]
    rows += [(f"t{n}", 0, 0, "test", *pair) for n, pair in enumerate(tested)]
    return write_run(folder, rows)


def test_hand_worked(tmp_path):
    """With three of each class and alpha 0.3, below 0.6 is not PE, and above 0.3 is not "no PE"."""
    (sets,) = abstentions(single(tmp_path), ["PE"], 0.3)
    assert sets.in_words(np.array([0.2, 0.45, 0.65])) == ["no PE", "not sure", "PE"]
    assert (sets.n_tested, sets.n_decided, sets.n_right) == (5, 4, 2)
    assert sets.n_covered == [1, 2] and sets.n_of_class == [2, 3] and sets.fitted_on == "validation"


def test_a_fold_is_tested_by_the_patients_of_the_others(tmp_path):
    """Fold 1 alone has scores that its own negatives would allow; those of fold 2 do not."""
    rows = [(f"p{n}", 1 + n % 2, 1, "test", 1, 0.9) for n in range(8)]
    rows += [(f"n{n}", 1, 1, "test", 0, 0.9) for n in range(4)]
    rows += [(f"m{n}", 2, 1, "test", 0, 0.1) for n in range(4)]
    (sets,) = abstentions(write_run(tmp_path, rows, ensemble=True), ["PE"], 0.25)
    assert sets.fitted_on == "out-of-fold" and len(sets.sets.negative) == 8
    # fold 1 by fold 2 (negatives 0.1): 0.9 is PE, four are wrong; fold 2 by fold 1 (0.9): 0.9 may be both
    assert (sets.n_decided, sets.n_right, sets.n_covered) == (12, 8, [4, 8])


@pytest.mark.parametrize("n_positive", [0, 2])
def test_too_few_of_a_class_are_one_line(tmp_path, n_positive):
    run = single(tmp_path, n_positive)
    n_found = n_positive or 1  # the second ECG of p0 is then the only one
    line = failure_of(abstentions, run, ["PE"], 0.3)
    assert line == (
        f"--alpha: found {n_found} patients with PE among the validation ECGs, expected 3 or more for "
        "alpha 0.3: take a larger alpha"
    )


def test_a_run_without_the_scores_is_one_line(tmp_path):
    assert "found no predictions.csv" in failure_of(abstentions, tmp_path, ["PE"], 0.1)
    run = write_run(tmp_path, [("a", 0, 0, "test", 1, 0.5)])
    assert "found no validation ECGs, expected them for --alpha" in failure_of(abstentions, run, ["PE"], 0.1)
    assert "found no score of MI" in failure_of(abstentions, run, ["MI"], 0.1)
