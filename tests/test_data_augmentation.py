"""What each augmentation does to an ECG, how often, to which ECGs, and that nothing else changes."""

import pytest
import torch

from data_augmentation import AUGMENTATIONS, PUBLISHED, Augmentation
from hyperparameters.declaration import Hyperparameters

every_augmentation = pytest.mark.parametrize("name", AUGMENTATIONS)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def ecgs(n=20, n_leads=12, n_samples=5000):
    """Return noise without a single zero, float32 (n, n_leads, n_samples)."""
    return torch.randn(n, n_leads, n_samples, generator=generator(1)).clamp_min(-5) + 10


def changes(name, **shape):
    """Return what one augmentation adds to silent ECGs."""
    shape = {"n": 20, "n_leads": 12, "n_samples": 5000} | shape
    added = AUGMENTATIONS[name](torch.zeros(*shape.values()), generator())
    assert added.isfinite().all()
    return added


def peak_frequency(wave):
    """Return the frequency in Hz where the spectrum over the last axis is largest, on a grid of 0.004 Hz."""
    n_fft = 2**17
    window = torch.hann_window(wave.shape[-1], periodic=False)
    spectrum = torch.fft.rfft(wave * window, n_fft).abs()
    return spectrum.argmax(dim=-1) * 500 / n_fft


def changed_ecgs(augmentation, signal, seed=0):
    return (augmentation(signal, generator(seed)) != signal).flatten(1).any(dim=1)


# What each does


@every_augmentation
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype_stay(name, dtype):
    signal = ecgs(3, n_samples=512).to(dtype)
    before = signal.clone()
    augmented = AUGMENTATIONS[name](signal, generator())
    assert augmented.shape == signal.shape and augmented.dtype == dtype
    assert augmented.isfinite().all()
    assert torch.equal(signal, before)


def test_polarity_flip():
    signal = ecgs(3)
    assert torch.equal(AUGMENTATIONS["polarity_flip"](signal, generator()), -signal)


def test_sample_drop():
    signal = ecgs(20)
    augmented = AUGMENTATIONS["sample_drop"](signal, generator())
    dropped = augmented == 0
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))  # the same samples in all leads
    assert torch.equal(augmented[~dropped], signal[~dropped])
    share = dropped[:, 0].float().mean(dim=1)
    assert ((share - 0.1).abs() < 0.02).all()  # standard deviation sqrt(0.1 x 0.9 / 5,000) = 0.004
    assert not torch.equal(dropped[0], dropped[1])


def test_lead_drop():
    signal = ecgs(500, n_samples=50)
    augmented = AUGMENTATIONS["lead_drop"](signal, generator())
    dropped = (augmented == 0).all(dim=2)
    assert torch.equal(augmented[~dropped], signal[~dropped])
    assert abs(dropped.float().mean() - 0.2) < 0.02  # standard deviation sqrt(0.2 x 0.8 / 6,000) = 0.005
    assert ((dropped.float().mean(dim=0) - 0.2).abs() < 0.08).all()  # no lead is preferred
    assert len({tuple(row) for row in dropped.tolist()}) > 100


def test_amplitude_scaling():
    signal = ecgs(500, n_samples=50)
    factor = AUGMENTATIONS["amplitude_scaling"](signal, generator()) / signal
    each = factor.mean(dim=(1, 2))
    torch.testing.assert_close(factor, each[:, None, None].expand_as(factor))  # one factor an ECG
    assert each.min() >= 0.25 and each.max() <= 1
    assert each.min() < 0.27 and each.max() > 0.98 and abs(each.mean() - 0.625) < 0.05


def test_sine():
    added = changes("sine", n=100)
    assert torch.equal(added, added[:, :1].expand_as(added))  # the same in all leads
    wave = added[:, 0]
    amplitude, frequency = wave.abs().amax(dim=1), peak_frequency(wave)
    assert amplitude.min() > 0.0249 and amplitude.max() <= 0.1 and amplitude.std() > 0.01
    assert frequency.min() > 0.48 and frequency.max() < 10.02 and frequency.std() > 2
    # A sine and nothing else: neighbours fulfil s(t - 1) + s(t + 1) = 2 cos(2 pi f / 500) s(t).
    neighbours, centre = wave[:, :-2] + wave[:, 2:], wave[:, 1:-1]
    slope = (neighbours * centre).sum(dim=1) / centre.square().sum(dim=1)
    assert (neighbours - slope[:, None] * centre).abs().max() < 1e-4


