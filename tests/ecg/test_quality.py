"""Each measurement against a value worked out by hand, and each limit from both sides."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from microvolt_ecgs import AS_READ, measure_all, noise, synthetic_ecg

from ecg.fingerprint import fingerprints
from ecg.quality import MEASUREMENTS, judge, measure
from ecg.recording import LEADS
from xml_loader import bring_to_rest, read_recording

LIMITS = {
    "max_flat_seconds": 5,
    "max_clipped": 0.05,
    "min_qrs_mv": 0.05,
    "max_qrs_mv": 20,
    "max_einthoven": 1.3,
    "max_goldberger": 1.3,
    "max_reversal": 0.1,
}
GOOD = {"file_rate": 500, "file_seconds": 10, "qrs_mv": 1, "reversal": -0.8}
EXCHANGED_ARMS = [0, 2, 1, 4, 3, 5, 6, 7, 8, 9, 10, 11]  # and lead I upside down


def numbers(**fields):
    """Return the measurements of one ECG without a fault, but for some fields."""
    one = np.zeros(1, MEASUREMENTS)
    for name, value in (GOOD | fields).items():
        one[name] = value
    return one


def exchange_arms(signal):
    exchanged = signal[EXCHANGED_ARMS]
    exchanged[0] *= -1
    return exchanged


# ----------------------------------------------------------------------------------------------- measuring


def test_a_measurement_keeps_its_size_on_disk():
    assert MEASUREMENTS.itemsize == 163
    assert measure(noise(), **AS_READ).dtype == MEASUREMENTS


def test_what_the_file_says_is_kept():
    found = measure(
        noise(), padded=(20, 21), file_rate=250, file_seconds=9.9, gap_samples=7, n_derived=4, n_warnings=300
    )
    assert found["file_rate"] == 250 and found["file_seconds"] == np.float32(9.9)
    assert found["padded_samples"] == 41 and found["gap_samples"] == 7
    assert found["n_derived"] == 4 and found["n_warnings"] == 127  # as many as fit


@pytest.mark.parametrize("n_flat", [60, 500, 2501])
@pytest.mark.parametrize("wobble", [0, 5])
def test_the_longest_flat_stretch(n_flat, wobble):
    signal = noise()
    signal[8, 1000] = signal[8, 1001 + n_flat] = 1000
    signal[8, 1001 : 1001 + n_flat] = 300 + wobble * (np.arange(n_flat) % 2)
    found = measure(signal, **AS_READ)
    assert found["flat_seconds"] == np.float32(n_flat / 500) and LEADS[found["flat_lead"]] == "V3"


def test_noise_of_6_microvolts_is_not_flat():
    toggling = np.tile(np.array([0, 6], np.int16), (12, 2500))
    assert measure(toggling, **AS_READ)["flat_seconds"] == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_clipped_share(sign):
    signal = noise()
    for start in range(100, 5000, 500):
        signal[4, start : start + 5] = sign * 1000
    found = measure(signal, **AS_READ)
    assert found["clipped"] == np.float32(0.01) and LEADS[found["clipped_lead"]] == "aVL"  # 10 x 5 of 5000


@pytest.mark.parametrize(
    ("starts", "length", "height"),
    [
        (range(100, 5000, 500), 2, 1000),  # peaks that happen to have two equal samples
        (range(100, 5000, 500), 50, 400),  # near the mean: may be an isoelectric line
        ([4920], 80, 1000),  # the last value, repeated
    ],
)
def test_plateaus_that_are_not_clipped(starts, length, height):
    signal = noise()
    for start in starts:
        signal[4, start : start + length] = height
    assert measure(signal, **AS_READ)["clipped"] == 0


def test_one_long_plateau_is_clipped():
    signal = noise()
    signal[4, 3000:3100] = 1000
    assert measure(signal, **AS_READ)["clipped"] == np.float32(0.02)


def test_a_coarse_isoelectric_line_at_the_maximum_is_not_clipped():
    signal = noise()
    signal[6] = 0
    for start in range(100, 5000, 400):
        signal[6, start : start + 41] = 200 * np.abs(np.arange(-20, 21)) - 4000  # a QRS downwards
    assert measure(signal, **AS_READ)["clipped"] == 0


def test_qrs_amplitude_ignores_wander_a_pause_and_an_artefact():
    times = np.arange(5000) / 500
    beats = sum(np.exp(-0.5 * ((times - beat) / 0.01) ** 2) for beat in np.arange(0.4, 10, 0.8))
    amplitudes = np.linspace(200, 1300, 12)
    wander = 1000 * np.sin(2 * np.pi * 0.1 * times)
    signal = np.rint(amplitudes[:, None] * beats + wander)
    signal[:, 1500:2250] = signal[:, 1500:1501]  # no beat for 1.5 s
    signal[:, 4000] = 20_000
    found = measure(signal.astype(np.int16), **AS_READ)
    assert found["lead_qrs_mv"] == pytest.approx(amplitudes / 1000, abs=0.07)  # wander: 0.63 mV/s
    assert found["qrs_mv"] == pytest.approx(0.75, abs=0.07)


def test_the_largest_signal_that_int16_holds():
    signal = np.tile(np.array([-32767, 32767], np.int16), (12, 2500))
    found = measure(signal, **AS_READ)
    assert found["qrs_mv"] == np.float32(65.534) and np.isfinite(found["einthoven"])


def limb_leads(*microvolts):
    """Return an ECG whose six limb leads are these, and whose chest leads are noise."""
    signal = noise()
    signal[:6] = np.rint(np.stack(np.broadcast_arrays(*microvolts)))
    return measure(signal, **AS_READ)


def test_limb_leads_that_agree():
    one, two = noise()[:2] * 10
    found = limb_leads(one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2)
    assert found["einthoven"] < 1e-6 and found["goldberger"] < 1e-3


def test_residuals_by_hand():
    phase = 2 * np.pi * np.arange(5000) / 500
    sine, cosine = 1000 * np.sin(phase), 1000 * np.cos(phase)
    # I and II are a sine, so that III is to be 0, aVR minus the sine, aVL and aVF half of it.
    found = limb_leads(sine, sine, cosine, -sine, sine / 2, 0)
    assert found["einthoven"] == pytest.approx(1, abs=1e-3)  # I, II, III and the residual have one rms
    assert found["goldberger"] == pytest.approx(0.5, abs=1e-3) and LEADS[found["goldberger_lead"]] == "aVF"


def test_rounding_of_tiny_limb_leads_is_no_contradiction():
    rounding = noise(size=2)
    rounding[6:] = noise()[6:]
    found = measure(rounding, **AS_READ)
    assert found["einthoven"] < 0.13 and found["goldberger"] < 0.13


def test_lead_rms_is_about_the_mean():
    signal = np.tile(np.array([100, 300], np.int16), (12, 2500))
    assert measure(signal, **AS_READ)["lead_rms"] == pytest.approx(np.full(12, 100))


def test_a_flat_signal_is_measured_without_a_warning():
    found = measure(np.full((12, 5000), 7, np.int16), **AS_READ)
    assert found["flat_seconds"] == 10
    for name in ("clipped", "qrs_mv", "einthoven", "goldberger", "reversal"):
        assert found[name] == 0, name


@pytest.mark.parametrize("right_axis", [0, 1])
def test_exchanged_arm_electrodes_and_not_the_right_axis(right_axis):
    for seed in range(6):
        signal = synthetic_ecg(seed, right_axis)
        assert measure(signal, **AS_READ)["reversal"] < -0.1
        assert measure(exchange_arms(signal), **AS_READ)["reversal"] > 0.3


def test_padding_is_left_out_of_every_check():
    core = synthetic_ecg(0)[:, :4000]
    padded = np.pad(core, ((0, 0), (400, 600)), mode="edge")
    expected = measure(core, **AS_READ)
    found = measure(padded, **AS_READ | {"padded": (400, 600)})
    for name in set(MEASUREMENTS.names) - {"padded_samples", "fingerprint", "waveform"}:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    assert measure(padded, **AS_READ)["flat_seconds"] >= 1.2


def test_the_fingerprint_is_that_of_the_signal():
    signal = synthetic_ecg(0)
    differ = measure(signal, **AS_READ)["fingerprint"] ^ fingerprints(np.stack([noise(), signal]))[1]
    assert np.unpackbits(differ).sum() <= 1  # a sum near 0 may be rounded


def test_the_hash_is_of_the_samples():
    signal = noise()
    digest = hashlib.blake2b(signal.tobytes(), digest_size=8).digest()
    assert measure(signal, **AS_READ)["waveform"] == int.from_bytes(digest, "little")
    assert measure(np.asfortranarray(signal), **AS_READ)["waveform"] == int.from_bytes(digest, "little")
    signal[11, 4999] += 1
    assert measure(signal, **AS_READ)["waveform"] != int.from_bytes(digest, "little")


# ------------------------------------------------------------------------------------------------- judging


@pytest.mark.parametrize(
    ("check", "verdict", "field", "within", "beyond"),
    [
        ("flat lead", "reject", "flat_seconds", 5.0, 5.002),
        ("flat lead", "warn", "flat_seconds", 0.998, 1.0),
        ("clipped lead", "reject", "clipped", 0.0499, 0.0501),
        ("clipped lead", "warn", "clipped", 0.0049, 0.0051),
        ("amplitude", "reject", "qrs_mv", 0.0501, 0.0499),
        ("amplitude", "reject", "qrs_mv", 19.9, 20.1),
        ("amplitude", "warn", "qrs_mv", 0.21, 0.19),
        ("amplitude", "warn", "qrs_mv", 4.9, 5.1),
        ("Einthoven", "reject", "einthoven", 1.29, 1.31),
        ("Einthoven", "warn", "einthoven", 0.129, 0.131),
        ("Goldberger", "reject", "goldberger", 1.29, 1.31),
        ("Goldberger", "warn", "goldberger", 0.129, 0.131),
        ("arm electrodes", "warn", "reversal", 0.09, 0.11),
        ("padded", "warn", "padded_samples", 250, 251),
        ("padded", "note", "padded_samples", 0, 1),
        ("gaps", "warn", "gap_samples", 600, 601),  # of 60,000
        ("gaps", "note", "gap_samples", 0, 1),
        ("resampled", "note", "file_rate", 500, 499.9),
        ("derived", "note", "n_derived", 0, 4),
        ("reader", "warn", "n_warnings", 0, 1),
    ],
)
def test_each_limit_from_both_sides(check, verdict, field, within, beyond):
    found = judge(numbers(**{field: beyond}), **LIMITS)
    assert found[["check", "verdict"]].to_numpy().tolist() == [[check, verdict]]
    assert verdict not in judge(numbers(**{field: within}), **LIMITS)["verdict"].tolist()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"flat_seconds": 6.2, "flat_lead": 8}, "lead V3 flat for 6.2 s (refused beyond 5 s)"),
        (
            {"clipped": 0.1, "clipped_lead": 1},
            "10.00% of lead II cut off at its maximum or minimum (refused beyond 5%)",
        ),
        ({"qrs_mv": 0.001}, "QRS of 0.001 mV, median of the leads (refused outside 0.05 to 20 mV)"),
        ({"einthoven": 1.5}, "I + III differs from II by 1.5 of the limb leads (refused beyond 1.3)"),
        (
            {"goldberger": 1.75, "goldberger_lead": 3},
            "lead aVR differs from what I and II give by 1.8 of the limb leads (refused beyond 1.3)",
        ),
        (
            {"reversal": 0.62},
            "lead I is upside down against V6, as if the arm electrodes were exchanged "
            "(score 0.62, limit 0.1)",
        ),
        ({"padded_samples": 800, "file_seconds": 8.4}, "1.6 s added to a recording of 8.4 s"),
        ({"gap_samples": 1}, "1 missing sample interpolated (0.00% of the file)"),
        ({"file_rate": 1000}, "resampled from 1000 to 500 Hz"),
        ({"n_derived": 4}, "4 limb leads computed from two others"),
        ({"n_warnings": 2}, "2 warnings of the reader"),
    ],
)
def test_findings_are_sentences(fields, sentence):
    assert judge(numbers(**fields), **LIMITS)["finding"].tolist() == [sentence]


def test_a_mixed_cohort_is_sorted_by_ecg():
    cohort = np.concatenate(
        [
            numbers(n_derived=4, flat_seconds=7),
            numbers(),
            numbers(reversal=0.9, file_rate=250),
        ]
    )
    found = judge(cohort, **LIMITS)
    assert found.columns.tolist() == ["ecg", "check", "verdict", "finding"]
    assert found[["ecg", "check", "verdict"]].to_numpy().tolist() == [
        [0, "flat lead", "reject"],
        [0, "derived", "note"],
        [2, "arm electrodes", "warn"],
        [2, "resampled", "note"],
    ]


@pytest.mark.parametrize("n_ecgs", [0, 5])
def test_nothing_to_find(n_ecgs):
    found = judge(np.repeat(numbers(), n_ecgs), **LIMITS)
    assert found.columns.tolist() == ["ecg", "check", "verdict", "finding"] and len(found) == 0


def test_synthetic_ecgs_have_no_fault_and_wrong_units_show():
    signals = [synthetic_ecg(seed) for seed in range(3)]
    assert len(judge(measure_all(signals), **LIMITS)) == 0
    for factor, verdict in ((10, "warn"), (0.1, "warn"), (0.001, "reject")):
        scaled = [np.rint(signal * factor).astype(np.int16) for signal in signals]
        found = judge(measure_all(scaled), **LIMITS).query("check == 'amplitude'")
        assert found["verdict"].tolist() == [verdict] * 3, factor


# ----------------------------------------------------------------------------------------------- real ECGs


@pytest.mark.skipif(not os.environ.get("ECG_REAL_DATA"), reason="ECG_REAL_DATA is not set")
def test_real_ecgs_are_not_rejected():
    paths = sorted(Path(os.environ["ECG_REAL_DATA"], "ptbxl").glob("*.xml"))[:50]
    assert paths, "no ptbxl/*.xml in ECG_REAL_DATA"
    signals = [bring_to_rest(read_recording(path), path).signal for path in paths]
    found = judge(measure_all(signals), **LIMITS)
    assert "reject" not in found["verdict"].tolist() and len(found) <= 2
    exchanged = judge(measure_all([exchange_arms(signal) for signal in signals]), **LIMITS)
    assert (exchanged["check"] == "arm electrodes").sum() >= 47
