"""Files whole or not at all, with the permissions that the umask gives."""

import os

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from runtime.atomic_files import (
    check_file_to_write,
    check_folder_of,
    csv_text,
    write_atomically,
    write_text_atomically,
    writing,
)
from runtime.errors import UserError


def test_failed_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    write_atomically(path, lambda aside: aside.write_text("old"))

    def fail(aside):
        aside.write_text("ha")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    path.unlink()
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, fail)
    assert not path.exists()
    write_atomically(path, lambda aside: aside.write_text("new"))
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]
    assert path.read_text() == "new"


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(UserError) as caught, writing(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    assert str(caught.value) == f"{tmp_path / 'a'}: cannot be written (No space left on device)"
    with pytest.raises(UserError) as caught, writing(tmp_path / "none" / "a"):
        write_atomically(tmp_path / "none" / "a", lambda aside: aside.write_text("x"))
    assert str(caught.value) == f"{tmp_path / 'none' / 'a'}: cannot be written (No such file or directory)"


def test_a_place_that_cannot_be_written_to_is_known_before(tmp_path):
    check_file_to_write(tmp_path / "a")
    check_folder_of(tmp_path)
    with pytest.raises(UserError, match=r"found a folder, expected the name of a file to write$"):
        check_file_to_write(tmp_path)
    for check in (check_file_to_write, check_folder_of):
        with pytest.raises(UserError, match=r"none/a: found no folder .*none, expected one to write to$"):
            check(tmp_path / "none" / "a")


@pytest.fixture(params=[0o002, 0o077], ids=oct)
def permissions(request):
    """Those of a new file under an umask."""
    before = os.umask(request.param)
    yield 0o666 & ~request.param
    os.umask(before)


@pytest.mark.parametrize(
    "write",
    [lambda aside: aside.write_text("text"), lambda aside: save_file({"weight": np.zeros(3)}, aside)],
    ids=["text", "safetensors"],
)
def test_a_file_has_the_permissions_that_the_umask_gives(tmp_path, permissions, write):
    path = tmp_path / "file"
    for left in (False, True):
        if left:  # by a process that was killed
            (tmp_path / ".file.partial").touch(mode=0o600)
        write_atomically(path, write)
        assert path.stat().st_mode & 0o777 == permissions


def test_a_carriage_return_in_a_name_ends_no_line(tmp_path):
    table = pd.DataFrame({"file": ["Icon\r", "a\r\nb", "c"], "score": [0.5, None, 1]})
    assert csv_text(table[2:]) == "file,score\nc,1.0\n"
    write_text_atomically(tmp_path / "scores.csv", csv_text(table))
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "scores.csv"), table)
