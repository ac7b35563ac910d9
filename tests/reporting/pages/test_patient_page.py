"""The page for one patient: its numbers, what must not be in it, and one side of A4 in a real browser."""

import base64
import json
import math
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from headless_chromium import check_page
from scipy.special import expit, logit
from tiny_runs import line_of, make_tiny_cohort, run_folder_of, run_here, tiny, train_here
from torch import nn

from ecg.recording import LEADS
from ecg.signs import NOT_MEASURED, measure_signs
from ecg.simulation import draw_patient, simulate_ecg
from explanations.attribution import explain
from explanations.ensemble import explain_scorer
from inference.abstention import Abstention
from inference.scoring import Scorer
from metrics.conformal import ConformalSets
from metrics.metric import Metric
from reporting.pages import patient_page
from reporting.pages.patient_page import performance_sentence, write_patient_page
from reporting.words.sign_table import NOT_MEASURABLE, sign_rows
from run_folder.descriptions import ModelDescription

pytest.importorskip("captum", reason="captum is not installed: pip install captum")

NAME, PATIENT_ID = "Zacharias Quellmann", "PID-4711-0815"
A4 = (595, 842)  # points


def ecg(seed=0, **signs):
    """Return a synthetic ECG, int16 (12, 5000) in microvolts, with the signs given and no other."""
    generator = np.random.default_rng(seed)
    none = dict.fromkeys(
        ("sinus_tachycardia", "S1Q3T3", "right_axis", "incomplete_RBBB", "T_inversion_V1_V4"), 0
    )
    patient = draw_patient(generator, pe=False, signs=none | signs)
    return np.round(1000 * simulate_ecg(patient, generator)[0]).astype(np.int16)


