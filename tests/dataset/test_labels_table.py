"""A labels table is read, or refused with its line."""

import gzip
import os
import re
from pathlib import Path

import numpy as np
import pytest
from one_line import failure_of

from dataset.labels_table import locate, read_labels


@pytest.fixture
def table_of(tmp_path):
    """Return a function that writes a labels table and gives its path."""

    def write(content):
        path = tmp_path / "labels.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# Labels tables that are read

TWO_ROWS = [("a.xml", 1), ("b.xml", 0)]


@pytest.mark.parametrize("separator", [",", ";", "\t", " ; "])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("byte_order_mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("header", ["file{}PE", ""])
def test_both_forms(table_of, separator, line_end, byte_order_mark, header):
    lines = [header.format(separator), f"a.xml{separator}1", f"b.xml{separator}0", ""]
    path = table_of(byte_order_mark + line_end.join(lines).encode())
    table, label_names = read_labels(path, None)
    assert label_names == ("PE",)
    assert list(zip(table["file"], table["PE"], strict=True)) == TWO_ROWS
    assert list(table.index) == [2, 3]  # lines in the file
    assert list(table["patient_id"]) == ["a.xml", "b.xml"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("file,PE\n\na.xml,1\n\n\nb.xml,0\n\n", [3, 6]),
        ("\n\nfile,PE\na.xml,1\nb.xml,0", [4, 5]),
        ("\n  \n\nfile;PE\na.xml;1\nb.xml;0", [5, 6]),
        ("  \na.xml;1\n;\n ; \nb.xml;0\n   \n", [2, 5]),
        (" file , PE \n a.xml ,\t1\n\xa0b.xml, 0 \n", [2, 3]),
        ('"file","PE"\n"a.xml","1"\n"b.xml","0"\n', [2, 3]),
        ("PE,file\n1,a.xml\n0,b.xml\n", [2, 3]),
        ("file,PE\na.xml,1.0\nb.xml,0.0\n", [2, 3]),
    ],
)
def test_blank_lines_spaces_quotes_and_order(table_of, text, lines):
    table, _ = read_labels(table_of(text), None)
    assert list(zip(table["file"], table["PE"], strict=True)) == TWO_ROWS
    assert list(table.index) == lines


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
def test_encodings(table_of, encoding):
    table, _ = read_labels(table_of("file;PE;Größe\nMüller.xml;1;klein\n".encode(encoding)), None)
    assert list(table) == ["file", "PE", "Größe", "patient_id"]
    assert table["file"].item() == "Müller.xml"


def test_all_columns_are_kept_and_ids_stay_text(table_of):
    text = 'file,patient_id,PE,age,sex,note,split\na.xml,007,1,64,F,"two, quoted\nlines",test\n'
    table, _ = read_labels(table_of(text), None)
    assert table.iloc[0].to_dict() == {
        "file": "a.xml",
        "patient_id": "007",
        "PE": 1,
        "age": "64",
        "sex": "F",
        "note": "two, quoted lines",
        "split": "test",
    }


@pytest.mark.parametrize(
    ("columns", "names"),
    [(["MI"], ("MI",)), (["AF", "PE"], ("AF", "PE")), (["MI", "MI"], ("MI",)), ([], ("PE",))],
)
def test_label_columns(table_of, columns, names):
    table, label_names = read_labels(table_of("file,PE,MI,AF\na.xml,1,0,1\n"), columns)
    assert label_names == names
    assert [table[name].item() for name in names] == [{"PE": 1, "MI": 0, "AF": 1}[name] for name in names]


