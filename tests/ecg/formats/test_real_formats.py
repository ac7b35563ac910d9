"""Real files of each format against what is known of them and against independent readers.

    ECG_REAL_DATA=folder pytest tests/test_real_formats.py

The folder has `vendor_ecgs/` (the samples of FORMATS.md), `ludb/` (WFDB) and `ptbxl/` (the hospital's
format).
"""

import base64
import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from ecg.recording import LEADS
from xml_loader import bring_to_rest, read_recording

pytestmark = pytest.mark.skipif(not os.environ.get("ECG_REAL_DATA"), reason="ECG_REAL_DATA is not set")

# format, Hz, samples, µV a count
VENDOR_ECGS = {
    "dicom_500hz.dcm": ("DICOM", 500, 5000, 2.5),
    "dicom_mortara_1khz.dcm": ("DICOM", 1000, 10_000, 1.25),
    "hl7_aecg_mindray_100hz.xml": ("HL7 aECG", 100, 1000, 5),
    "hl7_aecg_mortara.xml": ("HL7 aECG", 500, 5000, 2.5),
    "hl7_aecg_twin_of_philips_v1.04.xml": ("HL7 aECG", 500, 5000, 5),
    "muse_example1.xml": ("GE MUSE", 500, 5000, 4.88),
    "muse_example2.xml": ("GE MUSE", 500, 5000, 4.88),
    "philips_v1.03.xml": ("Philips", 500, 5000, 5),
    "philips_v1.04.01.xml": ("Philips", 500, 5000, 5),
    "philips_v1.04.xml": ("Philips", 500, 5000, 5),
}
FLOAT32 = {"rtol": 2e-7, "atol": 2e-7}


def folder(name):
    path = Path(os.environ["ECG_REAL_DATA"], name)
    if not path.is_dir():
        pytest.skip(f"no folder {name} in ECG_REAL_DATA")
    return path


def vendor_ecg(name):
    return folder("vendor_ecgs") / name


@pytest.mark.parametrize("name", VENDOR_ECGS)
def test_vendor_ecgs(name):
    file_format, sampling_rate, n_samples, microvolts = VENDOR_ECGS[name]
    recording = read_recording(vendor_ecg(name))
    assert recording.metadata["file_format"] == file_format and recording.sampling_rate == sampling_rate
    assert recording.signal.shape == (12, n_samples) and recording.metadata["gap_samples"] == 0
    assert recording.metadata["microvolts_per_count"] == pytest.approx(microvolts)
    assert bring_to_rest(recording, name).signal.shape == (12, 5000)


@pytest.mark.parametrize(
    "name", [name for name in VENDOR_ECGS if "mindray" not in name]
)  # made up, not an ECG
def test_limb_leads_of_vendor_ecgs_obey_einthoven_and_goldberger(name):
    file_format, sampling_rate, _, microvolts = VENDOR_ECGS[name]
    recording = read_recording(vendor_ecg(name))
    first_10_s = recording.signal[:6, : 10 * sampling_rate].astype(np.float64)
    one, two, three, right, left, foot = first_10_s * 1000
    tolerance = (
        1e-3 if file_format == "GE MUSE" else 4 * microvolts
    )  # derived by us, or rounded by the device
    for equation in (one + three - two, right + (one + two) / 2, left - one + two / 2, foot - two + one / 2):
        assert np.quantile(abs(equation), 0.99) <= tolerance


def test_every_vendor_ecg_is_tested():
    names = {path.name for path in folder("vendor_ecgs").iterdir() if path.suffix in (".xml", ".dcm")}
    assert names == VENDOR_ECGS.keys()


def test_philips_and_its_aecg_twin_agree():
    philips = read_recording(vendor_ecg("philips_v1.04.xml")).signal
    twin = read_recording(vendor_ecg("hl7_aecg_twin_of_philips_v1.04.xml")).signal
    assert (abs(philips - twin).max(axis=1) <= 4 * 0.005 + 1e-6).all()


