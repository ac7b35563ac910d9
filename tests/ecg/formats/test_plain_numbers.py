"""Plain numbers, CSV, NPY, MAT and HDF5: read as `ecg_format.yml` states, in any usual layout, or refused."""

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
from format_writers import write_statement

from ecg.recording import LEADS, EcgFileError
from xml_loader import read_recording

N = 4000
MILLIVOLTS = np.round(np.random.default_rng(5).normal(0, 0.4, (12, N)), 3)  # 8 s at 500 Hz
COUNTS = np.rint(MILLIVOLTS * 1000).astype(np.int16)  # in µV


def lines(rows, separator=",", decimal="."):
    return [separator.join(f"{value:.3f}".replace(".", decimal) for value in row) for row in rows]


def written(folder, text, name="ecg.csv", **stated):
    (folder / name).write_bytes(text if isinstance(text, bytes) else "\n".join(text).encode())
    write_statement(folder, **({"unit": "mV", "leads": "standard"} | stated))
    return folder / name


def assert_read(path, file_format="CSV", millivolts=MILLIVOLTS):
    recording = read_recording(path)
    assert recording.metadata["file_format"] == file_format and recording.sampling_rate == 500
    np.testing.assert_allclose(recording.signal, millivolts, atol=1e-6)
    return recording


def refusal(path):
    with pytest.raises(EcgFileError) as caught:
        read_recording(path)
    assert str(caught.value).isprintable()
    return f"found {caught.value.found}; expected {caught.value.expected}"


# Text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "separator, decimal",
    [(",", "."), (";", ","), (";", "."), ("\t", ","), (" ", "."), (" ", ","), (", ", ".")],
)
@pytest.mark.parametrize("header", [None, *(",", ";", "\t", " ")])
def test_columns(tmp_path, separator, decimal, header, end):
    text = lines(MILLIVOLTS.T, separator, decimal)
    if header == separator:
        text.insert(0, separator.join(LEADS))
    elif header:
        text.insert(0, "# " + header.join(LEADS))
    assert_read(written(tmp_path, end.join(text).encode(), leads=None if header else "standard"))


@pytest.mark.parametrize("separator, decimal", [(",", "."), (";", ","), ("\t", "."), (" ", ".")])
def test_rows_with_and_without_names(tmp_path, separator, decimal):
    text = lines(MILLIVOLTS, separator, decimal)
    assert_read(written(tmp_path, text))
    named = [lead + separator + line for lead, line in zip(LEADS, text, strict=True)]
    assert_read(written(tmp_path, named, leads=None))
    counted = separator.join(["", *map(str, range(N))])  # as pandas writes a table of leads and samples
    assert_read(written(tmp_path, [counted, *named] if separator != " " else named, leads=None))


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16", "latin-1"])
def test_encodings_and_the_line_of_excel(tmp_path, mark):
    text = [
        "sep=;",
        ";".join(f"{lead} (µV)" for lead in LEADS) + ";",
        *(f"{line};" for line in lines(COUNTS.T, ";", ",")),
    ]
    assert_read(written(tmp_path, "\n".join(text).encode(mark), leads=None, unit=None))


def test_what_pandas_and_numpy_write(tmp_path):
    frame = pd.DataFrame(MILLIVOLTS.T, columns=LEADS)
    frame.insert(0, "time", pd.date_range("2025-01-01", periods=N, freq="2ms").astype(str))
    frame["comment"] = "artefact, perhaps"
    frame.sample(frac=1, axis=1, random_state=0).to_csv(tmp_path / "a.csv")
    pd.DataFrame(MILLIVOLTS.T).to_csv(tmp_path / "b.csv", index=False)  # its header is 0,1,2,…
    np.savetxt(tmp_path / "c.txt", MILLIVOLTS.T, delimiter="\t", header="\t".join(LEADS))
    np.savetxt(tmp_path / "d.txt", MILLIVOLTS, fmt="%10.4f")
    write_statement(tmp_path, unit="mV", leads=None)
    assert_read(tmp_path / "a.csv")
    assert_read(tmp_path / "c.txt")
    write_statement(tmp_path, unit="mV", leads="standard")
    assert_read(tmp_path / "b.csv")
    assert_read(tmp_path / "d.txt")