def test_all_is_every_column_with_zero_and_one(table_of):
    text = "file,PE,MI,AF,never,site,score\na.xml,1,0,1.0,0,0,1\nb.xml,0,,0,0,1,2\nc.xml,0,1,,0,0,0\n"
    table, label_names = read_labels(table_of(text), ["all"])
    assert label_names == ("PE", "MI", "AF", "site")  # whatever a column means
    assert list(table["AF"][:2]) == [1, 0] and np.isnan(table["AF"].iloc[2])
    assert read_labels(table_of("file,all,PE\na.xml,1,0\nb.xml,0,1\n"), ["all"])[1] == ("all",)
    line = failure_of(read_labels, table_of("file,site\na.xml,1\nb.xml,7\n"), ["all"])
    assert line.endswith("found no column of 0 and 1, expected one or more (--label-columns all)")


def test_published_form_with_a_label_of_another_name(table_of):
    table, label_names = read_labels(table_of("a.xml;1\nb.xml;0\n"), ["MI"])
    assert label_names == ("MI",) and list(table["MI"]) == [1, 0]


def test_labels_that_are_not_learnt_are_not_checked(table_of):
    table, _ = read_labels(table_of("file,PE,MI\na.xml,1,\nb.xml,0,perhaps\n"), ["PE"])
    assert list(table["MI"]) == ["", "perhaps"]


# Labels tables that are refused

