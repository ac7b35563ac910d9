"""Learning curves: who is dealt where, what the intervals count, how many patients a test must have."""

import itertools
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fake_cohort import cohort_of
from one_line import failure_of
from sklearn.metrics import roc_auc_score
from tiny_runs import line_of, run_here, train_here

from benchmarks.studies import learning_curve
from benchmarks.studies.learning_curve_groups import deal_patients, group_tables, patients_of, write_table
from benchmarks.studies.learning_curve_result import (
    Scored,
    curve_table,
    draw_curve,
    format_table,
    patients_needed,
    percentile_interval,
    resampled_means,
    sample_size,
    together,
    weighted_aurocs,
)
from cohorts.synthetic import make_cohort
from metrics.bootstrap import auroc_of_counts, resampled_counts
from metrics.sample_size import standard_error
from runtime.errors import UserError

DIFFERENCE = "pretrained - scratch"
SIZES = (50, 101, 240)
SHARES = {"test_share": 0.25, "validation_share": 0.2}
FLAGS = {
    "--label": ["PE"], "--pretrain-labels": ["MI", "AF"], "--sizes": [20], "--seeds": [1],
    "--epochs": [1], "--tuning-epochs": [2], "--pretrain-epochs": [1], "--script": ["train_baseline.py"],
}  # fmt: skip
FURTHER = ["--", "--n-samples", 512, "--batch-size", 8, "--workers", 1]


# ----------------------------------------------------------------------------------------------------
# Dealing
# ----------------------------------------------------------------------------------------------------


def labels_of(n_patients=700, prevalence=0.1, n_unknown=30):
    labels = (np.random.default_rng(5).random(n_patients) < prevalence).astype(float)
    labels[:n_unknown] = np.nan
    return labels


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_patient_is_in_one_group_and_each_size_is_exact(seed):
    labels = labels_of()
    deal = deal_patients(labels, sizes=SIZES, seed=seed, **SHARES)
    largest = np.concatenate(list(deal.fine_tuning[240].values()))
    everybody = np.concatenate([deal.test, largest, deal.pretraining])
    assert sorted(everybody) == list(range(700))  # nobody twice, nobody lost
    assert len(deal.test) == round(0.25 * 670)
    for size, parts in deal.fine_tuning.items():
        assert len(parts["train"]) + len(parts["validation"]) == size
        assert len(parts["validation"]) == pytest.approx(0.2 * size, abs=1)
    assert set(range(30)) <= set(deal.pretraining)  # whose label is not known


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_group_has_its_share_of_positives(seed):
    labels = labels_of()
    prevalence = np.nanmean(labels)
    deal = deal_patients(labels, sizes=SIZES, seed=seed, **SHARES)
    assert labels[deal.test].sum() == pytest.approx(prevalence * len(deal.test), abs=0.5)
    for size, parts in deal.fine_tuning.items():
        n_positive = {part: labels[patients].sum() for part, patients in parts.items()}
        assert sum(n_positive.values()) == pytest.approx(prevalence * size, abs=0.5)
        assert n_positive["validation"] == pytest.approx(0.2 * prevalence * size, abs=1)


def test_smaller_sizes_are_subsets_part_by_part():
    deal = deal_patients(labels_of(), sizes=SIZES, seed=1, **SHARES)
    for small, large in itertools.pairwise(SIZES):
        for part in ("train", "validation"):
            assert set(deal.fine_tuning[small][part]) < set(deal.fine_tuning[large][part])


def test_a_seed_deals_as_before_and_another_anew():
    one, again, other = (deal_patients(labels_of(), sizes=SIZES, seed=seed, **SHARES) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.test, again.test)
    np.testing.assert_array_equal(one.fine_tuning[50]["train"], again.fine_tuning[50]["train"])
    assert 0 < len(np.intersect1d(one.test, other.test)) < len(one.test)


@pytest.mark.parametrize(
    ("sizes", "shares", "message"),
    [
        ((600,), {}, "--sizes 600: found 670 patients with a known label, of whom 168 are tested"),
        ((5,), {}, "--sizes 5: found a class with 1 of them, expected enough of both classes to train and"),
        ((50,), {"test_share": 0.001}, "--test-share: found 0 positive and 1 negative patients to test"),
    ],
)
def test_too_few_patients_are_one_line(sizes, shares, message):
    assert message in failure_of(deal_patients, labels_of(), sizes=sizes, seed=1, **{**SHARES, **shares})