class SmallNetwork(nn.Module):
    """(N, 12, T), and clinical values where it takes any -> logits (N, n_labels)."""

    title = "small network"

    def __init__(self, n_labels, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Conv1d(12, 8, 15, 4), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
        self.head = nn.Linear(8, n_labels)

    def forward(self, signal, clinical=None):
        logits = self.head(self.layers(signal))
        return logits if clinical is None else logits + clinical.nan_to_num().sum(dim=1, keepdim=True)


def scorer_of(lengths=(4096,), label_names=("PE",), slopes=None, clinical_columns=()):
    """Return a scorer of small networks, one for each number of samples that a model sees."""
    members = []
    for seed, n_samples in enumerate(lengths):
        description = ModelDescription(
            model="small",
            arguments={},
            label_names=list(label_names),
            n_samples=n_samples,
            normalisation="recording",
            leads=list(LEADS),
            sampling_rate=500,
            calibration="platt",
            calibration_slopes=[slopes[seed] if slopes else 1.0] * len(label_names),
            calibration_intercepts=[0.1 * seed] * len(label_names),
            prevalences=[0.1] * len(label_names),
            thresholds=[0.4] * len(label_names),
            threshold_policy="youden",
            clinical_columns=list(clinical_columns),
        )
        members.append((SmallNetwork(len(label_names), seed).eval(), description))
    return Scorer(members, thresholds=[0.4] * len(label_names), device=torch.device("cpu"))


def page_of(tmp_path, scorer, signal, member_scores=None, **options):
    """Write a page and return its text."""
    if member_scores is None:
        member_scores = scorer.score_members(signal[None], options.get("clinical"))
    path = write_patient_page(
        tmp_path / "page.html",
        scorer=scorer,
        run=tmp_path,
        signal=signal,
        member_scores=member_scores,
        **options,
    )
    return path.read_text(encoding="utf-8")


def words_of(page):
    """Return what a reader sees as text."""
    text = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(text.replace("&lt;", "<").replace("&gt;", ">").replace("&#39;", "'").split())


# As a user makes it


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make_tiny_cohort(tmp_path_factory.mktemp("tiny") / "ecgs")


@pytest.fixture(scope="module")
def run(cohort, tmp_path_factory):
    """The folder of a finished run with two labels."""
    places = tmp_path_factory.mktemp("places")
    places_to_write = ("--output-dir", places / "runs", "--cache-dir", places / "cache")
    flags = tiny(cohort, *places_to_write, "--n-samples", 2048)  # with beats
    return run_folder_of(train_here("train_spectrogram.py", *flags, "--label-columns", "PE", "MI"))


@pytest.fixture(scope="module")
def made(run, cohort, tmp_path_factory):
    """A page of a file that tells the patient's name and number, made by predict.py, and what that wrote."""
    folder = tmp_path_factory.mktemp("made")
    content = (cohort / "demo-0001.xml").read_text(encoding="iso-8859-1")
    identity = f"<patient><name>{NAME}</name><id>{PATIENT_ID}</id></patient>"
    file = folder / f"{NAME.split()[1]}-{PATIENT_ID}.xml"
    file.write_text(content.replace("<ecg>", f"<ecg>{identity}", 1), encoding="iso-8859-1")
    words = ("--output", folder / "scores.csv", "--prevalence", 0.05, 0.5, "--report", folder / "page.html")
    outcome = run_here("predict.py", run, file, *words, "--alpha", 0.4)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    table = pd.read_csv(folder / "scores.csv")
    text = (folder / "page.html").read_text(encoding="utf-8")
    return SimpleNamespace(path=folder / "page.html", text=text, words=words_of(text), row=table.iloc[0])


def test_the_numbers_are_those_of_predict_and_of_the_run(made, run):
    description = json.loads((run / "model.json").read_text(encoding="utf-8"))
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["labels"]["PE"]
    assert f"Probability of PE {100 * made.row['score_PE']:.1f} %" in made.words
    assert f"threshold {100 * description['thresholds'][0]:.1f} %" in made.words
    flagged = "Flagged: at or above" if made.row["decision_PE"] else "Not flagged: below"
    assert f"{flagged} the threshold" in made.words
    found, left = metrics["confusion_matrix"]["tp"], metrics["confusion_matrix"]["tn"]
    assert f"{found} of {metrics['n_positive']} with PE were flagged (sensitivity" in made.words
    assert f"{left} of {left + metrics['confusion_matrix']['fp']} without PE were not" in made.words
    interval = [100 * metrics["sensitivity"][end] for end in ("low", "high")]
    assert f"{interval[0]:.1f} % to {interval[1]:.1f} %" in made.words
    assert f"{100 * description['prevalences'][0]:.1f} % have PE, as in development" in made.words
    assert f"where 5.0 % have it, it is {100 * made.row['restated_PE']:.1f} %" in made.words
    assert f"Other labels: MI {100 * made.row['score_MI']:.1f} %" in made.words
    assert f"run {run.name}" in made.words and "not a medical device" in made.words
    assert "its attention, for or against" in made.words


def test_the_set_is_that_of_the_table_with_its_guarantee(made):
    called = made.row["set_PE"]
    assert called in ("PE", "no PE", "not sure")
    assert f"Set at alpha 0.4: {called}. Of patients with PE at most 40 % are" in made.words
    assert "if they are drawn as the run's validation patients were: not at another hospital" in made.words


def test_no_identifier_of_the_file_is_in_the_page(made):
    pictures = [base64.b64decode(data) for data in re.findall(r"base64,([\w+/=]+)", made.text)]
    assert len(pictures) == 3
    for part in (*NAME.split(), PATIENT_ID):
        assert part not in made.text
        assert not any(part.encode() in picture for picture in pictures)


def test_the_page_needs_nothing_else(made):
    assert "<script" not in made.text and "url(" not in made.text and "@import" not in made.text
    addresses = re.findall(r"\b(?:src|href|srcset)\s*=\s*[\"']([^\"']*)", made.text)
    assert addresses and all(address.startswith("data:") for address in addresses)
    assert len(made.text) < 3_000_000


def print_pages(browser):
    """Return width and height of each page that the open document prints, in points."""
    pdf = base64.b64decode(browser.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf)) == len(re.findall(rb"/MediaBox", pdf))
    boxes = re.findall(rb"/MediaBox\s*\[\s*0\s+0\s+([\d.]+)\s+([\d.]+)", pdf)
    return [(round(float(width)), round(float(height))) for width, height in boxes]


