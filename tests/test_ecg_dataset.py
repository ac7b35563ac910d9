"""A cohort has what its files and table say; no patient is in two parts; batches are true crops."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from fake_cohort import cohort_of
from one_line import failure_of

from cohort_table import KEY_FILE, pseudonyms
from cohorts.synthetic import hospital_xml
from data_augmentation import Augmentation
from ecg_dataset import (
    EvaluationBatches,
    TrainingBatches,
    crop,
    evaluation_input,
    normalise,
    read_cohort,
)
from hyperparameters import Hyperparameters
from signal_cache import NO_ROW
from xml_loader import load_ecg, read_at_rest, read_recording

CPU = torch.device("cpu")
UNCHANGED = Augmentation(augmentation="none")


@pytest.fixture
def table_of(tmp_path):
    """Return a function that writes a labels table and gives its path."""

    def write(content):
        path = tmp_path / "labels.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# Cohorts


@pytest.fixture
def read(tmp_path):
    """Return `read_cohort` with a cache of the test's own."""
    defaults = Hyperparameters()
    options = {
        **defaults.group("cohort"),
        "cache_dir": str(tmp_path / "cache"),
        "workers": 1,
        "quality": {**defaults.group("quality"), "quality_checks": False},
    }
    return lambda folder, **others: read_cohort(data_dir=str(folder), **{**options, **others})


def write_labels(folder, text):
    (folder / "labels.csv").write_text(text)
    return folder / "labels.csv"


def test_cohort(read, cohort_folder):
    cohort = read(cohort_folder)
    expected = pd.read_csv(cohort_folder / "labels.csv")
    assert list(cohort.table["file"]) == list(expected["file"])
    hashes = pseudonyms(expected["patient_id"].astype(str), cohort_folder / KEY_FILE)
    assert list(cohort.table["patient_id"]) == list(hashes)
    assert list(cohort.table.index) == list(range(12))
    np.testing.assert_array_equal(cohort.targets, expected[["PE"]].to_numpy(np.float32))
    assert cohort.targets.dtype == np.float32 and cohort.targets.shape == (12, 1)
    assert cohort.label_names == ("PE",) and not cohort.patients_assumed
    assert cohort.n_parsed == 12 and len(cohort.rejected) == 0
    assert cohort.table["digest"].nunique() == 12
    assert read(cohort_folder).n_parsed == 0


def test_signals_belong_to_their_files(read, cohort_folder):
    cohort = read(cohort_folder)
    for row, file in zip(cohort.rows, cohort.table["file"], strict=True):
        np.testing.assert_array_equal(cohort.signals[row], read_at_rest(cohort_folder / file))


def test_rejected_files_are_counted_with_their_reason(read, write_ecgs):
    folder = write_ecgs(["a.xml", "b.xml", "c.xml", "d.xml"])
    (folder / "b.xml").write_bytes(b"")
    (folder / "d.xml").write_bytes(b"<html/>")
    write_labels(folder, "a.xml;1\nb.xml;1\nc.xml;0\nd.xml;0\n")
    for _ in range(2):  # from the files, then from the cache
        cohort = read(folder)
        assert list(cohort.rejected["file"]) == ["b.xml", "d.xml"]
        first, second = cohort.rejected["reason"]
        assert first.startswith(f"{folder / 'b.xml'}: found an empty file; expected")
        assert second.startswith(f"{folder / 'd.xml'}: found root element 'html'")
        assert list(cohort.table["file"]) == ["a.xml", "c.xml"]
        assert cohort.targets.tolist() == [[1], [0]]
        assert len(cohort.rows) == 2 and NO_ROW not in cohort.rows
        assert cohort.patients_assumed


