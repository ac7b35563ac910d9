"""Predictions of a finished run: the scores of its own test ECGs, decisions, what becomes of bad files."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file
from tiny_runs import (
    ENVIRONMENT,
    ROOT,
    line_of,
    make_tiny_cohort,
    run_as_user,
    run_folder_of,
    run_here,
    tiny,
    train_here,
)

import predict as predict_script
from dataset import reading_ahead
from ecg.formats.hospital import hospital_xml
from inference import prediction
from inference.prediction import Scored, decide
from inference.scoring import Scorer
from xml_loader import read_recording

COLUMNS = ["file", "score_PE", "decision_PE", "score_MI", "decision_MI", "warnings"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make_tiny_cohort(tmp_path_factory.mktemp("tiny") / "ecgs")


@pytest.fixture(scope="module")
def run(cohort, tmp_path_factory):
    """The folder of a finished run with two labels, with thresholds that divide the cohort."""
    places = tmp_path_factory.mktemp("places")
    flags = tiny(cohort, "--output-dir", places / "runs", "--cache-dir", places / "cache")
    folder = run_folder_of(train_here("train_atten.py", *flags, "--label-columns", "PE", "MI"))
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    scores = pd.read_csv(folder / "predictions.csv")
    description["thresholds"] = [float(scores[f"y_score_{name}"].median()) for name in ("PE", "MI")]
    (folder / "model.json").write_text(json.dumps(description), encoding="utf-8")
    return folder


@pytest.fixture
def new_ecgs(cohort, tmp_path):
    """A folder of three ECGs: one in it, one in a folder within, one in capitals, and a file that is none."""
    folder = tmp_path / "new"
    (folder / "ward" / "2024").mkdir(parents=True)
    shutil.copy(cohort / "demo-0001.xml", folder / "b.xml")
    shutil.copy(cohort / "demo-0002.xml", folder / "ward" / "2024" / "a.xml")
    shutil.copy(cohort / "demo-0003.xml", folder / "ward" / "C.XML")
    (folder / "notes.txt").write_text("not an ECG", encoding="utf-8")
    return folder


@pytest.fixture
def predict(run, tmp_path):
    """Return a function that scores files and gives the outcome and the written table."""

    def predicted(*paths):
        output = tmp_path / "scores.csv"
        outcome = run_here("predict.py", run, *paths, "--output", output)
        return outcome, pd.read_csv(output)

    return predicted


def files_of(table):
    return [Path(file).name for file in table["file"]]


def test_scores_of_the_test_ecgs_are_those_of_the_run(run, cohort, predict):
    expected = pd.read_csv(run / "predictions.csv")
    expected = expected[expected["split"] == "test"]
    outcome, table = predict(*(cohort / file for file in expected["file"]))
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert table.columns.tolist() == COLUMNS
    assert files_of(table) == expected["file"].tolist() and len(table) > 2
    for name in ("PE", "MI"):
        np.testing.assert_allclose(table[f"score_{name}"], expected[f"y_score_{name}"], atol=1e-6)


def test_ecgs_that_trained_the_model_are_named(run, cohort, predict, tmp_path):
    """By their content or, where they were exported again, by their signal; a test ECG is not one of them."""
    part_of = pd.read_csv(run / "splits.csv").set_index("file")["split"]
    train, validation, test = (part_of.index[part_of == part][0] for part in ("train", "validation", "test"))
    again = tmp_path / "again.xml"
    again.write_text((cohort / train).read_text(encoding="utf-8") + "<!-- again -->", encoding="utf-8")
    outcome, table = predict(cohort / train, cohort / validation, cohort / test, again)
    known = ["trained or validated on this ECG" in str(words) for words in table["warnings"]]
    assert known == [True, True, False, True]
    assert "note        3 ECGs trained or validated the model: no test of how good it is" in outcome.stdout


def test_decision_is_whether_the_score_reaches_the_threshold(run, cohort, predict):
    _, table = predict(cohort)
    thresholds = json.loads((run / "model.json").read_text(encoding="utf-8"))["thresholds"]
    assert len(table) == 24
    for name, threshold in zip(("PE", "MI"), thresholds, strict=True):
        assert set(table[f"decision_{name}"]) == {0, 1}
        expected = (table[f"score_{name}"] >= threshold).astype(int)
        assert table[f"decision_{name}"].tolist() == expected.tolist()


def test_a_score_at_the_threshold_is_a_positive_decision(run):
    scorer = Scorer.load(run, torch.device("cpu"))
    scores = {"at.xml": scorer.thresholds, "below.xml": np.nextafter(scorer.thresholds, 0)}
    nothing = np.empty(0, np.float32)
    scored = [Scored(Path(file), nothing, np.array([score]), []) for file, score in scores.items()]
    table = decide(scored, scorer, None)
    assert table[["decision_PE", "decision_MI"]].to_numpy().tolist() == [[1, 1], [0, 0]]


def test_scores_do_not_depend_on_the_other_files(cohort, predict):
    _, together = predict(cohort)
    _, alone = predict(cohort / "demo-0005.xml")
    assert files_of(alone) == ["demo-0005.xml"]
    np.testing.assert_allclose(alone["score_PE"][0], together["score_PE"][4], atol=1e-6)


def test_a_single_file_as_a_user_does(run, cohort, tmp_path):
    shutil.copy(cohort / "demo-0001.xml", tmp_path / "patient.xml")
    outcome = run_as_user("predict.py", run, "patient.xml", "--output", "scores.csv", cwd=tmp_path)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    table = pd.read_csv(tmp_path / "scores.csv")
    assert table.columns.tolist() == COLUMNS and table["file"].tolist() == ["patient.xml"]
    assert f"{table['score_PE'][0]:.4f}" in outcome.stdout
    assert "1 ECG scored, 0 files not" in outcome.stdout
    assert sorted(file.name for file in tmp_path.iterdir()) == ["patient.xml", "scores.csv"]


def test_a_folder_is_searched_for_ecgs_at_any_depth(predict, new_ecgs):
    outcome, table = predict(new_ecgs)
    assert outcome.returncode == 0
    assert "0 files not; 1 other file in the folders" in outcome.stdout
    assert files_of(table) == ["b.xml", "a.xml", "C.XML"]
    assert all(Path(file).is_file() for file in table["file"])


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_bad_files_are_listed_and_the_rest_is_scored(run, new_ecgs, tmp_path, monkeypatch, batch_size):
    (new_ecgs / "broken.xml").write_text("<ecg><rhythm>", encoding="utf-8")
    absent, output = new_ecgs / "absent.xml", tmp_path / "scores.csv"
    monkeypatch.setattr(prediction, "BATCH_SIZE", batch_size)
    words = ["predict.py", str(run), str(new_ecgs), str(absent), "--output", str(output)]
    monkeypatch.setattr("sys.argv", words)
    assert predict_script.main() == 1
    assert sorted(files_of(pd.read_csv(output))) == ["C.XML", "a.xml", "b.xml"]


def flattened(cohort, path, leads):
    """Write an ECG of the cohort with some leads flat."""
    recording = read_recording(cohort / "demo-0001.xml")
    signal = recording.signal.copy()
    signal[leads] = 0
    path.write_text(hospital_xml(signal), encoding="iso-8859-1")


def test_an_unusable_ecg_is_not_scored_unless_asked_for(run, cohort, tmp_path):
    (tmp_path / "new").mkdir()
    shutil.copy(cohort / "demo-0001.xml", tmp_path / "new" / "good.xml")
    flattened(cohort, tmp_path / "new" / "flat.xml", leads=[7])
    outcome = run_here("predict.py", run, tmp_path / "new", "--output", tmp_path / "scores.csv")
    assert outcome.returncode == 1 and "1 ECG scored, 1 file not" in outcome.stdout
    assert re.search(r"not scored  .*flat.xml: .*V2.*flat", outcome.stderr)
    outcome = run_here("predict.py", run, tmp_path / "new", "--any-quality", "--output", tmp_path / "all.csv")
    assert outcome.returncode == 0 and len(pd.read_csv(tmp_path / "all.csv")) == 2


def test_a_doubtful_ecg_is_scored_with_a_warning(run, cohort, tmp_path):
    recording = read_recording(cohort / "demo-0001.xml")
    signal = recording.signal.copy()
    signal[6, 1000:2000] = signal[6, 1000]  # 2 s of V1
    (tmp_path / "doubtful.xml").write_text(hospital_xml(signal), encoding="iso-8859-1")
    outcome = run_here("predict.py", run, tmp_path / "doubtful.xml", "--output", tmp_path / "scores.json")
    assert outcome.returncode == 0
    (row,) = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert list(row) == COLUMNS and "V1" in row["warnings"] and 0 <= row["score_PE"] <= 1
    assert row["warnings"] in outcome.stdout


def test_files_are_read_as_the_run_read_its_own(run, cohort, tmp_path):
    """The ten seconds begin where they began in training."""
    shutil.copytree(run, tmp_path / "run")
    description = json.loads((run / "model.json").read_text(encoding="utf-8"))
    assert description["window_start"] == 0 and description["quality"]["quality_checks"] is True
    recording = read_recording(cohort / "demo-0001.xml")
    longer = np.concatenate([recording.signal[:, :1000], recording.signal], axis=1)  # 12 s
    (tmp_path / "longer.xml").write_text(hospital_xml(longer), encoding="iso-8859-1")
    scores = []
    for start in (0.0, 2.0):
        changed = {**description, "window_start": start}
        (tmp_path / "run" / "model.json").write_text(json.dumps(changed), encoding="utf-8")
        run_here("predict.py", tmp_path / "run", tmp_path / "longer.xml", "--output", tmp_path / "scores.csv")
        scores.append(pd.read_csv(tmp_path / "scores.csv")["score_PE"][0])
    run_here("predict.py", run, cohort / "demo-0001.xml", "--output", tmp_path / "scores.csv")
    expected = pd.read_csv(tmp_path / "scores.csv")["score_PE"][0]
    assert scores[1] == pytest.approx(expected, abs=1e-6) != scores[0]


def test_what_decisions_were_worth_is_said(run, cohort):
    outcome = run_here("predict.py", run, cohort / "demo-0001.xml")
    label = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["labels"]["PE"]
    assert (
        f"PE at this threshold, on the run's test ECGs: sensitivity {label['sensitivity']['value']:.3f}"
        in (outcome.stdout)
    )


def test_scores_are_restated_for_another_prevalence(run, new_ecgs, tmp_path):
    output = tmp_path / "scores.csv"
    outcome = run_here("predict.py", run, new_ecgs, "--prevalence", 0.05, 0.5, "--output", output)
    assert outcome.returncode == 0
    table = pd.read_csv(output)
    trained_at = json.loads((run / "model.json").read_text(encoding="utf-8"))["prevalences"]
    for name, before, after in zip(("PE", "MI"), trained_at, (0.05, 0.5), strict=True):
        odds = table[f"score_{name}"] / (1 - table[f"score_{name}"])
        odds *= after / (1 - after) / (before / (1 - before))  # Bayes: the likelihood ratio stays
        np.testing.assert_allclose(table[f"restated_{name}"], odds / (1 + odds), rtol=1e-9)


def set_of(run, name, score, alpha):
    """Return a score's set by the definition of a conformal p-value: how many of a class are as strange."""
    rows = pd.read_csv(run / "predictions.csv")
    rows = rows[rows["split"] == "validation"].drop_duplicates(["patient_id", f"y_true_{name}"])
    positive, negative = (rows.loc[rows[f"y_true_{name}"] == value, f"y_score_{name}"] for value in (1, 0))
    may_be_positive = (1 + (positive <= score).sum()) / (1 + len(positive)) > alpha
    may_be_negative = (1 + (negative >= score).sum()) / (1 + len(negative)) > alpha
    return {(True, False): name, (False, True): f"no {name}"}.get(
        (may_be_positive, may_be_negative), "not sure"
    )


