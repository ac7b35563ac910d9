"""Where weights come from, through --init-from, folds and ensembles, and whose ECGs they have seen."""

import json

import pandas as pd
import pytest

from run_folder.ensemble import EnsembleDescription
from run_folder.lineage import ancestors, patient_key_of, root_of, roots_of, seen_by
from runtime.errors import UserError


@pytest.fixture
def new_run(tmp_path):
    """Return a function that makes a run of two ECGs, with a folder for each fold."""

    def make(name, *, init_from=None, n_folds=0, **parts):
        folder = tmp_path / name
        folder.mkdir()
        parts = parts or {"split": ["train", "test"]}
        splits = pd.DataFrame({"file": ["a", "b"], "patient_id": ["NA", "0017"], "digest": ["1e5", "2e5"]})
        splits.assign(PE=[1, 0], **parts).to_csv(folder / "splits.csv", index=False)
        (folder / "hyperparameters.yml").write_text(
            f"init_from: {json.dumps(init_from and str(init_from))}\n"
        )
        (folder / "environment.json").write_text(json.dumps({"patient_key_fingerprint": name}))
        for number in range(1, n_folds + 1):
            (folder / f"fold-{number}").mkdir()
            (folder / f"fold-{number}" / "model.json").touch()
        return folder

    return make


def write_ensemble(folder, members):
    description = EnsembleDescription(
        members=members, label_names=["PE"], prevalences=[0.1], thresholds=[0.5], threshold_policy="youden"
    )
    (folder / "ensemble.json").write_text(json.dumps(vars(description)))


FOLDS = {"fold-1": ["train", "test"], "fold-2": ["test", "validation"]}


def test_a_run_began_from_another_and_that_from_a_fold(new_run):
    first = new_run("first", n_folds=2, **FOLDS)
    second = new_run("second", init_from=first / "fold-2")
    third = new_run("third", init_from=second)
    assert list(ancestors(third)) == [third, second, first / "fold-2"]
    assert list(ancestors(first / "fold-1")) == [first / "fold-1"]


def test_of_an_ensemble_all_runs_are_followed(new_run, tmp_path):
    first = new_run("first", n_folds=2, **FOLDS)
    second = new_run("second", init_from=first / "fold-1", n_folds=2, **FOLDS)
    write_ensemble(first, ["fold-1", "fold-2"])
    assert list(ancestors(first)) == [first]  # a cross-validation is an ensemble of its folds
    (tmp_path / "compared").mkdir()
    write_ensemble(tmp_path / "compared", [f"../{n}/fold-{k}" for n in ("first", "second") for k in (1, 2)])
    runs = [folder.resolve() for folder in ancestors(tmp_path / "compared")]
    assert runs == [first, second, first / "fold-1"]
    assert roots_of(tmp_path / "compared") == [first, second]


def test_a_run_that_is_gone_ends_its_line(new_run, tmp_path):
    run = new_run("run", init_from=tmp_path / "gone")
    assert list(ancestors(run)) == [run, tmp_path / "gone"]
    with pytest.raises(UserError, match=r"gone/model\.json: found no usable model \(no such folder\)"):
        seen_by(tmp_path / "gone")


def test_a_model_has_seen_the_ecgs_of_its_run_or_fold(new_run):
    single, folds = new_run("single"), new_run("folds", n_folds=2, **FOLDS)
    assert seen_by(single).drop(columns="waveform").to_dict("list") == {
        "digest": ["1e5", "2e5"],
        "patient_id": ["NA", "0017"],
        "part": ["train", "test"],
    }
    for number in (1, 2):
        assert seen_by(folds / f"fold-{number}")["part"].tolist() == FOLDS[f"fold-{number}"]
    assert seen_by(single)["waveform"].isna().all()  # an earlier version's
    splits = pd.read_csv(single / "splits.csv").assign(waveform=["00e5", "0017"])
    splits.to_csv(single / "splits.csv", index=False)
    assert seen_by(single)["waveform"].tolist() == ["00e5", "0017"]
    whole = seen_by(folds)  # once for each fold
    assert whole["digest"].tolist() == ["1e5", "2e5", "1e5", "2e5"]
    assert whole["part"].tolist() == [*FOLDS["fold-1"], *FOLDS["fold-2"]]


def test_the_key_of_pseudonyms_is_that_of_the_run(new_run, tmp_path):
    run = new_run("run", n_folds=1, **{"fold-1": ["train", "test"]})
    assert patient_key_of(run) == patient_key_of(run / "fold-1") == "run"
    assert root_of(run / "fold-1") == run
    (run / "environment.json").write_text("{}")
    assert patient_key_of(run) is None
    (run / "environment.json").unlink()
    assert patient_key_of(run) is None