def test_table_elsewhere_and_several_labels(read, write_ecgs, table_of):
    folder = write_ecgs(["a.xml", "b.xml"])
    table = table_of("file,PE,MI,patient_id\nb.xml,1,0,p1\na.xml,1,1,p2\n")
    cohort = read(folder, labels=str(table), label_columns=["MI", "PE"])
    assert cohort.label_names == ("MI", "PE")
    assert cohort.targets.tolist() == [[0, 1], [1, 1]]
    hashes = pseudonyms(pd.Series(["p1", "p2"]), table.with_name(KEY_FILE))
    assert list(cohort.table["patient_id"]) == list(hashes) and not cohort.patients_assumed


def test_no_such_folder(read, tmp_path):
    folder = tmp_path / "nowhere"
    assert failure_of(read, folder) == (
        f"{folder}: found no such folder, expected the folder of the ECG files"
    )


def test_folder_without_a_table(read, write_ecgs):
    folder = write_ecgs(["a.xml"])
    assert failure_of(read, folder) == (
        f"{folder / 'labels.csv'}: the labels table cannot be read (No such file or directory)"
    )


@pytest.mark.parametrize("absent", ["x.xml", "x" * 300])
def test_missing_files(read, write_ecgs, absent):
    folder = write_ecgs(["a.xml", "b.xml"])
    table = write_labels(folder, f"file,PE\na.xml,1\n{absent},0\nb.xml,1\n")
    assert failure_of(read, folder) == f"{table} line 3: file {absent} is not in {folder}"
    write_labels(folder, f"{absent};1\na.xml;1\ny.xml;0\nz.xml;0\n")
    assert failure_of(read, folder) == f"{table} line 1: file {absent} is not in {folder} (and 2 more)"


def test_no_file_can_be_read(read, write_ecgs):
    folder = write_ecgs([])
    (folder / "a.xml").write_bytes(b"")
    (folder / "b.xml").write_bytes(b"")
    write_labels(folder, "a.xml;1\nb.xml;0\n")
    message = failure_of(read, folder)
    assert message.startswith(
        f"{folder}: none of the 2 files can be used; {folder / 'a.xml'}: found an empty"
    )


# Quality and duplicates


@pytest.fixture
def judged(read, cohort_folder, tmp_path):
    """Return a function that changes the millivolts of some files of a copy of the cohort, and reads it."""

    def read_changed(**changes):
        folder = tmp_path / "changed"
        shutil.copytree(cohort_folder, folder)
        for name, change in changes.items():
            path = folder / f"{name.replace('_', '-')}.xml"
            path.write_text(hospital_xml(change(read_recording(path).signal.copy())), encoding="iso-8859-1")
        return read(folder, quality=Hyperparameters().group("quality"))

    return read_changed


def without_v3(signal):
    signal[8] = 0
    return signal


def test_an_unusable_ecg_is_left_out_and_said(judged):
    cohort = judged(demo_0003=without_v3, demo_0005=lambda signal: signal / 100)
    assert list(cohort.rejected["file"]) == ["demo-0003.xml", "demo-0005.xml"]
    assert cohort.rejected["reason"][0] == "lead V3 flat for 10 s (limit 5 s)"
    assert "median of the leads (limits 0.05 and 20 mV)" in cohort.rejected["reason"][1]
    assert len(cohort.table) == len(cohort.rows) == len(cohort.targets) == len(cohort.measurements) == 10
    assert set(cohort.quality["verdict"]) == {"reject"}
    for row, file in zip(cohort.rows, cohort.table["file"], strict=True):
        assert file not in set(cohort.rejected["file"])
        assert (np.abs(cohort.signals[row]).max(axis=1) > 100).all()


def test_without_checks_all_are_kept(judged, read, tmp_path):
    judged(demo_0003=without_v3)
    cohort = read(tmp_path / "changed")
    assert len(cohort.table) == 12 and cohort.quality.empty and cohort.rejected.empty


def test_no_ecg_is_usable(judged, read, cohort_folder):
    limits = {**Hyperparameters().group("quality"), "min_qrs_mv": 19.0}
    message = failure_of(read, cohort_folder, quality=limits)
    assert message.startswith(f"{cohort_folder}: none of the 12 files can be used; QRS of ")