def dealt(labels, patient_ids=None, **columns):
    """Return the tables of one deal of a cohort with the labels PE, which is learnt, MI and AF."""
    cohort = cohort_of(labels, patient_ids=patient_ids)
    cohort.table[["PE", "MI", "AF"]] = cohort.targets
    for name, column in columns.items():
        cohort.table[name] = column
    patient_of, of_patients = patients_of(cohort, "PE", [])
    deal = deal_patients(of_patients, sizes=(20, 40), seed=1, **SHARES)
    options = SimpleNamespace(label="PE", pretrain_labels=["MI", "AF"], init_from=[])
    return group_tables(cohort, patient_of, deal, options, seed=1), patient_of


def random_labels(n_ecgs, rates=(0.3, 0.3, 0.1)):
    return (np.random.default_rng(3).random((n_ecgs, 3)) < rates).astype(float)


def test_all_ecgs_of_a_patient_are_in_one_part_of_one_table():
    """ECGs that are equal count as one patient's, whatever the table calls the patients."""
    same_ecg = np.arange(240)
    same_ecg[:20:2] = same_ecg[1:20:2]
    tables, patient_of = dealt(random_labels(240), [f"p{i // 2}" for i in range(1, 241)], same_ecg=same_ecg)
    assert len(set(patient_of)) < 120
    parts = {}
    for name in (40, "pretraining"):
        for ecg, part in zip(tables[name].index, tables[name]["split"], strict=True):
            parts.setdefault(patient_of[ecg], set()).add((name == "pretraining", part))
    assert len(parts) == len(set(patient_of)) and all(len(found) == 1 for found in parts.values())
    assert set(tables[20].index) < set(tables[40].index)


def test_rare_pretraining_labels_are_in_each_part():
    labels = random_labels(160, rates=(0.3, 0.5, 0.08))
    tables, _ = dealt(labels, split="test")  # a column that does not count, as patients are dealt anew
    counted = tables["pretraining"].groupby("split")[["MI", "AF"]].agg(["min", "max"])
    assert len(counted) == 3
    assert (counted.xs("min", axis=1, level=1) == 0).all(axis=None)
    assert (counted.xs("max", axis=1, level=1) == 1).all(axis=None)


def test_a_pretraining_label_that_nobody_has_is_one_line():
    line = failure_of(dealt, random_labels(160, rates=(0.3, 0.5, 0)))
    assert line.startswith("--pretrain-labels: label AF: found 0 positive and ")


def test_ecgs_without_the_label_are_for_pretraining_alone():
    labels = random_labels(160)
    labels[:40, 0] = np.nan
    labels[40:45, 1:] = np.nan  # of no use for pretraining
    tables, _ = dealt(labels)
    assert not set(tables[40].index) & set(range(40))
    assert set(range(40)) <= set(tables["pretraining"].index)
    assert not set(tables["pretraining"].index) & set(range(40, 45))


def test_a_table_that_was_there_with_other_ecgs_is_kept(tmp_path):
    path, table = tmp_path / "tables" / "one.csv", pd.DataFrame({"file": ["a"], "PE": [1]})
    write_table(path, table)
    write_table(path, table)
    with pytest.raises(UserError, match="found other ECGs or labels than now; name another --output-dir"):
        write_table(path, table.assign(PE=0))
    assert path.read_text() == "file,PE\na,1\n"


# ----------------------------------------------------------------------------------------------------
# AUROC and intervals
# ----------------------------------------------------------------------------------------------------


def scored_patients(first, n=200, shift=1.0, seed=0):
    """Return one ECG each of n patients, numbered from the first."""
    generator = np.random.default_rng(seed)
    y_true = (np.arange(n) % 5 == 0).astype(float)
    ids = np.array([f"p{number:04}" for number in range(first, first + n)])
    return Scored(ids, ids, y_true, (generator.normal(size=n) + shift * y_true).round(1))


def width(of_seeds):
    low, high = percentile_interval(resampled_means(of_seeds))
    return high - low


