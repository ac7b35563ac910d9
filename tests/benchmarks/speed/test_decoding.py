"""The benchmark of reading files names every format of a folder, and reads as BeautifulSoup does."""

import pytest
from format_writers import WRITERS, write_each_format
from tiny_runs import line_of, run_as_user, run_here


def test_each_format_of_a_folder_is_timed(tmp_path):
    pytest.importorskip("bs4")
    write_each_format(tmp_path)
    flags = ["--repeats", 1, "--workers", 1]
    outcome = run_as_user("benchmarks.speed.decoding", tmp_path, *flags, cwd=tmp_path.parent)
    assert outcome.returncode == 0, outcome.stderr
    assert "1 files of" in outcome.stdout and "the same millivolts from both" in outcome.stdout
    table = outcome.stdout[outcome.stdout.index("\nformat") :]
    assert all(f"\n{name} " in table for name in WRITERS)
    assert "cohort of 15 files" in table and "0 refused" in table


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    outcome = run_here("benchmarks.speed.decoding", tmp_path / "none")
    assert str(tmp_path / "none") in line_of(outcome, status=2)
