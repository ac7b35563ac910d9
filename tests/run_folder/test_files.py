"""The reader of a run folder: names stay text, and what is missing or damaged is one line."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from tiny_runs import ROOT

from run_folder.files import RunFiles, found_again
from run_folder.lineage import root_of
from runtime.errors import UserError

NAMES = ["NA", "null", "nan", "0017", "1e5", ""]


def write(folder, name, **columns):
    pd.DataFrame(columns).to_csv(folder / name, index=False)


@pytest.mark.parametrize("names", [NAMES[:5], ["0017", "0018"], ["1e5", "2e5"], ["NA"], ["nan", "null"]])
def test_names_stay_the_text_that_they_are(tmp_path, names):
    """Of a column in which all look like numbers, or like nothing, too."""
    keys = {"file": names, "patient_id": names, "digest": names, "waveform": names}
    write(tmp_path, "splits.csv", **keys, sex="F", PE=1, split="test")
    write(tmp_path, "predictions.csv", file=names, patient_id=names, split="test", y_true_PE=1.0)
    write(tmp_path, "rejected.csv", file=names, reason=names)
    write(tmp_path, "quality.csv", file=names, check="gaps", verdict="note", finding=names)
    write(tmp_path, "strata.csv", label=names, stratum=names, value=names, auroc=0.5)
    run = RunFiles(tmp_path)
    assert run.splits()[list(keys)].to_dict("list") == keys
    assert run.predictions("test")[["file", "patient_id"]].to_dict("list") == dict.fromkeys(
        ("file", "patient_id"), names
    )
    for table, columns in {
        "rejected.csv": ["file", "reason"],
        "quality.csv": ["file", "finding"],
        "strata.csv": ["label", "stratum", "value"],
    }.items():
        assert run.table(table)[columns].to_dict("list") == dict.fromkeys(columns, names)


def test_an_empty_field_of_numbers_is_nan(tmp_path):
    numbers = {"y_true_PE": [1, None], "y_score_PE": [None, 0.25]}
    write(tmp_path, "predictions.csv", file=["a", "b"], patient_id=["1", "2"], split="test", **numbers)
    table = RunFiles(tmp_path).predictions("test")
    assert table["y_true_PE"].tolist()[0] == 1 and table["y_score_PE"].tolist()[1] == 0.25
    assert table[["y_true_PE", "y_score_PE"]].isna().to_numpy().tolist() == [[False, True], [True, False]]


def test_a_label_may_be_called_as_a_column_of_another_table(tmp_path):
    write(tmp_path, "splits.csv", file=["a"], patient_id="1", digest="0", finding=1, value=0, split="test")
    assert RunFiles(tmp_path).splits()[["finding", "value"]].sum().tolist() == [1, 0]


def test_the_folds_are_in_the_order_of_their_numbers(tmp_path):
    assert list(RunFiles(tmp_path).folds()) == [0]
    for number in (10, 2, 1):
        (tmp_path / f"fold-{number}").mkdir()
    folds = RunFiles(tmp_path).folds()
    assert list(folds) == [1, 2, 10] and folds[10].folder == tmp_path / "fold-10"


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("metrics.json", None, "No such file or directory"),
        ("metrics.json", "{", "Expecting property name"),
        ("splits.csv", None, "No such file or directory"),
        ("splits.csv", "", "No columns to parse"),
        ("predictions.csv", "a,b\n1,2,3\n1,2,3,4\n", "Error tokenizing data. C error: Expected 3 fields"),
    ],
)
def test_a_missing_or_damaged_file_is_one_line(tmp_path, name, content, found):
    if content is not None:
        (tmp_path / name).write_text(content)
    run = RunFiles(tmp_path)
    with pytest.raises(UserError) as caught:
        {"metrics.json": run.metrics, "splits.csv": run.splits}.get(name, lambda: run.predictions("test"))()
    line = str(caught.value)
    assert line.startswith(f"{tmp_path / name}: found no usable {name.split('.')[0]} ({found}")
    assert line.endswith("), expected the file of a run") and len(line.splitlines()) == 1


def test_a_report_needs_no_torch():
    code = "import sys, reporting.run_report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_an_unfinished_cross_validation_is_not_one_model(tmp_path):
    (tmp_path / "fold-1").mkdir()
    with pytest.raises(
        UserError,
        match=r"found a cross-validation that is not finished, .* or name a finished fold, such as .*1",
    ):
        RunFiles(tmp_path).load_description()


def test_what_a_folder_without_a_model_is(tmp_path):
    """An unfinished run, an unfinished fold and what is neither are told apart."""
    run, fold = tmp_path / "run", tmp_path / "x" / "fold-2"
    fold.mkdir(parents=True)
    (fold / "checkpoint.pt").touch()
    empty, none = tmp_path / "evaluate-1", tmp_path / "none"
    empty.mkdir()
    run.mkdir()
    (run / "splits.csv").touch()
    expected = "expected a finished run"
    for folder, message in {
        run: f"{run}: found a run that is not finished, expected a finished one: --resume {run}",
        fold: f"{fold}: found a fold that is not finished, expected a finished one: --resume {fold.parent}",
        empty: f"{empty / 'model.json'}: found no usable model (no such file), {expected}",
        none: f"{none / 'model.json'}: found no usable model (no such folder), {expected}",
    }.items():
        with pytest.raises(UserError) as caught:
            RunFiles(folder).load_any_description()
        assert str(caught.value) == message
        if folder != run:
            with pytest.raises(UserError) as caught:
                root_of(folder)
            assert str(caught.value) == message
    assert root_of(run) == run


def test_a_finished_cross_validation_is_not_one_model_either(tmp_path):
    (tmp_path / "fold-1").mkdir()
    (tmp_path / "ensemble.json").touch()
    with pytest.raises(UserError, match=r": found a cross-validation, expected one model; name a fold"):
        RunFiles(tmp_path).load_description()


def test_a_path_of_a_run_is_found_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "there" / "out" / "runs" / "r").mkdir(parents=True)
    (tmp_path / "there" / "ecgs").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    folder, values = Path("../there/out/runs/r"), {"output_dir": "out/runs"}
    assert found_again(folder, values, "ecgs").resolve() == tmp_path / "there" / "ecgs"
    assert found_again(folder, values, "gone") == Path("gone")
    assert found_again(folder, {"output_dir": "other"}, "ecgs") == Path("ecgs")  # the run was moved
    (tmp_path / "here" / "ecgs").mkdir()
    assert found_again(folder, values, "ecgs") == Path("ecgs")  # as the run says: from here, if it is there
