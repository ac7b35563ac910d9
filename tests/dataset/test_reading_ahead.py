"""Files read ahead by other processes: in order, a limited number at a time."""

import os
import time

import pytest

from dataset import reading_ahead
from dataset.reading_ahead import read_ahead
from runtime.errors import UserError


@pytest.fixture
def in_parallel(monkeypatch):
    monkeypatch.setattr(reading_ahead, "n_cores", lambda: 2)
    monkeypatch.setattr(reading_ahead, "PARALLEL_FROM", 3)


def number_and_process(file):
    time.sleep(0.02 * (int(file) % 2))  # the next is ready sooner
    return int(file), os.getpid()


def test_many_files_come_in_order_from_other_processes(in_parallel, monkeypatch):
    monkeypatch.setattr(reading_ahead, "AHEAD", 2)
    numbers, processes = zip(
        *read_ahead([str(number) for number in range(9)], number_and_process), strict=True
    )
    assert list(numbers) == list(range(9)) and os.getpid() not in processes


def test_few_files_need_no_process(in_parallel):
    assert list(read_ahead(["0", "1"], number_and_process)) == [(0, os.getpid()), (1, os.getpid())]


def test_no_more_are_read_than_are_needed_soon(in_parallel, monkeypatch, tmp_path):
    monkeypatch.setattr(reading_ahead, "AHEAD", 2)
    results = read_ahead([str(tmp_path / str(number)) for number in range(50)], touch)
    next(results)
    results.close()
    assert len(list(tmp_path.iterdir())) <= 3


def touch(file):
    open(file, "w").close()


def test_an_error_in_a_process_is_raised_here(in_parallel):
    with pytest.raises(ValueError, match="invalid literal"):
        list(read_ahead(["0", "1", "two"], number_and_process))


def test_a_killed_process_is_one_line(in_parallel):
    with pytest.raises(UserError, match=r"^a process that read files was killed, perhaps for memory$"):
        list(read_ahead(["0", "1", "2"], kill))


def kill(file):
    os._exit(9)