def test_square_wave():
    added = changes("square_wave", n=100)
    assert torch.equal(added, added[:, :1].expand_as(added))
    wave = added[:, 0]
    amplitude = wave.abs()
    assert torch.equal(amplitude, amplitude[:, :1].expand_as(amplitude))  # plus or minus one value
    assert amplitude.min() >= 0.025 and amplitude.max() <= 0.1 and amplitude[:, 0].std() > 0.01
    assert ((wave > 0).float().mean(dim=1) - 0.5).abs().max() < 0.11  # as long above as below
    n_edges = (wave[:, 1:] * wave[:, :-1] < 0).sum(dim=1)
    frequency = n_edges / 2 / 10  # two edges a cycle in 10 s
    assert frequency.min() >= 0.4 and frequency.max() <= 50.1 and frequency.max() > 40


def test_baseline_wander():
    added = changes("baseline_wander", n=8, n_samples=50_000)  # 100 s: slow waves need long signals
    frequency, amplitude = peak_frequency(added), added.abs().amax(dim=2)
    assert frequency.min() > 0.04 and frequency.max() < 0.51
    assert amplitude.max() <= 0.2 and amplitude.max() > 0.18 and amplitude.min() < 0.02
    assert len(frequency[0].unique()) > 6  # each lead has a wave of its own


def test_mains_hum():
    added = changes("mains_hum", n=200, n_samples=1000)
    power = torch.fft.rfft(added).abs().square()
    bins = power.argmax(dim=2) * 500 / 1000  # Hz; both frequencies have whole cycles in 2 s
    assert set(bins.unique().tolist()) == {50.0, 60.0}
    assert torch.equal(bins, bins[:, :1].expand_as(bins))  # one of them an ECG
    assert 70 < (bins[:, 0] == 50).sum() < 130
    assert (power.amax(dim=2) / power.sum(dim=2)).min() > 0.9999  # nothing else
    amplitude = 2 * power.amax(dim=2).sqrt() / 1000
    assert amplitude.max() <= 0.0501 and amplitude.max() > 0.045 and amplitude[0].std() > 0.001


def test_gaussian_noise():
    added = changes("gaussian_noise", n=200, n_samples=2000)
    deviation = added.std(dim=(1, 2))
    assert deviation.max() < 0.0305 and deviation.max() > 0.025 and deviation.min() < 0.005
    noise = added / deviation[:, None, None]
    assert abs(noise.mean()) < 0.01
    assert abs((noise**4).mean() - 3) < 0.05  # kurtosis of the normal distribution
    between_leads = torch.corrcoef(noise[0])
    assert (between_leads - torch.eye(12)).abs().max() < 0.12  # standard deviation 1 / sqrt(2,000) = 0.022
    assert abs((noise[..., 1:] * noise[..., :-1]).mean()) < 0.01  # white


# How often, and to which ECGs


@every_augmentation
def test_probability(name):
    signal = ecgs(400, n_leads=60, n_samples=128)  # so many that dropping a tenth or a fifth shows in each
    for probability, low, high in ((0.0, 0, 0), (1.0, 400, 400), (0.5, 160, 240)):  # 200, deviation 10
        augmentation = Augmentation(augmentation="independent", **{name: probability})
        assert low <= changed_ecgs(augmentation, signal).sum() <= high


def test_augmentations_are_independent_of_each_other():
    signal = ecgs(1000, n_samples=16)
    augmentation = Augmentation(augmentation="independent", polarity_flip=0.5, amplitude_scaling=0.5)
    factor = (augmentation(signal, generator()) / signal).mean(dim=(1, 2))
    flipped, scaled = factor < 0, factor.abs() < 0.9999
    for both in (flipped & scaled, flipped & ~scaled, ~flipped & scaled, ~flipped & ~scaled):
        assert 195 < both.sum() < 305  # 250, standard deviation 14


@pytest.mark.parametrize("frequency", [10, 60, 240])
def test_low_pass_takes_what_is_fast(frequency):
    sine = torch.sin(2 * torch.pi * frequency * torch.arange(5000) / 500).expand(50, 12, -1)
    gain = AUGMENTATIONS["low_pass"](sine, generator()).std(dim=2) / sine.std(dim=2)
    assert torch.allclose(gain, gain[:, :1].expand(-1, 12), atol=1e-5)  # one corner for all leads
    # of Butterworth's order 4, with corners from 30 to 150 Hz
    lowest, highest = ((1 + (frequency / corner) ** 8) ** -0.5 for corner in (30, 150))
    assert lowest - 1e-4 <= gain.min() <= gain.max() <= highest + 1e-4
    assert gain.max() - gain.min() > 0.5 * (highest - lowest)


