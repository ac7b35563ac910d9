"""A model that sees the measured signs gives an ECG one score: in its test, in predict, evaluate and ONNX."""

import dataclasses
import importlib.util
import json

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_runs import make_tiny_cohort, run_folder_of, run_here, tiny, train_here

from cohorts.synthetic import make_cohort
from dataset.decoding import decode
from dataset.sign_columns import SIGN_COLUMNS
from ecg.signs import VERSION, measure_signs
from inference.prediction import _unknown
from inference.scoring import Scorer
from reporting.words.study_facts import ecg_signs, predictors
from run_folder.run_record import read_run
from runtime.errors import UserError

needs_onnx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))),
    reason="onnx, onnxscript or onnxruntime is not installed",
)
SEES = ("--ecg-signs", "true", "--clinical-columns", "age")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A cohort, and another hospital's."""
    places = tmp_path_factory.mktemp("places")
    make_tiny_cohort(places / "ecgs")
    make_cohort(places / "others", n_ecgs=8, n_patients=8, prevalence=0.4, seed=99)
    return places


@pytest.fixture(scope="module")
def trained(places):
    """A cross-validation with signs and age beside the ECG."""
    flags = ("--output-dir", places / "runs", "--cache-dir", places / "cache", "--folds", 2)
    outcome = train_here("train_atten.py", *tiny(places / "ecgs", *flags, *SEES, "--learning-rate", 0.01))
    return outcome, run_folder_of(outcome)


def predicted(run, files, table, output):
    outcome = run_here("predict.py", run, *files, "--clinical-table", table, "--output", output)
    assert "Traceback" not in outcome.stderr
    return pd.read_csv(output)


def test_the_run_says_what_it_sees_and_keeps_it(trained):
    outcome, run = trained
    said = (
        "ECG signs   17 beside the ECG, measured before crop and augmentation; all of them in 24 of 24 ECGs"
    )
    assert said in outcome.stdout and "clinical    beside the ECG: age (known of 100 %)" in outcome.stdout
    description = json.loads((run / "fold-1" / "model.json").read_text(encoding="utf-8"))
    assert (
        description["clinical_columns"] == ["age", *SIGN_COLUMNS] and description["signs_version"] == VERSION
    )
    record = read_run(run)
    sentence = predictors(record)
    assert "measured in its 10 s by ecg/signs.py: heart_rate_bpm, " in sentence
    assert "as the labels table has them: age." in sentence and ecg_signs(record).endswith(
        "sinus_tachycardia"
    )


def test_predict_measures_what_the_test_saw(places, trained, tmp_path):
    _, run = trained
    tested = pd.read_csv(run / "fold-2" / "predictions.csv").query("split == 'test'")
    files = [places / "ecgs" / name for name in tested["file"]]
    table = predicted(run / "fold-2", files, places / "ecgs" / "labels.csv", tmp_path / "scores.csv")
    np.testing.assert_allclose(table["score_PE"], tested["y_score_PE"], atol=1e-5)


def test_a_resumed_fold_sees_the_same(places, trained, tmp_path):
    _, run = trained
    before = pd.read_csv(run / "fold-2" / "predictions.csv")
    for name in ("metrics.json", "predictions.csv", "model.json"):
        (run / "fold-2" / name).unlink(missing_ok=True)
    for kept in (places / "cache").glob("*/signs-*"):
        kept.unlink()
    outcome = train_here("train_atten.py", "--resume", run)
    assert outcome.returncode == 0, outcome.stderr
    after = pd.read_csv(run / "fold-2" / "predictions.csv")
    np.testing.assert_allclose(after["logit_PE"], before["logit_PE"], atol=1e-5)


@needs_onnx
def test_evaluate_and_onnx_score_as_predict_does(places, trained, tmp_path):
    import onnxruntime

    run, others = trained[1] / "fold-1", places / "others"
    flags = ("--cohort", others, "--output-dir", tmp_path, "--no-signs")
    outcome = run_here("evaluate.py", run, *flags)
    assert outcome.returncode == 0, outcome.stderr
    (folder,) = tmp_path.glob("evaluate-*")
    evaluated = pd.read_csv(folder / "predictions.csv")
    scores = predicted(run, [others], others / "labels.csv", tmp_path / "scores.csv")
    assert scores["file"].str.rsplit("/").str[-1].tolist() == evaluated["file"].tolist()
    np.testing.assert_allclose(scores["score_PE"], evaluated.filter(like="y_score_PE").iloc[:, 0], atol=1e-5)

    outcome = run_here("export.py", run, tmp_path / "pe.onnx")
    assert outcome.returncode == 0, outcome.stderr
    assert "ecg/signs.py measures them, not the graph" in outcome.stdout
    card = (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "| ecg:qrs_ms | measured in the same ECG, by ecg/signs.py of" in card
    assert "Beside it, measured in its 10 s by ecg/signs.py" in (tmp_path / "model_card.xml").read_text(
        "utf-8"
    )
    ages = pd.read_csv(others / "labels.csv").set_index("file")["age"]
    signals = np.stack([decode(others / name)[1] for name in evaluated["file"]])
    beside = [
        [ages[name], *measure_signs(one * 1e-3)] for name, one in zip(evaluated["file"], signals, strict=True)
    ]
    session = onnxruntime.InferenceSession(str(tmp_path / "pe.onnx"), providers=["CPUExecutionProvider"])
    inputs = {"signal_mv": (signals * 1e-3).astype(np.float32), "clinical": np.array(beside, np.float32)}
    np.testing.assert_allclose(session.run(["score"], inputs)[0][:, 0], scores["score_PE"], atol=1e-5)
    inputs["clinical"][:, 1:] = np.nan
    assert np.abs(session.run(["score"], inputs)[0][:, 0] - scores["score_PE"]).max() > 1e-3  # they count


def test_signs_of_another_version_are_refused(trained, tmp_path):
    _, run = trained
    path = run / "fold-1" / "model.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(json.dumps(json.loads(text) | {"signs_version": 7}), encoding="utf-8")
    try:
        with pytest.raises(
            UserError, match=r"fold-1/model\.json: found ECG signs as version 7 measures them"
        ):
            Scorer.load(run, torch.device("cpu"))
    finally:
        path.write_text(text, encoding="utf-8")


def test_an_ecg_whose_signs_cannot_be_measured_is_doubtful():
    columns, values = ["age", *SIGN_COLUMNS], np.full(18, np.nan)
    assert _unknown(columns, values) == ["not known: age", "cannot be measured: any ECG sign"]
    values[:-1] = 1
    assert _unknown(columns, values) == ["cannot be measured: ecg:sinus_tachycardia"]
    assert _unknown(columns, np.ones(18)) == []


def test_a_description_of_an_earlier_version_sees_no_signs(trained):
    scorer = Scorer.load(trained[1] / "fold-1", torch.device("cpu"))
    kept = dataclasses.asdict(scorer.descriptions[0])
    del kept["signs_version"]
    assert type(scorer.descriptions[0])(**kept).signs_version == 0
