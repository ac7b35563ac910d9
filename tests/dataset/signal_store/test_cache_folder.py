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
from pathlib import Path

import numpy as np
import pytest
from one_line import failure_of

from dataset.signal_store import signal_cache
from dataset.signal_store.cache_index import Entry, load_index, write_part
from dataset.signal_store.signal_cache import StoredSignals, cached_signals, decode
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
    monkeypatch.setattr(signal_cache, "FLUSH_EVERY", 2)
    monkeypatch.setattr(signal_cache, "PARALLEL_FROM", 2)
    monkeypatch.setattr(signal_cache, "PARTS_A_WORKER", 1)


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

    def decode_or_act(path, window_start):
        if path.name == "h.xml":
            action()
        return decode(path, window_start)

    return decode_or_act


# Killed and interrupted


def test_a_killed_worker_costs_its_part_alone(folder, cache_dir, parts_of_two, monkeypatch):
    def die_after_three_parts():
        wait_for_parts(cache_dir, 3)
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as killed:
        killed.setattr(signal_cache, "decode", at_h(die_after_three_parts))
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
        hanging.setattr(signal_cache, "decode", at_h(lambda: time.sleep(1)))
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
        hanging.setattr(signal_cache, "decode", at_h(lambda: (reached.touch(), time.sleep(1))))
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
        full.setattr(signal_cache, "decode", at_h(full_at_h))
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
    monkeypatch.setattr(signal_cache, "decode", at_h(lambda: time.sleep(1)))
    run = in_child(read, folder, cache_dir)
    wait_for_parts(cache_dir, 3)
    assert read(folder, cache_dir, files=FILES[:6]).n_parsed == 0
    assert run.is_alive() and ended(run) == 0


# Checksums


def test_a_damaged_signal_is_named(folder, cache_dir):
    cached = read(folder, cache_dir)
    stored = StoredSignals.of(cached.signals, cached.entries)
    assert stored.checksums.dtype == np.uint32
    stored.read(range(len(FILES)))
    path = Path(cached.signals.filename)
    with open(path, "r+b") as signals:
        signals.seek(2 * 120_000 + 5)
        signals.write(bytes([cached.signals[2].view(np.uint8).ravel()[5] ^ 1]))  # one bit
    assert failure_of(stored.read, range(len(FILES))) == (
        f"{path}: the signal of c.xml is damaged (its CRC-32 is not as written); "
        f"delete the folder {path.parent}, and the files are read again"
    )
    shutil.rmtree(path.parent)
    check(read(folder, cache_dir), folder)


# The index


def entry(row, digest="d"):
    return Entry(digest, "hospital", row, 4_294_967_295, 1)


def test_a_later_part_wins(tmp_path):
    folder = tmp_path / "index"
    write_part(folder, 9, ["b", "c"], [(4, 5, 6)] * 2, [entry(2), entry(3)])
    write_part(folder, 10, ["b", "a"], [(7, 8, 2**62 + 1)] * 2, [entry(4), Entry("x", rejected='no,\n"ECG"')])
    index = load_index(folder)
    assert index.lines.to_numpy().tolist() == [
        ["c", 4, 5, 6, "d", "hospital", 3, 4_294_967_295, 1, ""],
        ["b", 7, 8, 2**62 + 1, "d", "hospital", 4, 4_294_967_295, 1, ""],
        ["a", 7, 8, 2**62 + 1, "x", "", -1, 0, 0, 'no,\n"ECG"'],
    ]
    assert (index.n_rows, index.next_number, index.whole) == (5, 11, False)


def test_an_index_of_an_earlier_version_is_read(tmp_path):
    (tmp_path / "000000.csv").write_bytes(
        b"file,size,modified_ns,changed_ns,digest,form,row,checksum,measured,rejected\n"
        b"a,1,2,3,d,hospital,0,4,5,\n# CRC-32 5e98e19c\n"
    )
    index = load_index(tmp_path)
    assert index.lines.to_numpy().tolist() == [["a", 1, 2, 3, "d", "hospital", 0, 4, 5, ""]] and index.whole


def test_a_forgotten_file_is_not_listed_but_its_row_is_not_free(tmp_path):
    folder = tmp_path / "index"
    write_part(folder, 0, ["a", "b"], [(1, 1, 1)] * 2, [entry(0), entry(1)])
    write_part(folder, 1, ["b"], [(0, 0, 0)], [Entry("")])
    index = load_index(folder)
    assert index.lines["file"].tolist() == ["a"] and index.n_rows == 2 and index.whole


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