NO_HEADER = "expected a header with a column file, or file;label"
REFUSED = {
    "empty": ("", None, f" line 1: found '', {NO_HEADER}"),
    "blank": ("\n \n", None, f" line 1: found '', {NO_HEADER}"),
    "only a header": ("file,PE\n", None, ": found no rows, expected one for each ECG"),
    "no file column": ("name,PE\na.xml,1\n", None, f" line 1: found 'name, PE', {NO_HEADER}"),
    "no file column, lower down": ("\n\nname,PE\na.xml,1\n", None, f" line 3: found 'name, PE', {NO_HEADER}"),
    "no header, label 2": ("a.xml;2\n", None, f" line 1: found 'a.xml, 2', {NO_HEADER}"),
    "no header, three columns": ("a.xml;1;0\n", None, f" line 1: found 'a.xml, 1, 0', {NO_HEADER}"),
    "column twice": (
        "file,PE,PE\na.xml,1,0\n",
        None,
        " line 1: found a column name twice in file, PE, PE, expected each once",
    ),
    "unknown label": (
        "file,MI,AF,age\na.xml,1,0,50\n",
        ["MI", "PE"],
        ": found no label column PE, expected one of MI, AF (--label-columns chooses)",
    ),
    "label called file": (
        "file,PE\na.xml,1\n",
        ["file"],
        ": found no label column file, expected one of PE (--label-columns chooses)",
    ),
    "age with a decimal comma between commas": (
        'file,PE,age\na.xml,1,59\nb.xml,0,"59,0"\n',
        None,
        " line 3: found 59,0 in column age, expected years from 0 to 130, or nothing where it is not known",
    ),
    "two columns that may name the patients": (
        "file,PatientID,MRN,PE\na.xml,1,1,1\n",
        None,
        " line 1: found the columns PatientID and MRN and none called patient_id, expected one of them to "
        "have that name",
    ),
    "a slip in the patients' column": (
        "file,patinet_id,PE\na.xml,1,1\n",
        None,
        " line 1: found a column patinet_id and none called patient_id, expected that name",
    ),
    "patient whose number was rounded": (
        "file,patient_id,PE\na.xml,1.23457E+11,1\n",
        None,
        " line 2: found 1.23457E+11 in column patient_id, expected an id with all of its digits (a "
        "spreadsheet has rounded it)",
    ),
    "sexes 1 and 2": (
        "file,sex,PE\na.xml,1,1\nb.xml,2,1\n",
        None,
        " line 3: found 2 in column sex, expected M, F, or 0 for M and 1 for F, or nothing where it is not "
        "known",
    ),
    "the other's name for unknown as a patient": (
        "file,patient_id,PE\na.xml,1,1\nb.xml,NaN,0\nc.xml,null,0\n",
        None,
        " line 3: found NaN in column patient_id, expected a patient's id (and 1 more)",
    ),
    "patient in two parts, once as a number with decimals": (
        "file,PE,patient_id,split\na.xml,1,17,train\nb.xml,0,17.0,test\n",
        None,
        " lines 2, 3: found the same patient in train and test, expected each patient in one part",
    ),
    "file twice in two spellings": (
        "file,PE\na.xml,1\n./a.xml,0\n",
        None,
        " line 3: found ./a.xml again (line 2), expected each file once",
    ),
    "old workbook": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        None,
        ": found a workbook of Excel before 2007, or one with a password, expected CSV: save it as CSV",
    ),
    "PDF": (b"%PDF-1.7\n", None, ": found a PDF, expected CSV"),
    "web page": (
        "\n<HTML><table>",
        None,
        ": found a web page, which some programs export as .xls, expected CSV: open it and save it as CSV",
    ),
    "date of birth as age": (
        "file,PE,age\na.xml,1,1950-03-01\nb.xml,0,-3\n",
        None,
        " line 2: found 1950-03-01 in column age, expected years from 0 to 130, or nothing where it is not "
        "known (and 1 more)",
    ),
    "label called age": (
        "file,PE,age\na.xml,1,1\n",
        ["age"],
        ": found no label column age, expected one of PE (--label-columns chooses)",
    ),
    "no PE": (
        "file,MI,AF\na.xml,1,0\n",
        None,
        ": found no label column PE, expected one of MI, AF (--label-columns chooses)",
    ),
    "label 2": ("file;PE\na.xml;2\nb.xml;1\n", None, " line 2: found 2 in column PE, expected 0 or 1"),
    "label yes": ("file;PE\na.xml;yes\n", None, " line 2: found yes in column PE, expected 0 or 1"),
    "label 0.5": ("a.xml;1\nb.xml;0.5\n", None, " line 2: found 0.5 in column PE, expected 0 or 1"),
    "label -1": ("a.xml;1\nb.xml;-1\n", None, " line 2: found -1 in column PE, expected 0 or 1"),
    "several labels": (
        "file,PE\na.xml,x\nb.xml,0\nc.xml,y\nd.xml,z\n",
        None,
        " line 2: found x in column PE, expected 0 or 1 (and 2 more)",
    ),
    "second label": (
        "file,PE,MI\na.xml,1,0\nb.xml,0,maybe\n",
        ["PE", "MI"],
        " line 3: found maybe in column MI, expected 0 or 1",
    ),
    "file twice": (
        "file,PE\na.xml,1\nb.xml,0\n\na.xml,1\n",
        None,
        " line 5: found a.xml again (line 2), expected each file once",
    ),
    "file without a name": (
        "file,PE\na.xml,1\n,0\n",
        None,
        " line 3: found nothing in column file, expected a file's name",
    ),
    "patient without an id": (
        "file,PE,patient_id\na.xml,1,p1\nb.xml,0, \n",
        None,
        " line 3: found nothing in column patient_id, expected a patient's id",
    ),
    "row too short": (
        "file,PE,age\na.xml,1,50\nb.xml,0\n",
        None,
        " line 3: found 2 fields, expected 3: file, PE, age",
    ),
    "row too long": ("a.xml;1\nb.xml;0;7\n", None, " line 2: found 3 fields, expected 2: file, PE"),
    "split unknown": (
        "file,PE,split\na.xml,1,train\nb.xml,0,valid\n",
        None,
        " line 3: found valid in column split, expected train, validation or test",
    ),
    "split missing": (
        "file,PE,split\na.xml,1,\n",
        None,
        " line 2: found nothing in column split, expected train, validation or test",
    ),
    "patient in two parts": (
        "file,PE,patient_id,split\na.xml,1,p1,train\nb.xml,0,p2,test\nc.xml,1,p1,test\n",
        None,
        " lines 2, 4: found the same patient in train and test, expected each patient in one part",
    ),
    "quotation mark that swallows lines": (
        'file,PE,note\na.xml,1,"fine\nb.xml,0,x\nc.xml,0,y\n',
        None,
        " line 4: unexpected end of data, expected each quotation mark to be closed",
    ),
}


