"""The table of scores, written batch by batch: the same text as written at once, and whole or not at all."""

import json
from pathlib import Path

import pandas as pd
import pytest

from inference.scores_file import PrintedTable, ScoresFile
from runtime.errors import UserError

TABLE = pd.DataFrame(
    {
        "file": ["a.xml", "b, c.xml", "d.xml"],
        "score_PE": [0.12345678901234567, 1e-9, 1.0],
        "decision_PE": [0, 0, 1],
        "warnings": ["", 'a "quote", and é', ""],
    }
)


def written(path, *tables):
    with ScoresFile(path) as scores:
        for table in tables:
            scores.add(table)
            assert not path.exists()
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("parts", [[TABLE], [TABLE[:0], TABLE[:2], TABLE[:0], TABLE[2:]]])
def test_csv_is_that_of_the_whole_table(tmp_path, parts):
    assert written(tmp_path / "scores.csv", *parts) == TABLE.to_csv(index=False)


@pytest.mark.parametrize("parts", [[TABLE], [TABLE[:0], TABLE[:2], TABLE[:0], TABLE[2:]]])
def test_json_is_that_of_the_whole_table(tmp_path, parts):
    text = written(tmp_path / "scores.JSON", *parts)
    assert text == TABLE.to_json(orient="records", indent=2) + "\n"
    assert [row["warnings"] for row in json.loads(text)] == TABLE["warnings"].tolist()


def test_without_rows_there_are_the_columns(tmp_path):
    assert written(tmp_path / "scores.csv", TABLE[:0]) == "file,score_PE,decision_PE,warnings\n"
    assert json.loads(written(tmp_path / "scores.json", TABLE[:0])) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device"), UserError("x")])
def test_what_goes_wrong_in_between_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "scores.csv"
    path.write_text("as it was", encoding="utf-8")
    with pytest.raises(type(error) if isinstance(error, Exception) else error), ScoresFile(path) as scores:
        scores.add(TABLE)
        raise error
    assert [one.name for one in tmp_path.iterdir()] == ["scores.csv"]
    assert path.read_text(encoding="utf-8") == "as it was"


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    path = tmp_path / "scores.csv"
    with pytest.raises(UserError) as caught, ScoresFile(path) as scores:
        scores._aside.close()
        scores._aside = open("/dev/full", "w")  # noqa: SIM115
        scores.add(TABLE)
    assert str(caught.value) == f"{path}: cannot be written (No space left on device)"
    assert not list(tmp_path.iterdir())


def test_a_folder_cannot_be_replaced(tmp_path):
    (tmp_path / "scores.csv").mkdir()
    with (
        pytest.raises(UserError, match=r"scores\.csv: cannot be written \("),
        ScoresFile(tmp_path / "scores.csv") as scores,
    ):
        scores.add(TABLE)


def test_printed_columns_are_as_wide_as_the_longest_file():
    printed = PrintedTable([Path(name) for name in ["a.xml", "longest.xml"]])
    lines = [line for part in (TABLE[:0], TABLE[:1], TABLE[2:]) for line in printed.lines(part)]
    assert lines == [
        "       file  score_PE  decision_PE",
        "      a.xml    0.1235            0",
        "      d.xml    1.0000            1",
    ]