def test_alpha_adds_the_sets_and_says_what_they_were_worth(run, cohort, tmp_path):
    output = tmp_path / "scores.csv"
    outcome = run_here("predict.py", run, cohort, "--alpha", 0.4, "--output", output)
    assert outcome.returncode == 0
    table = pd.read_csv(output)
    assert table.columns.tolist() == [*COLUMNS[:-1], "set_PE", "set_MI", "warnings"]
    for name in ("PE", "MI"):
        expected = [set_of(run, name, score, 0.4) for score in table[f"score_{name}"]]
        assert table[f"set_{name}"].tolist() == expected
    assert len({*table["set_PE"], *table["set_MI"]}) > 2
    tested = pd.read_csv(run / "predictions.csv").query("split == 'test'")
    sets = [set_of(run, "PE", score, 0.4) for score in tested["y_score_PE"]]
    n_decided = sum(one != "not sure" for one in sets)
    n_right = sum(one == ("no PE", "PE")[true] for one, true in zip(sets, tested["y_true_PE"], strict=True))
    (line,) = re.findall(r"^sets        (PE at alpha 0.4, .*)$", outcome.stdout, re.MULTILINE)
    assert f"on the run's test ECGs {n_decided} of {len(tested)} decided, {n_right} of them right;" in line


@pytest.mark.parametrize(
    ("alpha", "said"),
    [
        ("0.6", "argument --alpha: found 0.6, expected a number above 0 and below 0.5"),
        ("low", "argument --alpha: found low, expected a number above 0 and below 0.5"),
        ("0.01", "expected 99 or more for alpha 0.01: take a larger alpha"),
    ],
)
def test_an_alpha_that_makes_no_sets_is_one_line(run, cohort, alpha, said):
    outcome = run_here("predict.py", run, cohort / "demo-0001.xml", "--alpha", alpha)
    assert said in line_of(outcome, status=outcome.returncode)
    assert outcome.returncode in (1, 2) and "score_PE" not in outcome.stdout


