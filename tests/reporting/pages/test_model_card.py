"""The model card says what the run's files say, of what was exported, and nothing of a patient."""

import dataclasses
import json
import re

import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from tiny_runs import make_tiny_cohort, run_folder_of, run_here, tiny, train_here

from hyperparameters.declaration import Hyperparameters
from inference.scoring import Scorer
from reporting.pages.model_card import OnnxFile, markdown_table, render_model_card
from run_folder.files import RunFiles
from run_folder.run import Run
from runtime.errors import UserError

FILE = OnnxFile(
    name="pe.onnx",
    sha256="0f" * 32,
    n_bytes=19_800_000,
    largest_difference=1.25e-7,
    versions={"torch": "2.13.0", "onnx": "1.23.2"},
)
KINDS = ("run", "fold", "comparison")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A cross-validation, one of its folds, the comparison with itself, and the evaluation of it alone."""
    places = tmp_path_factory.mktemp("places")
    cohort = make_tiny_cohort(places / "ecgs")
    flags = tiny(cohort, "--output-dir", places / "runs", "--cache-dir", places / "cache", "--folds", 2)
    run = places / "the-run"
    run_folder_of(train_here("train_spectrogram.py", *flags)).rename(run)
    strata = ("--no-signs", "--strata", "sex", "--output-dir")
    compared = ("evaluate.py", run, run, "--names", "first", "second", *strata, places / "comparisons")
    for words in (compared, ("evaluate.py", run, *strata, places / "evaluations")):
        assert run_here(*words).returncode == 0
    (comparison,), (evaluation,) = ((places / name).iterdir() for name in ("comparisons", "evaluations"))
    return {"run": run, "fold": run / "fold-1", "comparison": comparison, "evaluation": evaluation}


@pytest.fixture(scope="module")
def card_of(folders):
    """Return a function that gives the card of one kind, made once, and its scorer."""
    made = {}

    def card(kind):
        if kind not in made:
            scorer = Scorer.load(folders[kind], torch.device("cpu"))
            made[kind] = (render_model_card(folders[kind], scorer, FILE), scorer)
        return made[kind]

    return card


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def tables_of(card):
    """Return the tables of a card, each a list of rows of cells."""
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", card, re.MULTILINE)
    return [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()] for block in blocks]


def value_of(card, title):
    """Return value and interval of a metric, as text, where it first stands."""
    row = re.search(rf"^\| {re.escape(title)} \| (\S+) \| (.*?) \|", card, re.MULTILINE)
    return row.group(1), row.group(2)


@pytest.mark.parametrize("kind", KINDS)
def test_sections_and_tables_are_whole(card_of, kind):
    card, _ = card_of(kind)
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == [
        "Intended use and limits",
        "Data",
        "Training",
        "Evaluation",
        "Calibration and threshold",
        "How to call it",
        "Versions",
    ]
    tables = tables_of(card)
    assert len(tables) >= 9
    assert all(len({len(row) for row in table}) == 1 for table in tables)
    assert FILE.sha256 in card and "19.8 MB" in card and "1.2e-07" in card
    assert card.startswith("# Model card: PE from the 12-lead ECG\n\n**Research only. Not a medical device")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_a_patient_and_no_path(card_of, folders, kind):
    card, _ = card_of(kind)
    splits = pd.read_csv(folders["run"] / "splits.csv", dtype=str)
    for column in ("file", "patient_id", "digest"):
        assert not [value for value in splits[column] if re.search(rf"\b{re.escape(value)}\b", card)]
    assert str(folders["run"].parent) not in card and "--data-dir" not in card


def test_what_shaped_the_training_is_shown(card_of, folders):
    """All that the run has but places, who was taken, and what changes speed alone."""
    card, _ = card_of("run")
    elsewhere = {"data", "cohort", "quality", "placement", "model", "transfer", "augmentation"}
    groups = {one.name: one.metadata["group"] for one in dataclasses.fields(Hyperparameters)}
    values = RunFiles(folders["run"]).hyperparameters()
    expected = {name for name, value in values.items() if value is not None and groups[name] not in elsewhere}
    expected -= {"output_dir", "compile", "sync_batch_norm", "folds_at_once"}
    (table,) = (table for table in tables_of(card) if table[0][0].strip() == "hyperparameter")
    shown = {row[0].strip().replace("\\_", "_") for row in table[2:]}
    assert {name for name in shown if groups[name] != "augmentation"} == expected


def test_a_cross_validation_is_judged_by_its_out_of_fold_scores(card_of, folders):
    card, scorer = card_of("run")
    scored = pd.read_csv(folders["run"] / "predictions.csv")
    auroc = roc_auc_score(scored["y_true_PE"], scored["y_score_PE"])
    metrics = read_json(folders["run"] / "metrics.json")["labels"]["PE"]
    interval = f"{metrics['auroc']['low']:.3f}–{metrics['auroc']['high']:.3f}"
    assert value_of(card, "AUROC") == (f"{auroc:.3f}", interval)
    assert "24 ECGs of 22 patients, scored after training" in card
    assert "scored by the one model that had not seen its patient (cross-validation in 2 folds)" in card
    threshold = read_json(folders["run"] / "ensemble.json")["thresholds"][0]
    assert (
        f"flagged where its score is {threshold:.3g} or more (the prevalence of the development ECGs)."
        in card
    )
    assert "Scores were calibrated on the out-of-fold logits of the other folds (shrunken)" in card
    assert card.count("Spectrogram 2D ResNet-18 + attention | 512 samples (1.024 s) | recording") == 2
    assert scorer.title in card


def test_data_and_training_are_those_of_the_run(card_of, folders):
    card, _ = card_of("run")
    splits = pd.read_csv(folders["run"] / "splits.csv")
    n_positive = int(splits["PE"].sum())
    assert "The table of labels names 24 files; 0 are not used." in card
    assert f"Used: 24 ECGs of 22 patients, {n_positive} PE ({100 * n_positive / 24:.1f} %)." in card
    assert f"| ECGs | 24 | {n_positive} | {24 - n_positive} | 12 | 12 |" in card
    for name, value in (("gaussian_noise", "0.5"), ("epochs", "1"), ("n_samples", "512"), ("folds", "2")):
        assert f"| {name} | {value} | " in card
    for name in ("lead_drop", "rnn_cell", "data_dir", "output_dir", "cache_dir", "patient_key"):
        assert f"| {name} |" not in card
    assert "fold 1 epoch 1 of 1; fold 2 epoch 1 of 1." in card


def test_a_fold_is_judged_by_its_own_test_ecgs(card_of, folders):
    card, scorer = card_of("fold")
    scored = pd.read_csv(folders["fold"] / "predictions.csv")
    tested = scored[scored["split"] == "test"]
    auroc = roc_auc_score(tested["y_true_PE"], tested["y_score_PE"])
    assert value_of(card, "AUROC")[0] == f"{auroc:.3f}"
    assert f"{len(tested)} ECGs of {tested['patient_id'].nunique()} patients, scored after" in card
    assert "None of these patients was in training or validation." in card
    splits = pd.read_csv(folders["run"] / "splits.csv")
    sizes = [int((splits["fold-1"] == part).sum()) for part in ("train", "validation", "test")]
    assert re.search(rf"^\| ECGs \|.* {sizes[0]} \| {sizes[1]} \| {sizes[2]} \|$", card, re.MULTILINE)
    assert (
        f"flagged where its score is {scorer.thresholds[0]:.3g} or more (the prevalence of the development "
        "ECGs).\n" in card
    )


def test_a_comparison_is_judged_by_its_ensemble_and_says_whose_the_strata_are(card_of, folders):
    card, _ = card_of("comparison")
    ensemble = read_json(folders["comparison"] / "metrics.json")["PE"]["ensemble"]
    assert value_of(card, "AUROC")[0] == f"{ensemble['auroc']['value']:.3f}"
    assert "scored by an ensemble that had not seen its patient" in card
    assert "Of first, the first of the compared models, and not of their ensemble." in card
    strata = pd.read_csv(folders["comparison"] / "strata.csv")
    for row in strata.itertuples():
        assert f"| PE | sex | {row.value} | {row.n} | {row.n_patients} | {row.n_positive} |" in card
    assert "ensemble of 4 models" in card


def test_strata_of_an_evaluation_of_this_run_alone_are_taken(card_of, folders):
    _, scorer = card_of("run")
    card = render_model_card(folders["run"], scorer, FILE, evaluation=folders["evaluation"])
    assert "| PE | sex | F |" in card and "compared models" not in card
    assert "There are no results by stratum" in card_of("run")[0]
    _, of_fold = card_of("fold")
    for folder, expected in (
        (folders["evaluation"], "found an AUROC of PE"),
        (folders["fold"], "found none"),
    ):
        with pytest.raises(UserError, match=expected) as caught:
            render_model_card(folders["fold"], of_fold, FILE, evaluation=folder)
        assert len(str(caught.value).splitlines()) == 1


def test_a_model_without_its_run_says_what_is_not_known(card_of, folders, tmp_path):
    _, scorer = card_of("fold")
    run = Run(tmp_path / "alone")
    run.folder.mkdir()
    run.save_description(scorer.descriptions[0])
    card = render_model_card(run.folder, scorer, FILE)
    assert "No test set has been scored" in card and "no splits.csv" in card
    assert "No hyperparameters are recorded." in card
    assert all(len({len(row) for row in table}) == 1 for table in tables_of(card))


def test_damaged_metrics_are_one_line(card_of, tmp_path):
    _, scorer = card_of("fold")
    Run(tmp_path).save_description(scorer.descriptions[0])
    (tmp_path / "metrics.json").write_text('{"labels": {"PE": 1}}', encoding="utf-8")
    with pytest.raises(UserError, match="found files that make no model card") as caught:
        render_model_card(tmp_path, scorer, FILE)
    assert len(str(caught.value).splitlines()) == 1


def test_names_of_labels_are_text_whatever_they_hold(card_of, tmp_path):
    _, scorer = card_of("fold")
    run = Run(tmp_path / "x")
    run.folder.mkdir()
    named = dataclasses.replace(scorer.descriptions[0], label_names=["<b>P|E*\n# x"])
    run.save_description(named)
    members = [(scorer.models[0], named)]
    other = Scorer(members, thresholds=scorer.thresholds, device=torch.device("cpu"))
    card = render_model_card(run.folder, other, FILE)
    assert r"# Model card: \<b\>P\|E\* # x from the 12-lead ECG" in card and "<b>" not in card
    assert all(len({len(row) for row in table}) == 1 for table in tables_of(card))


def test_clinical_columns_are_a_second_input_and_the_stretch_is_the_runs(card_of, folders):
    card, scorer = card_of("fold")
    assert "| 500 Hz, the first 10 s of the recording |" in card and "clinical" not in card
    columns = ["age", "sex", "on|oxygen"]
    seen = dataclasses.replace(scorer.descriptions[0], clinical_columns=columns, window_start=2.5)
    members = [(scorer.models[0], seen)]
    other = Scorer(members, thresholds=scorer.thresholds, device=torch.device("cpu"))
    card = render_model_card(folders["fold"], other, FILE)
    assert "| 500 Hz, 10 s of the recording, from second 2.5 on |" in card and "first 10 s" not in card
    (table,) = (table for table in tables_of(card) if "clinical" in table[0][0])
    cells = [[cell.strip() for cell in row] for row in table]
    assert cells[0] == ["input `clinical`", ""] and ["type and shape", "float32, (n_ecgs, 3)"] in cells
    assert ["columns, in this order", r"age, sex, on\|oxygen"] in cells
    assert ["sex", "m 0, male 0, f 1, female 1"] in cells and ["a value that is not known", "nan"] in cells
    assert [row[0] for row in cells[-4:]] == ["age", "sex", r"on\|oxygen", "a value that is not known"]
    assert '{"signal_mv": signal_mv, "clinical": clinical}' in card


def test_a_table_in_markdown():
    assert markdown_table(["a", "b"], [["1", "x|y"]]) == "| a | b |\n| --- | --- |\n| 1 | x\\|y |\n"
