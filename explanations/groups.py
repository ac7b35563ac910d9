"""What a model looks at in the ECGs that it gets right, misses, and flags in vain: each group as a whole.

    explained = explain_run(folder, scores, comparison, cohort, n_ecgs=20, device=device, seed=42)

Every ECG is explained by integrated gradients of the model that was tested on it: in a cross-validation, the
model of its fold. Its sums are in logits of the calibrated score, so that folds are on one scale.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from dataset.cohort import Cohort
from explanations.ensemble import explain_scorer
from explanations.group_means import GROUPS, ExplainedEcg, group_means, sum_attribution
from inference.comparison import Comparison, Scores, lines_of
from inference.scoring import Scorer
from metrics.log_odds import expit
from run_folder.environment import device_name
from run_folder.files import RunFiles
from run_folder.run_record import most_confident_errors
from runtime.errors import UserError
from runtime.messages import duration

ECGS_TO_TIME = 3  # before printing how long all will take
SAME_SCORE = 0.1  # bfloat16 on a GPU moves a score by less; another model, or another ECG, by more


@dataclass(frozen=True, eq=False)
class ExplainedLabel:
    """What one run looks at for one label.

    Attributes
    ----------
    model, label : names
    sizes : how many ECGs each of `GROUPS` has, explained or not
    means : DataFrame as `group_means` gives it, of all groups
    errors : DataFrame, the most confident errors: file, patient_id, y_true, y_score, threshold, ecg (its row
        in the cohort), explained (an `ExplainedEcg`, or None where it is not complete)
    left_out : files whose attributions do not add up to the logit; they are in no mean
    """

    model: str
    label: str
    sizes: dict[str, int]
    means: pd.DataFrame
    errors: pd.DataFrame
    left_out: list[str]


def explain_run(
    folder: Path,
    model: Scores,
    comparison: Comparison,
    cohort: Cohort,
    *,
    n_ecgs: int,
    device: torch.device,
    seed: int,
) -> list[ExplainedLabel]:
    """Explain ECGs that a run was tested on, several seconds each on a CPU; print how long it will take.

    Parameters
    ----------
    folder : of the run
    model : its scores, one of `comparison.models`
    cohort : with every ECG of `comparison.table`
    n_ecgs : at most, of each group and label; drawn at random, since the most confident ones are extremes.
        The most confident errors are explained beside them.

    Returns
    -------
    list of ExplainedLabel, one for each of `comparison.label_names`

    Raises
    ------
    UserError
        An ECG was in the training or validation of the model that is to explain it; scores have changed; the
        run takes clinical columns, or a part of the recordings, other than the cohort's.
    """
    if comparison.folds:
        check_never_trained(folder, comparison.table)
    tables = {
        label: _tested(comparison, model, number, cohort)
        for number, label in enumerate(comparison.label_names)
    }
    drawn = {label: draw_groups(table, n_ecgs, seed) for label, table in tables.items()}
    errors = {label: most_confident_errors(table) for label, table in tables.items()}
    wanted = {
        (int(line), number)
        for number, label in enumerate(comparison.label_names)
        for part in [*drawn[label].values(), errors[label]]
        for line in part.index
    }
    explained = _explain_all(folder, model, comparison, cohort, wanted, device)
    results = []
    for number, label in enumerate(comparison.label_names):
        ecgs = {line: ecg for (line, column), ecg in explained.items() if column == number}
        results.append(
            _summarise_label(model.name, label, tables[label], drawn[label], errors[label], ecgs, seed)
        )
    return results


def check_never_trained(folder: Path, table: pd.DataFrame) -> None:
    """Check that each row's ECG is a test ECG of its fold, by the run's own splits.csv.

    Parameters
    ----------
    table : DataFrame with the columns file and fold, 0 for a single split
    """
    splits = RunFiles(folder).splits().set_index("file")
    for fold, lines in table.groupby("fold"):
        parts = splits[f"fold-{fold}" if fold else "split"].reindex(lines["file"])
        if (parts != "test").any():
            file = parts.index[parts != "test"][0]
            raise UserError(
                f"{folder / 'splits.csv'}: found {file} in {parts[file]} of fold {fold}, expected it in "
                "test: a model must not explain what it was trained on"
            )


def draw_groups(table: pd.DataFrame, n_ecgs: int, seed: int) -> dict[str, pd.DataFrame]:
    """Return at most `n_ecgs` rows of each of `GROUPS`, drawn at random, each file once.

    Parameters
    ----------
    table : DataFrame with the columns file, y_true (0 or 1), y_score and threshold
    """
    generator, drawn = np.random.default_rng(seed), {}
    for group, lines in _groups(table).items():
        lines = lines.drop_duplicates("file")
        chosen = generator.permutation(len(lines))[:n_ecgs]
        drawn[group] = lines.iloc[np.sort(chosen)]
    return drawn


# ----------------------------------------------------------------------------------------------------
# Which ECGs
# ----------------------------------------------------------------------------------------------------


def _tested(comparison: Comparison, model: Scores, number: int, cohort: Cohort) -> pd.DataFrame:
    """Return file, patient_id, y_true, y_score, threshold and ecg of the rows whose label is known."""
    table = comparison.table
    lines = pd.DataFrame({
        "file": table["file"],
        "patient_id": table["patient_id"],
        "y_true": table[f"y_true_{comparison.label_names[number]}"].astype(float),
        "y_score": model.y_score[:, number],
        "threshold": model.thresholds[:, number],
        "ecg": lines_of(table, cohort),
    })  # fmt: skip
    return lines[lines["y_true"].notna()].astype({"y_true": int})


def _groups(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    has, flagged = table["y_true"] == 1, table["y_score"] >= table["threshold"]
    return {group: table[(has == one) & (flagged == other)] for group, (one, other) in GROUPS.items()}


def _summarise_label(
    model: str,
    label: str,
    table: pd.DataFrame,
    drawn: Mapping[str, pd.DataFrame],
    errors: pd.DataFrame,
    explained: Mapping[int, ExplainedEcg],
    seed: int,
) -> ExplainedLabel:
    complete = {line: ecg if ecg.complete else None for line, ecg in explained.items()}
    drawn = {
        group: lines[np.array([complete[line] is not None for line in lines.index], bool)]
        for group, lines in drawn.items()
    }
    ecgs = {group: [explained[line] for line in lines.index] for group, lines in drawn.items()}
    patient_ids = {group: lines["patient_id"].tolist() for group, lines in drawn.items()}
    return ExplainedLabel(
        model=model,
        label=label,
        sizes={group: lines["file"].nunique() for group, lines in _groups(table).items()},
        means=group_means(ecgs, patient_ids, seed=seed).assign(label=label, model=model),
        errors=errors.assign(explained=[complete[line] for line in errors.index]),
        left_out=[table.loc[line, "file"] for line, ecg in explained.items() if not ecg.complete],
    )


# ----------------------------------------------------------------------------------------------------
# One ECG
# ----------------------------------------------------------------------------------------------------


def _explain_all(
    folder: Path,
    model: Scores,
    comparison: Comparison,
    cohort: Cohort,
    wanted: set[tuple[int, int]],
    device: torch.device,
) -> dict[tuple[int, int], ExplainedEcg]:
    """Explain rows of the comparison, each for the number of a label; one fold after the other."""
    ecgs, table = lines_of(comparison.table, cohort), comparison.table
    jobs = sorted(wanted, key=lambda job: (table["fold"].iloc[job[0]], *job))
    explained, scorer, loaded, started = {}, None, None, time.perf_counter()
    with tqdm(total=len(jobs), desc=f"explain {model.name}", unit="ECG", disable=None, leave=False) as bar:
        for line, number in jobs:
            fold = table["fold"].iloc[line]
            if fold != loaded:
                scorer, loaded = _scorer(folder, fold, cohort, device), fold
            label = scorer.label_names.index(comparison.label_names[number])  # it may know more labels
            ecg, score = explain_ecg(scorer, cohort, ecgs[line], label)
            _check_score(folder, table["file"].iloc[line], score, model.y_score[line, number])
            explained[line, number] = ecg
            bar.update()
            if len(explained) == min(ECGS_TO_TIME, len(jobs)):
                seconds = (time.perf_counter() - started) / len(explained)
                bar.write(
                    f"explain     {model.name}: {len(jobs)} ECGs at about {seconds:.1f} s each on "
                    f"{device_name(device)}: {duration(seconds * len(jobs))}"
                )
    return explained


def _scorer(folder: Path, fold: int, cohort: Cohort, device: torch.device) -> Scorer:
    """Load what scored the test ECGs of a fold; of fold 0, the run itself."""
    scorer = Scorer.load(folder / f"fold-{fold}" if fold else folder, device)
    if missing := [name for name in scorer.clinical_columns if name not in cohort.clinical]:
        raise UserError(
            f"{folder}: found a model that takes {', '.join(missing)}, expected those of the first run"
        )
    if scorer.window_start != cohort.reading.window_start:
        raise UserError(
            f"{folder}: found --window-start {scorer.window_start:g}, expected that of the first run: "
            f"{cohort.reading.window_start:g}; explain it by itself"
        )
    return scorer


def explain_ecg(scorer: Scorer, cohort: Cohort, ecg: int, label: int) -> tuple[ExplainedEcg, float]:
    """Explain one logit of one ECG of a cohort, and return its score too."""
    explanation = explain_scorer(
        scorer,
        cohort.signals.read([ecg])[0],
        label=label,
        clinical=cohort.clinical.loc[[ecg], scorer.clinical_columns].to_numpy(np.float32),
        occlusion=False,
    )
    return sum_attribution(explanation), float(expit(explanation.logit))


def _check_score(folder: Path, file: str, score: float, before: float) -> None:
    if abs(score - before) > SAME_SCORE:
        raise UserError(
            f"{folder}: found the score {score:.3f} of {file}, expected {before:.3f} as in its "
            "predictions.csv; the ECG or the model has changed"
        )
