"""What a decision rests on, in words: how few positives chose a threshold, and what was tested of it."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from metrics.calibration import FEWEST_TO_CALIBRATE
from run_folder.files import RunFiles
from runtime.messages import counted


def decision_notes(decisions: dict[str, dict]) -> Iterator[str]:
    """Yield for each label what so few positives leave open.

    Parameters
    ----------
    decisions : those of ``metrics.json``; {} in runs of the first versions.
    """
    for name, decision in decisions.items():
        n_positive = decision["n_positive"]
        if "sensitivity" in decision:
            ends = {key: "{:.2f} to {:.2f}".format(*decision[key]) for key in ("sensitivity", "specificity")}
            yield (
                f"the threshold was chosen on {n_positive:,} {name}: on new patients expect a sensitivity of "
                f"{ends['sensitivity']}, a specificity of {ends['specificity']} (95 %)"
            )
        if decision["calibration"] != "none" and n_positive < FEWEST_TO_CALIBRATE:
            yield (
                f"the calibration was fitted on {n_positive:,} {name}, fewer than {FEWEST_TO_CALIBRATE}: "
                "scores are rough probabilities"
            )


def span_of_folds(label: Mapping[str, Any], written: Callable[[float], str] = "{:.3g}".format) -> str:
    """Return text such as "0.28 to 0.35" where each fold has its own threshold; "" where there is one.

    Parameters
    ----------
    label : metrics of a label; those of the first versions have no span.
    written : how a threshold is written.
    """
    low, high = label.get("threshold_low"), label.get("threshold_high")
    return "" if low == high else f"{written(low)} to {written(high)}"


def untested_together(folder: Path) -> str:
    """Return which models were tested, where those that score together were not; "" where they were."""
    run = RunFiles(folder)
    members = run.json("ensemble.json")["members"] if run.has("ensemble.json") else []
    if not any(Path(member).name.startswith("fold-") for member in members):
        return ""
    return (
        "each ECG was tested by models that had not seen its patient, those of one fold; "
        f"{counted(len(members), 'model')} together, as here, were not tested"
    )