def test_embeddings_are_what_the_heads_are_given(run, cohort, tmp_path):
    """The head's weights make the calibrated scores of the table from them."""
    (tmp_path / "broken.xml").write_text("<ecg>", encoding="utf-8")
    files = (cohort / "demo-0001.xml", tmp_path / "broken.xml", cohort / "demo-0002.xml")
    written = ("--embeddings", tmp_path / "e.npz", "--output", tmp_path / "scores.csv")
    assert run_here("predict.py", run, *files, *written).returncode == 1
    table, description = pd.read_csv(tmp_path / "scores.csv"), json.loads((run / "model.json").read_text())
    with np.load(tmp_path / "e.npz", allow_pickle=False) as saved:
        content = dict(saved)
    assert content["ecg_file"].tolist() == table["file"].tolist() == [str(files[0]), str(files[2])]
    assert content["embedding"].shape == (2, len(content["feature"])) and len(content["sha256"]) == 1
    weights = load_file(run / "model.safetensors")
    logits = content["embedding"] @ weights["head.weight"].T + weights["head.bias"]
    slopes, intercepts = description["calibration_slopes"], description["calibration_intercepts"]
    np.testing.assert_allclose(
        table[["score_PE", "score_MI"]], 1 / (1 + np.exp(-(slopes * logits + intercepts))), atol=1e-5
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("e.csv", "found {path}, expected a name that ends in .npz"),
        ("none/e.npz", "{path}: found no folder {path.parent}, expected one to write to"),
    ],
)
def test_embeddings_that_cannot_be_written_are_one_line(run, cohort, tmp_path, name, said):
    path = tmp_path / name
    line = line_of(run_here("predict.py", run, cohort / "demo-0001.xml", "--embeddings", path))
    assert said.format(path=path) in line and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("prevalences", "message"),
    [
        ([0.05], "--prevalence: found 0.05, expected 2 numbers, one per label"),
        ([0.05, 0], "argument --prevalence: found 0, expected a number between 0 and 1"),
        ([0.05, 1.5], "argument --prevalence: found 1.5, expected a number between 0 and 1"),
        ([0.05, "x"], "argument --prevalence: found x, expected a number between 0 and 1"),
    ],
)
def test_prevalences_that_make_no_sense(run, new_ecgs, prevalences, message):
    outcome = run_here("predict.py", run, new_ecgs, "--prevalence", *prevalences)
    assert message in outcome.stderr and outcome.stderr.count("\n") == 1 and outcome.returncode > 0


