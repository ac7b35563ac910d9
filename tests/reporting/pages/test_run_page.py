"""The page of a run: complete, escaped, self-contained; drawn by a real browser where there is one."""

import base64
import json
import math
import re
import shutil
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from headless_chromium import check_page

from cohorts.synthetic import make_cohort
from inference.abstention import calibration_scores
from metrics.metric import Metric, metrics_to_json
from metrics_and_performance import evaluate
from reporting.pages import run_page
from reporting.pages.error_gallery import ErrorCase, confident_errors
from reporting.words.cohort_flow import cohort_flow, table_one
from reporting.words.formatting import with_interval
from reporting.words.run_sentences import compute_in_words, confusion_sentences, limits, verdict
from reporting.words.set_words import report_sentences
from reporting.words.stard import stard
from reporting.words.stard_ai import stard_ai
from reporting.words.tripod import tripod
from run_folder.run_record import read_run
from runtime.messages import counted

N_ECGS = 60


def write_report(folder):
    """Write the page of a run folder and return its path."""
    return run_page.write_report(read_run(folder))


def test_what_a_run_has_cost_in_words():
    compute = {
        "training_seconds": 94.2,
        "run_seconds": 114,
        "cpu_seconds": 201,
        "processes": 1,
        "resumed": False,
    }
    words = "training 1 min 34 s of wall time; the whole run 1 min 54 s, 3 min 21 s of CPU time"
    assert compute_in_words(compute) == words
    several = compute_in_words(compute | {"processes": 2, "resumed": True})
    assert "in 2 processes; the first of them 1 min 54 s" in several and several.endswith("last process")


# Runs, written as the training scripts write them


@pytest.fixture(scope="module")
def ecgs(tmp_path_factory):
    """A folder of 60 ECGs of 54 patients and its labels table."""
    folder = tmp_path_factory.mktemp("report") / "ecgs"
    make_cohort(folder, n_ecgs=N_ECGS, n_patients=54, prevalence=0.3, seed=3)
    return folder