def test_the_same_ecg_in_two_files_is_found_by_its_waveform(judged, cohort_folder):
    """The first two demo ECGs are of other patients; a copy differs in its counts by rounding."""
    first = read_recording(cohort_folder / "demo-0001.xml").signal
    cohort = judged(demo_0002=lambda signal: np.round(first / 0.005) * 0.005)
    same = cohort.table.set_index("file")["same_ecg"]
    assert same["demo-0001.xml"] == same["demo-0002.xml"] and same.nunique() == 11
    assert list(cohort.quality["check"]) == ["duplicate", "duplicate"]
    assert list(cohort.quality["verdict"]) == ["warn", "warn"]
    assert cohort.quality["finding"].iloc[0].startswith("the same ECG as demo-0002.xml, of another patient")
    assert cohort.quality["finding"].iloc[1].startswith("the same ECG as demo-0001.xml, of another patient")


# Batches

N_ECGS = 37


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """37 ECGs of noise, in a map that holds them in another order among others."""
    generator = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("signals") / "signals.int16"
    generator.integers(-2000, 2000, (40, 12, 5000)).astype(np.int16).tofile(path)
    signals = np.memmap(path, np.int16, mode="r", shape=(40, 12, 5000))
    return cohort_of(np.arange(N_ECGS) % 3 == 0, signals=signals, rows=generator.permutation(40)[:N_ECGS])


def shared(batch_size=8, n_samples=512, normalisation="none"):
    return {"batch_size": batch_size, "n_samples": n_samples, "normalisation": normalisation, "device": CPU}


def training(cohort, indices=None, seed=0, augmentation=UNCHANGED, **arguments):
    indices = np.arange(N_ECGS) if indices is None else indices
    return TrainingBatches(cohort, indices, augmentation=augmentation, seed=seed, **shared(**arguments))


def start_of(signal, microvolts):
    """Return where a crop in mV lies in its ECG, after checking that it is there sample by sample."""
    crop_in_microvolts = np.rint(signal.numpy() * 1000)
    np.testing.assert_allclose(signal.numpy() * 1000, crop_in_microvolts, atol=1e-3)
    n_samples = signal.shape[1]
    candidates = np.flatnonzero(microvolts[0, : 5001 - n_samples] == crop_in_microvolts[0, 0])
    windows = [microvolts[:, start : start + n_samples] for start in candidates]
    (start,) = candidates[[np.array_equal(window, crop_in_microvolts) for window in windows]]
    return int(start)


@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"),
    [
        (37, 8, [8, 8, 7, 7, 7]),
        (37, 37, [37]),
        (33, 32, [17, 16]),
        (5, 100, [5]),
        (6, 1, [1] * 6),
        (12, 4, [4] * 3),
    ],
)
def test_batches_have_equal_sizes(cohort, n, batch_size, sizes):
    for batches in (
        training(cohort, np.arange(n), batch_size=batch_size),
        EvaluationBatches(cohort, np.arange(n), **shared(batch_size)),
    ):
        epoch = batches.epoch(0) if isinstance(batches, TrainingBatches) else batches
        assert [len(signal) for signal, *_ in epoch] == sizes
        assert len(batches) == len(sizes) and batches.n_ecgs == n


@pytest.mark.parametrize("epoch", [0, 1, 100])
def test_an_epoch_has_each_ecg_once_with_its_target(cohort, epoch):
    chosen = np.arange(3, 30)
    order = []
    for signal, targets, indices in training(cohort, chosen).epoch(epoch):
        assert signal.shape == (len(indices), 12, 512) and signal.dtype == torch.float32
        assert targets.dtype == torch.float32
        np.testing.assert_array_equal(targets.numpy(), cohort.targets[indices])
        order += indices.tolist()
    assert sorted(order) == chosen.tolist() and order != chosen.tolist()