def test_weighted_aurocs_are_those_of_scikit_learn():
    tested = scored_patients(0)
    assert len(np.unique(tested.y_score)) < 60  # many ties
    weights = np.random.default_rng(1).integers(0, 3, (5, 200))
    expected = [roc_auc_score(tested.y_true, tested.y_score, sample_weight=row) for row in weights]
    np.testing.assert_allclose(weighted_aurocs(tested.y_true, tested.y_score, weights), expected, rtol=1e-12)
    one_class = weighted_aurocs(tested.y_true, tested.y_score, tested.y_true[None].astype(int))
    assert np.isnan(one_class).all()


def test_resamples_are_those_of_all_possible_draws():
    """Four patients can be drawn in 4^4 ways; 32 of these lack a class."""
    tested = Scored(*(np.array(list("abcd")),) * 2, np.array([1, 1, 0, 0]), np.array([0.9, 0.4, 0.5, 0.4]))
    draws = [np.bincount(draw, minlength=4) for draw in itertools.product(range(4), repeat=4)]
    exact = [
        roc_auc_score(tested.y_true, tested.y_score, sample_weight=weights)
        for weights in draws
        if weights[:2].any() and weights[2:].any()
    ]
    assert len(exact) == 256 - 32
    found = resampled_means([tested], n_resamples=40_000)
    assert np.isnan(found).mean() == pytest.approx(32 / 256, abs=0.01)
    for share in (0.2, 0.4, 0.6):  # of the distribution
        assert np.nanmean(found <= share) / (1 - 32 / 256) == pytest.approx(
            np.mean(np.array(exact) <= share), abs=0.01
        )
    assert all(np.isnan(percentile_interval(found)))  # fewer than nine in ten are defined


def test_the_interval_of_one_seed_is_the_bootstrap_over_patients():
    tested = scored_patients(0)
    patients = np.unique(tested.patient_ids, return_inverse=True)[1]
    resampled = resampled_counts(tested.y_true, tested.y_score, patients, 2000, seed=42)
    aurocs = np.concatenate([auroc_of_counts(counts) for counts in resampled])
    expected = np.quantile(aurocs, [0.025, 0.975])
    np.testing.assert_allclose(percentile_interval(resampled_means([tested])), expected, rtol=1e-12)


def test_testing_the_same_patients_again_narrows_nothing_but_other_patients_do():
    one = [scored_patients(0)]
    assert width(one * 3) == pytest.approx(width(one), rel=1e-9)
    others = [scored_patients(first, seed=first) for first in (0, 200, 400)]
    alone = np.sqrt(sum(width([tested]) ** 2 for tested in others)) / 3  # of independent means
    assert width(others) == pytest.approx(alone, rel=0.1)


def test_the_difference_is_paired():
    """Starts that score alike differ by nothing, with certainty, wide as their own intervals are."""
    arm = [scored_patients(0), scored_patients(100, seed=1)]
    better = [tested._replace(y_score=tested.y_score + 10 * tested.y_true) for tested in arm]
    tested = {(9, "pretrained"): arm, (9, "scratch"): arm, (5, "pretrained"): better, (5, "scratch"): arm}
    table = curve_table(tested, [1, 2])
    assert list(table["patients"]) == [5] * 5 + [9] * 5
    rows = table.set_index(["patients", "start"])
    assert list(rows.loc[(9, DIFFERENCE), ["mean", "low", "high"]]) == [0, 0, 0]
    aurocs = [roc_auc_score(of.y_true, of.y_score) for of in arm]
    np.testing.assert_allclose(
        rows.loc[(5, "scratch"), ["auroc_seed_1", "auroc_seed_2", "mean"]].astype(float),
        [*aurocs, np.mean(aurocs)],
    )
    scratch, difference = (rows.loc[(5, start)] for start in ("scratch", DIFFERENCE))
    assert difference["mean"] == pytest.approx(1 - scratch["mean"])
    assert difference["low"] == pytest.approx(1 - scratch["high"])  # the pretrained have 1 in each resample
    assert difference["high"] == pytest.approx(1 - scratch["low"])