@pytest.mark.parametrize("width", [1200, 390])
def test_a_browser_shows_it_whole_and_prints_one_side_of_a4(made, browser, width):
    check_page(browser, made.path, width, n_pictures=3)
    assert print_pages(browser) == [A4]


def cut_off(browser):
    """Return the words of the scale that leave it, and the cells that are wider than their place."""
    return browser.evaluate(
        """[...document.querySelectorAll(".scale text")].filter(text => {
             const box = text.getBBox();
             return box.x < 0 || box.x + box.width > 1240 || box.y < 0 || box.y + box.height > 152;
           }).concat([...document.querySelectorAll("td, p, figcaption")].filter(
             element => element.scrollWidth > element.clientWidth + 1)
           ).map(element => element.textContent)"""
    )


@pytest.mark.parametrize(("lowest", "highest"), [(1e-5, 2e-5), (0.39, 0.999), (0.9999, 0.99999)])
def test_the_fullest_page_is_still_one_side(browser, tmp_path, monkeypatch, lowest, highest):
    """High voltage, attention, every sentence, more warnings than fit, long names, and scores at the ends."""

    def with_attention(*arguments, **options):
        explanation = explain_scorer(*arguments, **options)
        return replace(explanation, attention=np.ones(explanation.attribution.shape[1]))

    monkeypatch.setattr(patient_page, "explain_scorer", with_attention)
    names = [f"right_heart_strain_on_echo_{number}" for number in range(12)]
    lengths = (4096, 2048, 5000, 4096)
    scorer = scorer_of(lengths, names, clinical_columns=("age", "sex", "wells"))
    scores = np.stack([np.full((1, 12), score) for score in np.linspace(lowest, highest, len(lengths))])
    text = page_of(
        tmp_path,
        scorer,
        (2.2 * ecg()).astype(np.int16),
        member_scores=scores,
        warnings=["lead V1 differs from what I and II give by 0.31 of the limb leads (limit 1.3)"] * 30,
        prevalence=0.123,
        clinical=np.array([[63, 1, np.nan]], np.float32),
        title="x" * 300,
        sets=Abstention(
            names[0],
            0.1,
            ConformalSets.fit(np.repeat([0, 1], 9), np.linspace(0, 1, 18)),
            "out-of-fold",
            "the mean of the models is used, where the scores of single models were taken",
            *[Metric(0.5, successes=1, n=2)] * 2,
            (Metric(0.5, successes=1, n=2),) * 2,
        ),
    )
    assert "at alpha 0.1" in text and "about 10 % are called no" in text
    assert "more, which predict.py prints" in text and "8 more are not shown" in text
    assert "age 63, sex F, wells not known" in text and "its attention" in text
    check_page(browser, tmp_path / "page.html", 1200, n_pictures=3)
    assert cut_off(browser) == []
    assert print_pages(browser) == [A4]


def test_the_label_is_the_first_unless_another_is_named(run, cohort, tmp_path):
    outcome = run_here(
        "predict.py", run, cohort / "demo-0001.xml", "--report", tmp_path / "a.html", "--label", "MI",
        "--title", "Ward 3, <bed> 2",
    )  # fmt: skip
    assert outcome.returncode == 0 and f"{tmp_path / 'a.html'}: MI" in outcome.stdout
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "Probability of MI" in text and "Other labels: PE" in text
    assert "<h1>Ward 3, &lt;bed&gt; 2</h1>" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{cohort}", "--report", "{here}/a.html"], "found a folder, expected one ECG file"),
        (["{file}", "{file}", "--report", "{here}/a.html"], "found 2 paths, expected one ECG file"),
        (["{file}", "--report", "{here}/a.pdf"], "expected a name that ends in .html"),
        (["{file}", "--report", "{here}/none/a.html"], "found no folder"),
        (["{file}", "--report", "{here}/a.html", "--label", "AF"], "found AF, expected one of PE, MI"),
        (["{file}", "--label", "MI"], "--label: found no --report"),
        (["{file}", "--title", "Ward 3"], "--title: found no --report"),
    ],
)
def test_what_cannot_be_a_page_is_one_line(run, cohort, tmp_path, words, said):
    places = {"cohort": cohort, "file": cohort / "demo-0001.xml", "here": tmp_path}
    line = line_of(run_here("predict.py", run, *(word.format(**places) for word in words)))
    assert said in line
    assert list(tmp_path.iterdir()) == []


