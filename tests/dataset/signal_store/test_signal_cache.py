"""The cache gives the parser's signals, parses each content once, and survives what happens to files."""

import errno
import fcntl
import multiprocessing
import os
import shutil
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest

from dataset.decoding import decode
from dataset.signal_store import file_identity, reading
from dataset.signal_store.cache_index import NO_ROW
from dataset.signal_store.signal_cache import StoredSignals, cached_signals
from ecg.quality import MEASUREMENTS
from ecg.recording import LEADS
from runtime.errors import UserError

FILES = ["a.xml", "b.xml", "c.xml", "d.xml", "e.xml"]


@pytest.fixture
def folder(write_ecgs):
    return write_ecgs(FILES)


@pytest.fixture
def cache_dir(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def parsed(monkeypatch):
    """The names of the files that the parser got, in order."""
    names = []

    def decode_and_note(path, *window):
        names.append(Path(path).name)
        return decode(path, *window)

    monkeypatch.setattr(reading, "decode", decode_and_note)
    return names


def check(cached, folder, files=FILES):
    """Check the signals of all files against the parser."""
    assert list(cached.entries["file"]) == list(files)
    for entry in cached.entries.itertuples():
        assert entry.rejected == ""
        file_format, signal, measurement = decode(folder / entry.file)
        np.testing.assert_array_equal(cached.signals[entry.row], signal)
        assert (
            cached.measurements[entry.row] == measurement and entry.file_format == file_format == "hospital"
        )
        assert entry.checksum == zlib.crc32(signal.tobytes())


def read(folder, cache_dir, files=FILES, workers=1):
    return cached_signals(folder, files, cache_dir=cache_dir, workers=workers)


def read_and_check(folder, cache_dir, files=FILES):
    cached = read(folder, cache_dir, files)
    check(cached, folder, files)
    return cached


def cache_file(cache_dir, name):
    (path,) = cache_dir.glob(f"*/{name}")
    return path


# Each file is parsed once


def test_signals_are_those_of_the_parser(folder, cache_dir):
    cached = read_and_check(folder, cache_dir)
    assert cached.n_parsed == 5
    assert cached.signals.shape == (5, 12, 5000) and cached.signals.dtype == np.int16
    assert cached.signals.std(axis=2).min() > 100  # µV: not silent


def test_second_start_parses_nothing(folder, cache_dir, parsed):
    first = read_and_check(folder, cache_dir)
    assert parsed == FILES
    second = read_and_check(folder, cache_dir)
    assert parsed == FILES and second.n_parsed == 0
    assert second.entries.equals(first.entries)


def test_second_start_opens_no_file(folder, cache_dir, monkeypatch):
    read(folder, cache_dir)
    monkeypatch.setattr(reading.FileReader, "_read", lambda *arguments: pytest.fail("opened"))
    check(read(folder, cache_dir), folder)


def test_order_and_choice_of_files(folder, cache_dir, parsed):
    read_and_check(folder, cache_dir, ["d.xml", "b.xml"])
    read_and_check(folder, cache_dir, ["b.xml", "a.xml", "d.xml"])
    read_and_check(folder, cache_dir, ["a.xml"])
    assert parsed == ["d.xml", "b.xml", "a.xml"]


def test_map_is_read_only(folder, cache_dir):
    signals = read(folder, cache_dir).signals
    assert isinstance(signals, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        signals[0, 0, 0] = 1


def test_each_folder_has_a_cache_of_its_own(folder, cache_dir, tmp_path):
    other = tmp_path / "more" / folder.name
    other.mkdir(parents=True)
    shutil.copy(folder / "b.xml", other / "a.xml")
    read_and_check(folder, cache_dir, ["a.xml"])
    read_and_check(other, cache_dir, ["a.xml"])
    read_and_check(folder, cache_dir, ["a.xml"])
    assert len(list(cache_dir.iterdir())) == 2


def test_files_in_subfolders_and_names_that_csv_must_quote(folder, cache_dir, parsed):
    (folder / "sub").mkdir()
    files = ["sub/a.xml", 'with "quotes", comma.xml', "Müller €.xml", "NA", "Icon\r"]
    for old, new in zip(FILES, files, strict=True):
        (folder / old).rename(folder / new)
    read_and_check(folder, cache_dir, files)
    assert read_and_check(folder, cache_dir, files).n_parsed == 0 and len(parsed) == 5


# Changed, copied and rejected files


def test_changed_file_is_parsed_again(folder, cache_dir, parsed):
    read(folder, cache_dir)
    shutil.copy(folder / "a.xml", folder / "b.xml")
    shutil.copy(folder / "e.xml", folder / "c.xml")
    with open(folder / "c.xml", "ab") as handle:
        handle.write(b"\n")
    parsed.clear()
    assert read_and_check(folder, cache_dir).n_parsed == 2  # opened
    assert parsed == ["c.xml"]  # the content of b.xml is known


def test_change_that_hides_in_size_and_time_is_seen(folder, cache_dir, parsed):
    read(folder, cache_dir)
    path = folder / "b.xml"
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b'amplitude_unit="0,0025"', b'amplitude_unit="0,0050"'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    parsed.clear()
    read_and_check(folder, cache_dir)
    assert parsed == ["b.xml"]


def test_known_content_takes_no_new_row(folder, cache_dir, parsed):
    first = read(folder, cache_dir)
    shutil.copy(folder / "b.xml", folder / "copy.xml")
    (folder / "c.xml").rename(folder / "renamed.xml")
    files = ["a.xml", "copy.xml", "renamed.xml"]
    parsed.clear()
    second = read_and_check(folder, cache_dir, files)
    assert parsed == []
    assert list(second.entries["row"]) == list(first.entries["row"][:3])
    assert second.signals.shape == first.signals.shape


def test_copies_in_one_pass_share_a_row(folder, cache_dir):
    shutil.copy(folder / "a.xml", folder / "d.xml")
    cached = read_and_check(folder, cache_dir)
    assert list(cached.entries["row"]) == [0, 1, 2, 0, 3]
    assert cached.entries["digest"][0] == cached.entries["digest"][3]
    assert cached.entries["digest"].nunique() == 4


def test_exchanged_contents_are_seen(folder, cache_dir):
    read(folder, cache_dir)
    for old, new in (("a.xml", "x"), ("b.xml", "a.xml"), ("x", "b.xml")):
        (folder / old).rename(folder / new)
    read_and_check(folder, cache_dir)


def test_rejected_file_stays_listed_until_it_is_repaired(folder, cache_dir, parsed):
    content = (folder / "c.xml").read_bytes()
    (folder / "c.xml").write_bytes(content[:1000])
    for start in (1, 2):
        cached = read(folder, cache_dir)
        entry = cached.entries.loc[2]
        assert entry.row == NO_ROW
        assert entry.rejected.startswith(f"{folder / 'c.xml'}: found malformed or incomplete XML")
        assert len(entry.rejected.splitlines()) == 1
        assert parsed == FILES and cached.n_parsed == (5 if start == 1 else 0)
        assert cached.signals.shape == (4, 12, 5000)
    (folder / "c.xml").write_bytes(content)
    assert read_and_check(folder, cache_dir).n_parsed == 1
    assert parsed == [*FILES, "c.xml"]


def test_file_that_becomes_defective_is_rejected(folder, cache_dir):
    read(folder, cache_dir)
    (folder / "e.xml").write_bytes(b"")
    entry = read(folder, cache_dir).entries.loc[4]
    assert entry.row == NO_ROW and "an empty file" in entry.rejected
    read_and_check(folder, cache_dir, FILES[:4])


@pytest.mark.parametrize("absent", ["nowhere.xml", "sub"])
def test_what_cannot_be_opened_is_listed_and_tried_again(folder, cache_dir, absent):
    (folder / "sub").mkdir()
    files = [*FILES, absent]
    for _ in range(2):
        entry = read(folder, cache_dir, files).entries.iloc[-1]
        assert entry.row == NO_ROW and str(folder / absent) in entry.rejected
        assert len(entry.rejected.splitlines()) == 1
    (folder / "sub").rmdir()
    shutil.copy(folder / "a.xml", folder / absent)
    read_and_check(folder, cache_dir, files)


def test_failure_of_the_disk_is_not_remembered(folder, cache_dir, monkeypatch):
    def fail_on_ecgs(path, *arguments):
        if Path(path).suffix == ".xml":
            raise OSError(errno.EIO, "Input/output error")
        return open(path, *arguments)

    with monkeypatch.context() as broken:
        broken.setattr(file_identity, "open", fail_on_ecgs, raising=False)
        entry = read(folder, cache_dir, ["a.xml"]).entries.loc[0]
    assert entry.row == NO_ROW
    assert entry.rejected == (
        f"{folder / 'a.xml'}: found nothing readable (Input/output error); "
        "expected a disk or network share that answers: check it, and start again"
    )
    read_and_check(folder, cache_dir, ["a.xml"])


def test_fifo_does_not_hang(folder, cache_dir):
    os.mkfifo(folder / "fifo.xml")
    rejected = []

    def read_fifo():
        rejected.append(read(folder, cache_dir, ["fifo.xml"]).entries.loc[0, "rejected"])

    reader = threading.Thread(target=read_fifo, daemon=True)
    reader.start()
    reader.join(10)
    assert len(rejected) == 1 and "FIFO" in rejected[0]


# Damage and interruption


def test_missing_index_reads_all_again(folder, cache_dir):
    read(folder, cache_dir)
    shutil.rmtree(cache_file(cache_dir, "index"))
    assert read_and_check(folder, cache_dir).n_parsed == 5


DAMAGES = {
    "empty": lambda index: b"",
    "binary": lambda index: b"\x00\xff\xfe garbage" * 20,
    "no column digest": lambda index: index.replace(b"digest,", b"", 1),
    "row that is a word": lambda index: index.replace(b",0,", b",zero,", 1),
    "no row": lambda index: index.replace(b",0,", b",,", 1),
    "negative row": lambda index: index.replace(b",0,", b",-5,", 1),
    "half a row": lambda index: index.replace(b",0,", b",0.5,", 1),
    "another row": lambda index: index.replace(b',"hospital",0,', b',"hospital",3,', 1),
    "no checksum": lambda index: index[: index.rindex(b"#")],
    "line lost": lambda index: index.replace(index.splitlines(keepends=True)[2], b"", 1),
    "one line": lambda index: index.replace(b"\n", b""),
    "cut line": lambda index: index + b"f.xml",
    "short line": lambda index: index + b"f.xml,1,2\n",
    "long line": lambda index: index + b"f.xml,1,2,3,4,5,6,7,8\n",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_index_reads_all_again(folder, cache_dir, damage, capsys):
    read(folder, cache_dir)
    index = cache_file(cache_dir, "index/000000.csv")
    index.write_bytes(damage(index.read_bytes()))
    assert read_and_check(folder, cache_dir).n_parsed == 5
    said = capsys.readouterr().out
    assert said.startswith("cache ") and len(said.splitlines()) == 1
    assert "000000.csv is cut or damaged: " in said and " to be read again" in said
    assert read_and_check(folder, cache_dir).n_parsed == 0 and capsys.readouterr().out == ""


def test_index_cut_anywhere_never_gives_another_signal(tmp_path, cache_dir, monkeypatch):
    files = [f"{number}.xml" for number in range(12)]  # so many that a row's number can lose a digit
    for file in files:
        (tmp_path / file).write_text(file)
    signal_of = {tmp_path / file: np.full((12, 5000), row, np.int16) for row, file in enumerate(files)}
    nothing = np.zeros((), MEASUREMENTS)
    monkeypatch.setattr(reading, "decode", lambda path, *window: ("hospital", signal_of[path], nothing))
    read(tmp_path, cache_dir, files)
    index = cache_file(cache_dir, "index/000000.csv")
    whole = index.read_bytes()
    for length in {*range(0, len(whole), 23), *range(len(whole) - 20, len(whole))}:
        for part in index.parent.iterdir():
            part.unlink()
        index.write_bytes(whole[:length])
        cached = read(tmp_path, cache_dir, files)
        for entry in cached.entries.itertuples():
            assert (cached.signals[entry.row] == signal_of[tmp_path / entry.file]).all(), (length, entry)


def test_truncated_measurements_are_read_again(folder, cache_dir, capsys):
    read(folder, cache_dir)
    os.truncate(cache_file(cache_dir, "measurements"), 5 * MEASUREMENTS.itemsize - 1)
    assert read_and_check(folder, cache_dir).n_parsed == 1
    assert "measurements is cut or damaged: 1 file to be read again" in capsys.readouterr().out
    assert read_and_check(folder, cache_dir).n_parsed == 0 and capsys.readouterr().out == ""


def test_a_damaged_measurement_is_read_again(folder, cache_dir, capsys):
    read(folder, cache_dir)
    with open(cache_file(cache_dir, "measurements"), "r+b") as measurements:
        measurements.seek(2 * MEASUREMENTS.itemsize + 7)
        measurements.write(b"\x55")
    # Another file is asked for first: it says what is lost, and the damaged record must not come back.
    shutil.copy(folder / "a.xml", folder / "f.xml")
    assert read_and_check(folder, cache_dir, ["f.xml"]).n_parsed == 1
    assert "measurements is cut or damaged: 1 file to be read again" in capsys.readouterr().out
    assert read_and_check(folder, cache_dir).n_parsed == 1 and capsys.readouterr().out == ""
    assert read_and_check(folder, cache_dir).n_parsed == 0


def test_another_window_has_a_cache_of_its_own(folder, cache_dir):
    read(folder, cache_dir)
    later = cached_signals(folder, FILES[:1], cache_dir=cache_dir, workers=1, window_start=1.0)
    assert later.n_parsed == 1 and len(list(cache_dir.iterdir())) == 2
    first = read(folder, cache_dir, FILES[:1])
    np.testing.assert_array_equal(later.signals[0][:, 250:4000], first.signals[0][:, 500:4250])
    assert first.measurements["padded_samples"][0] == 0 and later.measurements["padded_samples"][0] == 500


def test_a_change_of_what_is_stated_about_numbers_is_seen(tmp_path, cache_dir):
    """What was 1 mV becomes 0.5 mV: the table's own bytes are as they were."""
    table = np.random.default_rng(0).normal(size=(5000, 12))
    np.savetxt(tmp_path / "a.csv", table, delimiter=",", header=",".join(LEADS), comments="", fmt="%.3f")
    stated = tmp_path / "ecg_format.yml"
    signals = []
    for unit in ("mV", "0.5 mV"):
        stated.write_text(f"sampling_rate: 500\nunit: {unit}\n", encoding="utf-8")
        cached = cached_signals(tmp_path, ["a.csv"], cache_dir=cache_dir, workers=1, window_start=0.0)
        assert list(cached.entries["rejected"]) == [""]
        signals.append(cached.signals[cached.entries["row"][0]].astype(int))
    whole, half = signals
    np.testing.assert_allclose(half, whole / 2, atol=1)
    assert np.abs(whole).max() > 2000


@pytest.mark.parametrize(
    ("header", "named", "signal_file"),
    [
        ("1.hea", "1.dat", "1.dat"),
        ("1.hea", "1_a.dat", "1_a.dat"),
        ("1.HEA", "1.DAT", "1.DAT"),
        ("1.Hea", "1.dat", "1.dat"),
        ("1.HEA", "A.DAT", "A.DAT"),
        ("1.HEA", "1.dat", "1.DAT"),  # from a system that does not tell capitals apart
        ("1.hea", "A_1.dat", "a_1.Dat"),
    ],
)
def test_a_change_of_a_wfdb_signal_file_is_seen(tmp_path, cache_dir, header, named, signal_file):
    counts = np.random.default_rng(0).integers(-400, 400, (5000, 12)).astype("<i2")
    lines = [f"{named} 16 1000/mV 16 0 0 0 0 {lead}" for lead in LEADS]
    (tmp_path / header).write_text("\n".join(["1 12 500 5000", *lines]) + "\n")
    (tmp_path / signal_file).write_bytes(counts.tobytes())
    before = read(tmp_path, cache_dir, [header])
    np.testing.assert_array_equal(before.signals[0], counts.T)
    (tmp_path / signal_file).write_bytes((counts + 1).tobytes())
    after = read(tmp_path, cache_dir, [header])
    np.testing.assert_array_equal(after.signals[after.entries.loc[0, "row"]], counts.T + 1)
    assert after.entries.loc[0, "file_format"] == "WFDB"


def test_a_change_of_a_second_signal_file_is_seen(tmp_path, cache_dir, parsed):
    counts = np.random.default_rng(0).integers(-400, 400, (5000, 12)).astype("<i2")
    names = ["1.dat"] * 6 + ["1_chest.dat"] * 6
    lines = [f"{name} 16 1000/mV 16 0 0 0 0 {lead}" for name, lead in zip(names, LEADS, strict=True)]
    (tmp_path / "1.hea").write_text("\n".join(["1 12 500 5000", *lines]) + "\n")
    (tmp_path / "1.dat").write_bytes(counts[:, :6].tobytes())
    for chest in (counts[:, 6:], counts[:, 6:] + 1):
        (tmp_path / "1_chest.dat").write_bytes(chest.tobytes())
        cached = read(tmp_path, cache_dir, ["1.hea"])
        np.testing.assert_array_equal(cached.signals[cached.entries.loc[0, "row"]][6:], chest.T)
    (tmp_path / "10.dat").write_bytes(b"of another record")
    assert parsed == ["1.hea"] * 2 and read(tmp_path, cache_dir, ["1.hea"]).n_parsed == 0


@pytest.mark.parametrize(
    ("n_bytes", "n_lost"), [(0, 5), (119_999, 5), (120_000, 4), (4 * 120_000, 1), (5 * 120_000 - 1, 1)]
)
def test_only_the_signals_that_were_cut_off_are_read_again(folder, cache_dir, n_bytes, n_lost, capsys):
    read(folder, cache_dir)
    os.truncate(cache_file(cache_dir, "signals.int16"), n_bytes)
    assert read_and_check(folder, cache_dir).n_parsed == n_lost
    n_files = "1 file" if n_lost == 1 else f"{n_lost} files"
    said = capsys.readouterr().out
    assert f"signals.int16 is shorter than the index says: {n_files} to be read again" in said
    assert read_and_check(folder, cache_dir).n_parsed == 0 and capsys.readouterr().out == ""


def test_a_signal_that_was_cut_off_never_becomes_another(folder, cache_dir):
    read(folder, cache_dir)
    os.truncate(cache_file(cache_dir, "signals.int16"), 2 * 120_000)
    shutil.copy(folder / "e.xml", folder / "f.xml")
    (folder / "g.xml").write_bytes((folder / "a.xml").read_bytes() + b"\n")
    read_and_check(folder, cache_dir, ["f.xml", "g.xml"])  # the file of signals is long again
    assert read_and_check(folder, cache_dir).n_parsed == 3


def test_missing_signals_are_read_again(folder, cache_dir):
    read(folder, cache_dir)
    cache_file(cache_dir, "signals.int16").unlink()
    assert read_and_check(folder, cache_dir).n_parsed == 5


def test_rows_after_the_index_are_overwritten(folder, cache_dir):
    read(folder, cache_dir, FILES[:2])
    with open(cache_file(cache_dir, "signals.int16"), "ab") as signals:
        signals.write(b"\x7f" * 150_000)  # what a killed run wrote and did not list
    read_and_check(folder, cache_dir)


def test_interruption_keeps_what_was_read(folder, cache_dir, monkeypatch, parsed):
    def interrupt_at_d(path, *window, decode_and_note=reading.decode):
        if path.name == "d.xml":
            raise KeyboardInterrupt
        return decode_and_note(path, *window)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(reading, "FLUSH_EVERY", 2)
        interrupted.setattr(reading, "decode", interrupt_at_d)
        with pytest.raises(KeyboardInterrupt):
            read(folder, cache_dir)
    parsed.clear()
    assert read_and_check(folder, cache_dir).n_parsed == 2
    assert parsed == ["d.xml", "e.xml"]


def test_killed_run_loses_at_most_what_was_not_flushed(folder, cache_dir, monkeypatch, parsed):
    def die_at_d(path, *window):
        return os._exit(9) if path.name == "d.xml" else decode(path, *window)

    with monkeypatch.context() as killed:
        killed.setattr(reading, "FLUSH_EVERY", 2)
        killed.setattr(reading, "decode", die_at_d)
        process = multiprocessing.get_context("fork").Process(target=read, args=(folder, cache_dir))
        process.start()
        process.join()
    assert process.exitcode == 9
    read_and_check(folder, cache_dir)
    assert parsed == ["c.xml", "d.xml", "e.xml"]


def test_second_run_waits_for_the_first(folder, cache_dir, capsys):
    read(folder, cache_dir, ["a.xml"])
    second = threading.Thread(target=read, args=(folder, cache_dir), daemon=True)
    with open(cache_file(cache_dir, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second.start()
        second.join(0.3)
        assert second.is_alive()
    second.join(10)
    assert not second.is_alive()
    assert "another run is reading the same files" in capsys.readouterr().out
    assert read_and_check(folder, cache_dir).n_parsed == 0


# Checksums


def test_a_damaged_signal_is_named(folder, cache_dir):
    cached = read(folder, cache_dir)
    stored = StoredSignals.from_entries(cached.signals, cached.entries)
    assert stored.checksums.dtype == np.uint32
    stored.read(range(len(FILES)))
    path = Path(cached.signals.filename)
    with open(path, "r+b") as signals:
        signals.seek(2 * 120_000 + 5)
        signals.write(bytes([cached.signals[2].view(np.uint8).ravel()[5] ^ 1]))  # one bit
    with pytest.raises(UserError) as caught:
        stored.read(range(len(FILES)))
    assert str(caught.value) == (
        f"{path}: the signal of c.xml is damaged (its CRC-32 is not as written); "
        f"delete the folder {path.parent}, and the files are read again"
    )
    shutil.rmtree(path.parent)
    check(read(folder, cache_dir), folder)


# A cache that cannot be written


def failure_of(folder, cache_dir):
    with pytest.raises(UserError) as caught:
        read(folder, cache_dir)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and message.startswith(f"{cache_dir}{os.sep}")
    assert message.endswith("; name another with --cache-dir")
    return message


def test_cache_dir_that_is_a_file(folder, cache_dir):
    cache_dir.write_text("no folder")
    assert "the cache cannot be written (Not a directory)" in failure_of(folder, cache_dir)


def test_cache_dir_without_permission(folder, cache_dir, monkeypatch):
    def refuse(path, *arguments, **keywords):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)  # root may write anywhere
    assert "the cache cannot be written (Permission denied)" in failure_of(folder, cache_dir)


def test_full_disk_leaves_the_old_index(folder, cache_dir, monkeypatch):
    read(folder, cache_dir, FILES[:2])

    def fill(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fill)
        assert "the cache cannot be written (No space left on device)" in failure_of(folder, cache_dir)
    assert read_and_check(folder, cache_dir).n_parsed == 3