def test_each_pretrained_start_is_compared_with_scratch():
    arm, other = ([scored_patients(0, seed=seed)] for seed in (1, 2))
    table = curve_table({(9, "ptbxl"): other, (9, "own"): arm, (9, "scratch"): arm}, [1])
    starts = ["ptbxl", "own", "ptbxl & scratch", "own & scratch"]
    assert list(table["start"]) == ["scratch", *starts, *(f"{start} - scratch" for start in starts)]
    mean = table.set_index("start")["mean"]
    assert mean["own - scratch"] == 0 != mean["ptbxl - scratch"] == mean["ptbxl"] - mean["scratch"]


def test_both_models_together_are_the_mean_of_their_logits():
    one, other = (scored_patients(0, seed=seed) for seed in (1, 2))
    one, other = (scored._replace(y_score=1 / (1 + np.exp(-scored.y_score))) for scored in (one, other))
    odds = [scored.y_score / (1 - scored.y_score) for scored in (one, other)]
    product = np.sqrt(odds[0] * odds[1])  # the geometric mean of the odds
    np.testing.assert_allclose(together(one, other).y_score, product / (1 + product), rtol=1e-9)
    mean = curve_table({(9, "own"): [other], (9, "scratch"): [one]}, [1]).set_index("start")["mean"]
    expected = roc_auc_score(one.y_true, together(one, other).y_score)
    assert mean["own & scratch"] == pytest.approx(expected)


def test_the_printed_table_and_the_figure(tmp_path):
    rows = [
        (100, "scratch", 0.75, 0.85, 0.8, 0.7, 0.9),
        (100, "pretrained", 0.8, 0.92, 0.86, np.nan, np.nan),
        (100, "own", 0.7, 0.8, 0.75, 0.7, 0.8),
        (100, DIFFERENCE, 0.05, 0.07, 0.06, -0.01, 0.12),
    ]
    columns = ["patients", "start", "auroc_seed_1", "auroc_seed_2", "mean", "low", "high"]
    table = pd.DataFrame(rows, columns=columns)
    assert [" ".join(line.split()) for line in format_table(table).splitlines()] == [
        "patients start seed 1 seed 2 mean 95 % interval",
        "100 from scratch 0.750 0.850 0.800 0.700-0.900",
        "100 pretrained 0.800 0.920 0.860 undefined",
        "100 own 0.700 0.800 0.750 0.700-0.800",
        "100 pretrained - scratch +0.050 +0.070 +0.060 -0.010 to +0.120",
    ]
    draw_curve(table, tmp_path / "one.png", title="PE")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "one.svg").read_text()


# ----------------------------------------------------------------------------------------------------
# How many patients a test set must have
# ----------------------------------------------------------------------------------------------------


def test_the_sentence_takes_the_better_start_on_the_most_patients():
    rows = [(100, "pretrained", 0.9), (200, "scratch", 0.85), (200, "pretrained", 0.8), (200, DIFFERENCE, 1)]
    table = pd.DataFrame(rows, columns=["patients", "start", "mean"])
    # 2 * 1.96 * 0.0437 = 0.1714 with 40 of each class
    assert sample_size(table, "PE", 0.5, 0.1715) == (
        "for a 95 % interval 0.1715 wide at the AUROC of 0.850 (from scratch, 200 patients) and a prevalence "
        "of 50.0 %, a test set must have 80 patients, 40 of them with PE (Hanley & McNeil 1982)"
    )
    perfect = table.assign(mean=1.0)
    assert sample_size(perfect, "PE", 0.5, 0.1).endswith("the number of test patients does not follow")


# ----------------------------------------------------------------------------------------------------
# The whole
# ----------------------------------------------------------------------------------------------------