def test_training_crops_are_windows_at_random_starts(cohort):
    starts = []
    for epoch in range(4):
        for signal, _, indices in training(cohort).epoch(epoch):
            for ecg, index in zip(signal, indices, strict=True):
                starts.append(start_of(ecg, cohort.signals[cohort.rows[index]]))
    starts = np.array(starts).reshape(4, N_ECGS)
    assert starts.min() < 300 and starts.max() > 4188  # of 0 to 4,488
    assert abs(starts.mean() - 2244) < 450  # standard deviation 4,488 / sqrt(12 x 148) = 106
    assert len(np.unique(starts)) > 130


def test_last_start_is_drawn_too(cohort):
    starts = set()
    for epoch in range(3):
        for signal, _, indices in training(cohort, n_samples=4999).epoch(epoch):
            starts |= {
                start_of(ecg, cohort.signals[cohort.rows[i]]) for ecg, i in zip(signal, indices, strict=True)
            }
    assert starts == {0, 1}


def test_whole_ecg(cohort):
    for signal, _, indices in training(cohort, n_samples=5000).epoch(0):
        np.testing.assert_allclose(signal * 1000, cohort.signals[cohort.rows[indices]], atol=1e-3)


def same(first, second):
    return all(
        torch.equal(a, b) and torch.equal(c, d) and np.array_equal(e, f)
        for (a, c, e), (b, d, f) in zip(first, second, strict=True)
    )


def test_seed_and_epoch_decide_everything(cohort):
    noisy = Augmentation(augmentation="independent", gaussian_noise=0.5, baseline_wander=0.5)
    batches = training(cohort, augmentation=noisy, seed=5)
    epochs = [list(batches.epoch(number)) for number in range(3)]
    torch.manual_seed(1)
    np.random.seed(1)
    resumed = training(cohort, augmentation=noisy, seed=5)  # starts with the last epoch
    assert same(resumed.epoch(2), epochs[2])
    assert not same(epochs[0], epochs[1])
    assert not same(training(cohort, augmentation=noisy, seed=6).epoch(0), epochs[0])


def test_augmentation_gets_millivolts_before_normalisation(cohort):
    seen = []

    def augment(signal, generator):
        assert isinstance(generator, torch.Generator)
        seen.append(signal.clone())
        return signal + 5

    batches = training(cohort, augmentation=augment, normalisation="recording")
    for number, (signal, _, indices) in enumerate(batches.epoch(0)):
        for ecg, index in zip(seen[number], indices, strict=True):
            start_of(ecg, cohort.signals[cohort.rows[index]])
        torch.testing.assert_close(signal, normalise(seen[number] + 5, "recording"))
    assert len(seen) == len(batches)


def test_evaluation_takes_no_augmentation(cohort):
    with pytest.raises(TypeError, match="augmentation"):
        EvaluationBatches(cohort, np.arange(5), augmentation=UNCHANGED, **shared())


@pytest.mark.parametrize(("n_samples", "start"), [(4096, 452), (512, 2244), (5000, 0), (4999, 0)])
def test_evaluation_is_the_centre_in_order_and_always_the_same(cohort, n_samples, start):
    chosen = np.array([4, 9, 2, 30, 31, 7])
    batches = EvaluationBatches(cohort, chosen, **shared(4, n_samples))
    signal, targets = map(torch.cat, zip(*batches, strict=True))
    expected = cohort.signals[cohort.rows[chosen], :, start : start + n_samples]
    np.testing.assert_allclose(signal * 1000, expected, atol=1e-3)
    np.testing.assert_array_equal(targets, cohort.targets[chosen])
    again, _ = map(torch.cat, zip(*batches, strict=True))
    assert torch.equal(again, signal)