def write_run(run_folder, data_dir, label_names=("PE",), n_folds=0, **changes):
    """Write the files of a run whose scores find the first label and guess the others.

    `changes` are of the labels table's columns, such as `PE=0`.
    """
    run_folder.mkdir(parents=True)
    table = pd.read_csv(data_dir / "labels.csv", dtype={"patient_id": str}).assign(**changes)
    generator = np.random.default_rng(0)
    for name in label_names[1:]:
        table[name] = generator.integers(0, 2, len(table))
    tested = table if n_folds else table.iloc[: len(table) // 2]
    fold_of = np.arange(len(tested)) % n_folds + 1 if n_folds else np.zeros(len(tested), dtype=int)
    predictions = tested[["file", "patient_id"]].assign(fold=fold_of, repeat=1, split="test")
    for name in label_names:
        predictions[f"y_true_{name}"] = tested[name]
        signal = 2 * tested[name].fillna(0) if name == label_names[0] else 0
        predictions[f"y_score_{name}"] = 1 / (
            1 + np.exp(-(generator.normal(size=len(tested)) + signal - 1.5))
        )
    predictions.to_csv(run_folder / "predictions.csv", index=False)
    splits = table[["file", "patient_id", "age", "sex", *label_names]].copy()
    for fold in range(1, n_folds + 1):
        splits[f"fold-{fold}"] = np.where(fold_of == fold, "test", "train")
        write_fold(run_folder / f"fold-{fold}", label_names, threshold=0.3 + 0.05 * fold)
    if not n_folds:
        splits["split"] = np.repeat(["test", "validation", "train"], [30, 10, 20])
        write_fold(run_folder, label_names, threshold=0.35)
    splits.to_csv(run_folder / "splits.csv", index=False)
    write_metrics(run_folder, predictions, label_names, n_folds)
    write_settings(run_folder, data_dir)
    return run_folder


def write_fold(folder, label_names, threshold):
    folder.mkdir(exist_ok=True)
    epoch = np.arange(1, 9)
    log = {"epoch": epoch, "train_loss": 1 / epoch, "val_loss": 1.2 / epoch + 0.01 * epoch}
    log |= {"val_auroc": 0.6 + 0.02 * epoch, "kept": (epoch < 7).astype(int)}
    pd.DataFrame(log).to_csv(folder / "log.csv", index=False)
    model = {"model": "resnet18_with_atten", "thresholds": [threshold] * len(label_names)}
    (folder / "model.json").write_text(json.dumps(model | {"calibration": "platt"}))


def write_metrics(run_folder, predictions, label_names, n_folds):
    columns = ([f"{column}_{name}" for name in label_names] for column in ("y_true", "y_score"))
    y_true, y_score = (predictions[names].to_numpy() for names in columns)
    thresholds = 0.3 + 0.05 * (predictions["fold"].to_numpy() if n_folds else np.ones(len(predictions)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metrics = evaluate(
            y_true,
            y_score,
            thresholds=np.repeat(thresholds[:, None], len(label_names), axis=1),
            label_names=label_names,
            patient_ids=predictions["patient_id"].to_numpy(),
            n_resamples=200,
        )
    metrics = {"split": "test", "threshold_source": "Youden, from validation", **metrics}
    if n_folds:
        aurocs = [dict.fromkeys(label_names, 0.7 + 0.01 * fold) for fold in range(n_folds)]
        metrics |= {"n_folds": n_folds, "n_repeats": 1, "auroc_of_folds": aurocs}
    (run_folder / "metrics.json").write_text(json.dumps(metrics_to_json(metrics), allow_nan=False))


def write_settings(run_folder, data_dir):
    settings = {
        "data_dir": str(data_dir),
        "epochs": 8,
        "monitor": "auroc",
        "quality_checks": True,
        "seed": 42,
    }
    settings |= {"normalisation": "recording", "augmentation": "default", "n_samples": 4096, "gamma": 0.0}
    (run_folder / "hyperparameters.yml").write_text(json.dumps(settings))
    environment = {
        "command": ["train_atten.py"],
        "started": "2026-11-22T10:15:00",
        "git_commit": "0a1b2c3d" * 5,
    }
    (run_folder / "environment.json").write_text(json.dumps(environment | {"packages": {"torch": "2.13.0"}}))
    reasons = [
        "x.xml: found malformed or incomplete XML (line 5), beginning '<?x'; expected a complete file",
        "y.xml: found 7.4 s at 500 Hz; expected at least 8 s",
        "z.xml: found 6.1 s at 500 Hz; expected at least 8 s",
        "lead V3 flat for 10 s; at most 5 s",
    ]
    rejected = pd.DataFrame({"file": ["x.xml", "y.xml", "z.xml", "q.xml"], "reason": reasons})
    rejected = rejected.assign(sex=["F", "M", "M", ""], PE=["1", "0", "0", ""])
    rejected.to_csv(run_folder / "rejected.csv", index=False)
    quality = [("q.xml", "flat", "reject", "lead V3 flat"), ("demo-0001.xml", "noise", "warn", "noisy")]
    columns = ["file", "check", "verdict", "finding"]
    pd.DataFrame(quality, columns=columns).to_csv(run_folder / "quality.csv", index=False)


RUNS = {
    "single": {},
    "two labels": {"label_names": ("PE", "MI")},
    "three folds": {"n_folds": 3},
    "one class": {"PE": 0},
}


@pytest.fixture(scope="module")
def pages(ecgs, tmp_path_factory):
    """The page of each of `RUNS`."""
    runs = tmp_path_factory.mktemp("runs")
    return {name: write_report(write_run(runs / name, ecgs, **run)) for name, run in RUNS.items()}


class Page(HTMLParser):
    """What a page says and shows: its visible text, its pictures, and every address in it."""

    VOID = frozenset(("meta", "link", "img", "br"))

    def __init__(self, path):
        super().__init__()
        self.pictures, self.addresses, self.ids, self.tags = [], [], [], []
        self.texts, self.headings, self.open = [], [], []
        self.markup = Path(path).read_text(encoding="utf-8")
        self.feed(self.markup)
        self.close()
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.addresses += [attributes[name] for name in ("src", "href", "srcset") if name in attributes]
        self.pictures += [attributes] if tag == "img" else []
        self.open += [] if tag in self.VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)
        if self.open and self.open[-1] in ("h2", "h3"):
            self.headings.append(data)


# The page as text


@pytest.mark.parametrize("name", RUNS)
def test_page_is_one_well_formed_file_that_loads_nothing(pages, name):
    page = Page(pages[name])
    assert page.open == [] and page.markup.startswith("<!DOCTYPE html>")
    assert {"script", "iframe", "object", "base", "form"}.isdisjoint(page.tags)
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert not re.search(r"url\(|@import|https?://", page.markup)
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)
    assert pages[name].stat().st_size < 4e6
    assert not list(pages[name].parent.glob(".*"))  # nothing left aside


@pytest.mark.parametrize("name", RUNS)
def test_every_picture_has_content_and_an_alt_text(pages, name):
    page = Page(pages[name])
    n_pictures = {"single": 6 + 5, "two labels": 11 + 10, "three folds": 6 + 5, "one class": None}[name]
    assert n_pictures in (None, len(page.pictures))
    for picture in page.pictures:
        kind, content = re.fullmatch(r"data:image/(.+);base64,(.+)", picture["src"]).groups()
        content = base64.b64decode(content)
        assert content.startswith(b"<svg" if kind == "svg+xml" else b"\x89PNG") and len(content) > 3000
        assert b"http://" not in content.replace(b"http://www.w3.org/", b"")
        assert len(picture["alt"]) > 20


def test_sections_come_in_the_order_of_reading(pages):
    page = Page(pages["two labels"])
    sections = ["short", "limits", "cohort", "label-1", "label-2", "training", "errors"]
    sections += ["tripod", "stard", "stard-ai", "model-card", "made"]
    assert page.ids == sections
    of_label = ["Metrics", "Groups of patients", "Curves"]
    quality = "What the quality checks found in ECGs that are used"
    cohort = [
        "In short",
        "Limits",
        "Who was studied",
        "From files to parts",
        "Table 1. The ECGs",
        "Who was left out",
        quality,
    ]
    performance = ["Performance: PE", *of_label, "Performance: MI", *of_label, "Training"]
    errors = ["The most confident errors", "PE", "MI"]
    made = [
        "TRIPOD+AI",
        "STARD 2015",
        "STARD-AI",
        "Applied Model Card",
        "How the run was made",
    ]
    assert page.headings == cohort + performance + errors + made


def test_the_summary_has_the_answer_of_one_label_or_a_row_for_each_of_several(pages):
    for name, n_answers in (("single", 1), ("two labels", 2)):
        markup = Page(pages[name]).markup
        short = markup[markup.index('id="short"') : markup.index('id="cohort"')]
        metrics = read_run(pages[name].parent).metrics["labels"]
        assert markup.count('class="keys"') == n_answers
        assert short.count('class="keys"') == (1 if len(metrics) == 1 else 0)
        for label in metrics.values():
            assert f"{label['sensitivity'].value:.3f}" in short and f"{label['npv'].value:.3f}" in short


def test_what_is_long_is_folded_and_the_ecgs_are_not(pages):
    """A browser prints what is unfolded, and the stylesheet says of the rest that it is left out."""
    markup = Page(pages["single"]).markup
    assert re.findall(r"<summary>(.*?)</summary>", markup) == [
        "5 ECGs on paper",
        *(f"The {n} items" for n in (52, 34, 48, 56)),
        "Environment",
        "Hyperparameters",
    ]
    assert markup.count("<details>") == 6 and markup.count("<details open>") == 1
    style = markup[markup.index("<style>") : markup.index("</style>")]
    assert "@page { size: A4;" in style and "@media print" in style
    assert "folded on the screen, and so not printed" in style


def test_single_split_says_its_numbers(pages):
    page, record = Page(pages["single"]), read_run(pages["single"].parent)
    auroc = record.metrics["labels"]["PE"]["auroc"]
    interval = f"the AUROC is {auroc.value:.3f} (95 % CI {auroc.low:.3f}–{auroc.high:.3f})"
    assert interval in page.text and "research only" in page.text
    assert "64 files" in page.text and "4 not used" in page.text and "60 ECGs" in page.text
    assert "2 × … s at … Hz, expected at least 8 s" in page.text and "1 × quality check: flat" in page.text
    assert "test 30 ECGs of" in page.text and "train 20 ECGs of" in page.text
    assert "of 200 resamples for the rest of the ranking" in page.text
    assert "to be filled in by the authors" in page.text and "torch 2.13.0" in page.text
    counts = record.metrics["labels"]["PE"]["confusion_matrix"]
    for sentence in confusion_sentences("PE", record.metrics):
        assert sentence in page.text
    assert f"{counts['fn']} missed" in page.text


def test_cross_validation_says_the_folds(pages):
    page = Page(pages["three folds"])
    assert "fold 1, tested 20 ECGs" in page.text and "0.700 0.710 0.720" in page.text
    assert "The AUROC within the folds is 0.710 in the mean, from 0.700 to 0.720" in page.text
    assert "threshold of its fold, 0.35 to 0.45" in page.text
    assert "a line for each of 3 folds" in page.text and "single split" not in page.text


def test_what_one_class_leaves_undefined_is_said(pages):
    page = Page(pages["one class"])
    assert "the AUROC is undefined (no positive ECG)" in page.text
    assert "There are no ROC, precision-recall, calibration and decision curves: no positive ECG" in page.text
    assert "No ECG had PE." in page.text
    assert not re.search(r"\b(nan|None|inf)\b", page.text)


def test_run_without_a_scored_set_has_a_page(ecgs, tmp_path):
    run = write_run(tmp_path / "run", ecgs)
    for name in ("metrics.json", "predictions.csv", "model.json", "environment.json", "quality.csv"):
        (run / name).unlink()
    page = Page(write_report(run))
    assert "No test set has been scored yet" in page.text and "60 ECGs" in page.text
    checklists = ["tripod", "stard", "stard-ai", "model-card"]
    assert page.ids == ["short", "limits", "cohort", "training", *checklists, "made"]
    assert "there is nothing to say about how good the model is" in page.text


def test_names_from_files_and_tables_are_escaped(ecgs, tmp_path):
    evil = '<script>alert("x")</script>&amp;$_{'
    folder = tmp_path / "ecgs"
    shutil.copytree(ecgs, folder)
    table = pd.read_csv(folder / "labels.csv").rename(columns={"PE": evil})
    table["file"] = "<img src=x onerror=alert(1)>" + table["file"]
    table["sex"] = "<b>F"
    table.to_csv(folder / "labels.csv", index=False)
    page = Page(write_report(write_run(tmp_path / "run", folder, label_names=(evil,))))
    assert "script" not in page.tags and "<b>F" not in page.markup
    assert evil in page.text and "<img src=x onerror=alert(1)>demo-" in page.text
    assert all(picture["src"].startswith("data:") for picture in page.pictures)


def test_ecgs_that_are_gone_or_damaged_are_said(ecgs, tmp_path):
    folder = tmp_path / "ecgs"
    shutil.copytree(ecgs, folder)
    run = write_run(tmp_path / "run", folder)
    errors = confident_errors(read_run(run), "PE", drawn=False)
    (folder / errors[0].file).unlink()
    (folder / errors[1].file).write_text("Jane D.")
    page = Page(write_report(run))
    assert f"Not drawn: the file is no longer in {folder}" in page.text
    assert "Not drawn: the file can no longer be read" in page.text and "Jane" not in page.text
    assert len(page.pictures) == 6 + 3


def test_a_run_with_scores_to_fit_sets_to_reports_them(ecgs, tmp_path):
    """Without validation ECGs nothing is said, as the headings of the other pages show."""
    run = write_run(tmp_path / "run", ecgs)
    tested = pd.read_csv(run / "predictions.csv")
    pd.concat([tested, tested.assign(split="validation")]).to_csv(run / "predictions.csv", index=False)
    page, (scores,) = Page(write_report(run)), calibration_scores(run, ["PE"])
    sentences = report_sentences(scores)
    assert "Not sure" in page.headings and all(sentence in page.text for sentence in sentences)


def test_page_is_the_same_each_time(pages):
    before = pages["single"].read_bytes()
    assert write_report(pages["single"].parent).read_bytes() == before


# What is on it


def test_errors_are_the_most_confident_ones(pages):
    record = read_run(pages["three folds"].parent)
    errors = confident_errors(record, "PE", drawn=False)
    assert len(errors) == 5 and [error.missed for error in errors] == [True] * 3 + [False] * 2
    scored = record.predictions.assign(threshold=0.3 + 0.05 * record.predictions["fold"])
    missed = scored[(scored["y_true_PE"] == 1) & (scored["y_score_PE"] < scored["threshold"])]
    alarms = scored[(scored["y_true_PE"] == 0) & (scored["y_score_PE"] >= scored["threshold"])]
    expected = [
        *missed.sort_values("y_score_PE")["file"].head(3),
        *alarms.sort_values("y_score_PE", ascending=False)["file"].head(2),
    ]
    assert [error.file for error in errors] == expected
    ages = pd.read_csv(record.data_dir / "labels.csv", index_col="file")
    assert errors[0].patient == f"{ages.loc[errors[0].file, 'age']} years, {ages.loc[errors[0].file, 'sex']}"


def test_flow_and_table_one_add_up(pages):
    record = read_run(pages["single"].parent)
    flow = cohort_flow(record)
    assert (flow.n_files, flow.n_rejected, flow.used.n_ecgs) == (64, 4, 60)
    assert sum(n for _, n in flow.reasons) == 4
    assert [group.n_ecgs for group in flow.parts] == [20, 10, 30]
    header, rows = table_one(record)
    assert header == ["", "all", "with PE", "without PE", "train", "validation", "test"]
    table = {row[0]: row[1:] for row in rows}
    n_positive = int(record.splits["PE"].sum())
    assert table["ECGs"] == ["60", f"{n_positive}", f"{60 - n_positive}", "20", "10", "30"]
    assert table["PE present"][0] == f"{n_positive} ({100 * n_positive / 60:.1f} %)"
    low, middle, high = record.splits["age"].quantile([0.25, 0.5, 0.75])
    assert table["age in years, median (quartiles)"][0] == f"{middle:.0f} ({low:.0f}–{high:.0f})"
    assert table["sex F"][0].startswith(f"{(record.splits['sex'] == 'F').sum()} (")


@pytest.mark.parametrize(
    ("missed", "score", "threshold", "said"),
    [
        (True, 0.28137, 0.28142, "score 0.28137, threshold 0.28142"),
        (True, 0.2806, 0.2814, "score 0.2806, threshold 0.2814"),
        (True, 0.2123, 0.2814, "score 0.212, threshold 0.281"),
        (False, 0.2814, 0.2814, "score 0.281, threshold 0.281"),
        (False, 0.28142, 0.28137, "score 0.281, threshold 0.281"),
    ],
)
def test_a_missed_ecg_never_seems_flagged(missed, score, threshold, said):
    assert said in ErrorCase("a.xml", missed, score, threshold, "").in_words("PE")


def test_one_is_not_told_as_several(pages):
    assert [counted(number, "ECG") for number in (0, 1, 1014)] == ["0 ECGs", "1 ECG", "1,014 ECGs"]
    counts = {"tp": 1, "fn": 0, "fp": 1, "tn": 0}
    metrics = {"labels": {"PE": {"confusion_matrix": counts}}}
    assert confusion_sentences("PE", metrics)[:2] == [
        "Of 1 ECG with PE, 1 was flagged and 0 missed.",
        "Of 1 ECG without PE, 1 was flagged for nothing.",
    ]
    label = {"auroc": Metric(math.nan), "n_positive": 1}
    metrics = {"n_ecgs": 1, "n_patients": 1, "labels": {"PE": label}}
    record = SimpleNamespace(metrics=metrics, label_names=["PE"], is_cross_validation=False)
    assert verdict(record).startswith("On 1 ECG of 1 patient whom the model had not seen, the AUROC is undef")


def test_one_epoch_is_one_epoch(ecgs, tmp_path):
    run = write_run(tmp_path / "run", ecgs)
    pd.read_csv(run / "log.csv").head(1).to_csv(run / "log.csv", index=False)
    assert "Training over 1 epoch. A validation" in Page(write_report(run)).text


def test_the_page_says_why_where_some_labels_are_unknown_and_the_others_are_positive(ecgs, tmp_path):
    labels = np.repeat([np.nan, 1.0], [6, N_ECGS - 6])
    page = Page(write_report(write_run(tmp_path / "run", ecgs, PE=labels)))
    assert "the AUROC is undefined (no negative ECG)" in page.text
    assert "decision curves: no negative ECG was tested" in page.text


def test_verdict_warns_of_chance_leakage_and_synthetic_ecgs():
    def said(low, value, high, name="PE", data_dir="ecgs"):
        label = {"auroc": Metric(value, low, high), "n_positive": 20}
        metrics = {"n_ecgs": 202, "n_patients": 198, "confidence": 0.95, "labels": {name: label}}
        record = SimpleNamespace(
            metrics=metrics, label_names=[name], is_demo=not data_dir, is_cross_validation=False
        )
        return verdict(record)

    assert "that one scores higher 74 times in 100, with a wide interval" in said(0.641, 0.742, 0.836)
    assert "which chance alone can explain" in said(0.48, 0.6, 0.72)
    assert "look for leakage first" in said(0.86, 0.9, 0.93)
    assert "look for leakage" not in said(0.86, 0.9, 0.93, name="MI")
    assert "on synthetic ECGs" in said(0.86, 0.9, 0.93, data_dir="")


CHECKLISTS = {"tripod": (tripod, 52, 27), "stard": (stard, 34, 30), "stard ai": (stard_ai, 48, 40)}


@pytest.mark.parametrize("name", CHECKLISTS)
@pytest.mark.parametrize("run", ["single", "three folds", "one class"])
def test_a_checklist_has_every_item_once_and_its_count_on_the_page(pages, name, run):
    make, n_items, last = CHECKLISTS[name]
    checklist = make(read_run(pages[run].parent))
    numbers = [item.number for item in checklist.items]
    assert len(numbers) == len(set(numbers)) == n_items
    assert {int(re.match(r"\d+", number).group()) for number in numbers} == set(range(1, last + 1))
    counts = {state: checklist.numbers(state) for state in ("answered", "in part", "open")}
    assert sum(map(len, counts.values())) == n_items
    for item in checklist.items:  # what is left to the authors is never counted as answered
        assert ("by the authors" in item.answer) == (item.number not in counts["answered"])
    said = f"Of {n_items} it answers {len(counts['answered'])}, and {len(counts['in part'])} in part;"
    assert said in Page(pages[run]).text


def test_the_guide_lists_the_items_as_the_page_counts_them(pages):
    guide = (Path(__file__).parents[3] / "docs" / "reporting.md").read_text(encoding="utf-8")
    for make, _, _ in CHECKLISTS.values():
        checklist = make(read_run(pages["single"].parent))
        states = (", ".join(checklist.numbers(state)) for state in ("answered", "in part"))
        assert f"| {checklist.name} | {' | '.join(states)} |" in guide


def answers_of(checklist):
    return {item.number: item.answer for item in checklist.items}


def test_the_answers_of_a_single_split(pages):
    record = read_run(pages["single"].parent)
    found, of_stard = answers_of(tripod(record)), answers_of(stard(record))
    assert "train 20, validation 10, test 30" in found["12a"] and "0a1b2c3d" in found["18f"]
    assert found["9a"] == "The 12-lead ECG alone; none was chosen beforehand."
    assert "platt" in found["12c"] and "platt" not in found["12f"]
    assert found["12f"].startswith("No updating") and found["24"].startswith("No updating")
    assert "4 of 64 files are not used, each with its reason (rejected.csv)." in found["11"]
    assert "model.safetensors and model.json of this run" in found["12g"] and "research only" in found["22"]
    for word in ("partial AUROC", "likelihood ratios", "calibration slope", "design effect"):
        assert word in found["12e"]
    assert found["20a"].endswith("Files that are not used, by label and sex, are in a table below it.")
    assert of_stard["19"] == found["20a"]
    first_versions = replace(record, rejected=record.rejected[["file", "reason"]])
    assert "had the outcome is to be filled in by the authors" in answers_of(tripod(first_versions))["20a"]
    assert "PE 0.35. Rule and value were fixed before the test ECGs were scored" in found["15"]
    assert of_stard["12a"] == found["15"] and of_stard["22"] == "to be filled in by the authors"
    assert "All 64 files that the labels table names" in of_stard["9"]
    assert "The model sees the ECG alone" in of_stard["13a"]


def test_the_answers_of_a_cross_validation(pages):
    record = read_run(pages["three folds"].parent)
    found = answers_of(tripod(record))
    pe = [int(record.splits.loc[record.splits[f"fold-{fold}"] == "train", "PE"].sum()) for fold in (1, 2, 3)]
    trains = f"In each fold 40 ECGs ({min(pe)} to {max(pe)} PE) train and 0 ECGs (0 PE) validate."
    assert found["12a"] == f"Cross-validation by patient in 3 folds: each ECG is tested once. {trains}"
    assert found["21"].endswith(trains) and "fold 1, tested: 20 ECGs of " in found["21"]
    assert "ensemble.json of this run" in found["12g"] and "of each of its folds" in found["22"]


def test_the_answers_from_what_a_table_and_a_search_leave(pages, tmp_path):
    record = read_run(pages["single"].parent)
    record.splits["hours_from_ct"] = -2.0
    rejected = record.rejected.assign(reason=["no label is known", *["broken"] * 3])
    record = replace(
        record, rejected=rejected, hyperparameters=record.hyperparameters | {"searched_in": str(tmp_path)}
    )
    found, of_stard = answers_of(tripod(record)), answers_of(stard(record))
    assert "(rejected.csv), 1 of them without a known label." in found["11"]
    assert "with PE: median −2.0 h (quartiles −2.0 and −2.0, range −2.0 to −2.0), 0 of" in of_stard["22"]
    assert f"searched before, by search.py without the test patients ({tmp_path})" in found["12c"]
    (tmp_path / "trials.csv").write_text("trial,auroc\ntrial-000,0.7\ntrial-001,0.8\n")
    assert f"({tmp_path}, the best of 2 trials)" in answers_of(tripod(record))["12c"]
    page = Page(pages["single"]).text
    n_pe = int((record.splits["PE"] == 1).sum())
    assert f"Who was left out files not used share PE present {n_pe + 1} 1 {100 / (n_pe + 1):.1f} %" in page


def test_the_answers_after_an_external_validation(pages, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(pages["single"].parent, run)
    assert "No external validation" in answers_of(tripod(read_run(run)))["4"]
    evaluation = tmp_path / "evaluate-1"
    evaluation.mkdir()
    scores = {"thresholds": [0.5], "label_names": ["PE"], "patient_ids": range(20)}
    metrics = evaluate([1, 0] * 10, [0.6, 0.4, 0.3, 0.5] * 5, **scores)
    models = {"one": metrics["labels"]["PE"] | {"n_ecgs": 20, "n_patients": 20}, "another": {}}
    (evaluation / "metrics.json").write_text(json.dumps(metrics_to_json({"PE": models})))
    (evaluation / "external.json").write_text(json.dumps({"runs": {"one": "../run", "another": "../other"}}))
    (tmp_path / "evaluate-2").mkdir()
    (tmp_path / "evaluate-2" / "external.json").write_text("not JSON")  # is none, and breaks nothing
    record = read_run(run)
    auroc = metrics["labels"]["PE"]["auroc"]
    said = f"evaluate-1 (PE AUROC {with_interval(auroc)} in 20 ECGs of 20 patients)"
    assert said in answers_of(tripod(record))["4"] and said in answers_of(tripod(record))["23b"]
    assert said in answers_of(stard_ai(record))["29"] and said in answers_of(stard_ai(record))["15b"]
    assert any("tested on another cohort too (evaluate-1)" in sentence for sentence in limits(record))


@pytest.mark.parametrize("place", ["descriptions", "hyperparameters"])
def test_the_checklists_name_the_clinical_columns(pages, place):
    record = read_run(pages["single"].parent)
    if place == "descriptions":
        record.descriptions[0]["clinical_columns"] = ["age", "sex"]
    else:
        record.hyperparameters["clinical_columns"] = ["age", "sex"]
    answers = answers_of(tripod(record))
    assert "clinical columns that were: age, sex." in answers["9a"] and "alone" not in answers["9a"]
    assert "Beside it, as the labels table has them: age, sex." in answers["9b"]
    assert "counts as the mean of the training ECGs" in answers["11"]
    assert "The model sees the ECG and age, sex" in answers_of(stard(record))["13a"]


def test_the_page_shows_how_scores_differ_between_repeats(pages):
    record = read_run(pages["three folds"].parent)
    assert "Stability of the scores" not in run_page.render(record)
    lower = record.predictions.assign(repeat=2, y_score_PE=0.5 * record.predictions["y_score_PE"])
    repeated = replace(record, predictions=pd.concat([record.predictions, lower], ignore_index=True))
    scores, flagged = repeated.repeated_scores("PE")
    assert scores.shape == (60, 2) and np.allclose(scores[:, 1], 0.5 * scores[:, 0])
    assert (flagged[:, 1] <= flagged[:, 0]).all()
    changed = np.sum(flagged[:, 1] < flagged[:, 0])
    label = record.metrics["labels"]["PE"]
    counted = {
        "n_ecgs": 120,
        "n_repeats": 2,
        "labels": {"PE": label | {"n_positive": 2 * label["n_positive"]}},
    }
    repeated = replace(repeated, metrics=record.metrics | counted)
    assert f"of PE, {label['n_positive']} ECGs with the label" in run_page.render(repeated)
    page = " ".join(run_page.render(repeated).split())
    assert "Stability of the scores" in page  # of 0.8 and 0.4 each lies 0.2 from the mean
    assert f"lies {scores[:, 0].mean() / 4:.3f} from the mean of its ECG" in page
    assert 0 < changed < 60 and f"{100 * changed / 60:.1f} of 100 ECGs are flagged in some" in page


# In a browser


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("width", [1280, 390])
def test_browser_shows_the_whole_page_and_asks_for_nothing(browser, pages, name, width):
    check_page(browser, pages[name], width, n_pictures=len(Page(pages[name]).pictures))


def test_browser_prints_each_ecg_on_a_page_of_its_own(browser, pages):
    browser.open(pages["single"], 1280)
    printed = browser.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
    sizes = re.findall(rb"/MediaBox\s*\[([\d. ]+)\]", base64.b64decode(printed["data"]))
    landscape = [size for size in sizes if float(size.split()[2]) > float(size.split()[3])]
    assert len(landscape) == 5 and 8 <= len(sizes) <= 12