def test_a_folder_as_the_table_to_write_is_refused_before_anything_is_scored(run, new_ecgs, tmp_path):
    outcome = run_here("predict.py", run, new_ecgs, "--output", tmp_path)
    assert line_of(outcome).endswith(f"{tmp_path}: found a folder, expected the name of a file to write")
    assert outcome.stdout == ""


def test_bad_files_are_listed_with_their_reason(predict, new_ecgs):
    (new_ecgs / "broken.xml").write_text("<ecg><rhythm>", encoding="utf-8")
    outcome, table = predict(new_ecgs, new_ecgs / "absent.xml", new_ecgs / "notes.txt")
    assert outcome.returncode == 1
    assert len(table) == 3 and "3 ECGs scored, 3 files not" in outcome.stdout
    lines = outcome.stderr.splitlines()
    assert len(lines) == 3 and all(line.startswith("not scored  ") for line in lines)
    for line, name in zip(lines, ("broken.xml", "absent.xml", "notes.txt"), strict=True):
        assert name in line and "found " in line


@pytest.mark.parametrize("beside", [True, False])
def test_an_empty_folder_is_listed(predict, new_ecgs, tmp_path, beside):
    (tmp_path / "empty").mkdir()
    outcome, table = predict(tmp_path / "empty", *([new_ecgs] if beside else []))
    assert outcome.returncode == 1
    assert len(table) == (3 if beside else 0) and table.columns.tolist() == COLUMNS
    assert outcome.stderr.startswith("not scored  ") and str(tmp_path / "empty") in outcome.stderr