def test_dicom_and_the_aecg_of_the_same_ecg_agree():
    dicom = read_recording(vendor_ecg("dicom_500hz.dcm")).signal
    aecg = read_recording(vendor_ecg("hl7_aecg_mortara.xml")).signal
    np.testing.assert_allclose(dicom, aecg, **FLOAT32)


@pytest.mark.parametrize("name", [name for name in VENDOR_ECGS if name.startswith("philips")])
def test_philips_against_sierraecg(name):
    sierraecg = pytest.importorskip("sierraecg")
    file = sierraecg.read_file(str(vendor_ecg(name)))
    millivolts = {lead.label.lower(): np.asarray(lead.samples) * 0.005 for lead in file.leads}
    expected = np.stack([millivolts[lead.lower()] for lead in LEADS])
    assert expected.shape == (12, 5500)
    np.testing.assert_allclose(expected[:, 5350:5450], 1)  # the calibration pulse
    np.testing.assert_allclose(read_recording(vendor_ecg(name)).signal, expected[:, :5000], **FLOAT32)


@pytest.mark.parametrize("name", [name for name in VENDOR_ECGS if name.startswith("dicom")])
def test_dicom_against_pydicom(name):
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.dcmread(vendor_ecg(name))
    channels = dataset.WaveformSequence[0].ChannelDefinitionSequence
    meanings = [channel.ChannelSourceSequence[0].CodeMeaning.split()[1] for channel in channels]
    microvolts = dict(zip(meanings, dataset.waveform_array(0).T, strict=True))
    expected = np.stack([microvolts[lead] for lead in LEADS]) / 1000
    np.testing.assert_allclose(read_recording(vendor_ecg(name)).signal, expected, **FLOAT32)


@pytest.mark.parametrize("name", [name for name in VENDOR_ECGS if name.startswith("muse")])
def test_muse_against_its_base64(name):
    root = ElementTree.parse(vendor_ecg(name)).getroot()
    (rhythm,) = [wave for wave in root.iter("Waveform") if wave.findtext("WaveformType") == "Rhythm"]
    microvolts = {}
    for lead in rhythm.iter("LeadData"):
        counts = np.frombuffer(base64.b64decode(lead.findtext("WaveFormData")), "<i2")
        unit = float(lead.findtext("LeadAmplitudeUnitsPerBit"))
        microvolts[lead.findtext("LeadID")] = counts.astype(np.float64) * unit
    assert len(microvolts) == 8
    one, two = microvolts["I"], microvolts["II"]
    microvolts |= {"III": two - one, "aVR": -(one + two) / 2, "aVL": one - two / 2, "aVF": two - one / 2}
    recording = read_recording(vendor_ecg(name))
    expected = np.stack([microvolts[lead] for lead in LEADS]) / 1000
    np.testing.assert_allclose(recording.signal, expected, **FLOAT32)
    assert recording.metadata["derived"] == ("III", "aVR", "aVL", "aVF")


def test_wfdb_against_wfdb():
    wfdb = pytest.importorskip("wfdb")
    headers = sorted(folder("ludb").glob("*.hea"))
    assert len(headers) == 200
    for header in headers:
        record = wfdb.rdrecord(str(header.with_suffix("")))
        assert set(record.units) == {"mV"}
        rows = dict(zip(map(str.lower, record.sig_name), record.p_signal.T, strict=True))
        expected = np.stack([rows[lead.lower()] for lead in LEADS])
        recording = read_recording(header)
        np.testing.assert_allclose(recording.signal, expected, **FLOAT32)
        assert recording.sampling_rate == record.fs and recording.metadata["warnings"] == ()


def test_the_hospitals_format():
    paths = sorted(folder("ptbxl").glob("*.xml"))[::20]
    assert paths
    for path in paths:
        recording = read_recording(path)
        assert recording.metadata["file_format"] == "hospital" and recording.metadata["derived"] == ()
        assert recording.signal.shape == (12, 5000) and recording.sampling_rate == 500
