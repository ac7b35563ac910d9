"""What a person looks at after a run: the printed block of metrics, the figures and `report.html`.

The report is read from the run's folder alone, so that it can be made again long after training, without
model and torch. `explanations` need both.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from reporting.figures import draw_loss, draw_precision_recall, draw_roc
from reporting.html_report import write_report
from reporting.summary import format_metrics

__all__ = ["draw_loss", "draw_precision_recall", "draw_roc", "format_metrics", "report_run", "write_report"]


def report_run(run_folder: str | Path) -> None:
    """Draw `loss.png`, `roc.png` and `precision_recall.png`, print the metrics and write `report.html`.

    Parameters
    ----------
    run_folder : path
        Holds `log.csv` and, once a set was scored, `metrics.json` and `predictions.csv`. The figures show the
        rows of `predictions.csv` whose `split` is that of `metrics.json`, the test set where it names none.
        The page shows what else is there, and only says what is not.
    """
    run_folder = Path(run_folder)
    for log in run_folder.glob("fold-*/log.csv"):  # of a cross-validation
        draw_loss(pd.read_csv(log), log.with_name("loss.png"))
    if (run_folder / "log.csv").exists():
        draw_loss(pd.read_csv(run_folder / "log.csv"), run_folder / "loss.png")
    if (run_folder / "metrics.json").exists():
        metrics = json.loads((run_folder / "metrics.json").read_text(encoding="utf-8"))
        print(format_metrics(metrics))
        _draw_curves(run_folder, metrics)
    else:
        print("test        no metrics.json: no test set was scored")
    print(f"report      {write_report(run_folder)}")


def _draw_curves(run_folder: Path, metrics: dict) -> None:
    """Draw ROC and precision-recall curves of the scored split."""
    split = metrics.get("split", "test")
    predictions = pd.read_csv(run_folder / "predictions.csv", dtype={"patient_id": str})
    predictions = predictions[predictions["split"] == split]
    label_names = list(metrics["labels"])
    y_true, y_score = (
        predictions[[f"{column}_{name}" for name in label_names]].to_numpy(dtype=np.float64)
        for column in ("y_true", "y_score")
    )  # (n_ecgs, n_labels) each
    labels = {
        "label_names": label_names,
        "thresholds": [label["threshold"] for label in metrics["labels"].values()],
        "title": f"{split}: {len(predictions):,} ECGs of {predictions['patient_id'].nunique():,} patients",
    }
    draw_roc(y_true, y_score, run_folder / "roc.png", **labels)
    draw_precision_recall(y_true, y_score, run_folder / "precision_recall.png", **labels)