def test_output_in_a_folder_that_is_not_there_is_one_line(run, cohort, tmp_path):
    output = tmp_path / "none" / "scores.csv"
    line = line_of(run_here("predict.py", run, cohort / "demo-0001.xml", "--output", output))
    assert line.startswith(f"predict.py: {output}: ") and "found no folder" in line


def test_a_folder_that_is_no_run_is_one_line(cohort, tmp_path):
    line = line_of(run_here("predict.py", tmp_path, cohort / "demo-0001.xml"))
    assert str(tmp_path / "model.json") in line and "expected a finished run" in line


def test_an_unusable_ecg_that_is_scored_all_the_same_carries_its_reason(run, cohort, tmp_path):
    flattened(cohort, tmp_path / "flat.xml", leads=[7])
    flags = ("--any-quality", "--output", tmp_path / "scores.json")
    assert run_here("predict.py", run, tmp_path / "flat.xml", *flags).returncode == 0
    (row,) = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert "V2" in row["warnings"] and "flat" in row["warnings"]


def imported_by_predict(wanted, *words):
    """Return the outcome of predict.py in a process of its own, and which packages it had then imported."""
    program = (
        f"import sys\nsys.argv = {[str(ROOT / 'predict.py'), *map(str, words)]!r}\n"
        "import runpy, predict\n"
        f"wanted = set({sorted(wanted)!r})\n"
        "print('at the start', *sorted(wanted & set(sys.modules)))\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "print('imported', *sorted(wanted & set(sys.modules)))\n"
    )
    options = {"cwd": ROOT, "env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run([sys.executable, "-c", program], **options)
    assert "1 ECG scored" in done.stdout, done.stderr
    return done.stdout.splitlines()


SLOW = {
    "torch",
    "scipy",
    "sklearn",
    "captum",
    "matplotlib",
    "jinja2",
    "onnxruntime",
}  # up to two seconds each


def test_what_only_a_page_or_a_training_needs_is_not_imported(run, cohort):
    start, *_, end = imported_by_predict(SLOW, run, cohort / "demo-0001.xml")
    assert start == "at the start" and end in ("imported torch", "imported scipy torch")


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """A copy of the run with the graph for predict.py."""
    pytest.importorskip("onnxscript")
    folder = shutil.copytree(run, tmp_path_factory.mktemp("exported") / "run")
    assert run_here("export.py", folder).returncode == 0
    return folder


def test_an_exported_run_is_scored_without_pytorch(exported, cohort):
    start, *lines, end = imported_by_predict(SLOW, exported, cohort / "demo-0001.xml")
    assert start == "at the start" and end == "imported onnxruntime"
    assert re.fullmatch(r"engine      onnxruntime \S+, scoring\.onnx of 1 model", lines[0])


def test_both_engines_give_the_same_table(exported, cohort, tmp_path):
    """Scores, decisions, and the likeness to the training ECGs, whose distance is in the warnings."""
    tables = []
    for engine in ("torch", "onnx"):
        output = tmp_path / f"{engine}.csv"
        outcome = run_here("predict.py", exported, cohort, "--engine", engine, "--output", output)
        assert ("engine " in outcome.stdout) == (engine == "onnx")
        tables.append(pd.read_csv(output))
    torchs, onnxs = tables
    scores = ["score_PE", "score_MI"]
    np.testing.assert_allclose(onnxs[scores], torchs[scores], rtol=0, atol=1e-5)
    assert onnxs[["file", "warnings"]].equals(torchs[["file", "warnings"]]) and len(onnxs) == 24
    thresholds = json.loads((exported / "model.json").read_text(encoding="utf-8"))["thresholds"]
    for name, threshold in zip(("PE", "MI"), thresholds, strict=True):
        clear = (torchs[f"score_{name}"] - threshold).abs() > 1e-5  # one ECG's score is the threshold
        assert clear.sum() >= 23
        assert onnxs[f"decision_{name}"][clear].equals(torchs[f"decision_{name}"][clear])


def test_an_export_of_other_weights_is_not_used_and_said(exported, cohort, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "run")
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    (folder / "model.json").write_text(json.dumps(description | {"n_samples": 500}), encoding="utf-8")
    outcome = run_here("predict.py", folder, cohort / "demo-0001.xml")
    assert outcome.returncode == 0 and "1 ECG scored" in outcome.stdout
    assert outcome.stdout.splitlines()[0] == (
        f"engine      PyTorch: {folder / 'scoring.onnx'}: found the export of other weights than "
        f"model.safetensors; python export.py {folder} makes it"
    )
    line = line_of(run_here("predict.py", folder, cohort / "demo-0001.xml", "--engine", "onnx"))
    assert line.startswith(f"predict.py: {folder / 'scoring.onnx'}: found the export of other weights")


def test_a_run_without_an_export_is_scored_by_pytorch_unless_asked_for(run, cohort):
    assert "engine " not in run_here("predict.py", run, cohort / "demo-0001.xml").stdout
    line = line_of(run_here("predict.py", run, cohort / "demo-0001.xml", "--engine", "onnx"))
    assert line.endswith(f"; python export.py {run} makes it")


def test_a_page_needs_pytorch(exported, cohort, tmp_path):
    flags = ("--engine", "onnx", "--report", tmp_path / "page.html")
    line = line_of(run_here("predict.py", exported, cohort / "demo-0001.xml", *flags))
    assert line == "predict.py: --engine: found onnx with --report, expected torch, which alone can do that"


def test_many_files_are_read_by_other_processes(run, cohort, tmp_path, monkeypatch):
    _, serial = predicted(run, cohort, tmp_path / "serial.csv")
    monkeypatch.setattr(reading_ahead, "PARALLEL_FROM", 2)
    monkeypatch.setattr(reading_ahead, "n_cores", lambda: 2)
    monkeypatch.setattr(prediction, "BATCH_SIZE", 5)
    (tmp_path / "broken.xml").write_text("<ecg><rhythm>", encoding="utf-8")
    outcome, parallel = predicted(run, cohort, tmp_path / "parallel.csv", tmp_path / "broken.xml")
    assert "24 ECGs scored, 1 file not" in outcome.stdout
    np.testing.assert_allclose(parallel["score_PE"], serial["score_PE"], atol=1e-6)
    assert parallel["file"].tolist() == serial["file"].tolist()
    for found, expected in zip(parallel["warnings"], serial["warnings"], strict=True):
        assert found == expected or (pd.isna(found) and pd.isna(expected))


def predicted(run, folder, output, *others):
    outcome = run_here("predict.py", run, folder, *others, "--output", output)
    return outcome, pd.read_csv(output)


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_a_name_that_is_not_utf_8_loses_no_score(run, cohort, tmp_path, suffix):
    """As a share or an archive of Windows leaves it; Python holds its bytes as surrogates."""
    folder, output = tmp_path / "new", tmp_path / f"scores.{suffix}"
    folder.mkdir()
    shutil.copy(cohort / "demo-0001.xml", folder / "a.xml")
    shutil.copy(cohort / "demo-0002.xml", os.fsdecode(os.fsencode(folder) + b"/Jos\xe9.xml"))
    outcome = run_here("predict.py", run, folder, "--output", output)
    assert outcome.returncode == 0, outcome.stderr
    rows = pd.read_csv(output) if suffix == "csv" else pd.read_json(output)
    assert rows["file"].tolist() == [rf"{folder}/Jos\udce9.xml", f"{folder}/a.xml"]
    assert rows["score_PE"].between(0, 1).all()
