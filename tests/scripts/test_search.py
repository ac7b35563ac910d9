"""A search sees no test patient, begins with the recipe, goes on, and ends with a command that trains."""

import json
import shlex

import pandas as pd
import pytest
from tiny_runs import line_of, make_tiny_cohort, run_here, tiny, train_here

import search
from metrics.metric import Metric, metrics_to_json
from runtime.errors import UserError
from training import script_runs
from training.script_runs import Training

optuna = pytest.importorskip("optuna")


@pytest.fixture
def cohort(tmp_path):
    return make_tiny_cohort(tmp_path / "ecgs")


def flags_of(cohort, tmp_path, *others, trials=4):
    shared = ["train_atten.py", "--trials", trials, "--folds", 2, "--output-dir", tmp_path / "search"]
    return [*shared, "--", *map(str, tiny(cohort, *others))]


class _Trained(list):
    """Folder and flags of each training that did not fail."""

    largest_weight_decay = 1.0


@pytest.fixture
def pretend(monkeypatch):
    """Let a training be a formula of its flags, whose best dropout is 0.1; return what was trained."""
    trained = _Trained()

    def train(script, flags, folder, device):
        given = dict(zip(flags[::2], flags[1::2], strict=True))
        if float(given.get("--weight-decay", 0.05)) > trained.largest_weight_decay:
            raise UserError(f"{folder}: the loss is nan")
        trained.append((folder.name, given))
        folder.mkdir(parents=True, exist_ok=True)
        value = 0.9 - abs(float(given["--dropout"]) - 0.1)
        label = {"auroc": Metric(value), "average_precision": Metric(0.5)}
        (folder / "metrics.json").write_text(json.dumps(metrics_to_json({"labels": {"PE": label}})))
        return Training(folder, 1.0)

    monkeypatch.setattr("training.script_runs.train", train)
    return trained


def free(words):
    """Leave out of the tiny flags what the space is to draw."""
    for flag in ("--dropout", "--batch-size", "--learning-rate", "--gaussian-noise"):
        while flag in words:
            del words[words.index(flag) : words.index(flag) + 2]
    return words


def test_trials_never_see_the_patients_who_are_tested_later(cohort, tmp_path, pretend):
    outcome = run_here("search.py", *free(flags_of(cohort, tmp_path, "--label-columns", "PE")))
    assert outcome.returncode == 0, outcome.stderr
    development = pd.read_csv(tmp_path / "search" / "development.csv")
    (last,) = [line for line in outcome.stdout.splitlines() if line.startswith("now train   python ")]
    words = shlex.split(last.split("python ")[1])
    assert words[0] == "train_atten.py" and "--folds" not in words
    done = train_here(*words, "--output-dir", tmp_path / "runs")  # indeed, by the printed command
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    splits = pd.read_csv(run / "splits.csv")
    assert set(splits.loc[splits["split"] == "test", "file"]) == set(splits["file"]) - set(
        development["file"]
    )
    assert all(flags["--labels"] == str(tmp_path / "search" / "development.csv") for _, flags in pretend)
    table = pd.read_csv(tmp_path / "search" / "trials.csv")
    best = table.loc[table["auroc"].idxmax()]
    assert float(words[words.index("--dropout") + 1]) == pytest.approx(best["dropout"], rel=1e-5)


def test_the_recipe_is_first_and_a_longer_search_goes_on(cohort, tmp_path, pretend):
    words = free(flags_of(cohort, tmp_path, trials=2))
    assert run_here("search.py", *words).returncode == 0
    assert [name for name, _ in pretend] == ["trial-000", "trial-001"]
    first = pretend[0][1]
    assert [float(first[flag]) for flag in ("--dropout", "--batch-size", "--learning-rate")] == [
        0.2,
        32,
        1e-3,
    ]
    outcome = run_here("search.py", *free(flags_of(cohort, tmp_path, trials=3)))
    assert outcome.returncode == 0, outcome.stderr
    assert [name for name, _ in pretend] == ["trial-000", "trial-001", "trial-002"]
    assert len({flags["--learning-rate"] for _, flags in pretend}) == 3
    outcome = run_here("search.py", *free(flags_of(cohort, tmp_path, "--seed", 43)))
    assert "name another --output-dir" in line_of(outcome)


def test_an_interrupted_trial_is_tried_again_with_its_values(cohort, tmp_path, pretend, monkeypatch):
    def interrupted(script, flags, folder, device):
        seen.append((folder.name, dict(zip(flags[::2], flags[1::2], strict=True))))
        raise KeyboardInterrupt

    seen = []
    with monkeypatch.context() as patch:
        patch.setattr("training.script_runs.train", interrupted)
        outcome = run_here("search.py", *free(flags_of(cohort, tmp_path, trials=1)))
    assert "interrupted; what is done is kept" in line_of(outcome)
    assert run_here("search.py", *free(flags_of(cohort, tmp_path, trials=1))).returncode == 0
    assert pretend == seen


def test_a_training_that_fails_is_a_trial_without_a_value(cohort, tmp_path, pretend):
    pretend.largest_weight_decay = 0
    outcome = run_here("search.py", *free(flags_of(cohort, tmp_path, trials=2)))
    assert "trial-000   failed: " in outcome.stdout and "the loss is nan" in outcome.stdout
    assert "found no trial that finished, expected one" in line_of(outcome)


def test_a_drawn_trial_is_not_called_the_recipe_where_that_failed(cohort, tmp_path, pretend, monkeypatch):
    whole = script_runs.train

    def train(script, flags, folder, device):
        if folder.name == "trial-000":
            raise UserError("the loss is nan")
        return whole(script, flags, folder, device)

    monkeypatch.setattr("training.script_runs.train", train)
    outcome = run_here("search.py", *free(flags_of(cohort, tmp_path, trials=2)))
    assert "of 1 trials; the script's own recipe failed" in outcome.stdout


def test_what_is_given_is_not_searched(cohort, tmp_path, pretend):
    outcome = run_here(
        "search.py", *flags_of(cohort, tmp_path, "--gamma", 2, "--weight-decay", 0.01, trials=1)
    )
    (space,) = [line for line in outcome.stdout.splitlines() if line.startswith("space")]
    assert space == "space       weight_average 0/0.98/0.99; baseline_wander 0 to 0.5"


def test_what_the_script_does_not_have_is_not_searched(monkeypatch):
    monkeypatch.setattr(search, "SPACE", {"kernel_size": [3, 5], "attention_heads": [1, 2], "dropout": [0.1]})
    options = search.options_of(["train_spectrogram.py"])
    assert search.searched(options) == ["attention_heads", "dropout"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.py"], "invalid choice: 'train.py'"),
        (
            ["train_atten.py", "--", "--folds", "5"],
            "found --folds after --, expected none of those",
        ),
        (["train_atten.py", "--folds", "1"], "--folds: found 1, expected 2 or more"),
        (["train_atten.py", "--", "--dropout", "3"], "dropout"),
    ],
)
def test_wrong_flags_are_one_line(words, message):
    assert message in line_of(run_here("search.py", *words), status=2)


def test_a_real_trial(cohort, tmp_path):
    outcome = run_here("search.py", *flags_of(cohort, tmp_path, trials=1))
    assert outcome.returncode == 0, outcome.stderr
    (metrics,) = (tmp_path / "search" / "trial-000").glob("train_atten-*/metrics.json")
    value = json.loads(metrics.read_text())["labels"]["PE"]["auroc"]["value"]
    assert pd.read_csv(tmp_path / "search" / "trials.csv")["auroc"][0] == pytest.approx(value)
    assert not list((tmp_path / "search").rglob("checkpoint.pt"))
