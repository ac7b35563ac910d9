"""Batches are true crops of their ECGs, in millivolts, augmented in training alone, then normalised."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from fake_cohort import cohort_of
from one_line import failure_of

from data_augmentation import Augmentation
from dataset.batches import EvaluationBatches, TrainingBatches, evaluation_input, normalise
from dataset.cohort import read_cohort
from dataset.signals import SignalsOnDevice, SignalsOnDisk
from focal_loss import FocalLoss
from hyperparameters.declaration import Hyperparameters
from runtime import processes
from xml_loader import load_ecg

CPU = torch.device("cpu")
UNCHANGED = Augmentation(augmentation="none")
N_ECGS = 37


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """37 ECGs of noise, in a map that holds them in another order among others."""
    generator = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("signals") / "signals.int16"
    generator.integers(-2000, 2000, (40, 12, 5000)).astype(np.int16).tofile(path)
    signals = np.memmap(path, np.int16, mode="r", shape=(40, 12, 5000))
    return cohort_of(np.arange(N_ECGS) % 3 == 0, signals=signals, rows=generator.permutation(40)[:N_ECGS])


def shared(cohort, batch_size=8, n_samples=512, normalisation="none", place=SignalsOnDevice):
    sizes = {"batch_size": batch_size, "n_samples": n_samples, "normalisation": normalisation}
    return {"signals": place(cohort.signals, CPU), **sizes}


def training(cohort, indices=None, seed=0, augmentation=UNCHANGED, **arguments):
    indices = np.arange(N_ECGS) if indices is None else indices
    return TrainingBatches(
        cohort, indices, augmentation=augmentation, seed=seed, **shared(cohort, **arguments)
    )


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
        EvaluationBatches(cohort, np.arange(n), **shared(cohort, batch_size)),
    ):
        epoch = batches.epoch(0) if isinstance(batches, TrainingBatches) else batches
        assert [len(signal) for (signal,), *_ in epoch] == sizes
        assert len(batches) == len(sizes) and batches.n_ecgs == n


@pytest.mark.parametrize("epoch", [0, 1, 100])
def test_an_epoch_has_each_ecg_once_with_its_target(cohort, epoch):
    chosen = np.arange(3, 30)
    order = []
    for (signal,), targets, indices in training(cohort, chosen).epoch(epoch):
        assert signal.shape == (len(indices), 12, 512) and signal.dtype == torch.float32
        assert targets.dtype == torch.float32
        np.testing.assert_array_equal(targets.numpy(), cohort.targets[indices])
        order += indices.tolist()
    assert sorted(order) == chosen.tolist() and order != chosen.tolist()


def test_all_targets_are_on_the_cpu_wherever_the_signals_are(cohort):
    nowhere = SimpleNamespace(device=torch.device("meta"))  # nothing comes back from there
    batches = EvaluationBatches(cohort, np.array([7, 0, 2]), **{**shared(cohort), "signals": nowhere})
    assert batches.all_targets.tolist() == [[0], [1], [0]]
    assert batches.all_targets is batches.all_targets  # nothing is copied in each epoch


def test_training_crops_are_windows_at_random_starts(cohort):
    starts = []
    for epoch in range(4):
        for (signal,), _, indices in training(cohort).epoch(epoch):
            for ecg, index in zip(signal, indices, strict=True):
                starts.append(start_of(ecg, cohort.signals.read([index])[0]))
    starts = np.array(starts).reshape(4, N_ECGS)
    assert starts.min() < 300 and starts.max() > 4188  # of 0 to 4,488
    assert abs(starts.mean() - 2244) < 450  # standard deviation 4,488 / sqrt(12 x 148) = 106
    assert len(np.unique(starts)) > 130


def test_last_start_is_drawn_too(cohort):
    starts = set()
    for epoch in range(3):
        for (signal,), _, indices in training(cohort, n_samples=4999).epoch(epoch):
            starts |= {
                start_of(ecg, cohort.signals.read([i])[0]) for ecg, i in zip(signal, indices, strict=True)
            }
    assert starts == {0, 1}


def test_whole_ecg(cohort):
    for (signal,), _, indices in training(cohort, n_samples=5000).epoch(0):
        np.testing.assert_allclose(signal * 1000, cohort.signals.read(indices), atol=1e-3)


def same(first, second):
    return all(
        torch.equal(a, b) and torch.equal(c, d) and np.array_equal(e, f)
        for ((a,), c, e), ((b,), d, f) in zip(first, second, strict=True)
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
    for number, ((signal,), _, indices) in enumerate(batches.epoch(0)):
        for ecg, index in zip(seen[number], indices, strict=True):
            start_of(ecg, cohort.signals.read([index])[0])
        torch.testing.assert_close(signal, normalise(seen[number] + 5, "recording"))
    assert len(seen) == len(batches)


def test_evaluation_takes_no_augmentation(cohort):
    with pytest.raises(TypeError, match="augmentation"):
        EvaluationBatches(cohort, np.arange(5), augmentation=UNCHANGED, **shared(cohort))


@pytest.mark.parametrize(("n_samples", "start"), [(4096, 452), (512, 2244), (5000, 0), (4999, 0)])
def test_evaluation_is_the_centre_in_order_and_always_the_same(cohort, n_samples, start):
    chosen = np.array([4, 9, 2, 30, 31, 7])
    batches = EvaluationBatches(cohort, chosen, **shared(cohort, 4, n_samples))
    signal, targets = map(torch.cat, zip(*((signal, targets) for (signal,), targets in batches), strict=True))
    expected = cohort.signals.read(chosen)[:, :, start : start + n_samples]
    np.testing.assert_allclose(signal * 1000, expected, atol=1e-3)
    np.testing.assert_array_equal(targets, cohort.targets[chosen])
    assert torch.equal(torch.cat([signal for (signal,), _ in batches]), signal)


def test_clinical_values_come_beside_the_signal_of_their_ecg(cohort):
    values = np.random.default_rng(3).normal(size=(N_ECGS, 2)).astype(np.float32)
    values[5, 1] = np.nan
    cohort = replace(cohort, clinical=pd.DataFrame(values, columns=["age", "sex"]))
    batches = training(cohort)
    np.testing.assert_array_equal(batches.clinical, values)
    for (_, clinical), _, indices in batches.epoch(3):
        np.testing.assert_array_equal(clinical, values[indices])
    evaluated = EvaluationBatches(cohort, np.array([7, 5]), **shared(cohort))
    for (_, clinical), _ in evaluated:
        np.testing.assert_array_equal(clinical, values[[7, 5]])


@pytest.mark.parametrize(("normalisation", "axes"), [("recording", (1, 2)), ("lead", 2), ("none", None)])
def test_evaluation_is_what_load_ecg_gives_to_a_microvolt(cohort_folder, tmp_path, normalisation, axes):
    values = Hyperparameters(data_dir=str(cohort_folder), cache_dir=str(tmp_path), workers=1)
    cohort = read_cohort(quality=values.group("quality"), **values.group("cohort"))
    batches = EvaluationBatches(cohort, np.arange(12), **shared(cohort, 5, 4096, normalisation))
    signal = torch.cat([signal for (signal,), _ in batches])
    millivolts = torch.stack([load_ecg(cohort_folder / file, 4096) for file in cohort.table["file"]])
    unit = torch.ones(()) if axes is None else millivolts.std(dim=axes, keepdim=True)  # mV
    assert ((signal - normalise(millivolts, normalisation)) * unit).abs().max() < 1e-3
    whole = torch.from_numpy(cohort.signals.read(range(len(cohort.signals))))
    found = evaluation_input(whole, n_samples=4096, normalisation=normalisation)
    torch.testing.assert_close(found, signal)


@pytest.mark.parametrize("place", [SignalsOnDevice, SignalsOnDisk])
def test_an_interrupted_epoch_goes_on_with_the_same_batches(cohort, place):
    augmentation = Augmentation(augmentation="independent", gaussian_noise=1.0)
    batches = training(cohort, augmentation=augmentation, place=place)
    whole, rest = list(batches.epoch(2)), list(batches.epoch(2, first_step=3))
    assert len(whole) == 5 and len(rest) == 2
    for ((signal,), targets, indices), ((again,), targets_again, indices_again) in zip(
        whole[3:], rest, strict=True
    ):
        assert torch.equal(signal, again) and torch.equal(targets, targets_again)
        assert indices.tolist() == indices_again.tolist()


def test_dropout_of_a_step_does_not_depend_on_the_steps_before(cohort):
    batches = training(cohort)
    whole = [torch.rand(3) for _ in batches.epoch(2)]
    assert torch.equal(next(torch.rand(3) for _ in batches.epoch(2, first_step=4)), whole[4])


def test_batches_made_on_the_device_are_those_of_the_epoch(cohort):
    noise = Augmentation(augmentation="independent", gaussian_noise=0.7, baseline_wander=0.7)
    batches = training(cohort, augmentation=noise, normalisation="recording")
    generator = torch.Generator(CPU)
    made = []
    for rows, starts, seed in batches.draws(4, first_step=1):
        generator.manual_seed(seed)
        made.append(batches.make(rows, starts, generator))
    expected = list(batches.epoch(4, first_step=1))
    assert len(made) == len(expected) == len(batches) - 1
    for ((signal,), targets), ((expected_signal,), expected_targets, _) in zip(made, expected, strict=True):
        torch.testing.assert_close(signal, expected_signal, rtol=0, atol=1e-5)  # of normalised values
        assert torch.equal(targets, expected_targets)


def test_more_processes_than_ecgs_in_a_step_are_refused(cohort, monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 2)
    assert failure_of(lambda: training(cohort, batch_size=1)) == (
        "--batch-size: found 1 ECGs in a step, expected one for each of the 2 processes"
    )


def test_gradients_of_several_processes_add_up_to_that_of_the_batch(cohort, monkeypatch):
    """The loss is a mean over known labels, of which shares of equal size may have unequal numbers."""
    targets = np.float32(np.arange(2 * N_ECGS).reshape(N_ECGS, 2) % 3 == 0)
    targets[::2, 1] = targets[5:15, 0] = np.nan
    batches = training(replace(cohort, targets=targets), batch_size=8)
    assert batches.shares(3).tolist() == [1.0] * len(batches)
    logits = torch.linspace(-2, 2, 2 * N_ECGS).reshape(N_ECGS, 2)

    def gradients():
        found, shares = torch.zeros(len(batches), N_ECGS, 2), batches.shares(3)
        for step, (_, known, indices) in enumerate(batches.epoch(3)):
            own = logits[indices].requires_grad_()
            (FocalLoss(gamma=2.0)(own, known) * float(shares[step])).backward()
            found[step, indices] = own.grad
        return found

    whole, added = gradients(), 0
    monkeypatch.setattr(processes, "count", lambda: 3)
    for number in range(3):
        monkeypatch.setattr(processes, "rank", lambda number=number: number)
        added = added + gradients()
    torch.testing.assert_close(added, whole)


def test_no_batch_converts_a_column_of_the_table(cohort, monkeypatch):
    """Where pyarrow is installed that takes 93 ms for a million files, with Python's lock held."""
    batches = training(cohort, place=SignalsOnDisk)

    def refuse(self, *arguments, **options):
        raise AssertionError("a whole column was converted")

    for name in ("to_numpy", "__array__", "tolist"):
        monkeypatch.setattr(pd.Series, name, refuse)
    assert sum(len(indices) for *_, indices in batches.epoch(1)) == N_ECGS
    assert len(batches.files_of(1, 0)) == batches.sizes[0]


def test_files_of_a_step(cohort):
    batches = training(cohort)
    for step, (_, _, indices) in enumerate(batches.epoch(4)):
        assert batches.files_of(4, step).tolist() == [f"{index}.xml" for index in indices]


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