def test_all_at_once_is_finite_and_leaves_its_input():
    signal = ecgs(16, n_samples=512)
    before = signal.clone()
    augmentation = Augmentation(augmentation="independent", **dict.fromkeys(AUGMENTATIONS, 1.0))
    augmented = augmentation(signal, generator())
    assert augmented.isfinite().all() and augmented.shape == signal.shape and augmented.dtype == signal.dtype
    assert torch.equal(signal, before)
    assert not torch.equal(augmented, signal)


def test_none_changes_nothing():
    signal = ecgs(16, n_samples=512)
    augmentation = Augmentation(augmentation="none", **dict.fromkeys(AUGMENTATIONS, 1.0))
    assert torch.equal(augmentation(signal, generator()), signal)


def test_published_draws_one_of_seven():
    n = 2100
    signal = ecgs(n, n_leads=40, n_samples=100)  # so many that no drop spares all leads or samples
    # The probabilities do not count.
    augmented = Augmentation(augmentation="published", mains_hum=1.0)(signal, generator())
    added, zero = augmented - signal, augmented == 0
    in_all_leads = (added - added[:, :1]).abs().amax(dim=(1, 2)) < 1e-5
    size = added[:, 0].abs()
    is_square = in_all_leads & (size.amax(dim=1) - size.amin(dim=1) < 1e-5)
    unchanged = (augmented == signal).flatten(1).all(dim=1)
    found = {
        "unchanged": unchanged,
        "polarity_flip": (augmented == -signal).flatten(1).all(dim=1),
        "sample_drop": zero.all(dim=1).any(dim=1),
        "lead_drop": zero.all(dim=2).any(dim=1),
        "sine": in_all_leads & ~is_square,
        "square_wave": is_square & ~unchanged,
    }
    assert torch.stack(list(found.values())).sum(dim=0).eq(1).all()  # each ECG has one of them
    counts = {name: chosen.sum().item() for name, chosen in found.items()}
    assert abs(counts.pop("unchanged") - 600) < 85  # standard deviation sqrt(2,100 x 2/7 x 5/7) = 21
    for count in counts.values():
        assert abs(count - 300) < 65  # 16


def test_published_list():
    assert len(PUBLISHED) == 7 and PUBLISHED.count(None) == 2
    assert set(PUBLISHED) - {None} <= set(AUGMENTATIONS)


# Seeds, names, defaults


@pytest.mark.parametrize("preset", ["independent", "published"])
def test_the_seed_decides(preset):
    augmentation = Augmentation(augmentation=preset, **dict.fromkeys(AUGMENTATIONS, 0.5))
    signal = ecgs(16, n_samples=512)
    first = augmentation(signal, generator(3))
    torch.manual_seed(99)  # the global state has no part in it
    assert torch.equal(augmentation(signal, generator(3)), first)
    assert not torch.equal(augmentation(signal, generator(4)), first)


def test_another_draw_at_each_call():
    augmentation, one_generator = Augmentation(augmentation="published"), generator()
    first, second = (augmentation(ecgs(16, n_samples=64), one_generator) for _ in range(2))
    assert not torch.equal(first, second)


def test_unknown_preset():
    with pytest.raises(ValueError) as caught:
        Augmentation(augmentation="mixup")
    assert str(caught.value) == "augmentation: found 'mixup', expected independent, published or none"


def test_unknown_augmentation():
    with pytest.raises(ValueError) as caught:
        Augmentation(augmentation="independent", wiggle=0.5, sine=0.5)
    assert str(caught.value) == f"augmentation: unknown ['wiggle'], expected some of {list(AUGMENTATIONS)}"


def test_each_augmentation_is_a_hyperparameter():
    values = Hyperparameters().group("augmentation")
    assert set(values) == {"augmentation", *AUGMENTATIONS}
    Augmentation(**values)


def test_by_default_the_signs_of_pe_stay():
    values = Hyperparameters()
    assert values.augmentation == "independent"
    assert values.polarity_flip == 0 and values.lead_drop == 0
    augmentation = Augmentation(**values.group("augmentation"))
    signal = 2 * torch.sin(torch.arange(512) / 20).expand(200, 12, -1)
    augmented = augmentation(signal, generator())
    for after, before in zip(augmented, signal, strict=True):
        assert torch.corrcoef(torch.stack([after.flatten(), before.flatten()]))[0, 1] > 0.9
    assert (augmented != signal).any()