def test_columns_are_named_by_the_statement(tmp_path):
    """A column of times and others in any order; names that are not leads are left out."""
    order = np.random.default_rng(1).permutation(12)
    rows = np.column_stack([np.arange(N) / 500, MILLIVOLTS[order].T])
    leads = ["time", *(LEADS[place] for place in order)]
    assert_read(written(tmp_path, lines(rows), leads=leads))
    header = ",".join(f"channel {n}" for n in range(13))
    assert_read(written(tmp_path, [header, *lines(rows)], leads=leads))


def test_eight_leads_give_the_others(tmp_path):
    leads = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
    rows = MILLIVOLTS[[LEADS.index(lead) for lead in leads]]
    recording = read_recording(written(tmp_path, lines(rows.T), leads=leads))
    np.testing.assert_allclose(recording.signal[2], MILLIVOLTS[1] - MILLIVOLTS[0], atol=1e-6)  # III = II - I


@pytest.mark.parametrize(
    "unit, per_millivolt", [("mV", 1), ("uV", 1000), ("4.88 uV", 1000 / 4.88), ("0,001 V", 1)]
)
def test_units(tmp_path, unit, per_millivolt):
    text = lines(MILLIVOLTS.T * per_millivolt, "\t")
    recording = read_recording(written(tmp_path, text, unit=unit))
    np.testing.assert_allclose(recording.signal, MILLIVOLTS, atol=0.0006 / per_millivolt + 1e-6)


def test_whole_counts_have_a_resolution(tmp_path):
    recording = read_recording(
        written(tmp_path, ["\t".join(map(str, row)) for row in COUNTS.T], unit="2.5 uV")
    )
    np.testing.assert_allclose(recording.signal, COUNTS * 0.0025, atol=1e-6)
    assert recording.metadata["microvolts_per_count"] == 2.5


@pytest.mark.parametrize("word", ["", "nan", "NaN", "NULL", "-", "n/a"])
def test_missing_samples_are_a_gap(tmp_path, word):
    text = lines(MILLIVOLTS.T)
    for row in range(100, 120):
        text[row] = ",".join([text[row].split(",")[0], word, *text[row].split(",")[2:]])
    recording = read_recording(written(tmp_path, text))
    assert recording.metadata["gap_samples"] == 20
    np.testing.assert_allclose(recording.signal[1, 120:], MILLIVOLTS[1, 120:], atol=1e-6)


