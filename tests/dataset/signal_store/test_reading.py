"""A cache outlives what happens to processes and disks: kills, interruptions, a full or read-only disk."""

import contextlib
import errno
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import threading
import time
import traceback

import numpy as np
import pytest
from one_line import failure_of

from dataset.decoding import decode
from dataset.signal_store import reading
from dataset.signal_store.cache_index import NO_ROW
from dataset.signal_store.signal_cache import cached_signals
from runtime.errors import UserError

FILES = [f"{letter}.xml" for letter in "abcdefgh"]


@pytest.fixture
def folder(write_ecgs):
    return write_ecgs(FILES)


@pytest.fixture
def cache_dir(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def parts_of_two(monkeypatch):
    monkeypatch.setattr(reading, "FLUSH_EVERY", 2)
    monkeypatch.setattr(reading, "PARALLEL_FROM", 2)
    monkeypatch.setattr(reading, "PARTS_PER_WORKER", 1)


def read(folder, cache_dir, workers=1, files=FILES):
    return cached_signals(folder, files, cache_dir=cache_dir, workers=workers)


def check(cached, folder):
    for entry in cached.entries.itertuples():
        np.testing.assert_array_equal(cached.signals[entry.row], decode(folder / entry.file)[1])


def in_child(function, *arguments):
    """Return a forked process that runs a function; its exit code is 1 where the function fails."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    return process


def ended(process):
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def parts(cache_dir):
    return sorted(path.name for path in cache_dir.glob("*/index/*.csv"))


def wait_for_parts(cache_dir, number):
    deadline = time.monotonic() + 30
    while len(parts(cache_dir)) < number and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(parts(cache_dir)) >= number


def at_h(action):
    """Return a `decode` that does something when it comes to the last file."""

    def decode_or_act(path, *window):
        if path.name == "h.xml":
            action()
        return decode(path, *window)

    return decode_or_act


# Killed and interrupted


def test_a_killed_worker_costs_its_part_alone(folder, cache_dir, parts_of_two, monkeypatch):
    def die_after_three_parts():
        wait_for_parts(cache_dir, 3)
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as killed:
        killed.setattr(reading, "decode", at_h(die_after_three_parts))
        message = failure_of(read, folder, cache_dir, workers=2)
    assert message == f"{folder}: a process that read files was killed, perhaps for memory; try --workers 1"
    cached = read(folder, cache_dir, workers=2)
    assert cached.n_parsed == 2
    check(cached, folder)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_costs_its_open_parts_and_leaves_no_lock(
    folder, cache_dir, parts_of_two, monkeypatch, workers
):
    with monkeypatch.context() as hanging:
        hanging.setattr(reading, "decode", at_h(lambda: time.sleep(1)))
        run = in_child(read, folder, cache_dir, workers)
        wait_for_parts(cache_dir, 3)
        run.kill()
        assert ended(run) == -signal.SIGKILL
    again = in_child(read, folder, cache_dir)  # it waits for the workers of the first
    assert ended(again) == 0
    cached = read(folder, cache_dir)
    assert cached.n_parsed == 0
    check(cached, folder)
    assert len(cached.signals) == 8  # the rows of the part that was lost are used again


def test_ctrl_c_keeps_what_workers_have_read(folder, cache_dir, parts_of_two, monkeypatch, tmp_path):
    reached = tmp_path / "reached"

    def read_until_interrupted():
        with contextlib.suppress(KeyboardInterrupt):
            read(folder, cache_dir, 2)
            os._exit(2)

    with monkeypatch.context() as hanging:
        hanging.setattr(reading, "decode", at_h(lambda: (reached.touch(), time.sleep(1))))
        run = in_child(read_until_interrupted)
        wait_for_parts(cache_dir, 3)
        while not reached.exists() and run.is_alive():
            time.sleep(0.01)
        os.kill(run.pid, signal.SIGINT)
        assert ended(run) == 0
    cached = read(folder, cache_dir)
    assert cached.n_parsed == 0  # g was read, and h was being read
    check(cached, folder)


def test_two_processes_build_one_cache(folder, cache_dir, parts_of_two, tmp_path):
    def read_and_report(name):
        cached = read(folder, cache_dir, 2)
        np.save(tmp_path / f"{name}.npy", cached.signals[cached.entries["row"]])
        (tmp_path / name).write_text(str(cached.n_parsed))

    runs = [in_child(read_and_report, name) for name in ("one", "other")]
    assert [ended(run) for run in runs] == [0, 0]
    one, other = (np.load(tmp_path / f"{name}.npy") for name in ("one", "other"))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one, [decode(folder / file)[1] for file in FILES])
    assert sorted((tmp_path / name).read_text() for name in ("one", "other")) == ["0", "8"]


# Disks


def test_a_full_disk_keeps_the_parts_that_were_whole(folder, cache_dir, parts_of_two, tmp_path):
    def read_with_room_for_five_signals():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5 * 120_000 + 60_000, resource.RLIM_INFINITY))
        with contextlib.suppress(UserError):
            try:
                read(folder, cache_dir)
            except UserError as error:
                (tmp_path / "said").write_text(str(error))
                raise

    assert ended(in_child(read_with_room_for_five_signals)) == 0
    (cache,) = cache_dir.iterdir()
    said = (tmp_path / "said").read_text()
    assert said == f"{cache}: the cache cannot be written (File too large); name another with --cache-dir"
    assert len(parts(cache_dir)) == 2
    cached = read(folder, cache_dir)
    assert cached.n_parsed == 4
    check(cached, folder)


def test_a_full_disk_stops_the_workers_too(folder, cache_dir, parts_of_two, monkeypatch):
    def full_at_h():
        wait_for_parts(cache_dir, 3)
        resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, resource.RLIM_INFINITY))

    with monkeypatch.context() as full:
        full.setattr(reading, "decode", at_h(full_at_h))
        assert "the cache cannot be written (File too large)" in failure_of(
            read, folder, cache_dir, workers=2
        )
    cached = read(folder, cache_dir)
    assert cached.n_parsed == 2
    check(cached, folder)


def refuse_writing_under(folder):
    """Make every attempt to change something under a folder fail, as on a read-only disk; root's too."""

    def refuse(event, arguments):
        writes = event in ("os.mkdir", "os.rename", "os.remove", "os.truncate") or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if writes and str(arguments[0]).startswith(str(folder)):
            raise OSError(errno.EROFS, "Read-only file system")

    sys.addaudithook(refuse)


def test_a_read_only_cache_works_where_it_has_all_files(folder, cache_dir, tmp_path):
    read(folder, cache_dir, files=FILES[:4])

    def read_only():
        try:
            refuse_writing_under(cache_dir)
            cached = read(folder, cache_dir, files=FILES[:4])
            assert cached.n_parsed == 0
            check(cached, folder)
            message = failure_of(read, folder, cache_dir)
            assert "the cache cannot be written (Read-only file system)" in message
        except BaseException:
            (tmp_path / "failed").write_text(traceback.format_exc())

    assert ended(in_child(read_only)) == 0
    assert not (tmp_path / "failed").exists(), (tmp_path / "failed").read_text()
    assert read(folder, cache_dir).n_parsed == 4


def test_what_is_current_is_read_while_another_run_holds_the_lock(
    folder, cache_dir, parts_of_two, monkeypatch
):
    monkeypatch.setattr(reading, "decode", at_h(lambda: time.sleep(1)))
    run = in_child(read, folder, cache_dir)
    wait_for_parts(cache_dir, 3)
    assert read(folder, cache_dir, files=FILES[:6]).n_parsed == 0
    assert run.is_alive() and ended(run) == 0


# Parts and locks


def test_a_part_that_is_lost_costs_its_files_alone(folder, cache_dir, parts_of_two, capsys):
    read(folder, cache_dir)
    (part,) = cache_dir.glob("*/index/000001.csv")
    part.write_bytes(part.read_bytes()[:-30])
    cached = read(folder, cache_dir)
    assert cached.n_parsed == 2
    check(cached, folder)
    assert "000001.csv is cut or damaged: 2 files or more to be read again" in capsys.readouterr().out
    assert cached.entries["row"].min() == 0 and cached.entries["row"].max() == 9  # 2 and 3 may be in use
    assert parts(cache_dir) == ["000000.csv", "000002.csv", "000003.csv", "000004.csv"]


def test_waiting_for_the_lock_costs_no_second_reading(folder, cache_dir, parts_of_two, capsys):
    run = threading.Thread(target=read, args=(folder, cache_dir))
    run.start()
    second = read(folder, cache_dir)
    run.join()
    check(second, folder)
    assert len(second.signals) == 8 and len(parts(cache_dir)) == 4


# Several processes


def test_parallel_is_serial(folder, tmp_path, monkeypatch):
    (folder / "b.xml").write_bytes(b"<ecg/>")
    shutil.copy(folder / "a.xml", folder / "d.xml")
    serial = read(folder, tmp_path / "serial")
    monkeypatch.setattr(reading, "PARALLEL_FROM", 2)
    monkeypatch.setattr(reading, "decode", refuse_in_parent(os.getpid()))
    parallel = read(folder, tmp_path / "parallel", workers=2)
    described = ["file", "digest", "file_format", "checksum", "rejected"]
    assert parallel.entries[described].equals(serial.entries[described])
    rows = [cached.entries["row"].to_numpy() for cached in (parallel, serial)]
    assert rows[0][0] == rows[0][3] and rows[0][1] == rows[1][1] == NO_ROW
    used = rows[1] != NO_ROW
    for name in ("signals", "measurements"):
        both = [getattr(cached, name)[r[used]] for cached, r in zip((parallel, serial), rows, strict=True)]
        np.testing.assert_array_equal(*both)
    assert parallel.n_parsed == serial.n_parsed == 8
    assert read(folder, tmp_path / "parallel", workers=2).n_parsed == 0


def refuse_in_parent(parent):
    def decode_elsewhere(path, *window):
        assert os.getpid() != parent
        return decode(path, *window)

    return decode_elsewhere


def test_killed_worker_is_one_line(folder, cache_dir, monkeypatch):
    monkeypatch.setattr(reading, "PARALLEL_FROM", 2)
    monkeypatch.setattr(reading, "decode", lambda path, *window: os._exit(9))
    with pytest.raises(UserError) as caught:
        read(folder, cache_dir, workers=2)
    assert str(caught.value) == (
        f"{folder}: a process that read files was killed, perhaps for memory; try --workers 1"
    )


@pytest.mark.parametrize("workers", [0, 64])
def test_any_number_of_workers(folder, cache_dir, monkeypatch, workers):
    monkeypatch.setattr(reading, "PARALLEL_FROM", 2)
    check(read(folder, cache_dir, workers=workers), folder)


def test_workers_where_the_system_has_no_affinity(folder, cache_dir, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS and Windows
    check(read(folder, cache_dir), folder)
    check(read(folder, cache_dir / "other", workers=0), folder)
