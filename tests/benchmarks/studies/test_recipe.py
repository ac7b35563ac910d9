"""The study of the recipe: which trainings it starts, what it prints of one, and its errors."""

import json

import pytest
from tiny_runs import run_here

from benchmarks.studies import recipe
from training.script_runs import Training


def test_settings_are_scripts_with_their_flags():
    found = {setting.name: setting for setting in recipe.settings(["MI"], None)}
    assert found["rnn, 15 epochs"].script == "train_main_ecg.py"
    assert found["rnn, 15 epochs"].flags == ["--model", "rnn", "--epochs", "15"]
    assert found["attention, drop path 0.1"].flags == ["--epochs", "10", "--drop-path", "0.1"]
    tuned = list(recipe.settings(["MI", "RBBB"], "trunk"))
    assert all("--init-from" in setting.flags for setting in tuned)
    assert len(tuned) == 2 * len(recipe.WITH_TRUNK) * len(recipe.TUNED)


def test_a_line_has_the_pooled_auroc_and_the_spread_of_the_folds(tmp_path, monkeypatch, capsys):
    def train(script, flags, folder):
        trained.append((script, flags))
        folder.mkdir(parents=True)
        auroc = {"value": 0.8, "low": 0.7, "high": 0.9}
        folds = [{"MI": 0.7}, {"MI": 0.9}]
        metrics = {"labels": {"MI": {"auroc": auroc}}, "auroc_of_folds": folds}
        (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        return Training(folder, 1.0)

    trained = []
    monkeypatch.setattr(recipe, "train", train)
    words = ["recipe.py", "ecgs", "--label-columns", "MI", "--only", "rnn, 15", "--output-dir", str(tmp_path)]
    monkeypatch.setattr("sys.argv", [*words, "--", "--n-samples", "512"])
    recipe.main()
    assert "0.800 (0.700-0.900)     0.800 ± 0.141" in capsys.readouterr().out
    ((script, flags),) = trained
    assert script == "train_main_ecg.py"
    assert flags[:4] == ["--data-dir", "ecgs", "--n-samples", "512"]


@pytest.mark.parametrize(
    ("flags", "named"),
    [(["--only", "nothing"], "--only: found 'nothing'"), (["--at-once", "0"], "found 0"), (["more"], "more")],
)
def test_what_cannot_be_done_is_one_line(flags, named):
    outcome = run_here("benchmarks.studies.recipe", "ecgs", *flags)
    assert outcome.returncode and named in outcome.stderr
    assert len(outcome.stderr.strip().splitlines()) == 1