def test_without_captum_one_line_says_how_to_install_it(run, cohort, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "captum", None)
    line = line_of(run_here("predict.py", run, cohort / "demo-0001.xml", "--report", tmp_path / "a.html"))
    assert "--report" in line and "pip install captum" in line


def test_an_ecg_that_is_not_scored_has_no_page(run, tmp_path):
    (tmp_path / "broken.xml").write_text("<ecg><rhythm>", encoding="utf-8")
    outcome = run_here("predict.py", run, tmp_path / "broken.xml", "--report", tmp_path / "a.html")
    assert outcome.returncode == 1 and "not scored" in outcome.stderr
    assert not (tmp_path / "a.html").exists()


# What it says


def test_a_page_shows_every_warning(tmp_path):
    words = words_of(page_of(tmp_path, scorer_of(), ecg(), warnings=["lead V1 is odd", "QRS of <1 mV"]))
    assert "Doubtful: lead V1 is odd; QRS of <1 mV." in words
    plain = words_of(page_of(tmp_path, scorer_of(), ecg()))
    assert "Doubtful" not in plain and "at alpha" not in plain


def test_an_ensemble_tells_how_far_its_models_disagree(tmp_path):
    scorer = scorer_of((4096, 2048, 4096))
    member_scores = np.array([0.2, 0.5, 0.6]).reshape(3, 1, 1)
    words = words_of(page_of(tmp_path, scorer, ecg(), member_scores=member_scores))
    together = expit(np.mean(logit([0.2, 0.5, 0.6])))
    assert f"Probability of PE {100 * together:.1f} %" in words
    assert "Individually, the 3 models give 20.0 % to 60.0 %." in words
    assert "ensemble of 3 models" in words
    assert "Individually" not in words_of(page_of(tmp_path, scorer_of(), ecg()))


def test_an_ecg_without_beats_has_a_page(tmp_path):
    noise = np.random.default_rng(0).normal(0, 300, (12, 5000)).astype(np.int16)
    words = words_of(page_of(tmp_path, scorer_of(), noise))
    assert "attention" not in words  # of a model that has none
    assert words.count(NOT_MEASURABLE) == 8
    assert "There is no mean beat: no beats of one shape were found." in words
    assert "Doubtful: no beats of one shape were found: P, QRS, ST and T cannot be told apart." in words


def test_a_short_crop_is_named_as_the_reason_for_no_mean_beat(tmp_path):
    words = words_of(page_of(tmp_path, scorer_of((1024,)), ecg(7)))
    cause = "the model sees only the central 2.0 s, in which too few whole beats of one shape were found"
    assert NOT_MEASURABLE not in words and "o beats of one shape" not in words
    assert f"There is no mean beat: {cause}. The signs are measured on all 10 s." in words
    assert f"Doubtful: {cause}: P, QRS, ST and T cannot be told apart." in words
    words = words_of(page_of(tmp_path, scorer_of((1024, 4096)), ecg(7)))
    assert "Doubtful: a model sees only the central 2.0 s, in" in words and "no mean beat" not in words


def test_a_threshold_whose_worth_is_not_known_says_so():
    assert "not known" in performance_sentence("PE", {}, "Youden, from validation")
    metric = Metric(0.5, 0.2, 0.8, successes=3, n=6)
    undefined = Metric(math.nan, successes=0, n=0)
    sentence = performance_sentence("PE", {"sensitivity": metric, "specificity": undefined}, "Youden")
    assert "3 of 6 with PE were flagged (sensitivity 50.0 %, 20.0 % to 80.0 %)" in sentence
    assert "specificity" not in sentence
    one = Metric(0.5, 0.1, 0.9, successes=1, n=2)
    assert "1 of 2 with PE was flagged (" in performance_sentence("PE", {"sensitivity": one}, "Youden")
    of_folds = {"sensitivity": metric, "threshold_low": 0.1, "threshold_high": 0.3}
    assert "each fold at its own threshold, 10.0 % to 30.0 %" in performance_sentence(
        "PE", of_folds, "Youden"
    )


