"""Lines of two tables are joined by content, and labels that were changed since are noticed."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fake_cohort import cohort_of

from inference.comparison import lines_of, note_changed_labels
from runtime.errors import UserError


def cohort(digests, labels=None):
    """Return a cohort of the files 0.xml, 1.xml, … with these contents."""
    made = cohort_of(labels or [0] * len(digests))
    return replace(made, table=made.table.assign(digest=digests))


def of_run(**columns):
    return pd.DataFrame(columns)


def test_lines_are_joined_by_file_and_content():
    table = of_run(file=["2.xml", "0.xml", "0.xml"], digest=["c", "a", "a"])
    assert lines_of(table, cohort(["a", "b", "c"])).tolist() == [2, 0, 0]
    twins = of_run(file=["1.xml", "0.xml"], digest=["a", "a"])
    assert lines_of(twins, cohort(["a", "a"])).tolist() == [1, 0]


def test_a_file_with_another_name_is_found_by_its_content():
    renumbered = of_run(file=["0.xml", "1.xml", "old.xml"], digest=["b", "a", "c"])
    assert lines_of(renumbered, cohort(["a", "b", "c"])).tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("files", "digests", "message"),
    [
        (["0.xml", "1.xml", "2.xml"], ["a", "x", "y"], "1.xml and 1 others: found another content than in"),
        (
            ["0.xml", "gone.xml"],
            ["a", "g"],
            "gone.xml: found no longer in the cohort, expected the ECGs that",
        ),
        (["gone.xml", "1.xml"], ["g", "x"], "1.xml: found another content than in splits.csv"),
        (["gone.xml"], ["twice"], "gone.xml: found no longer"),  # which of the two it was is not known
    ],
)
def test_another_content_is_refused(files, digests, message):
    with pytest.raises(UserError) as caught:
        lines_of(of_run(file=files, digest=digests), cohort(["a", "b", "c", "twice", "twice"]))
    assert str(caught.value).startswith(message)


def test_labels_that_changed_are_counted_and_named(capsys):
    runs = of_run(file=["0.xml", "1.xml", "2.xml", "3.xml"], digest=list("abcd"), PE=[0, 1, np.nan, np.nan])
    now = cohort(list("abcd"), [0, 0, 1, np.nan])
    note_changed_labels(runs, now, lines_of(runs, now))
    assert (
        "labels of 2 ECGs differ from those of the runs (PE, such as 1.xml): the runs'"
        in capsys.readouterr().out
    )
    note_changed_labels(runs, cohort(list("abcd"), [0, 1, np.nan, np.nan]), np.arange(4))
    note_changed_labels(runs.drop(columns="PE"), now, np.arange(4))
    assert capsys.readouterr().out == ""
