"""What a person looks at after a run: the printed block of metrics, the figures and `report.html`.

Everything is read from the run's folder, so that it can be made again long after training, without model and
torch.
"""

from pathlib import Path

from reporting.figures.curves import (
    Curve,
    curve_style,
    draw_losses,
    draw_precision_recall,
    draw_roc,
    operating_points,
    save_png,
)
from reporting.pages.run_page import write_report
from reporting.words.formatting import number
from reporting.words.run_sentences import planted_signs
from reporting.words.summary import format_metrics, threshold_in_words
from run_folder.repeats import first_repeat
from run_folder.run_record import RunRecord, read_run


def report_run(run_folder: str | Path) -> None:
    """Draw `loss.png`, `roc.png` and `precision_recall.png`, print the metrics and write `report.html`.

    Parameters
    ----------
    run_folder : path
        Holds `log.csv` and, once a set was scored, `metrics.json` and `predictions.csv`. The figures show the
        rows of `predictions.csv` whose `split` is that of `metrics.json`, the test set where it names none.
        The page shows what else is there, and names what is missing.
    """
    record = read_run(run_folder)
    for name, log in record.logs.items():
        if len(log):
            fold = name.replace(" ", "-")  # "" without folds
            save_png(draw_losses({name: log}), record.folder / fold / "loss.png")
    if record.metrics:
        print(format_metrics(record.metrics))
        if planted := planted_signs(record):
            print(f"            {planted}")
        _draw_curves(record)
    else:
        print("test        no metrics.json: no test set was scored")
    print(f"report      {write_report(record)}")


def _draw_curves(record: RunRecord) -> None:
    """Draw ROC and precision-recall curves of the scored split: one for each label."""
    on_roc, on_precision = [], []
    for position, (name, label) in enumerate(record.metrics["labels"].items()):
        scored, style = record.scored_ecgs(name), curve_style(position)
        data = name, scored["y_true"].to_numpy(), scored["y_score"].to_numpy(), style
        points = operating_points(label)
        dots = [f"; dot: {threshold_in_words(label)}" if point else "" for point in points]
        on_roc.append(Curve(*data, points[0], f"AUROC {number(label['auroc'].value)}{dots[0]}"))
        chance = f"dotted: prevalence {label['prevalence']:.3f}"
        note = f"AP {number(label['average_precision'].value)}, {chance}{dots[1]}"
        on_precision.append(Curve(*data, points[1], note))
    scored, split = record.predictions, record.metrics.get("split", "test")
    n_ecgs = int(first_repeat(scored).sum())
    title = f"{split}: {n_ecgs:,} ECGs of {scored['patient_id'].nunique():,} patients"
    save_png(draw_roc(on_roc, title=title), record.folder / "roc.png")
    save_png(draw_precision_recall(on_precision, title=title), record.folder / "precision_recall.png")