@pytest.mark.parametrize(("text", "columns", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_tables(table_of, text, columns, message):
    path = table_of(text)
    assert failure_of(read_labels, path, columns) == f"{path}{message}"


def test_table_that_is_not_there(tmp_path):
    path = tmp_path / "labels.csv"
    expected = f"{path}: the labels table cannot be read (No such file or directory)"
    assert failure_of(read_labels, path, None) == expected
    assert failure_of(read_labels, tmp_path, None) == (
        f"{tmp_path}: the labels table cannot be read (Is a directory)"
    )


SPELLINGS = [
    "Patient-ID",
    "patient id",
    "PATIENT_ID",
    "pat_id",
    "Patient",
    "Split",
    "SEX",
    "Age",
    "Hours-from-CT",
]


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_column_that_is_one_of_ours_in_another_spelling_is_used(table_of, name, capsys):
    others = {"Patient": "patient_id", "pat_id": "patient_id", "SEX": "sex"}
    ours = others.get(name, re.sub("[- ]", "_", name.lower()))
    value = "44" if ours == "age" else "train"
    path = table_of(f"file,PE,{name}\na.xml,1,{value}\n")
    table, _ = read_labels(path, None)
    assert table.loc[2, ours] == value
    assert f"columns     {path}: taken are {name} as {ours}\n" == capsys.readouterr().out


def test_a_table_in_german_is_read_as_it_is(table_of, capsys):
    text = "sep=;\nDatei;Patientennummer;Alter;Geschlecht;PE\na.xml;17,0;61,5;weiblich;1\nb.xml;17;-;M;k.A.\n"
    path = table_of(text.encode("utf-16"))
    table, _ = read_labels(path, None)
    assert table[["file", "patient_id", "age", "sex"]].to_numpy().tolist() == [
        ["a.xml", "17", "61.5", "F"],
        ["b.xml", "17", "", "M"],
    ]
    assert table["PE"].isna().tolist() == [False, True]
    assert "Datei as file, Patientennummer as patient_id, Alter as age" in capsys.readouterr().out


def test_a_column_that_perhaps_names_patients_is_told(table_of, capsys):
    read_labels(table_of("file,ID,PE\na.xml,1,1\n"), None)
    assert "if ID names the patients, call the column patient_id" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["nan", "NULL", "None", "n/a", "NA", "-", "?", "unknown"])
def test_words_for_unknown_are_unknown_in_every_column(table_of, word):
    unknown = ",".join([word] * 6)
    path = table_of(f"file,PE,MI,age,sex,site,dose\na.xml,{unknown}\nb.xml,1,0,1,F,x,2\n")
    table, _ = read_labels(path, ["PE", "MI"])
    assert table.loc[2, ["PE", "MI"]].isna().all()
    assert table.loc[2, ["age", "sex", "site", "dose"]].tolist() == [""] * 4


def test_empty_columns_on_the_right_and_formulas_for_text_are_understood(table_of):
    table, _ = read_labels(table_of('file;patient_id;PE;;\na.xml;="0017";1;;\nb.xml;18;0\n'), None)
    assert table["patient_id"].tolist() == ["0017", "18"] and list(table)[-1] == "PE"


def test_a_workbook_and_a_packed_table_are_read(table_of, tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["File", "PatientID", "PE", "age"], ["a.xml", 17, 1, 61.5], ["b.xml", "17", 0, None]):
        book.active.append(row)
    book.save(tmp_path / "labels.xlsx")
    table, _ = read_labels(tmp_path / "labels.xlsx", None)
    assert table.loc[2].tolist() == ["a.xml", "17", 1, "61.5"] and table["patient_id"].nunique() == 1
    table, _ = read_labels(table_of(gzip.compress(b"file;PE\na.xml;1\n")), None)
    assert table["file"].item() == "a.xml"


def test_other_columns_and_a_second_spelling_beside_ours_are_kept(table_of):
    table, _ = read_labels(table_of("file,PE,patient_id,PatientID,page\na.xml,1,7,x,y\n"), None)
    assert table.loc[2, ["patient_id", "PatientID", "page"]].tolist() == ["7", "x", "y"]


def test_a_patient_is_one_however_the_number_is_written(table_of, capsys):
    table, _ = read_labels(
        table_of("file,PE,patient_id\na,1,17\nb,0,17.0\nc,0, 17\nd,0,17.00\ne,0,18\n"), None
    )
    assert table["patient_id"].tolist() == ["17"] * 4 + ["18"]
    assert capsys.readouterr().out == ""


def test_ids_alike_are_one_patient_and_named_by_their_lines(table_of, capsys):
    ids = ["17", "0017", "P17", "p 17", "P18.0", "P18", "10", "100", "1.05", "1.5"]
    text = "file,PE,patient_id\n" + "".join(f"{n}.xml,1,{patient}\n" for n, patient in enumerate(ids))
    path = table_of(text)
    table, _ = read_labels(path, None)
    assert table["patient_id"].tolist() == [
        "17",
        "17",
        "P17",
        "P17",
        "P18.0",
        "P18.0",
        "10",
        "100",
        "1.05",
        "1.5",
    ]
    assert f"{path} lines 2, 3: patient_id differs only by" in (said := capsys.readouterr().out)
    assert "(and 2 more such groups); these count as one patient" in said and "0017" not in said


def test_zeros_in_front_stay_where_no_id_is_written_without_them(table_of, capsys):
    table, _ = read_labels(table_of("file,PE,patient_id\na,1,0017\nb,0,0017\nc,0,0018\nd,1,23\n"), None)
    assert table["patient_id"].tolist() == ["0017", "0017", "0018", "23"]
    assert capsys.readouterr().out == ""


def test_ids_alike_of_two_sexes_are_two_patients(table_of, capsys):
    text = "file,PE,patient_id,sex\na,1,17,F\nb,0,0017,male\nc,0,0017,m\nd,1,18,F\ne,1,018,\n"
    table, _ = read_labels(table_of(text), None)
    assert table["patient_id"].tolist() == ["17", "0017", "0017", "18", "18"]
    said = capsys.readouterr().out
    assert (
        "lines 2, 3: patient_id differs only by case, spaces, leading zeros or .0; these count as diff"
        in said
    )
    assert (
        "lines 5, 6: patient_id differs only by case, spaces, leading zeros or .0; these count as one" in said
    )


def test_alike_ids_in_two_parts_are_an_error(table_of):
    line = failure_of(read_labels, table_of("file,PE,patient_id,split\na,1,17,train\nb,0,0017,test\n"), None)
    assert line.endswith("found the same patient in train and test, expected each patient in one part")


def test_decimal_commas_and_the_line_that_names_the_separator(table_of):
    table, _ = read_labels(table_of("sep=;\nfile;PE;age;dose\na.xml;1,0;61,5;-0,25\n"), None)
    assert table.loc[3].to_dict() | {"PE": 1} == {
        "file": "a.xml", "PE": 1, "age": "61.5", "dose": "-0.25", "patient_id": "a.xml",
    }  # fmt: skip
    table, _ = read_labels(table_of('sep=,\nfile,PE\n"a;b;c.xml",1\n'), None)
    assert table["file"].item() == "a;b;c.xml"


def test_sex_has_one_spelling(table_of, capsys):
    words = ["F", "f", "Male", "m", "female", "Unknown", "", "divers", "männlich", "W", "0", "1.0"]
    text = "file,PE,sex\n" + "".join(f"{n}.xml,1,{word}\n" for n, word in enumerate(words))
    table, _ = read_labels(table_of(text), None)
    assert table["sex"].tolist() == ["F", "F", "M", "M", "F", "", "", "divers", "M", "F", "M", "F"]
    assert "in column sex 0 is M and 1 is F" in capsys.readouterr().out


def test_backslashes_of_windows_are_found_on_linux(table_of, tmp_path):
    (tmp_path / "2023").mkdir()
    for name in ("2023/a.xml", "b\\c.xml"):
        (tmp_path / name).touch()
    path = table_of("file,PE\n2023\\a.xml,1\nb\\c.xml,0\n")
    table = locate(path, read_labels(path, None)[0], tmp_path)
    assert table["file"].tolist() == table["patient_id"].tolist() == ["2023/a.xml", "b\\c.xml"]
    path = table_of("file,PE\n2023\\a.xml,1\n2023/a.xml,0\n")
    line = failure_of(locate, path, read_labels(path, None)[0], tmp_path)
    assert line == f"{path} line 3: found 2023/a.xml again (line 2), expected each file once"
    path = table_of("file,PE\n2023\\a.xml,1\n2024\\a.xml,0\n")
    line = failure_of(locate, path, read_labels(path, None)[0], tmp_path)
    assert line == f"{path} line 3: file 2024\\a.xml is not in {tmp_path}"


def test_capitals_and_composed_letters_of_another_system_are_found(table_of, tmp_path):
    (tmp_path / "Müller").mkdir()
    for name in ("Müller/a.xml", "b.xml", "c.xml", "C.XML"):
        (tmp_path / name).touch()
    path = table_of("file,PE\nMu\u0308ller\\A.XML,1\nB.xml,0\n")
    table = locate(path, read_labels(path, None)[0], tmp_path)
    assert table["file"].tolist() == ["Müller/a.xml", "b.xml"]
    path = table_of("file,PE\nC.xml,1\n")  # of c.xml and C.XML, which?
    assert "line 2: file C.xml is not in " in failure_of(locate, path, read_labels(path, None)[0], tmp_path)


ON_DISK = {
    "accents apart": "Jose\u0301.xml".encode(),
    "Windows": b"Jos\xe9.xml",
    "an archive of DOS": b"Jos\x82.xml",
    "UTF-8": "José.xml".encode(),
}


@pytest.mark.parametrize("name", ON_DISK.values(), ids=ON_DISK)
def test_a_name_is_found_as_the_disk_has_it(table_of, tmp_path, name):
    (tmp_path / os.fsdecode(name)).touch()
    path = table_of("file,PE\nJosé.xml,1\n")
    table = locate(path, read_labels(path, None)[0], tmp_path)
    assert os.fsencode(table["file"].item()) == name


def test_ages_above_89_are_90(table_of):
    ages = ("89", "89.5", "104", "", "Unknown", "300")
    path = table_of("file,PE,age\n" + "".join(f"{n}.xml,{n % 2},{age}\n" for n, age in enumerate(ages)))
    table, _ = read_labels(path, None)
    assert list(table["age"]) == ["89", "90", "90", "", "", "90"]


def test_an_empty_label_is_unknown(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("file,PE,MI\na.xml,1,0\nb.xml,,1\nc.xml,0.0,\n", encoding="utf-8")
    table, label_names = read_labels(path, ["PE", "MI"])
    assert label_names == ("PE", "MI")
    np.testing.assert_array_equal(table[["PE", "MI"]].to_numpy(), [[1, 0], [np.nan, 1], [0, np.nan]])


def test_the_documents_table_of_second_targets_is_read(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    example = text[text.index("file,patient_id,age,sex,PE,rv_strain") :].partition("```")[0]
    (tmp_path / "labels.csv").write_text(example, encoding="utf-8")
    table, names = read_labels(tmp_path / "labels.csv", ["PE", "rv_strain", "high_risk_PE"])
    assert names == ("PE", "rv_strain", "high_risk_PE") and list(table["high_risk_PE"]) == [0, 0, 1, 0, 0]
    np.testing.assert_array_equal(table["rv_strain"], [0, 1, 1, np.nan, 1])
