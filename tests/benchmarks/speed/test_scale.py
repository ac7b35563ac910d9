"""The benchmark of scale runs, and prints a line for each step and size."""

from tiny_runs import ROOT, run_as_user, run_here

STEPS = [
    "reading the labels table",
    "writing the index of the cache",
    "loading it",
    "finding duplicates",
    "split_by_patient",
    "make_folds, 5 folds",
    "streaming batches from disk",
]


def test_each_step_and_size_has_a_line():
    finished = run_as_user("benchmarks.speed.scale", "--sizes", 700, 1200, cwd=ROOT)
    assert finished.returncode == 0, finished.stderr
    header, *lines = finished.stdout.splitlines()
    assert header.split() == ["ECGs", "step", "seconds", "peak,", "MB", "batches/s"]
    assert [line.split()[0] for line in lines] == ["700"] * len(STEPS) + ["1,200"] * len(STEPS)
    for line, step in zip(lines, STEPS * 2, strict=True):
        words = line.split()[1:]
        if step == "streaming batches from disk":
            assert float(words.pop()) > 0
        *named, seconds, megabytes = words
        assert " ".join(named) == step
        assert float(seconds) >= 0 and 20 < float(megabytes.replace(",", "")) < 2000


def test_a_size_that_is_too_small():
    finished = run_here("benchmarks.speed.scale", "--sizes", 10)
    assert finished.returncode == 2 and "--sizes must be at least 100" in finished.stderr
