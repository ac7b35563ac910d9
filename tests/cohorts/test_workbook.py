"""An Excel workbook is read as the table that it shows, or named in a line."""

import io
import sys
import zipfile
from datetime import date, datetime

import pytest
from one_line import failure_of

from cohorts.csv_dialect import table_text

openpyxl = pytest.importorskip("openpyxl")


@pytest.fixture
def saved(tmp_path):
    """Return a function that saves sheets, each a list of rows, as t.xlsx and gives its path."""

    def save(*sheets, formats=()):
        book = openpyxl.Workbook()
        book.remove(book.active)
        for rows in sheets:
            sheet = book.create_sheet()
            for row in rows:
                sheet.append(row)
        for cell, number_format in formats:
            book.worksheets[0][cell].number_format = number_format
        book.save(tmp_path / "t.xlsx")
        return tmp_path / "t.xlsx"

    return save


def text_of(path):
    content, encoding = table_text(path)
    return content.decode(encoding).splitlines()


def test_a_cell_is_the_text_that_it_shows(saved):
    rows = [
        ["file", "patient_id", "PE", "age", "time", "day", "note"],
        ["Ä.xml", 17, True, 61.5, datetime(2024, 3, 1, 14, 5), date(2024, 3, 1), "two\nlines, quoted"],
        ["b.xml", 23, 0, 48.0, datetime(2024, 3, 1), None, "#N/A"],
        [None] * 7,
        ["c.xml", None, None, None, None, None, None, None],
    ]
    path = saved(rows, formats=[("B3", "0000")])
    assert text_of(path) == [
        "file,patient_id,PE,age,time,day,note",
        'Ä.xml,17,1,61.5,2024-03-01 14:05:00,2024-03-01,"two lines, quoted"',
        "b.xml,0023,0,48,2024-03-01 00:00:00,,#N/A",  # its format shows the time of day
        ",,,,,,",
        "c.xml,,,,,,",
    ]


def test_the_first_sheet_that_is_not_empty_is_read_and_others_are_told(saved, capsys):
    assert text_of(saved([], [["file", "PE"], ["a.xml", 1]])) == ["file,PE", "a.xml,1"]
    assert capsys.readouterr().out == ""
    assert text_of(saved([["file"]], [["other"]])) == ["file"]
    assert "t.xlsx has 2 sheets: the first, Sheet, is read" in capsys.readouterr().out


def test_workbooks_that_are_refused(saved, tmp_path, monkeypatch):
    assert failure_of(table_text, saved([])).endswith(
        "found an Excel workbook without any cell, expected a table"
    )
    path = saved([["file"] * 3] * 3)
    whole = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("cohorts.workbook.MAX_BYTES", 1000)
        assert "bytes when unpacked, expected at most 1,000" in failure_of(table_text, path)
    with monkeypatch.context() as patch:
        patch.setattr("cohorts.workbook.MAX_CELLS", 8)
        assert "cannot be read (a sheet of 3 rows and 3 columns)" in failure_of(table_text, path)
    path.write_bytes(whole[: len(whole) // 2])
    assert "found a workbook or another zip archive that cannot be read" in failure_of(table_text, path)
    for part, found in (("content.xml", "a spreadsheet of LibreOffice"), ("a.csv", "a zip archive")):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as parts:
            parts.writestr(part, "x")
        path.write_bytes(archive.getvalue())
        assert f"t.xlsx: found {found}, expected CSV" in failure_of(table_text, path)


def test_damaged_parts_of_a_workbook_are_a_line(saved):
    path = saved([["file", "PE"], ["a.xml", 1]])
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for name in parts:
        if name.endswith((".xml", ".rels")):
            with zipfile.ZipFile(path, "w") as archive:
                for other, content in parts.items():
                    archive.writestr(other, content[: len(content) // 2] if other == name else content)
            try:
                table_text(path)  # some parts are not needed
            except Exception as error:
                assert "found an Excel workbook" in str(error) and "\n" not in str(error)


def test_without_the_package_a_line_says_what_to_do(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    assert failure_of(table_text, saved([["file"]])).endswith(
        "found an Excel workbook, expected CSV, or the package that reads it: save it as CSV, "
        "or pip install openpyxl"
    )
