"""The head that a training with loaded weights begins with: scikit-learn's logistic regressions."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from fake_cohort import SignalsInMemory
from sklearn.linear_model import LogisticRegression
from tiny_experiment import CPU, NO_AUGMENTATION, make_cohort
from torch import nn

from dataset.batches import TrainingBatches
from dataset.signals import SignalsOnDevice
from focal_loss import FocalLoss
from models.head import Head
from run_folder.run import Run
from training.linear_probe import (
    PRIOR_OF_CLINICAL,
    PRIOR_OF_CORRECTION,
    PRIOR_OF_FEATURE,
    RATE_OF_ANSWER,
    fit_head,
)
from training.transfer import Pretrained

LOADED = Pretrained(frozenset({"trunk.weight"}))


class Deviations(nn.Module):
    """The head sees the deviation of each lead, and of three more that are constant; notes its mode."""

    def __init__(self, n_labels=1, n_clinical=0):
        super().__init__()
        self.head = Head(15, n_labels, n_clinical)
        self.modes = []

    def forward(self, signal, clinical=None):
        self.modes.append(self.training)
        features = torch.cat([signal.std(dim=2), torch.full((len(signal), 3), 7.0)], dim=1)
        return self.head(features, clinical)


def batches_of(cohort, indices, batch_size=5):
    shared = {"signals": SignalsOnDevice(cohort.signals, CPU), "normalisation": "none", "n_samples": 5000}
    return TrainingBatches(
        cohort, indices, augmentation=NO_AUGMENTATION, seed=5, batch_size=batch_size, **shared
    )


def probe(model, cohort, run, *, loss=None, indices=None, pretrained=LOADED):
    batches = batches_of(cohort, np.arange(24) if indices is None else indices)
    loss = loss or FocalLoss(gamma=0.0)
    return fit_head(model, batches, loss, pretrained=pretrained, precision="float32", run=run)


def features_of(cohort):
    return (cohort.signals.read(np.arange(24)) / 1000).std(axis=2, ddof=1)


def standard(values):
    return (values - values.mean(axis=0)) / values.std(axis=0)


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


@torch.no_grad()
def logits_of(model, cohort):
    signals = torch.from_numpy(cohort.signals.read(np.arange(24))).float() / 1000
    clinical = () if cohort.clinical.empty else (torch.tensor(cohort.clinical.to_numpy()),)
    return model(signals, *clinical).numpy()


def test_the_head_is_the_logistic_regression_with_this_prior(run, capsys):
    cohort, model = make_cohort(), Deviations()
    assert probe(model, cohort, run) == LOADED.names | {"head.weight", "head.bias"}
    theirs = LogisticRegression(C=PRIOR_OF_FEATURE, tol=1e-10)
    x = standard(features_of(cohort))
    theirs.fit(x, cohort.targets[:, 0])
    np.testing.assert_allclose(logits_of(model, cohort)[:, 0], theirs.decision_function(x), atol=2e-5)
    assert not model.head.weight[0, 12:].any()  # what never varies has no weight
    assert not any(model.modes[:-1])  # dropout and batch norm as at evaluation
    prevalence = cohort.targets.mean()
    entropy = -prevalence * np.log(prevalence) - (1 - prevalence) * np.log(1 - prevalence)
    assert f"loss {entropy:.4f} with no weights" in capsys.readouterr().out


def answers_of(cohort, n_answers=4):
    """What a run of which the head is known starts with: four answers, of which the second says the label."""
    generator = np.random.default_rng(3)
    rows = generator.normal(size=(n_answers, 12))
    rows[1] = np.linalg.lstsq(standard(features_of(cohort)), cohort.targets[:, 0] - 0.5, rcond=None)[0] * 9
    rows = np.column_stack([rows, np.ones((n_answers, 3))]).astype(np.float32)
    return Pretrained(LOADED.names, ("rate", "RBBB", "axis", "LVH"), torch.from_numpy(rows))


def test_few_answers_of_what_was_loaded_are_weighed_first(run, capsys):
    """By the lasso of scikit-learn; then the features correct them: there, gradient and prior cancel."""
    cohort, model = make_cohort(), Deviations()
    pretrained, y = answers_of(cohort), cohort.targets[:, 0]
    probe(model, cohort, run, pretrained=pretrained)
    x = features_of(cohort)
    answers = standard(x @ pretrained.answers[:, :12].double().numpy().T)
    theirs = LogisticRegression(C=1 / RATE_OF_ANSWER, l1_ratio=1, solver="saga", tol=1e-12, max_iter=10**6)
    theirs.fit(answers, y)
    chosen = np.flatnonzero(theirs.coef_[0])
    assert 1 in chosen and len(chosen) < 4
    assert f"{len(chosen)} of 4 answers (RBBB" in capsys.readouterr().out
    logits = logits_of(model, cohort)[:, 0]
    slope = standard(x).T @ (1 / (1 + np.exp(-logits)) - y)
    correction = logits - answers @ theirs.coef_[0]
    correction -= correction.mean()
    np.testing.assert_allclose(correction, -standard(x) @ slope * PRIOR_OF_CORRECTION, atol=2e-5)
    assert np.std(correction) > 2e-3


def test_answers_that_do_not_help_have_no_weight(run, capsys):
    cohort, model = make_cohort(), Deviations()
    rows = torch.zeros(2, 15)
    rows[:, 12:] = 1.0  # of what is constant
    probe(model, cohort, run, pretrained=Pretrained(LOADED.names, ("a", "b"), rows))
    assert "0 of 2 answers," in capsys.readouterr().out
    theirs = LogisticRegression(C=PRIOR_OF_CORRECTION, tol=1e-10)
    x = standard(features_of(cohort))
    theirs.fit(x, cohort.targets[:, 0])
    np.testing.assert_allclose(logits_of(model, cohort)[:, 0], theirs.decision_function(x), atol=2e-5)


def test_labels_that_are_not_known_do_not_count(run):
    cohort, model = make_cohort(), Deviations(n_labels=2)
    second = np.where(np.arange(24) % 4 == 1, np.nan, np.arange(24) % 2)
    targets = np.column_stack([cohort.targets[:, 0], second]).astype(np.float32)
    cohort = replace(cohort, targets=targets, label_names=("PE", "other"))
    probe(model, cohort, run)
    x, known = standard(features_of(cohort)), ~np.isnan(second)
    for label in (0, 1):
        rows = np.ones(24, bool) if label == 0 else known
        theirs = LogisticRegression(C=PRIOR_OF_FEATURE, tol=1e-10)
        theirs.fit(x[rows], cohort.targets[rows, label])
        np.testing.assert_allclose(logits_of(model, cohort)[:, label], theirs.decision_function(x), atol=5e-5)


def test_clinical_values_have_a_wider_prior(run):
    cohort, model = make_cohort(), Deviations(n_clinical=1)
    age = np.random.default_rng(2).normal(60, 10, 24) + 20 * cohort.targets[:, 0]
    cohort = replace(cohort, clinical=pd.DataFrame({"age": age.astype(np.float32)}))
    model.head.standardise(cohort.clinical.to_numpy())
    probe(model, cohort, run)
    x = np.column_stack([standard(features_of(cohort)) * PRIOR_OF_FEATURE**0.5, standard(age)])
    theirs = LogisticRegression(C=PRIOR_OF_CLINICAL, tol=1e-10).fit(x, cohort.targets[:, 0])
    np.testing.assert_allclose(logits_of(model, cohort)[:, 0], theirs.decision_function(x), atol=5e-5)
    assert model.head.weight[0, -1] == 0  # it was never missing


def test_any_loss_is_lowered(run, capsys):
    model = Deviations()
    probe(model, make_cohort(), run, loss=FocalLoss(gamma=2.0, alpha=0.7))
    words = capsys.readouterr().out.split()
    assert float(words[words.index("weights,") + 1]) < float(words[words.index("loss") + 1])


def test_nothing_happens_without_loaded_weights_or_after_a_checkpoint(run):
    model = Deviations()
    before = model.head.weight.clone()
    assert probe(model, make_cohort(), run, pretrained=Pretrained()) == frozenset()
    (run.folder / "checkpoint.pt").write_bytes(b"")
    assert probe(model, make_cohort(), run) == LOADED.names | {"head.weight", "head.bias"}
    assert torch.equal(model.head.weight, before) and not model.modes


def test_only_training_ecgs_are_seen(run):
    cohort, model, other = make_cohort(), Deviations(), Deviations()
    probe(model, cohort, run, indices=np.arange(12))
    signals = cohort.signals.read(np.arange(24)).copy()
    signals[12:] = 1000
    changed = replace(cohort, signals=SignalsInMemory(signals))
    probe(other, changed, run, indices=np.arange(12))
    assert torch.equal(model.head.weight, other.head.weight)


def test_a_large_cohort_is_not_read_whole(run, monkeypatch):
    monkeypatch.setattr("training.linear_probe.MOST_ECGS", 9)
    cohort, model = make_cohort(), Deviations()
    probe(model, cohort, run)  # in batches of five: two of them
    assert len(model.modes) == 2
