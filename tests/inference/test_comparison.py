"""Runs side by side: which cohorts they may score."""

from types import SimpleNamespace

import pandas as pd
import pytest

from inference.comparison import _check_unseen
from runtime.errors import UserError


def test_another_cohort_may_not_have_been_seen_by_what_a_run_began_from(tmp_path, capsys):
    def run_of(name, digests, init_from):
        folder = tmp_path / name
        folder.mkdir()
        splits = pd.DataFrame({"file": digests, "patient_id": "1", "digest": digests, "split": "train"})
        splits.to_csv(folder / "splits.csv", index=False)
        (folder / "hyperparameters.yml").write_text(f"init_from: {init_from}\n")
        return folder

    first = run_of("first", ["a", "b"], "null")
    second = run_of("second", ["c"], first)
    third = run_of("third", ["d"], second)
    _check_unseen(third, SimpleNamespace(table=pd.DataFrame({"file": ["e"], "digest": ["e"]})))
    with pytest.raises(UserError) as caught:
        _check_unseen(third, SimpleNamespace(table=pd.DataFrame({"file": ["x", "y"], "digest": ["e", "b"]})))
    assert str(caught.value).startswith(
        f"{third}: found 1 ECGs of the cohort in what it was trained and tested"
    )
    assert f"on by way of {first}, such as y; expected" in str(caught.value)
    fourth = run_of("fourth", ["f"], tmp_path / "gone")
    _check_unseen(fourth, SimpleNamespace(table=pd.DataFrame({"file": ["e"], "digest": ["e"]})))
    assert (
        f"note        {fourth} began from {tmp_path / 'gone'}, which is not there" in capsys.readouterr().out
    )
