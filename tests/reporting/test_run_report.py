"""The printed block says the right numbers; figures appear whole, also where metrics are undefined."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from metrics.metric import Metric, metrics_to_json
from metrics_and_performance import evaluate
from reporting import run_report
from reporting.figures.curves import Curve, curve_style, draw_losses, draw_roc, save_png
from reporting.run_report import report_run
from reporting.words.formatting import plain, with_interval
from reporting.words.metric_meanings import metric_groups
from reporting.words.summary import format_metrics

FIGURES = ("loss.png", "roc.png", "precision_recall.png")


def example_scores(n_labels=1, missing_class=False):
    """For each label, 14 of 21 found and 48 of 181 flagged at 0.31; 202 ECGs of 198 patients."""
    y_true = np.repeat([1, 1, 0, 0], [14, 7, 48, 133])
    rng = np.random.default_rng(0)
    low = np.repeat([0.31, 0.0, 0.31, 0.0], [14, 7, 48, 133])
    y_score = low + rng.random((n_labels, 202)) * 0.3
    y_true = np.stack([y_true] * n_labels, axis=1)
    if missing_class:
        y_true[:, -1] = 0
    return y_true, y_score.T, [f"p{index % 198:03d}" for index in range(202)]


def example_metrics(label_names=("PE",), missing_class=False, **arguments):
    y_true, y_score, patient_ids = example_scores(len(label_names), missing_class)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return evaluate(
            y_true,
            y_score,
            thresholds=[0.31] * len(label_names),
            label_names=label_names,
            patient_ids=patient_ids,
            n_resamples=200,
            **arguments,
        )


def write_run(
    run_folder, label_names=("PE",), missing_class=False, n_epochs=12, splits=("validation", "test")
):
    y_true, y_score, patient_ids = example_scores(len(label_names), missing_class)
    metrics = example_metrics(label_names, missing_class)
    metrics |= {"split": "test", "threshold_source": "Youden, from validation"}
    (run_folder / "metrics.json").write_text(json.dumps(metrics_to_json(metrics), allow_nan=False))
    rows = {"file": [f"{row}.xml" for row in range(202)], "patient_id": patient_ids, "fold": 0}
    for column, name in enumerate(label_names):
        rows |= {f"y_true_{name}": y_true[:, column], f"y_score_{name}": y_score[:, column]}
    tables = [pd.DataFrame(rows | {"split": split}) for split in splits]
    pd.concat(tables).to_csv(run_folder / "predictions.csv", index=False)
    epoch = np.arange(1, n_epochs + 1)
    log = {"epoch": epoch, "train_loss": 1 / epoch, "val_loss": 1.1 / epoch, "val_auroc": 0.5 + 0.01 * epoch}
    pd.DataFrame(log | {"kept": 1}).to_csv(run_folder / "log.csv", index=False)


def assert_figure(path):
    """A PNG of a readable size that is not blank."""
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    height, width, _ = imread(path).shape
    assert 500 <= height <= 2500 and 600 <= width <= 3000
    assert imread(path)[..., :3].std() > 0.02


def row_of(block, title):
    """The rest of the one line that starts with this title, its words separated by single spaces."""
    lines = [line for line in block.splitlines() if line[12:].startswith(title)]
    assert len(lines) == 1
    return " ".join(lines[0][12:].removeprefix(title).split())


def test_block_of_one_label():
    metrics = example_metrics() | {"split": "test", "threshold_source": "Youden, from validation"}
    auroc = metrics["labels"]["PE"]["auroc"]
    block = format_metrics(metrics)
    headline = "test        202 ECGs of 198 patients, scored once; threshold 0.31 (Youden, from validation)"
    assert block.splitlines()[0] == headline
    assert all(line.startswith(" " * 12) for line in block.splitlines()[1:])
    interval = f"(95 % CI {auroc.low:.3f}-{auroc.high:.3f})"
    assert row_of(block, "AUROC") == f"{auroc.value:.3f} {interval}"
    assert row_of(block, "average precision").endswith("prevalence 0.104")
    assert row_of(block, "sensitivity") == "0.667 (0.430-0.854) 14 of 21"
    assert row_of(block, "specificity") == "0.735 (0.664-0.798) 133 of 181"
    assert row_of(block, "PPV") == "0.226 (0.129-0.350) 14 of 62"
    assert row_of(block, "NPV") == "0.950 (0.900-0.980) 133 of 140"
    assert row_of(block, "Brier score").endswith("(always answering the prevalence: 0.093)")
    assert "accuracy" not in block and "F1" not in block  # improper
    assert row_of(block, "likelihood ratios") == "LR+ 2.51 (1.53-3.63), LR- 0.45 (0.20-0.78)"
    label = metrics["labels"]["PE"]
    for title, begin in (
        ("at 90 % spec.", f"sensitivity {label['sensitivity_at_specificity_90'].value:.3f} ("),
        ("at 95 % sens.", "too few PE (21) to say: up to 16 % of PE may lie below the lowest score of these"),
        ("calibration", f"slope {label['calibration_slope'].value:.2f} ("),
    ):
        assert row_of(block, title).startswith(begin)
    assert "CT angiographies" not in block
    error, perfect = label["expected_calibration_error"], label["calibration_error_of_perfect_scores"]
    assert f" expected error {error:.3f}; scores that are right have {perfect:.3f} here\n" in block
    assert "14 of 21 PE found, 7 missed; 48 of 181 without PE flagged" in block
    assert "some patients have several scored ECGs" in block
    assert f"wide intervals: the AUROC's spans {auroc.high - auroc.low:.3f}" in block
    assert max(map(len, block.splitlines())) <= 120


def test_block_of_another_split_and_confidence():
    block = format_metrics(example_metrics(confidence=0.9) | {"split": "external"})
    assert block.startswith("external    202 ECGs of 198 patients; threshold 0.31\n")
    assert "90 % CI" in block


def test_block_of_several_thresholds_and_of_a_run_before_the_lines_of_use():
    metrics = example_metrics()
    metrics["labels"]["PE"] |= {"threshold_low": 0.1, "threshold_high": 0.35}
    assert format_metrics(metrics).splitlines()[0].endswith("scored once; thresholds 0.1 to 0.35")
    repeated = format_metrics(metrics | {"n_repeats": 2})
    assert repeated.startswith(
        "test        101 ECGs of 198 patients, each scored 2 times and so counted below; "
    )
    assert "several scored ECGs" not in repeated  # 101 ECGs of as many patients at least
    metrics["labels"]["PE"]["n_unknown"] = 6
    assert "PE is not known of 6 ECGs, which count" in format_metrics(metrics)
    assert "PE is not known of 3 ECGs, which count" in format_metrics(metrics | {"n_repeats": 2})
    for key in ("calibration_slope", "threshold_low", "threshold_high"):
        del metrics["labels"]["PE"][key]
    block = format_metrics(metrics)
    assert "threshold 0.31" in block and "likelihood" not in block


def test_block_of_several_labels_with_an_undefined_one():
    block = format_metrics(example_metrics(("PE", "MI", "AF"), missing_class=True))
    assert "mean of 2 of 3 labels: AUROC" in block
    assert [line.strip() for line in block.splitlines() if "threshold 0.31" in line] == [
        f"{name}: threshold 0.31" for name in ("PE", "MI", "AF")
    ]
    of_af = block[block.index("AF: threshold") :]
    assert row_of(of_af, "AUROC") == "undefined (no positive ECG)"
    assert row_of(of_af, "sensitivity") == "undefined (no positive ECG)"
    assert "no ECG with AF; 62 of 202 without AF flagged" in of_af
    assert "nan" not in block and "None" not in block


def test_block_where_nothing_is_flagged_or_separation_is_perfect():
    arguments = {"label_names": ["PE"], "patient_ids": range(40), "n_resamples": 100}
    y_true = np.repeat([0, 1], [30, 10])
    y_score = np.linspace(0, 0.9, 40)
    with pytest.warns(match="PPV is undefined"):
        block = format_metrics(evaluate(y_true, y_score, thresholds=[0.95], **arguments))
    assert row_of(block, "PPV") == "undefined (no ECG flagged)"
    # a bound, where resampling shows no width: 0.025 ** (1 / 10)
    assert row_of(block, "AUROC") == "1.000 (95 % CI 0.692-1.000)" and "several scored ECGs" not in block
    assert row_of(block, "average precision").startswith(
        "1.000 (no interval: the same value in all resamples)"
    )
    assert row_of(block, "sensitivity") == "0.000 (0.000-0.308) 0 of 10"
    assert row_of(block, "calibration").startswith("slope undefined, intercept")
    assert "(1.000-1.000)" not in block and "(0.000-0.000)" not in block


def test_block_of_enough_positives_to_rule_out():
    y_true, y_score, _ = example_scores()
    y_true, y_score, patients = np.tile(y_true, (4, 1)), np.tile(y_score, (4, 1)), range(808)
    arguments = {"thresholds": [0.31], "label_names": ["PE"], "patient_ids": patients, "n_resamples": 100}
    metrics = evaluate(y_true, y_score, **arguments)
    label, block = metrics["labels"]["PE"], format_metrics(metrics)
    assert row_of(block, "at 95 % sens.").startswith(
        f"specificity {label['specificity_at_sensitivity_95'].value:.3f} ("
    )
    avoided = label["ct_avoided_per_100"]
    count = f"of 100 patients: {avoided.value:.1f} ({avoided.low:.1f}-{avoided.high:.1f}) CT"
    assert f"{count} angiographies avoided, 0.5 PE missed" in block  # 5 % of the 10.4


def test_block_of_points_that_other_ecgs_fix():
    y_true, y_score, patient_ids = example_scores()
    arguments = {"thresholds": [0.31], "label_names": ["PE"], "patient_ids": patient_ids, "n_resamples": 100}
    points = {"at_specificity_90": [0.5], "at_sensitivity_95": [0.0]}
    metrics = evaluate(y_true, y_score, points=points, **arguments)
    label, block = metrics["labels"]["PE"], format_metrics(metrics)
    sensitivity, specificity = (label["at_specificity_90"][key] for key in ("sensitivity", "specificity"))
    point = plain(f"sensitivity {with_interval(sensitivity)}, specificity {with_interval(specificity)}")
    assert row_of(block, "at 90 % spec.") == f"{point}, fixed on other ECGs"
    assert row_of(block, "at 95 % sens.").startswith("sensitivity 1.000 (0.839-1.000), specificity 0.000 (")
    # of 202 ECGs of 198 patients none: an upper bound stands beside both zeros
    missed = plain(with_interval(label["at_sensitivity_95"]["missed_per_100"], 1))
    assert missed == "0.0 (0.0-1.8)" and f"{missed} CT angiographies avoided, {missed} PE missed" in block
    assert "read off" not in block
    titles = [row.title for _, rows in metric_groups("PE", metrics) for row in rows]
    assert "sensitivity at 90 % specificity" in titles and titles.count("ruled out per 100") == 1
    assert len(titles) == len(set(titles)) and "missed per 100" in titles
    assert max(map(len, block.splitlines())) <= 120


def test_block_of_an_infinite_likelihood_ratio_and_of_an_earlier_run():
    metrics = example_metrics()
    label = metrics["labels"]["PE"]
    label["positive_likelihood_ratio"] = Metric(np.nan, 3.2)
    assert row_of(format_metrics(metrics), "likelihood ratios").startswith("LR+ above 3.20, LR- ")
    label["positive_likelihood_ratio"] = Metric(4.0, 1.2, reason="no upper end")
    assert row_of(format_metrics(metrics), "likelihood ratios").startswith("LR+ 4.00 (above 1.20), LR- ")
    # which has numbers of nine positives, and no count of their patients
    del label["n_positive_patients"], label["calibration_error_of_perfect_scores"]
    label["n_positive"] = 9
    label["npv_at_sensitivity_95"] = Metric(1.0, 1.0, 1.0)
    block = format_metrics(metrics)
    assert "too few PE (9) to say: up to 34 % of PE" in block and "1.000" not in block


def test_block_of_too_few_patients_for_an_interval():
    arguments = {"thresholds": [0.5], "label_names": ["PE"], "patient_ids": range(4)}
    with pytest.warns(match="the interval of what is resampled, such as average precision, is undefined"):
        metrics = evaluate([1, 0, 0, 0], [0.6, 0.7, 0.1, 0.2], **arguments)
    assert "0.667   (no interval: too few patients)" in format_metrics(metrics)


@pytest.mark.parametrize("label_names", [("PE",), ("PE", "MI"), tuple(f"label {n}" for n in range(20))])
def test_report_run_draws_and_prints(tmp_path, capsys, label_names):
    write_run(tmp_path, label_names)
    report_run(tmp_path)
    for name in FIGURES:
        assert_figure(tmp_path / name)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("test        202 ECGs of 198 patients, scored once; threshold")
    assert printed[-1] == f"report      {tmp_path / 'report.html'}" and (tmp_path / "report.html").exists()
    assert not list(tmp_path.glob(".*"))  # nothing left aside


def test_figures_of_a_repeated_cross_validation_count_each_ecg_once(tmp_path, monkeypatch):
    write_run(tmp_path)
    table = pd.read_csv(tmp_path / "predictions.csv", dtype={"patient_id": str})
    pd.concat([table.assign(repeat=1), table.assign(repeat=2)]).to_csv(
        tmp_path / "predictions.csv", index=False
    )
    titles = []
    draw = run_report.draw_roc
    monkeypatch.setattr(run_report, "draw_roc", lambda *curves, title: titles.append(title) or draw(*curves))
    report_run(tmp_path)
    assert titles == ["test: 202 ECGs of 198 patients"]


def test_report_run_without_positives_in_the_test_set(tmp_path, capsys):
    write_run(tmp_path, missing_class=True, n_epochs=1)
    report_run(tmp_path)
    assert all((tmp_path / name).exists() for name in FIGURES)
    assert "undefined (no positive ECG)" in capsys.readouterr().out


def test_report_run_without_rows_of_the_split_or_metrics(tmp_path, capsys):
    write_run(tmp_path, splits=("validation",))
    report_run(tmp_path)
    assert_figure(tmp_path / "loss.png")
    for name in (*FIGURES, "metrics.json"):
        (tmp_path / name).unlink()
    capsys.readouterr()
    report_run(str(tmp_path))
    printed = capsys.readouterr().out
    assert "no test set was scored" in printed and printed.endswith("report.html\n")


def test_loss_with_undefined_validation_auroc(tmp_path):
    log = {"epoch": [1, 2], "train_loss": [0.5, 0.4], "val_loss": [0.6, 0.5]}
    log |= {"val_auroc": [np.nan, np.nan], "kept": [0, 0]}
    figure = draw_losses({"": pd.DataFrame(log)})
    save_png(figure, tmp_path / "loss.png")
    assert_figure(tmp_path / "loss.png")
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == ["validation"]


def test_loss_of_each_fold_lies_in_its_folder_and_names_the_epoch_that_is_kept(tmp_path):
    write_run(tmp_path)
    log = pd.read_csv(tmp_path / "log.csv")
    (tmp_path / "log.csv").unlink()
    for fold in (1, 2):
        (tmp_path / f"fold-{fold}").mkdir()
        log.to_csv(tmp_path / f"fold-{fold}" / "log.csv", index=False)
    report_run(tmp_path)
    assert [path.parent.name for path in sorted(tmp_path.rglob("loss.png"))] == ["fold-1", "fold-2"]
    log.loc[log["epoch"] > 7, "kept"] = 0
    texts = draw_losses({"fold 1": log}).axes[1].get_legend().get_texts()
    assert texts[-1].get_text() == "kept: epoch 7"


def test_figure_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    write_run(tmp_path)
    (tmp_path / "roc.png").write_bytes(b"the earlier figure")

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    y_true, y_score, _ = example_scores()
    with pytest.raises(OSError, match="disk full"):
        save_png(draw_roc([Curve("PE", y_true[:, 0], y_score[:, 0], curve_style(0))]), tmp_path / "roc.png")
    assert (tmp_path / "roc.png").read_bytes() == b"the earlier figure"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("reporting.run_report", ("torch", "matplotlib.pyplot")),
        ("reporting.figures.ecg_paper", ("torch", "matplotlib.pyplot", "sklearn", "jinja2")),
        ("ecg.signs", ("torch", "matplotlib", "sklearn", "jinja2")),
    ],
)
def test_a_module_loads_only_what_it_needs(module, unneeded):
    code = f"import sys, {module}; sys.exit(not set({unneeded}).isdisjoint(sys.modules))"
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
