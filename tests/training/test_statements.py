"""What a supervised pretraining asks for, its loss, and how it is scored."""

import numpy as np
import pandas as pd
import pytest
import torch
from fake_cohort import cohort_of
from one_line import failure_of
from sklearn.metrics import r2_score, roc_auc_score

from training.statements import (
    Question,
    StatementsLoss,
    announce_scores,
    ask,
    explained,
    macro_auroc,
    score_outputs,
    without_labels,
)

NAN = float("nan")


def test_targets_are_labels_and_standardised_values():
    labels = [[1, 0, NAN], [0, 0, 1], [1, 0, 0], [0, 1, 0]]
    values = pd.DataFrame({"rate": [60, 80, NAN, 500], "constant": [1, 1, 1, 2], "qt": [NAN, 1, 3, NAN]})
    cohort, question = ask(cohort_of(labels), values, np.array([0, 1, 2]), ["RBBB"])
    # MI never varies among the three that train, nor does "constant"
    assert question == Question(("PE", "AF"), ("rate", "qt"), ("RBBB",)) and question.n_outputs == 4
    assert str(question) == "2 labels and 2 measured values; left out: RBBB"
    np.testing.assert_array_equal(cohort.targets[:, :2], np.array(labels, np.float32)[:, [0, 2]])
    rate, qt = cohort.targets[:, 2:].T
    np.testing.assert_allclose(rate, [-1, 1, NAN, 1], atol=0.02)  # the extreme is cut
    np.testing.assert_allclose(qt, [NAN, -1, 1, NAN], atol=0.02)
    assert cohort.targets.dtype == np.float32


def test_labels_that_are_left_out_are_gone():
    cohort = without_labels(cohort_of([[1, 0, 1], [0, 1, 0]]), ["MI"])
    assert cohort.label_names == ("PE", "AF") and cohort.targets.tolist() == [[1, 1], [0, 0]]
    line = failure_of(without_labels, cohort, ["MI"])
    assert line == "--leave-out: found MI, expected some of the labels PE, AF"


def test_nothing_to_ask_for_is_refused():
    line = failure_of(ask, cohort_of([[1], [1]]), pd.DataFrame(index=range(2)), np.array([0, 1]), [])
    assert line == "found no label and no measured value that varies among the training ECGs"


def test_the_loss_by_hand():
    outputs = torch.tensor([[0.0, 2.0, 1.0, 3.0], [0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    targets = torch.tensor([[1.0, NAN, 0.5, 0.0], [0.0, 1.0, NAN, 0.25]])
    loss = StatementsLoss(n_labels=2, measured_weight=0.3)(outputs, targets)
    # three known labels at probability 1/2; Huber: 0.5²/2, 3 - 1/2, 0.25²/2
    expected = np.log(2) + 0.3 * (0.125 + 2.5 + 0.03125) / 3
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    assert outputs.grad[0, 1] == 0 and outputs.grad[1, 2] == 0 and outputs.grad.isfinite().all()


def test_nothing_known_is_a_loss_of_zero():
    loss = StatementsLoss(n_labels=1, measured_weight=1.0)
    assert loss(torch.ones(2, 3), torch.full((2, 3), NAN)) == 0
    assert loss(torch.ones(2, 1), torch.tensor([[1.0], [0.0]])) > 0  # labels alone


def test_scores_are_those_of_scikit_learn():
    generator = np.random.default_rng(0)
    targets = (generator.random((200, 3)) < [0.3, 0.5, 0]).astype(float)
    outputs = targets + generator.normal(size=(200, 3))
    targets[::7, 0] = NAN
    known = ~np.isnan(targets[:, 0])
    aurocs = [
        roc_auc_score(targets[known, 0], outputs[known, 0]),
        roc_auc_score(targets[:, 1], outputs[:, 1]),
    ]
    assert macro_auroc(targets, outputs) == pytest.approx(np.mean(aurocs))  # the third has one class
    values = generator.normal(size=(200, 2))
    found = values + generator.normal(size=(200, 2))
    values[5, 1] = NAN
    known = ~np.isnan(values[:, 1])
    expected = [r2_score(values[:, 0], found[:, 0]), r2_score(values[known, 1], found[known, 1])]
    np.testing.assert_allclose(explained(values, found), expected)
    assert np.isnan(macro_auroc(np.zeros((3, 1)), np.zeros((3, 1))))


def test_superclasses_are_announced_beside_the_statements(capsys):
    names = ("NORM", "MI", "STTC", "CD", "HYP", "IMI")
    targets = np.array([[1, 0, 0, 0, 0, 0, 0.5], [0, 1, 1, 1, 1, 1, NAN], [0, 0, 0, 0, 0, 0, -0.5]])
    outputs = np.array([[2.0, -1, -1, -1, -1, 1, 0.5], [-1, 2, 2, 2, 2, 0, 0], [-1, 3, -1, -1, -1, -1, -0.5]])
    scores = score_outputs(Question(names, ("rate",), ()), targets, outputs)
    assert scores["n_positive"].tolist()[:6] == [1] * 6 and scores["n_known"].tolist() == [3] * 6 + [2]
    assert scores["score"].tolist() == [1, 0.5, 1, 1, 1, 0.5, 1]
    announce_scores(scores, 3)
    assert capsys.readouterr().out.splitlines() == [
        "test        3 ECGs, scored once",
        "            macro-AUROC  0.7500   mean of 2 labels",
        "            macro-AUROC  0.9000   mean of 5 superclasses: NORM, MI, STTC, CD, HYP",
        "            explained    1.0000   of the variance, mean of 1 measured values",
    ]
