"""The study of tests between equally good models."""

import numpy as np
import pytest

from benchmarks.studies.decision_tests import (
    N_MODELS,
    p_values_of_decisions,
    p_values_of_models,
    print_tables,
)

pytestmark = pytest.mark.filterwarnings("ignore:McNemar's test of specificity")


def test_with_one_ecg_of_each_patient_both_ways_of_counting_agree():
    p_values = p_values_of_decisions(np.random.default_rng(0), 40, 1)
    assert p_values["McNemar's, patients"] == pytest.approx(p_values["McNemar's, ECGs as independent"])
    assert 0 < p_values["Obuchowski's chi-square"] < p_values["McNemar's, patients"] <= 1


def test_equal_models_have_p_values_of_any_size():
    rng = np.random.default_rng(1)
    p_values = np.array([p_values_of_models(rng) for _ in range(40)])
    assert p_values.shape == (40, N_MODELS) and p_values.mean() == pytest.approx(0.5, abs=0.08)


def test_every_kind_of_study_has_its_line(capsys):
    print_tables(2, seed=0)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7 and lines[-1].startswith("any of 8 equal models called different: p ")
