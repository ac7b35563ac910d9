"""A run's ECGs and patients are recognised, though files were exported again."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fake_cohort import SignalsInMemory, cohort_of

from cohorts.synthetic import make_cohort
from dataset.cohort import read_cohort
from ecg.quality import measure
from inference import unseen
from inference.unseen import TrainedOn, check_unseen
from runtime.errors import UserError


@pytest.fixture
def new_run(tmp_path):
    """Return a function that makes a run folder of ECGs with these digests, all in the training part."""

    def make(name, digests, *, init_from="null", key=None, data_dir=None, **columns):
        folder = tmp_path / name
        folder.mkdir()
        splits = {"file": digests, "patient_id": digests, "digest": digests, "split": "train"} | columns
        pd.DataFrame(splits).to_csv(folder / "splits.csv", index=False)
        values = f"init_from: {init_from}\ncache_dir: {tmp_path}/cache\n"
        values += f"data_dir: {data_dir or tmp_path / 'gone'}\n"
        (folder / "hyperparameters.yml").write_text(values)
        (folder / "environment.json").write_text(f'{{"patient_key_fingerprint": "{key}"}}')
        return folder

    return make


def cohort(digests, waveforms=None, patient_ids=None, *, key="its own", patients_assumed=False):
    made = cohort_of([0] * len(digests), patient_ids)
    measurements = made.measurements.copy()
    measurements["waveform"] = range(100, 100 + len(digests)) if waveforms is None else waveforms
    reading = replace(made.reading, patient_key=key, patients_assumed=patients_assumed)
    return replace(made, table=made.table.assign(digest=digests), measurements=measurements, reading=reading)


def refusal(run, of_others):
    with pytest.raises(UserError) as caught:
        check_unseen([run], of_others)
    return str(caught.value)


def test_what_a_run_began_from_has_been_seen_too(new_run, tmp_path, capsys):
    first = new_run("first", ["a", "b"])
    third = new_run("third", ["d"], init_from=new_run("second", ["c"], init_from=first))
    check_unseen([third], cohort(["e"]))
    message = refusal(third, cohort(["e", "b"]))
    assert message.startswith(
        f"{third}: found 1 ECG of the cohort, or their patients, in what it was trained"
    )
    assert f"on by way of {first}, such as 1.xml; expected" in message
    assert "seen        1.xml\n" in capsys.readouterr().out
    fourth = new_run("fourth", ["f"], init_from=tmp_path / "gone")
    check_unseen([fourth], cohort(["e"]))
    assert (
        f"note        {fourth} began from {tmp_path / 'gone'}, which is not there" in capsys.readouterr().out
    )


def test_an_ecg_that_was_exported_again_is_known_by_its_signal(new_run):
    run = new_run("run", ["a", "b"], waveform=["00000000000000ff", "0000000000000001"])
    assert "found 1 ECG" in refusal(run, cohort(["x", "y"], [7, 255]))
    (line,) = check_unseen([run], cohort(["x", "y"], [7, 8]))
    assert line.startswith("2 ECGs, none in run: compared with 2 ECGs by file and signal, not sample by")


def test_a_run_of_an_earlier_version_is_compared_by_its_files_alone(new_run):
    run = new_run("run", ["a", "b"])
    (line,) = check_unseen([run], cohort(["x"], [0]))
    assert "compared with 2 ECGs by file, not sample by sample (its files" in line
    assert "found 1 ECG" in refusal(run, cohort(["b"]))


def test_patients_are_compared_where_one_key_made_both_pseudonyms(new_run):
    run = new_run("run", ["a", "b"], key="one")
    others = {"digests": ["x", "y"], "patient_ids": ["c", "b"]}
    assert "or their patients" in refusal(run, cohort(**others, key="one"))
    (line,) = check_unseen([run], cohort(**others, key="two"))
    assert line.endswith("; patients not compared (their pseudonyms are of another key: --patient-key)")
    (line,) = check_unseen([run], cohort(**others, key="one", patients_assumed=True))
    assert line.endswith("; patients not compared (the table has no patient_id)")
    (line,) = check_unseen([run], cohort(["x", "y"], patient_ids=["c", "d"], key="one"))
    assert line.endswith("; 2 patients compared with 2")


def test_a_rounded_and_shifted_recording_is_found_where_the_files_are_at_hand(new_run, tmp_path):
    make_cohort(tmp_path / "ecgs", n_ecgs=8, n_patients=8, prevalence=0.5, seed=3)
    reading = {
        "labels": None,
        "label_columns": None,
        "patient_key": None,
        "quality": {"quality_checks": False},
    }
    places = {"data_dir": str(tmp_path / "ecgs"), "cache_dir": str(tmp_path / "cache")}
    own = read_cohort(**places, **reading, workers=1, window_start=0.0)
    table = own.table
    run = new_run("run", list(table["digest"]), data_dir=tmp_path / "ecgs", file=list(table["file"]))
    signal = own.signals.read([5])[0]
    again = np.zeros_like(signal)
    again[:, 150:4850] = (signal[:, 300:] + 3) // 5 * 5  # 0.6 s later, and coarser
    other = np.random.default_rng(0).normal(0, 100, signal.shape).astype(np.int16)
    signals = np.stack([other, again])
    others = replace(cohort(["x", "y"]), signals=SignalsInMemory(signals))
    measured = [measured_as(other, 0), measured_as(again, 150)]
    message = refusal(run, replace(others, measurements=np.array(measured)))
    assert "found 1 ECG" in message and "such as 1.xml" in message
    alone = replace(cohort(["x"]), signals=SignalsInMemory(signals[:1]), measurements=np.array(measured[:1]))
    (line,) = check_unseen([run], alone)
    assert "compared with 8 ECGs by file, sample by sample with 8" in line
    (tmp_path / "ecgs" / table["file"][0]).write_text("another file")
    (line,) = check_unseen([run], alone)
    assert "sample by sample with 7" in line


def measured_as(signal, padded):
    options = {"file_rate": 500, "file_seconds": 10, "gap_samples": 0, "n_derived": 0, "n_warnings": 0}
    return measure(signal, padded=(padded, padded), **options)


def test_each_run_is_compared_once_however_many_lead_to_it(new_run):
    first = new_run("first", ["a"])
    second, third = (new_run(name, ["c"], init_from=first) for name in ("second", "third"))
    (line,) = check_unseen([second, third, first], cohort(["x"]))
    assert line.startswith("1 ECG, none in second, first, third: compared with 1 ECG by file")


def test_a_model_was_trained_on_the_ecgs_of_its_training_and_validation_part(new_run, tmp_path, monkeypatch):
    first = new_run("first", ["a"], waveform=["0a"])
    run = new_run("run", ["b", "c"], split=["validation", "test"], waveform=["0b", "0c"], init_from=first)
    trained_on = TrainedOn.of(run)
    assert trained_on == TrainedOn(frozenset("ab"), frozenset([10, 11]))
    monkeypatch.setattr(unseen, "digest_of", lambda path: path)
    flat = np.zeros((12, 5000), np.int16)
    assert trained_on.has("x", 10, flat) and trained_on.has("b", 99, flat)
    assert not trained_on.has("c", 12, flat)
    (tmp_path / "copied").mkdir()
    (tmp_path / "copied" / "model.json").write_text("{}")
    assert TrainedOn.of(tmp_path / "copied") == TrainedOn()
