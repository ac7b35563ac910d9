"""Patients get pseudonyms, by a key that is the owner's alone."""

import errno
import hmac
import os
import stat
import time

import pandas as pd
import pytest
from one_line import failure_of

from dataset.pseudonyms import pseudonymise


def test_pseudonyms_follow_from_id_and_key(tmp_path):
    ids = pd.Series(["MRN-1", "MRN-2", "MRN-1"])
    key_file = tmp_path / "key.txt"
    key_file.write_text("00" * 32)
    hashes = pseudonymise(ids, key_file)
    expected = hmac.new(bytes(32), b"MRN-1", "sha256").hexdigest()[:16]
    assert hashes[0] == hashes[2] == expected and hashes[1] != hashes[0]
    key_file.write_text("01" * 32)
    assert pseudonymise(ids, key_file)[0] != expected


def test_the_key_is_made_once_and_for_the_owner_alone(tmp_path):
    key_file = tmp_path / "key.txt"
    first = pseudonymise(pd.Series(["a", "b"]), key_file)
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert list(pseudonymise(pd.Series(["a", "b"]), key_file)) == list(first)
    other = tmp_path / "other.txt"
    assert list(pseudonymise(pd.Series(["a", "b"]), other)) != list(first)
    assert sorted(os.listdir(tmp_path)) == ["key.txt", "other.txt"]


def test_a_key_that_another_run_made_first_stands(tmp_path, monkeypatch):
    key_file = tmp_path / "key.txt"

    def lose_the_race(aside, target):
        key_file.write_text("02" * 32)
        raise FileExistsError

    monkeypatch.setattr(os, "link", lose_the_race)
    pseudonymise(pd.Series(["a"]), key_file)
    assert key_file.read_text() == "02" * 32 and os.listdir(tmp_path) == ["key.txt"]


@pytest.mark.parametrize(
    ("content", "found"),
    [("not hexadecimal", "found no hexadecimal number"), ("00" * 15, "found a key of 15 bytes")],
)
def test_unusable_keys(tmp_path, content, found):
    (tmp_path / "key.txt").write_text(content)
    assert found in failure_of(pseudonymise, pd.Series(["a"]), tmp_path / "key.txt")


def test_a_key_that_cannot_be_made(tmp_path):
    message = failure_of(pseudonymise, pd.Series(["a"]), tmp_path / "nowhere" / "key.txt")
    assert (
        "cannot be read or made (No such file or directory); name another file with --patient-key" in message
    )


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_a_key_is_made_on_a_file_system_without_hard_links(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    key_file = tmp_path / "key.txt"
    first = pseudonymise(pd.Series(["a"]), key_file)
    assert len(key_file.read_text().strip()) == 64 and stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert list(pseudonymise(pd.Series(["a"]), key_file)) == list(first) and os.listdir(tmp_path) == [
        "key.txt"
    ]


def test_without_hard_links_too_a_key_is_never_replaced(tmp_path, monkeypatch):
    key_file = tmp_path / "key.txt"

    def lose_the_race(*_):
        key_file.write_text("02" * 32)
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", lose_the_race)
    pseudonymise(pd.Series(["a"]), key_file)
    assert key_file.read_text() == "02" * 32


def test_a_key_that_another_run_is_writing_is_waited_for(tmp_path, monkeypatch):
    key_file = tmp_path / "key.txt"
    key_file.touch()
    monkeypatch.setattr(time, "sleep", lambda _: key_file.write_text("02" * 32))
    expected = hmac.new(bytes([2] * 32), b"a", "sha256").hexdigest()[:16]
    assert pseudonymise(pd.Series(["a"]), key_file).item() == expected
