"""EDF and EDF+: millivolts as an independent reader has them, other signals, and what is refused."""

import edfio
import numpy as np
import pytest
from format_writers import write_edf

from ecg.recording import LEADS, EcgFileError
from xml_loader import read_recording

COUNTS = np.random.default_rng(3).integers(-2000, 2000, (12, 5000))


def written(folder, counts=COUNTS, **options):
    path = folder / "ecg.edf"
    write_edf(path, counts, **options)
    return path


def refusal(path):
    with pytest.raises(EcgFileError) as caught:
        read_recording(path)
    return f"found {caught.value.found}; expected {caught.value.expected}"


@pytest.mark.parametrize("unit, per_millivolt", [("uV", 1000), ("mV", 1)])
def test_millivolts_are_those_of_edfio(tmp_path, unit, per_millivolt):
    path = written(tmp_path, unit=unit, microvolts_per_count=2.44)
    signals = edfio.read_edf(path).signals
    expected = np.stack([signal.data for signal in signals[:12]]) / per_millivolt
    np.testing.assert_allclose(read_recording(path).signal, expected, atol=1e-6)


def test_a_file_that_edfio_wrote(tmp_path):
    """With its own scale per lead, other names, a signal of another rate, and no annotations."""
    millivolts = np.cumsum(np.random.default_rng(4).normal(0, 0.01, (12, 8000)), axis=1)
    signals = [
        edfio.EdfSignal(row, 1000, label=f"ECG {lead}-REF", physical_dimension="mV")
        for lead, row in zip(LEADS, millivolts, strict=True)
    ]
    signals.insert(3, edfio.EdfSignal(np.arange(200.0), 25, label="Resp", physical_dimension="%"))
    edfio.Edf(signals).write(tmp_path / "ecg.edf")
    recording = read_recording(tmp_path / "ecg.edf")
    np.testing.assert_allclose(recording.signal, millivolts, atol=np.ptp(millivolts) / 65535)
    assert recording.sampling_rate == 1000 and recording.metadata["leads_in_file"] == 13


@pytest.mark.parametrize("label", ["{}", "ECG {}", "EKG {}", "{}-REF", "ECG {}-Ref", "EKG_{}"])
def test_labels(tmp_path, label):
    path = written(tmp_path, labels=[label.format(lead) for lead in LEADS])
    np.testing.assert_allclose(read_recording(path).signal, COUNTS * 0.0025, atol=1e-6)


def test_units_of_each_name(tmp_path):
    for unit, volts in (("nV", 1e-9), ("uV", 1e-6), ("µV", 1e-6), ("mV", 1e-3), ("V", 1)):
        signal = read_recording(written(tmp_path, unit=unit, microvolts_per_count=2)).signal
        physical = {"uV": 2.0, "mV": 0.002}.get(unit, 2.0)  # what the writer states per count
        np.testing.assert_allclose(signal[0, :9], COUNTS[0, :9] * physical * volts * 1000, rtol=1e-4)


def test_what_the_signal_does_not_need_is_not_read(tmp_path):
    """Patient, date and time may be anything; -1 records are counted; bytes behind the last are left."""
    path = written(tmp_path, records=-1)
    content = path.read_bytes()
    path.write_bytes(content[:8] + b"\xff" * 176 + content[184:] + b"\0" * 100)
    assert read_recording(path).signal.shape == (12, 5000)


def change(path, start, text):
    content = path.read_bytes()
    path.write_bytes(content[:start] + text.encode() + content[start + len(text) :])
    return path


REFUSED = {
    "discontinuous": ({"reserved": "EDF+D"}, "discontinuous EDF+ (EDF+D)"),
    "no unit": ({"unit": ""}, "lead 'I' in no unit; expected nV, uV, mV or V"),
    "not a voltage": ({"unit": "mmHg"}, "lead 'I' in 'mmHg'"),
    "no leads": ({"labels": [f"EEG {n}" for n in range(12)]}, "an EDF of the signals 'EEG 0', 'EEG 1'"),
    "cut": ({"records": 12}, "10 of 12 records that the EDF declares; expected a complete file"),
    "no record": ({"records": 0}, "'0' records in an EDF"),
    "no scale": ({"microvolts_per_count": 0}, "a range of no width"),
    "two of one name": ({"labels": ["I", *LEADS[:11]]}, "lead I twice"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused(tmp_path, name):
    options, message = REFUSED[name]
    assert message in refusal(written(tmp_path, **options))


def test_leads_of_different_rates_are_refused(tmp_path):
    path = written(tmp_path, COUNTS[:11], leads=LEADS[:11], extra=[("V6", "uV", 250)])
    assert "different rates, 500 Hz in I, II, III" in refusal(path) and "250 Hz in V6" in refusal(path)


def test_headers_that_declare_too_much(tmp_path):
    assert "an EDF of 9,999 signals; expected 1 to 1,000" in refusal(change(written(tmp_path), 252, "9999"))
    assert "of 99,999,999 records" in refusal(change(written(tmp_path), 236, "99999999"))
    counts = 256 + 13 * 216  # where the samples per record begin
    assert "0 of 10 records" in refusal(change(written(tmp_path), counts, "99999999"))
    assert "'x' samples of 'I' in a record" in refusal(change(written(tmp_path), counts, "x       "))
    assert "'0' as duration of a record" in refusal(change(written(tmp_path), 244, "0       "))