def words(folder, further=FURTHER, **changed):
    """Return the flags of a tiny learning curve; None leaves one out."""
    flags = {**FLAGS, "--data-dir": [folder / "ecgs"], "--output-dir": [folder / "out"]}
    flags |= {"--" + name.replace("_", "-"): value for name, value in changed.items()}
    return [word for name, value in flags.items() if value is not None for word in (name, *value)] + further


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cohort of 72 ECGs of 68 patients with the labels PE, MI and AF, which means nothing."""
    folder = tmp_path_factory.mktemp("curve")
    path = make_cohort(folder / "ecgs", n_ecgs=72, n_patients=68, prevalence=0.4, seed=7)
    table = pd.read_csv(path)
    number = table["patient_id"].str[-2:].astype(int)
    table.assign(MI=number % 2, AF=(number % 3 == 0).astype(int)).to_csv(path, index=False)
    return folder


def train_in_this_process(command, output):
    """Run what would be a process of its own, which is tested in test_script_runs.py."""
    done = train_here(Path(command[1]).name, *command[2:])
    output.write_text(done.stdout, encoding="utf-8")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def outcome(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("training.script_runs._run", train_in_this_process)
        return run_here("benchmarks.studies.learning_curve", *words(folder))


@pytest.mark.parametrize("auroc", [0.5, 0.75, 0.93, 0.999])
@pytest.mark.parametrize(("prevalence", "width"), [(0.084, 0.1), (0.5, 0.05), (0.02, 0.2)])
def test_so_many_patients_give_the_width_and_one_fewer_does_not(auroc, prevalence, width):
    n = patients_needed(auroc, prevalence, width)
    widths = [2 * 1.959964 * standard_error(auroc, m * prevalence, m * (1 - prevalence)) for m in (n, n - 1)]
    assert widths[0] <= width * (1 + 1e-6) and widths[1] > width * (1 - 1e-6)


@pytest.mark.parametrize("wrong", [(1.0, 0.1, 0.1), (0.8, 0.0, 0.1), (0.8, 0.1, 1.0)])
def test_no_number_of_patients_where_there_is_none(wrong):
    with pytest.raises(ValueError, match="expected a number between 0 and 1"):
        patients_needed(*wrong)


def test_the_script_trains_each_start_and_compares_them(outcome, folder):
    assert outcome.returncode == 0, outcome.stderr
    lines = re.findall(r"^(seed 1 .*) AUROC [01]\.\d{3}   \d+ s$", outcome.stdout, re.MULTILINE)
    assert [" ".join(line.split()) for line in lines] == [
        "seed 1 pretraining mean of 2 labels",
        "seed 1 20 patients pretrained",
        "seed 1 20 patients from scratch",
    ]
    for start, epochs in (("scratch", 1), ("pretrained", 2)):
        (run,) = (folder / "out" / "seed-1" / f"20-{start}").glob("train_baseline-*")
        assert len(pd.read_csv(run / "log.csv")) == epochs
    table = pd.read_csv(folder / "out" / "learning_curve.csv")
    both = "pretrained & scratch"
    assert list(table["start"]) == ["scratch", "pretrained", both, DIFFERENCE, f"{both} - scratch"]
    for row in table[table["start"].isin(["scratch", "pretrained"])].itertuples():
        (run,) = (folder / "out" / "seed-1" / f"{row.patients}-{row.start}").glob("train_baseline-*")
        scored = pd.read_csv(run / "predictions.csv").query("split == 'test'")
        assert len(scored) == (pd.read_csv(run / "splits.csv")["split"] == "test").sum() >= 17
        expected = roc_auc_score(scored["y_true_PE"], scored["y_score_PE"])
        assert row.auroc_seed_1 == row.mean == pytest.approx(expected, abs=1e-6)
        printed = (run.parent / "output.txt").read_text()
        assert ("init        " in printed and "; new: head" in printed) == (row.start == "pretrained")
    for end in (".png", ".svg"):
        assert (folder / "out" / f"learning_curve{end}").stat().st_size > 1000
    assert "a test set must have" in " ".join(outcome.stdout.split())


def test_the_same_command_again_trains_nothing(outcome, folder, monkeypatch):
    before = (folder / "out" / "learning_curve.csv").read_bytes()
    monkeypatch.chdir(folder)
    again = run_here("benchmarks.studies.learning_curve", *words(folder))
    assert again.stdout.count("finished before") == 3
    assert (folder / "out" / "learning_curve.csv").read_bytes() == before
    line = line_of(run_here("benchmarks.studies.learning_curve", *words(folder, epochs=[2])))
    assert "--epochs 1" in line and "name another --output-dir" in line


def test_whom_a_pretrained_run_has_seen_is_left_out(outcome, folder, monkeypatch, tmp_path, capsys):
    """Of all ECGs one run has seen most; the others are dealt. Then nobody pretrains."""
    (run,) = (folder / "out" / "seed-1" / "pretraining").glob("train_baseline-*")
    monkeypatch.chdir(folder)
    flags = words(folder, init_from=[run], pretrain_labels=None, output_dir=[tmp_path / "out"], sizes=[12])
    options = learning_curve.options_of(list(map(str, flags)))
    prevalence = learning_curve.deal_all(options, learning_curve.read_ecgs(options))
    splits = pd.read_csv(run / "splits.csv")
    seen = set(splits.loc[splits["split"] != "test", "file"])
    (path,) = Path(tmp_path / "out" / "tables").glob("*.csv")
    assert path.name == "seed-1-12.csv" and not seen & set(pd.read_csv(path)["file"])
    printed = capsys.readouterr().out
    assert f"{len(seen)} ECGs trained" in printed and "pretraining" not in printed.splitlines()[-1]
    assert 0 < prevalence < 1


@pytest.mark.parametrize(("given", "epochs"), [(None, 5), ([2], 2)])
def test_pretrained_weights_are_tuned_for_the_scripts_own_epochs_unless_others_are_given(
    folder, given, epochs
):
    options = learning_curve.options_of(list(map(str, words(folder, tuning_epochs=given))))
    assert options.hyperparameters.epochs == epochs
    assert learning_curve._tuning(options) == ([] if given is None else ["--epochs", "2"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label": None}, "the following arguments are required: --label"),
        ({"sizes": [0]}, "argument --sizes: found 0, expected a whole number from 1 on"),
        ({"seeds": ["many"]}, "argument --seeds: found many, expected a whole number from 1 on"),
        ({"test_share": [1]}, "argument --test-share: found 1, expected a number between 0 and 1"),
        ({"width": ["wide"]}, "argument --width: found wide, expected a number between 0 and 1"),
        ({"script": ["train.py"]}, "argument --script: invalid choice: 'train.py'"),
        ({"size": [3]}, "unrecognized arguments: --size 3"),
        ({"pretrain_labels": None}, "expected one of them"),
        ({"init_from": ["run"]}, "expected one of them"),
        ({"pretrain_labels": ["MI", "PE"]}, "--pretrain-labels: found PE, which is to be learnt later"),
        ({"further": ["--", "--epochs=3"]}, "found --epochs after --, expected none of those"),
        ({"further": ["--", "--sample-length", 3]}, "--sample-length"),
        ({"further": ["--", "--n-samples", 3]}, "n_samples"),
        ({"freeze_epochs": [-1]}, "freeze_epochs"),
        ({"pretrained_rate": [2]}, "pretrained_rate"),
        ({"tuning_epochs": [0]}, "epochs: found 0"),
        (
            {"init_from": ["one/run", "other/run"], "pretrain_labels": None},
            "--init-from: found run, run, expected folders of different names, none of them scratch",
        ),
    ],
)
def test_wrong_flags_are_one_line(folder, changed, message):
    outcome = run_here("benchmarks.studies.learning_curve", *words(folder, **changed))
    assert message in line_of(outcome, status=2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label": ["ILL"]}, "found no label column ILL, expected one of PE, MI, AF"),
        ({"output_dir": ["ecgs/labels.csv/out"]}, "labels.csv/out: cannot be made (Not a directory)"),
        ({"data_dir": ["nowhere"]}, "nowhere: found no such folder"),
        ({"labels": ["nowhere.csv"]}, "nowhere.csv: the labels table cannot be read"),
        ({"sizes": [60]}, "--sizes 60: found 68 patients with a known label, of whom 17 are tested"),
        ({"sizes": [4]}, "--sizes 4: found a class with "),
        ({"init_from": ["nowhere"], "pretrain_labels": None}, "nowhere/model.json: found no usable model"),
    ],
)
def test_an_unusable_cohort_is_one_line(folder, tmp_path, monkeypatch, changed, message):
    monkeypatch.chdir(folder)  # where the cache is
    flags = words(folder, **{"output_dir": [tmp_path / "out"], **changed})
    assert message in line_of(run_here("benchmarks.studies.learning_curve", *flags))
