"""What a person looks at after a run: the printed block of metrics, the figures and `report.html`.

All is read from the run's folder alone, so that it can be made again long after training, without model and
torch.
"""

from pathlib import Path

import numpy as np

from reporting.figures.curves import draw_losses
from reporting.figures.run_figures import draw_precision_recall, draw_roc, save_png
from reporting.pages.run_page import write_report
from reporting.words.summary import format_metrics
from run_folder.run_record import RunRecord, read_run


def report_run(run_folder: str | Path) -> None:
    """Draw `loss.png`, `roc.png` and `precision_recall.png`, print the metrics and write `report.html`.

    Parameters
    ----------
    run_folder : path
        Holds `log.csv` and, once a set was scored, `metrics.json` and `predictions.csv`. The figures show the
        rows of `predictions.csv` whose `split` is that of `metrics.json`, the test set where it names none.
        The page shows what else is there, and only says what is not.
    """
    record = read_run(run_folder)
    for name, log in record.logs.items():
        if len(log):
            fold = name.replace(" ", "-")  # "" where there are no folds
            save_png(draw_losses({name: log}), record.folder / fold / "loss.png")
    if record.metrics:
        print(format_metrics(record.metrics))
        _draw_curves(record)
    else:
        print("test        no metrics.json: no test set was scored")
    print(f"report      {write_report(record)}")


def _draw_curves(record: RunRecord) -> None:
    """Draw ROC and precision-recall curves of the scored split."""
    scored = record.predictions
    y_true, y_score = (
        scored[[f"{column}_{name}" for name in record.label_names]].to_numpy(dtype=np.float64)
        for column in ("y_true", "y_score")
    )  # (n_ecgs, n_labels) each
    split, n_patients = record.metrics.get("split", "test"), scored["patient_id"].nunique()
    labels = {
        "label_names": record.label_names,
        "thresholds": [label["threshold"] for label in record.metrics["labels"].values()],
        "title": f"{split}: {len(scored):,} ECGs of {n_patients:,} patients",
    }
    draw_roc(y_true, y_score, record.folder / "roc.png", **labels)
    draw_precision_recall(y_true, y_score, record.folder / "precision_recall.png", **labels)
