"""Sets of a run's predictions: of which ECGs they are fitted, what is counted, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from one_line import failure_of
from scipy.stats import beta

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
    assert [share[-3:-1] for share in (sets.decided, sets.right)] == [(4, 5), (2, 4)]
    assert [share[-3:-1] for share in sets.covered] == [(1, 2), (2, 3)] and sets.fitted_on == "validation"


def test_intervals_count_patients(tmp_path):
    """Clopper and Pearson's; with two ECGs of each patient, who agree, as if each had one."""
    (sets,) = abstentions(single(tmp_path), ["PE"], 0.3)
    low, high = (beta.ppf(share, *pair) for share, pair in ((0.025, (4, 2)), (0.975, (5, 1))))
    assert sets.decided[:3] == pytest.approx((0.8, low, high))
    table = pd.read_csv(tmp_path / "predictions.csv")
    pd.concat([table, table[table["split"] == "test"]]).to_csv(tmp_path / "predictions.csv", index=False)
    (twice,) = abstentions(tmp_path, ["PE"], 0.3)
    assert twice.decided.n == 10
    # by Rao and Scott the variance of 5 patients, with their n - 1, is 1.25 times that of 5 ECGs
    effect = 2 * 5 / 4
    ends = beta.ppf(0.025, 8 / effect, 2 / effect + 1), beta.ppf(0.975, 8 / effect + 1, 2 / effect)
    assert twice.decided[1:3] == pytest.approx(ends)


def test_a_fold_is_tested_by_the_patients_of_the_others(tmp_path):
    """Fold 1 alone has scores that its own negatives would allow; those of fold 2 do not."""
    rows = [(f"p{n}", 1 + n % 2, 1, "test", 1, 0.9) for n in range(8)]
    rows += [(f"n{n}", 1, 1, "test", 0, 0.9) for n in range(4)]
    rows += [(f"m{n}", 2, 1, "test", 0, 0.1) for n in range(4)]
    (sets,) = abstentions(write_run(tmp_path, rows, ensemble=True), ["PE"], 0.25)
    assert sets.fitted_on == "out-of-fold" and len(sets.sets.negative) == 8
    # fold 1 by fold 2 (negatives 0.1): 0.9 is PE, four are wrong; fold 2 by fold 1 (0.9): 0.9 may be both
    assert (sets.decided.successes, sets.right.successes) == (12, 8)
    assert [share.successes for share in sets.covered] == [4, 8]
    assert sets.rough.startswith("the mean of the models is used")


def test_of_repeats_the_first_is_counted(tmp_path):
    rows = [(f"p{n}", n % 2 + 1, 1, "test", n % 2, n % 2) for n in range(16)]
    again = [(patient, fold + 2, 2, part, label, 1 - score) for patient, fold, _, part, label, score in rows]
    (sets,) = abstentions(write_run(tmp_path, rows + again, ensemble=True), ["PE"], 0.25)
    assert sets.decided.n == 16 and sets.sets.positive.tolist() == [1] * 8


def test_where_the_validation_ecgs_chose_the_epoch_the_guarantee_is_rough(tmp_path):
    run = single(tmp_path)
    for keep, rough in (("last", ""), ("best", "the validation ECGs chose the epoch too")):
        (run / "hyperparameters.yml").write_text(f"keep: {keep}\n", encoding="utf-8")
        assert abstentions(run, ["PE"], 0.3)[0].rough == rough


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
