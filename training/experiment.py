"""What surrounds the loop: open the run, print what is trained on what, go through the folds, pool them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cohorts.columns import GROUP_COLUMNS, HOURS
from dataset.clinical import for_splits
from dataset.cohort import Cohort
from dataset.label_copies import separating_columns
from dataset.sign_columns import given_columns, sign_columns
from dataset.signals import Signals, place_signals
from dataset.splits import Fold
from hyperparameters.declaration import Hyperparameters
from metrics.sample_size import ASSUMED_AUROC, expected_width, patients_of_classes
from run_folder.environment import device_name
from run_folder.files import RunFiles
from run_folder.run import Run
from run_folder.tracking import start_tracker
from runtime import processes
from runtime.interruption import HANDLER
from runtime.precision import training_type
from runtime.side_by_side import end_with_parent, own_part
from training.decisions import few_to_decide_on
from training.folds_at_once import folds_at_once, refuse_with_torchrun, train_at_once
from training.pooling import pool_folds
from training.transfer import check_start

MANY = 12  # labels; the positives of more are not printed


def start_run(
    script: str,
    *,
    title: str,
    values: Hyperparameters,
    device: torch.device,
    cohort: Cohort,
    folds: list[Fold],
    held_out: Sequence[str] = ("test", "validation"),
) -> Run:
    """Return a new run folder with all that is known before training, or the one to resume, checked.

    Its ``splits.csv`` has each ECG's part, in a column for each fold where there are several. Prints what is
    about to be trained, on which ECGs, and where it will be kept. While it is trained, no other process can
    go on with it. A process that was started for one fold prints nothing: another has.

    Parameters
    ----------
    script : file of the script, after which the folder is named.
    title : the model's name for a reader.
    held_out : parts that must be new to the weights of ``--init-from``, see ``check_start``.

    Raises
    ------
    UserError : the run that is resumed is another, or see ``check_start``.
    """
    refuse_with_torchrun(values)
    own = own_part()
    notes = [] if own or values.resume else check_start(values, cohort, folds, held_out)
    splits = _splits_table(cohort, folds)
    if values.resume:
        run = Run.resume(values.resume, splits, patient_key=cohort.reading.patient_key)
    else:
        run = Run.create(
            script=Path(script).stem,
            values=values,
            device=device,
            splits=splits,
            rejected=cohort.reading.rejected,
            quality=cohort.reading.findings,
            patient_key=cohort.reading.patient_key,
        )
    HANDLER.run_folder = run.folder
    if own:  # of a process that holds the run and follows it
        end_with_parent()
        return run
    run.hold()
    if processes.is_first():
        run.tracker = start_tracker(values.tracking, run.folder, values.present())
    print(f"{title}, on {_where(device, values.precision)}, seed {values.seed}")
    print(f"run         {run.folder}")
    _announce(cohort, folds, run)
    for few in few_to_decide_on(cohort, folds, values):
        print(f"            {few}")
    for note in notes:
        print(f"note        {note}")
    return run


def _splits_table(cohort: Cohort, folds: list[Fold]) -> pd.DataFrame:
    """Return ``splits.csv``: each ECG's patient, digests of its file and of its signal, labels and parts.

    What the table says beside them is there too: age, sex, groups, clinical columns.
    """
    described = [
        name
        for name in ("age", "sex", HOURS, *GROUP_COLUMNS)
        if name in cohort.table and name not in cohort.label_names
    ]
    described = list(dict.fromkeys(described))
    table = cohort.table.assign(waveform=cohort.waveforms)
    splits = table[["file", "patient_id", "digest", "waveform", *described, *cohort.label_names]]
    splits = splits.assign(**for_splits(cohort.clinical))
    for fold in folds:
        part_of = np.empty(len(splits), dtype=object)
        for part, indices in fold.parts.items():
            part_of[indices] = part
        splits[fold.name or "split"] = part_of
    return splits


def _where(device: torch.device, precision: str) -> str:
    """Return the hardware and the precision of the training, for a reader."""
    in_type = str(training_type(precision, device)).removeprefix("torch.")
    where = f"{device_name(device)} in {in_type}"
    return f"{processes.count()} processes, each on {where}" if processes.count() > 1 else where


def _announce(cohort: Cohort, folds: list[Fold], run: Run) -> None:
    """Print the ECGs: read and rejected, labels, clinical values, findings, parts."""
    reading = cohort.reading
    n_read, n_rejected = len(cohort.table), len(reading.rejected)
    n_files = f"{n_read + n_rejected:,} files ({reading.n_parsed:,} new)"
    files = f"{n_files}: {n_read:,} read, {n_rejected:,} rejected"
    if n_rejected:
        files += f" ({run.folder / 'rejected.csv'})"
    labels = _count_labels(cohort, np.arange(n_read), share=True)
    patients = f"{cohort.table['patient_id'].nunique():,} patients"
    print(f"cohort      {files}; {patients}{f'; {labels}' if labels else ''}")
    _announce_beside(cohort, folds)
    print(f"quality     {_count_findings(reading.findings, run)}")
    if len(folds) == 1:
        print(f"split       by patient: {_sizes(cohort, folds[0])}")
    else:
        n_repeats = folds[-1].repeat
        repeats = f", {n_repeats} times" if n_repeats > 1 else ""
        print(f"split       by patient, into {len(folds) // n_repeats} folds{repeats}: each is tested once")
    if reading.patients_assumed:
        print("            no patient_id column: each file counts as a patient of its own")
    if expected := expected_interval(cohort, folds):
        print(f"interval    {expected}")


def expected_interval(cohort: Cohort, folds: list[Fold]) -> str:
    """Return how wide the AUROC's interval will be with the patients who are tested; "" without both classes.

    Of several labels it is that of the widest.
    """
    tested = np.unique(np.concatenate([fold.parts["test"] for fold in folds]))
    patients = cohort.table["patient_id"].to_numpy()[tested]
    found = []
    for name, y_true in zip(cohort.label_names, cohort.targets[tested].T, strict=True):
        counts = patients_of_classes(y_true, patients)
        if not np.isnan(width := expected_width(*counts)):
            found.append((width, name, *counts))
    if not found:
        return ""
    width, name, n_positive, n_negative = max(found)
    return (
        f"at an AUROC of {ASSUMED_AUROC:g}, that of {name} will be about {width:.2f} wide: "
        f"{n_positive:,} with and {n_negative:,} without are tested"
    )


def _announce_beside(cohort: Cohort, folds: list[Fold]) -> None:
    """Print what the model sees beside the ECG: clinical columns and measured signs, and what is suspect."""
    if given := given_columns(cohort.clinical):
        clinical = cohort.clinical[given]
        print(f"clinical    beside the ECG: {_count_clinical(clinical)}")
        trains = np.unique(np.concatenate([fold.parts["train"] for fold in folds]))
        for line in separating_columns(clinical.iloc[trains], cohort.targets[trains], cohort.label_names):
            print(f"            {line}")
    if signs := sign_columns(cohort.clinical):
        n_whole = int(cohort.clinical[signs].notna().all(axis=1).sum())
        print(
            f"ECG signs   {len(signs)} beside the ECG, measured before crop and augmentation; all of them in "
            f"{n_whole:,} of {len(cohort.clinical):,} ECGs"
        )


def unfinished(
    folds: list[Fold], *, run: Run, cohort: Cohort, values: Hyperparameters, device: torch.device
) -> Iterator[tuple[Fold, Run, Signals]]:
    """Yield each fold that is not tested yet, its run folder, and the signals of all ECGs, in their place.

    The initial weights of a fold follow from its seed. With ``--folds-at-once`` the folds are trained here,
    each by this script in a process of its own, which alone gets its fold.
    """
    own = [fold for fold in folds if fold.name == own_part()]
    todo = [fold for fold in own or folds if not RunFiles(run.folder / fold.name).is_tested]
    names = {fold.name for fold in todo}
    at_once = not own and folds_at_once(values) > 1
    if todo and not at_once:
        signals = place_signals(
            cohort, device=device, batch_size=values.batch_size, **values.group("placement")
        )
    for fold in own or folds:
        if fold.number:
            done = "" if fold.name in names else "   tested before"
            print(f"fold {fold.number:<6} of {len(folds)}: {_sizes(cohort, fold)}{done}")
        elif not todo:
            print("finished    this run was tested before: nothing is trained or scored again")
        if fold.name not in names or at_once:
            continue
        fold_run = run.fold(fold.name)
        fold_run.hold()  # a process that had this fold may not have ended with the one that started it
        torch.manual_seed(fold.seed)
        yield fold, fold_run, signals
        processes.wait()  # until it is tested
    if todo and at_once:
        train_at_once(todo, n_folds=len(folds), run=run, values=values, device=device)


def finish(run: Run, folds: list[Fold], *, seed: int, report: Callable[[Path], None]) -> None:
    """Pool the folds, let the first process write the report on the run's folder, and leave the others.

    A process that was started for one fold leaves this to the one that started it.
    """
    if processes.is_first() and not own_part():
        if len(folds) > 1 and not run.is_tested:  # a single split has its metrics already
            pool_folds(run, folds, seed=seed)
        logs = [fold.log() for fold in run.folds().values() if fold.has("log.csv")]
        run.record_compute(sum(log["seconds"].sum() for log in logs))
        report(run.folder)
    processes.stop()


def _sizes(cohort: Cohort, fold: Fold) -> str:
    """Return text such as 'train 706 (72 PE), validation 101 (10 PE), test 202 (21 PE)'."""
    counts = {
        f"{part} {len(rows):,}": _count_labels(cohort, rows) for part, rows in fold.parts.items() if len(rows)
    }
    return ", ".join(f"{size} ({labels})" if labels else size for size, labels in counts.items())


def _count_labels(cohort: Cohort, rows: np.ndarray, *, share: bool = False) -> str:
    """Return the positives of each label: 'PE 103 (10.2 %)'; of many labels only how many there are."""
    if len(cohort.label_names) > MANY:
        return f"{len(cohort.label_names)} labels" if share else ""
    targets = cohort.targets[rows]
    known = [column[~np.isnan(column)] for column in targets.T]
    counts = [
        (name, column.sum(), column.mean()) for name, column in zip(cohort.label_names, known, strict=True)
    ]
    return ", ".join(
        f"{name} {positives:,.0f} ({100 * prevalence:.1f} %)" if share else f"{positives:,.0f} {name}"
        for name, positives, prevalence in counts
    )


def _count_clinical(clinical: pd.DataFrame) -> str:
    """Return text such as 'age (known of 100 %), d_dimer (known of 61 %)'."""
    known = clinical.notna().mean()
    return ", ".join(f"{name} (known of {100 * share:.0f} %)" for name, share in known.items())


def _count_findings(quality: pd.DataFrame, run: Run) -> str:
    """Return how many ECGs each check rejected, warned about or noted."""
    if quality.empty:
        return "nothing found"
    counts = []
    for verdict, words in (("reject", "rejected"), ("warn", "warned about"), ("note", "noted")):
        found = quality[quality["verdict"] == verdict]
        if len(found):
            checks = ", ".join(f"{check} {n:,}" for check, n in found["check"].value_counts().items())
            counts.append(f"{found['file'].nunique():,} {words} ({checks})")
    return f"{'; '.join(counts)} ({run.folder / 'quality.csv'})"