BAD_TEXTS = {
    "a long gap": (
        lambda rows: [row if n < 1000 else "," + row.split(",", 1)[1] for n, row in enumerate(rows)],
        "consecutive samples missing in lead I",
    ),
    "infinity": (lambda rows: ["inf," + rows[0].split(",", 1)[1], *rows[1:]], "not finite"),
    "a word": (
        lambda rows: [*rows[:50], "x" + rows[50], *rows[51:]],
        "text in cell 51 of column 1; expected a number",
    ),
    "a short row": (
        lambda rows: [*rows, "1,2"],
        "2 cells in row 4,001 of numbers; expected 12, as in the first",
    ),
    "two decimal signs": (
        lambda rows: [rows[0].replace(",", ";").replace(".", ","), *(row.replace(",", ";") for row in rows)],
        "decimal commas and points in column 1",
    ),
    "11 columns": (
        lambda rows: [row.rsplit(",", 1)[0] for row in rows],
        "an array of shape (11, 4000); expected 12 rows or columns",
    ),
    "other names": (
        lambda rows: ["I,II,III,x1,x2,x3,x4,x5,x6,x7,x8,x9", *rows],
        "the leads I, II, III by the file, I, II",
    ),
    "a lead twice": (lambda rows: [",".join(["I", *LEADS[:11]]), *rows], "by the file"),
    "another order": (
        lambda rows: [",".join(reversed(LEADS)), *rows],
        "the leads V6, V5, V4, V3, V2, V1, aVF, aVL, aVR, III, II, I by the file, I, II",
    ),
    "another unit": (
        lambda rows: [",".join(f"{lead}/uV" for lead in LEADS), *rows],
        "lead 'I' in 'uV', but another unit",
    ),
    "too many names": (lambda rows: [",".join([*LEADS, "V7"]), *rows], "13 names of 12 columns"),
    "short": (lambda rows: rows[:3000], "3000 samples at 500 Hz (6 s)"),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_a_table_is_refused(tmp_path, name):
    change, message = BAD_TEXTS[name]
    assert message in refusal(written(tmp_path, change(lines(MILLIVOLTS.T))))


@pytest.mark.parametrize(
    "text", ["file,patient_id,PE\n1.xml,17,0\n", "Dear colleague,\nI and II are flat, V1 too\n", "I,II\n"]
)
def test_other_texts_are_no_tables_of_numbers(tmp_path, text):
    assert "a text without twelve columns or rows of numbers" in refusal(written(tmp_path, text.encode()))


# What is stated


def test_without_a_statement_the_error_says_how_to_state_it(tmp_path):
    path = written(tmp_path, lines(MILLIVOLTS.T))
    (tmp_path / "ecg_format.yml").unlink()
    message = refusal(path)
    assert "found a table of numbers as text, without a statement of its sampling rate and unit" in message
    assert "a file ecg_format.yml beside it or in a folder above" in message and "'unit: mV'" in message


def test_the_nearest_statement_counts(tmp_path):
    inner = tmp_path / "2024" / "may"
    inner.mkdir(parents=True)
    path = written(inner, lines(MILLIVOLTS.T))
    (inner / "ecg_format.yml").rename(tmp_path / "ecg_format.yml")
    assert_read(path)
    write_statement(tmp_path / "2024", unit="2 mV", leads="standard")
    assert_read(path, millivolts=2 * MILLIVOLTS)


BAD_STATEMENTS = {
    "unit: mV": "no sampling_rate in",
    "sampling_rate: fast\nunit: mV": "'fast' as sampling_rate",
    "sampling_rate: -500\nunit: mV": "'-500' as sampling_rate",
    "sampling_rate: 500": "found numbers whose leads neither",
    "sampling_rate: 500\nleads: standard": "found no unit in",
    "sampling_rate: 500\nunit: bananas\nleads: standard": "'bananas' as unit of",
    "sampling_rate: 500\nunit: 0 mV\nleads: standard": "'0 mV' as unit of",
    "sampling_rate: 500\nunit: mV\nleads: [I, II]": "expected 2 rows or columns, one for each stated lead",
    "sampling_rate: 500\nunit: mV\nleads: {a: b}": "leads of another kind",
    "sampling_rate: 500\nunits: mV": "'units' in",
    "- 500": "without keys",
    "sampling_rate: [": "that is not YAML in line 1",
    "a: &a [1, 2]\nb: *a": "with anchors",
    "x" * 10_001: "of more than 10,000 bytes",
    "sampling_rate: 20\nunit: mV\nleads: standard": "a sampling rate of 20 Hz",
}


@pytest.mark.parametrize("text", BAD_STATEMENTS)
def test_a_statement_that_is_wrong_is_named(tmp_path, text):
    path = written(tmp_path, lines(MILLIVOLTS.T))
    (tmp_path / "ecg_format.yml").write_text(text)
    assert BAD_STATEMENTS[text] in refusal(path)


@pytest.mark.parametrize(
    "factor, found", [(1000, "mV from peak to peak, by the unit"), (0.001, "mV from peak to peak")]
)
def test_a_unit_that_is_wrong_a_thousandfold_is_doubted(tmp_path, factor, found):
    np.save(tmp_path / "ecg.npy", MILLIVOLTS * factor)
    write_statement(tmp_path, unit="mV", leads="standard")
    message = refusal(tmp_path / "ecg.npy")
    assert found in message and message.endswith("expected 0.05 to 100 mV: is the unit right?")


# Arrays


ARRAYS = {
    "float64": MILLIVOLTS,
    "columns": MILLIVOLTS.T,
    "float32, Fortran": np.asfortranarray(MILLIVOLTS.astype(np.float32)),
    "big-endian": MILLIVOLTS.T.astype(">f8"),
    "one of one": MILLIVOLTS[None],
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(tmp_path, name):
    array = ARRAYS[name]
    write_statement(tmp_path, unit="mV", leads="standard")
    np.save(tmp_path / "ecg.npy", array)
    np.savez_compressed(tmp_path / "ecg.npz", ecg=array, rate=500, note=np.array(["a", "b"]))
    scipy.io.savemat(tmp_path / "plain.mat", {"ecg": array, "fs": 500, "note": "a", "s": {"x": [1, 2]}})
    scipy.io.savemat(
        tmp_path / "packed.mat", {"ecg": array, "c": np.array([1, "a"], object)}, do_compression=True
    )
    assert_read(tmp_path / "ecg.npy", "NumPy")
    assert_read(tmp_path / "ecg.npz", "NumPy")
    assert_read(tmp_path / "plain.mat", "MATLAB")
    assert_read(tmp_path / "packed.mat", "MATLAB")
    if array.ndim == 2:
        scipy.io.savemat(tmp_path / "four.mat", {"ecg": array, "fs": 500.0}, format="4")
        assert_read(tmp_path / "four.mat", "MATLAB")
    with h5py.File(tmp_path / "ecg.h5", "w") as file:
        file["ecg"], file["fs"] = array, 500
    assert_read(tmp_path / "ecg.h5", "HDF5")


def matlab_7_3(path, array):
    """As MATLAB writes it: its text first, then HDF5 in its order of dimensions, and what cells hold."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset(
            "val", data=array.T, chunks=(1000, 5), compression="gzip", shuffle=True, fletcher32=True
        )
        file["#refs#/a"] = np.zeros((12, 5000))
    with open(path, "r+b") as handle:
        handle.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\x02IM")


def test_matlab_7_3(tmp_path):
    matlab_7_3(tmp_path / "ecg.mat", COUNTS)
    write_statement(tmp_path, unit="uV", leads="standard")
    assert_read(tmp_path / "ecg.mat", "HDF5")


def test_one_of_several_arrays_is_named(tmp_path):
    two = {"raw": MILLIVOLTS + 0.1, "filtered": MILLIVOLTS}
    np.savez(tmp_path / "ecg.npz", **two)
    scipy.io.savemat(tmp_path / "ecg.mat", two)
    with h5py.File(tmp_path / "ecg.h5", "w") as file:
        file["raw"], file["filtered"] = two["raw"], two["filtered"]
    files = ("ecg.npz", "ecg.mat", "ecg.h5")
    write_statement(tmp_path, unit="mV", leads="standard")
    for name in files:
        assert "with 2 arrays that may be the ECG (it has 'raw', 'filtered'" in refusal(
            tmp_path / name
        ) or "'filtered', 'raw'" in refusal(tmp_path / name)
    write_statement(tmp_path, unit="mV", leads="standard", variable="filtered")
    for name in files:
        assert read_recording(tmp_path / name).signal[0, 0] == pytest.approx(MILLIVOLTS[0, 0], abs=1e-6)
    write_statement(tmp_path, unit="mV", leads="standard", variable="ecg")
    for name in files:
        assert "without the array 'ecg' of ecg_format.yml" in refusal(tmp_path / name)


def test_a_signal_file_of_physionet_is_read_by_its_header(tmp_path):
    scipy.io.savemat(tmp_path / "A0001.mat", {"val": COUNTS}, format="4")
    rows = [
        f"A0001.mat 16+24 1000(0)/mV 16 0 {row[0]} 0 0 {lead}"
        for lead, row in zip(LEADS, COUNTS, strict=True)
    ]
    (tmp_path / "A0001.hea").write_text("\n".join([f"A0001 12 500 {N}", *rows, ""]))
    np.testing.assert_allclose(read_recording(tmp_path / "A0001.hea").signal, MILLIVOLTS, atol=1e-6)
    message = refusal(tmp_path / "A0001.mat")
    assert "the signal file of a WFDB header, A0001.hea; expected that header" in message


BAD_ARRAYS = {
    "pickled objects": (np.array([{"a": 1}], object), "pickled Python objects, which are never loaded"),
    "several ECGs": (
        np.zeros((3, 12, N)),
        "an array of shape (3, 12, 4000); expected twelve rows or columns of one ECG",
    ),
    "one dimension": (np.zeros(12 * N), "an array of shape (48000)"),
    "complex": (MILLIVOLTS + 0j, "an array of 'complex128'; expected an array of real numbers"),
    "texts": (MILLIVOLTS.astype(str), "an array of '<U"),
    "11 rows": (MILLIVOLTS[:11], "an array of shape (11, 4000); expected 12 rows or columns"),
    "NaN throughout": (np.full((12, N), np.nan), "4000 consecutive samples missing in lead I"),
    "infinity": (np.where(MILLIVOLTS > 1.4, np.inf, MILLIVOLTS), "not finite"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_an_array_is_refused(tmp_path, name):
    array, message = BAD_ARRAYS[name]
    np.save(tmp_path / "ecg.npy", array, allow_pickle=True)
    write_statement(tmp_path, unit="mV", leads="standard")
    assert message in refusal(tmp_path / "ecg.npy")
