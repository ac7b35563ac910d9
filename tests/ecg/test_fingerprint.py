"""A recording is recognised by its fingerprint at another rate and resolution, and no other is."""

import os
from pathlib import Path

import numpy as np
import pytest
from microvolt_ecgs import noise, synthetic_ecg
from scipy.signal import butter, decimate, resample_poly, sosfiltfilt

from ecg.fingerprint import SAME_BITS, alike, fingerprints, is_among
from xml_loader import read_at_rest

OTHERS = [synthetic_ecg(seed) for seed in range(40)]


def at_100_hz(signal):
    """Return what remains at rest of a file at 100 Hz in steps of 4 µV."""
    coarse = 4 * np.rint(decimate(signal.astype(float), 5, axis=1, ftype="fir") / 4)
    return np.rint(resample_poly(coarse, 5, 1, axis=1)).astype(np.int16)


def band_passed(signal):
    filtered = sosfiltfilt(butter(2, [0.5, 40], "bandpass", fs=500, output="sos"), signal.astype(float))
    return np.rint(filtered).astype(np.int16)


def differing_bits(one, other):
    return np.unpackbits(one ^ other, axis=1).sum(axis=1)


@pytest.mark.parametrize(
    "export", [at_100_hz, band_passed, lambda signal: signal + noise(size=20)], ids=["rate", "band", "noise"]
)
def test_a_recording_is_recognised_in_another_file(export):
    exported = fingerprints(np.stack([export(signal) for signal in OTHERS]))
    assert differing_bits(exported, fingerprints(np.stack(OTHERS))).max() <= SAME_BITS
    assert is_among(exported[:10], fingerprints(np.stack(OTHERS))).all()


def test_other_recordings_are_others():
    found = fingerprints(np.stack(OTHERS))
    assert found.shape == (40, 16) and found.dtype == np.uint8
    assert not is_among(found[:20], found[20:]).any()
    assert is_among(found, found[::-1][:5]).tolist() == [False] * 35 + [True] * 5


def test_what_is_flat_is_nobodys():
    flat = fingerprints(np.zeros((2, 12, 5000), np.int16))
    assert not flat.any() and not is_among(flat, flat).any()
    assert not is_among(flat, flat[:0]).any() and not len(is_among(flat[:0], flat))


def test_as_many_bits_as_may_differ():
    one = np.full((1, 16), 0b10101010, np.uint8)
    other = one.copy()
    other[0, :5] ^= 0b11
    assert SAME_BITS == 10 and is_among(one, other).all()
    other[0, 5] ^= 1
    assert not is_among(one, other).any()


def test_the_pairs_that_are_alike_are_those_of_a_comparison_of_all():
    """Random fingerprints, among them copies with 0 to 14 bits changed, and copies of copies."""
    generator = np.random.default_rng(0)
    prints = generator.integers(256, size=(400, 16), dtype=np.uint8)
    for number in range(200, 400):
        bits = np.unpackbits(prints[generator.integers(number)])
        bits[generator.choice(128, number % 15, replace=False)] ^= 1
        prints[number] = np.packbits(bits)
    prints[[3, 5]] = 0
    bits = np.unpackbits(prints, axis=1)
    differ = np.abs(bits[:, None].astype(int) - bits).sum(axis=2)
    one, other = np.nonzero(np.triu(differ <= SAME_BITS, 1) & bits.any(axis=1)[:, None])
    assert len(one) > 100 and (differ[one, other] == SAME_BITS).any()
    assert alike(prints).tolist() == np.stack([one, other], axis=1).tolist()
    assert alike(prints[:0]).shape == alike(prints[3:4]).shape == (0, 2)


def test_a_fingerprint_stays_what_it_is():
    """Trunks that shipped keep those of their ECGs. Whole numbers of µV, computed without a generator."""
    time, lead = np.meshgrid(np.arange(5000), np.arange(1, 13))
    signal = ((time * lead * 7919) % 401 - 200 + (time * time // (lead * 50)) % 301).astype(np.int16)
    kept = np.frombuffer(bytes.fromhex("a5d8e0e17c817ac876729408666734bc"), np.uint8)
    assert differing_bits(fingerprints(signal[None]), kept[None])[0] <= 1  # a sum near 0 may be rounded


@pytest.mark.skipif(not os.environ.get("ECG_REAL_DATA"), reason="ECG_REAL_DATA is not set")
def test_real_recordings():
    paths = sorted(Path(os.environ["ECG_REAL_DATA"], "ptbxl").glob("*.xml"))[:60]
    signals = [read_at_rest(path) for path in paths]
    own, exported = (fingerprints(np.stack(those)) for those in (signals, [*map(at_100_hz, signals)]))
    bits = np.stack([differing_bits(exported, np.roll(own, shift, axis=0)) for shift in range(60)])
    assert bits[0].max() <= SAME_BITS // 2 and bits[1:].min() >= 2 * SAME_BITS