@pytest.mark.parametrize(("normalisation", "axes"), [("recording", (1, 2)), ("lead", 2), ("none", None)])
def test_evaluation_is_what_load_ecg_gives_to_a_microvolt(read, cohort_folder, normalisation, axes):
    cohort = read(cohort_folder)
    batches = EvaluationBatches(cohort, np.arange(12), **shared(5, 4096, normalisation))
    signal = torch.cat([signal for signal, _ in batches])
    millivolts = torch.stack([load_ecg(cohort_folder / file, 4096) for file in cohort.table["file"]])
    unit = torch.ones(()) if axes is None else millivolts.std(dim=axes, keepdim=True)  # mV
    assert ((signal - normalise(millivolts, normalisation)) * unit).abs().max() < 1e-3
    arguments = {"n_samples": 4096, "normalisation": normalisation, "device": CPU}
    torch.testing.assert_close(evaluation_input(cohort.signals, cohort.rows, **arguments), signal)


def test_crop_is_in_millivolts():
    signals = np.arange(3 * 12 * 5000).reshape(3, 12, 5000) % 30_000 - 15_000
    cropped = crop(signals.astype(np.int16), np.array([2, 0]), np.array([10, 4990]), 10, CPU)
    assert cropped.shape == (2, 12, 10) and cropped.dtype == torch.float32
    np.testing.assert_allclose(cropped[0], signals[2, :, 10:20] / 1000, atol=1e-6)
    np.testing.assert_allclose(cropped[1], signals[0, :, 4990:] / 1000, atol=1e-6)


# Normalisation


@pytest.fixture
def signal():
    """Three ECGs of noise whose leads have amplitudes from 0.1 to 1.2 mV and an offset."""
    amplitude = torch.arange(1, 13)[:, None] / 10
    noise = torch.randn(3, 12, 1000, generator=torch.Generator().manual_seed(0))
    return torch.tensor([1.0, 2.0, 0.5])[:, None, None] * (amplitude * noise + 0.7)


def test_recording_has_one_mean_and_deviation(signal):
    normalised = normalise(signal, "recording")
    torch.testing.assert_close(normalised.mean(dim=(1, 2)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(normalised.std(dim=(1, 2), correction=0), torch.ones(3))
    before, after = signal.std(dim=2), normalised.std(dim=2)
    torch.testing.assert_close(after / after[:, :1], before / before[:, :1])  # amplitudes between leads stay
    assert normalised.mean(dim=2).abs().max() > 0.01


def test_lead_has_a_mean_and_deviation_of_its_own(signal):
    normalised = normalise(signal, "lead")
    torch.testing.assert_close(normalised.mean(dim=2), torch.zeros(3, 12), rtol=0, atol=1e-5)
    torch.testing.assert_close(normalised.std(dim=2, correction=0), torch.ones(3, 12))


def test_none_leaves_millivolts(signal):
    assert torch.equal(normalise(signal, "none"), signal)


def test_worked_by_hand():
    # Values 1, 3 and 5, 7: mean 4, deviation sqrt((9 + 1 + 1 + 9) / 4) = sqrt(5)
    signal = torch.tensor([[[1.0, 3.0], [5.0, 7.0]]])
    expected = torch.tensor([[[-3.0, -1.0], [1.0, 3.0]]]) / 5**0.5
    torch.testing.assert_close(normalise(signal, "recording"), expected)
    torch.testing.assert_close(normalise(signal, "lead"), torch.tensor([[[-1.0, 1.0], [-1.0, 1.0]]]))


@pytest.mark.parametrize("method", ["recording", "lead"])
def test_flat_signals_are_finite(signal, method):
    signal[0] = 0.3
    signal[1, 4] = 0
    normalised = normalise(signal, method)
    assert normalised.isfinite().all()
    assert normalised[0].abs().max() < 1e-3  # rounding alone is not blown up


@pytest.mark.parametrize("method", ["recording", "lead", "none"])
def test_each_ecg_is_normalised_alone(signal, method):
    torch.testing.assert_close(normalise(signal, method)[1:2], normalise(signal[1:2], method))


def test_unknown_method(signal):
    with pytest.raises(KeyError):
        normalise(signal, "batch")
