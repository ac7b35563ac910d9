"""A run as a folder for others: it scores as the run does, holds no patient, and the programs take it."""

import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from one_line import failure_of
from tiny_runs import line_of, make_tiny_cohort, run_folder_of, run_here, tiny, train_here

from cohorts.synthetic import make_cohort
from run_folder import hub


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A cross-validation in two folds, one of its folds and itself published, and other patients' ECGs."""
    places = tmp_path_factory.mktemp("places")
    cohort = make_tiny_cohort(places / "ecgs")
    flags = tiny(cohort, "--output-dir", places / "runs", "--cache-dir", places / "cache", "--folds", 2)
    run = run_folder_of(train_here("train_spectrogram.py", *flags))
    make_cohort(places / "others", n_ecgs=8, n_patients=8, prevalence=0.5, seed=11)
    for source, name in ((run, "whole"), (run / "fold-1", "fold")):
        outcome = run_here("export.py", source, "--hub", places / name)
        assert outcome.returncode == 0, outcome.stderr
        assert f"folder      {places / name}: config.json" in outcome.stdout
    return SimpleNamespace(root=places, cohort=cohort, run=run, whole=places / "whole", fold=places / "fold")


def scores_of(run, ecgs, path):
    outcome = run_here("predict.py", run, ecgs, "--output", path)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout, pd.read_csv(path)


@pytest.mark.parametrize("name", ["whole", "fold"])
def test_it_scores_as_the_run_does(places, name, tmp_path):
    run = places.run if name == "whole" else places.run / "fold-1"
    printed_by_run, expected = scores_of(run, places.cohort, tmp_path / "run.csv")
    printed, found = scores_of(getattr(places, name), places.cohort, tmp_path / "hub.csv")
    numbers = [column for column in expected if column.split("_")[0] in ("score", "decision", "lowest")]
    pd.testing.assert_frame_equal(found[numbers], expected[numbers])
    assert "does not tell which ECGs trained the model: none is called one of them" in printed
    assert "validated on this ECG" in printed_by_run and "validated on this ECG" not in printed
    assert re.search("sensitivity [01]\\.", printed) and "did not record" not in printed


def test_files_are_those_of_the_form_and_of_every_model(places):
    shared = {"README.md", "config.json", "hyperparameters.yml", "metrics.json", "model_card.xml"}
    model = {"model.json", "model.safetensors"}
    model |= {"training_distribution.json", "training_distribution.safetensors"}
    assert {path.name for path in places.fold.iterdir()} == shared | model
    assert {path.name for path in places.whole.iterdir()} == shared | {"ensemble.json", "fold-1", "fold-2"}
    assert {path.name for path in (places.whole / "fold-2").iterdir()} == model
    config = json.loads((places.fold / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "PE"} and config["label2id"] == {"PE": 0}
    assert config["model_type"] == "resnet18_with_atten_spectr" and config["n_models"] == 1
    card = (places.whole / "README.md").read_text(encoding="utf-8")
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front)["tags"][-1] == "PE" and yaml.safe_load(front)["library_name"] == "pytorch"
    assert "Not a medical device" in text and "python predict.py FOLDER patient.xml" in text
    assert "onnxruntime" not in text and "SHA-256" not in text


def test_nothing_of_a_patient_or_a_place_is_in_it(places):
    splits = pd.read_csv(places.run / "splits.csv", dtype=str)
    secrets = {*splits["file"], *splits["patient_id"], *splits["digest"], *splits["waveform"]}
    secrets |= {str(places.root), places.root.name}
    for path in places.whole.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [secret for secret in secrets if secret.encode() in content], path
    fingerprints = [path for path in places.whole.rglob("*") if "seen" in path.name or path.suffix == ".csv"]
    assert fingerprints == []