def test_signs_that_were_planted_are_marked():
    def unusual(**signs):
        return {row.name for row in sign_rows(measure_signs(ecg(3, **signs) / 1000)) if row.unusual}

    assert unusual() == set()
    assert "S1Q3T3" in unusual(S1Q3T3=1)
    assert "T in V1 to V4, mV" in unusual(T_inversion_V1_V4=1)
    assert {"Late R in V1", "RBBB pattern"} <= unusual(incomplete_RBBB=1)
    assert "Heart rate" in unusual(sinus_tachycardia=1)
    assert "QRS axis" in unusual(right_axis=1)


def test_signs_carry_their_values_and_limits():
    signs = NOT_MEASURED._replace(qrs_axis_deg=-42.4, qrs_ms=120.0, t_in_v2_mv=-0.1, t_in_v3_mv=0.2)
    rows = {row.name: row[1:] for row in sign_rows(signs)}
    assert rows["QRS axis"] == ("−42°", "−30° to +90°", True)
    assert rows["QRS duration"] == ("120 ms", "below 120 ms", True)
    assert rows["T in V1 to V4, mV"] == ("?, −0.10, +0.20, ?", "above −0.1 in V2 to V4", True)
    assert rows["Heart rate"] == (NOT_MEASURABLE, "60 to 100/min", False)


# The explanation of several models


def test_an_ensemble_is_explained_as_the_mean_of_its_calibrated_logits():
    scorer = scorer_of((4096, 4096), slopes=[2.0, 0.5])
    signal = ecg()

    class Together(nn.Module):
        def forward(self, x):
            first, second = (model(x) for model in scorer.models)
            return (2.0 * first + 0.5 * second + 0.1) / 2

    seen = signal[:, 452:4548].astype(np.float32) / 1000
    expected = explain(Together(), seen, label=0, normalisation="recording")
    found = explain_scorer(scorer, signal, label=0)
    for name in ("logit", "baseline_logit"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-4)
    for name in ("attribution", "lead_occlusion", "segment_occlusion"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-4)
    assert expit(found.logit) == pytest.approx(scorer.score(signal[None])[0, 0], abs=1e-5)


def test_members_that_see_less_are_laid_on_the_same_time():
    scorer = scorer_of((1000, 4096))
    found = explain_scorer(scorer, ecg(), label=0)
    longer = explain_scorer(Scorer([(scorer.models[1], scorer.descriptions[1])], thresholds=[0.4],
                                   device=scorer.device), ecg(), label=0)  # fmt: skip
    shorter = explain_scorer(Scorer([(scorer.models[0], scorer.descriptions[0])], thresholds=[0.4],
                                    device=scorer.device), ecg(), label=0)  # fmt: skip
    assert found.attribution.shape == (12, 4096)
    middle = slice(2500 - 500 - 452, 2500 + 500 - 452)  # of 5,000 samples, the longer begins at 452
    expected = longer.attribution / 2
    expected[:, middle] += shorter.attribution / 2
    np.testing.assert_allclose(found.attribution, expected, atol=1e-6)
    difference = found.logit - found.baseline_logit
    assert found.attribution.sum() == pytest.approx(difference + found.completeness_gap, abs=1e-3)


def test_clinical_values_are_held_as_they_are():
    scorer = scorer_of(clinical_columns=("age", "wells"))
    clinical = np.array([[0.3, 1.2]], np.float32)
    found = explain_scorer(scorer, ecg(), label=0, clinical=clinical)
    assert expit(found.logit) == pytest.approx(scorer.score(ecg()[None], clinical)[0, 0], abs=1e-5)
    alone = explain_scorer(scorer_of(), ecg(), label=0)
    assert found.logit == pytest.approx(alone.logit + 1.5, abs=1e-4)
    np.testing.assert_allclose(found.attribution, alone.attribution, atol=1e-5)