def test_other_patients_can_be_scored_but_its_own_test_not_repeated(places, tmp_path):
    words = ("--cohort", places.root / "others", "--output-dir", tmp_path / "out")
    outcome = run_here("evaluate.py", places.whole, *words)
    assert outcome.returncode == 0, outcome.stderr
    assert "whole does not tell which ECGs it has seen: they are not compared" in outcome.stdout
    (page,) = (tmp_path / "out").glob("*/report.html")
    text = page.read_text(encoding="utf-8")
    assert "Table 1. The ECGs</h3>" in text and "development" not in text.partition("<main>")[2][:3000]
    line = line_of(run_here("evaluate.py", places.whole, "--output-dir", tmp_path / "out"))
    assert "found a folder of export.py --hub, without the scores of its test ECGs; expected a run" in line


def test_a_training_starts_from_it(places, tmp_path):
    flags = tiny(places.cohort, "--output-dir", tmp_path / "runs", "--cache-dir", places.root / "cache")
    outcome = train_here("train_spectrogram.py", *flags, "--init-from", places.fold, "--freeze-epochs", 0)
    assert outcome.returncode == 0, outcome.stderr
    assert f"note        {places.fold} does not tell which ECGs it has seen" in outcome.stdout
    assert re.search(rf"^init        \d+ tensors of .+ from {places.fold}", outcome.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--hub", "{full}"], "{full}: found something there, expected no or an empty folder (--hub)"),
        (["--hub", "{here}/none/x"], "found no folder {here}/none, expected one to write to"),
        (["a.onnx", "--hub", "{here}/x"], "--hub: found an ONNX file to write too, expected one of them"),
    ],
)
def test_what_cannot_be_written_is_one_line(places, tmp_path, flags, said):
    full = {"full": places.cohort, "here": tmp_path}
    outcome = run_here("export.py", places.run / "fold-1", *(flag.format(**full) for flag in flags))
    assert said.format(**full) in line_of(outcome, status=outcome.returncode) and outcome.returncode
    assert list(tmp_path.iterdir()) == []


# hf://owner/name


def stand_in(folder):
    """Return a huggingface_hub whose cache has one model; what is asked of it is kept."""
    asked = []

    def snapshot_download(name, *, local_files_only):
        asked.append((name, local_files_only))
        if name != "lab/pe":
            raise FileNotFoundError(f"no\n{name}")
        return str(folder)

    return SimpleNamespace(snapshot_download=snapshot_download, asked=asked)


def test_a_name_is_looked_up_in_the_cache_and_scored(places, monkeypatch, tmp_path):
    package = stand_in(places.fold)
    monkeypatch.setitem(sys.modules, "huggingface_hub", package)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    _, table = scores_of("hf://lab/pe", places.cohort / "demo-0001.xml", tmp_path / "scores.csv")
    assert np.isfinite(table["score_PE"]).all() and package.asked[0] == ("lab/pe", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert hub.located("hf://lab/pe") == places.fold and package.asked[-1] == ("lab/pe", False)
    assert hub.located("runs/lab") == Path("runs/lab")


def test_a_name_that_means_nothing_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", stand_in(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    outcome = run_here("predict.py", "hf://lab/none", "a.xml")
    assert line_of(outcome, status=2) == (
        "predict.py: argument run: hf://lab/none: found no copy in the cache, expected one; HF_HUB_OFFLINE=0 "
        "lets it be downloaded (--help lists the flags)"
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert "found no copy (no lab/none), expected a public model" in failure_of(hub.located, "hf://lab/none")
    assert "found no owner and name of a model, expected hf://" in failure_of(hub.located, "hf://none")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    said = "hf://lab/pe: found no package huggingface_hub, expected it for such names: pip install"
    assert said in failure_of(hub.located, "hf://lab/pe")


def test_a_run_beside_a_file_of_that_name_stays_a_run(places, tmp_path):
    run = shutil.copytree(places.run, tmp_path / "run")
    (run / "config.json").write_text("{}", encoding="utf-8")
    assert not hub.is_published(run) and hub.is_published(places.whole)
