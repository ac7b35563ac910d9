"""Measure whether pretraining helps: AUROC against the number of patients for fine-tuning.

    python -m benchmarks.studies.learning_curve --data-dir ptbxl --label RBBB \\
        --pretrain-labels NORM MI AFIB LVH \\
        --sizes 100 200 400 --seeds 3 --epochs 20 --pretrain-epochs 10 -- --batch-size 64
    python -m benchmarks.studies.learning_curve --data-dir ecgs --label PE --sizes 100 --init-from RUN ptbxl

For each seed the patients are dealt again, stratified by the label: some are tested, some are for
fine-tuning, the others for pretraining on other labels. On each number of fine-tuning patients, one model is
trained from scratch and one from each of the pretrained weights, with the same seed and hyperparameters, but
for the epochs; the two score together too, as an ensemble. A share of the patients validates, so that the
number is that of all whom a hospital would have to collect. Smaller groups are subsets of larger ones. What
follows -- is given to the training script. The same command continues after an interruption.

It leaves tables/, one folder per training, learning_curve.csv, .png and .svg in --output-dir.
"""

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.studies.learning_curve_groups import (
    PRETRAINING,
    Deal,
    deal_patients,
    group_tables,
    patients_of,
    write_table,
)
from benchmarks.studies.learning_curve_result import (
    INTERVALS,
    SCRATCH,
    Scored,
    curve_table,
    draw_curve,
    format_table,
    read_scored,
    sample_size,
    start_name,
)
from dataset.cohort import Cohort, read_cohort
from hyperparameters.declaration import Hyperparameters
from metrics_and_performance import auroc
from run_folder.files import RunFiles
from runtime.atomic_files import write_atomically
from runtime.command_line import OneLineParser, one_line_errors, share, whole_number
from runtime.errors import UserError
from search import hyperparameters_of
from training.script_runs import SCRIPTS, Training, train

OURS = {
    "data_dir", "labels", "label_columns", "epochs", "seed", "output_dir", "init_from", "freeze_epochs",
    "pretrained_rate", "validation_fraction", "test_fraction", "folds", "repeats", "resume",
}  # fmt: skip


# ----------------------------------------------------------------------------------------------------
# Trainings
# ----------------------------------------------------------------------------------------------------


def train_seed(options: argparse.Namespace, seed: int) -> dict[tuple[int, str], Scored]:
    """Pretrain, train on each size from each start, print one line per training, return what they tested."""
    folder, pretrained = options.output_dir / f"seed-{seed}", starts_of(options)
    if not options.init_from:
        flags = ["--label-columns", *options.pretrain_labels, "--epochs", str(options.pretrain_epochs)]
        done = _train(folder / PRETRAINING, options, [*_shared_flags(options, seed, PRETRAINING), *flags])
        metrics = RunFiles(done.run).metrics()
        aurocs = [label["auroc"].value for label in metrics["labels"].values()]
        _print_line(seed, PRETRAINING, f"mean of {len(aurocs)} labels", float(np.mean(aurocs)), done.seconds)
        pretrained = {"pretrained": str(done.run)}
    flags_of = {name: ["--init-from", source, *_tuning(options)] for name, source in pretrained.items()}
    flags_of[SCRATCH] = ["--epochs", str(options.epochs)]  # last: weights that do not fit are refused first
    tested = {}
    for size in options.sizes:
        shared = [*_shared_flags(options, seed, size), "--label-columns", options.label]
        for start, flags in flags_of.items():
            done = _train(folder / f"{size}-{start}", options, [*shared, *flags])
            tested[size, start] = scored = read_scored(done.run, options.label)
            value = auroc(scored.y_true, scored.y_score)
            _print_line(seed, f"{size:,} patients", start_name(start), value, done.seconds)
    return tested


def starts_of(options: argparse.Namespace) -> dict[str, str]:
    """Return what each pretrained arm starts from, by its name: that of the folder."""
    return {Path(source).name: source for source in options.init_from}


def _tuning(options: argparse.Namespace) -> list[str]:
    """Return the flags that say how pretrained weights are tuned, of those that were given."""
    given = {
        "--epochs": options.tuning_epochs,
        "--freeze-epochs": options.freeze_epochs,
        "--pretrained-rate": options.pretrained_rate,
    }
    return [word for flag, value in given.items() if value is not None for word in (flag, str(value))]


def _train(folder: Path, options: argparse.Namespace, flags: Sequence[str]) -> Training:
    return train(options.script, [*flags, *options.further], folder)


def _shared_flags(options: argparse.Namespace, seed: int, table: int | str) -> list[str]:
    labels = table_path(options, seed, table)
    return ["--data-dir", options.data_dir, "--labels", str(labels), "--seed", str(seed)]


def table_path(options: argparse.Namespace, seed: int, table: int | str) -> Path:
    """Return where the table of a size, or of the pretraining, lies."""
    return options.output_dir / "tables" / f"seed-{seed}-{table}.csv"


def _print_line(seed: int, what: str, start: str, value: float, seconds: float) -> None:
    time_taken = f"{seconds:,.0f} s" if seconds else "finished before"
    print(f"seed {seed:<7}{what:<16}{start:<20}AUROC {value:.3f}   {time_taken}", flush=True)


# ----------------------------------------------------------------------------------------------------
# Flags, and what is printed
# ----------------------------------------------------------------------------------------------------


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the flags; in `further` those after --, and in `hyperparameters` the values that result.

    Exits with one line where a flag is wrong, those of the training script included.
    """
    parser = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data-dir", required=True, help="folder of the ECG files")
    parser.add_argument("--labels", help="labels table; none: labels.csv in the folder")
    parser.add_argument("--label", required=True, help="0/1 column to fine-tune for and to test")
    parser.add_argument("--pretrain-labels", nargs="+", default=[], help="0/1 columns to pretrain on")
    parser.add_argument(
        "--init-from", nargs="+", default=[], help="pretrained runs, or ptbxl; no other pretraining is done"
    )
    parser.add_argument("--sizes", nargs="+", type=whole_number, required=True, help="numbers of patients")
    parser.add_argument("--seeds", type=whole_number, default=3, help="how often patients are dealt [3]")
    parser.add_argument("--epochs", type=whole_number, default=20, help="of each training from scratch [20]")
    parser.add_argument("--tuning-epochs", help="of each pretrained model; none: as the script does")
    parser.add_argument("--pretrain-epochs", type=whole_number, default=10, help="[10]")
    parser.add_argument("--freeze-epochs", help="of each pretrained model; none: as the script does")
    parser.add_argument("--pretrained-rate", help="of each pretrained model; none: as the script does")
    parser.add_argument("--test-share", type=share, default=0.25, help="of all patients [0.25]")
    parser.add_argument("--validation-share", type=share, default=0.2, help="of each size [0.2]")
    parser.add_argument("--width", type=share, default=0.1, help="of the AUROC interval to plan for [0.1]")
    parser.add_argument("--script", choices=SCRIPTS, default="train_atten.py")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/learning_curve"))
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:end])
    options.further = list(arguments[end + 1 :])
    options.sizes = sorted(set(options.sizes))
    _check_together(parser, options)
    options.hyperparameters = _hyperparameters(options)
    return options


def _check_together(parser: OneLineParser, options: argparse.Namespace) -> None:
    if bool(options.pretrain_labels) == bool(options.init_from):
        parser.error("found both or neither of --pretrain-labels and --init-from, expected one of them")
    if options.label in options.pretrain_labels:
        parser.error(
            f"--pretrain-labels: found {options.label}, which is to be learnt later, expected others"
        )
    if len(starts_of(options)) < len(options.init_from) or SCRATCH in starts_of(options):
        names = ", ".join(Path(source).name for source in options.init_from)
        parser.error(f"--init-from: found {names}, expected folders of different names, none of them scratch")
    for word in options.further:
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag[2:].replace("-", "_") in OURS:
            parser.error(f"found {flag} after --, expected none of those that the learning curve sets")


def _hyperparameters(options: argparse.Namespace) -> Hyperparameters:
    """Return what the training script makes of its flags, so that a wrong one is found before training."""
    labels = ["--labels", options.labels] if options.labels else []
    columns = ["--label-columns", options.label, *options.pretrain_labels]
    pretrained = ["--init-from", "pretrained", *_tuning(options)]
    words = ["--data-dir", options.data_dir, *labels, *columns, *pretrained, *options.further]
    return hyperparameters_of(options.script, words, __doc__)


def read_ecgs(options: argparse.Namespace) -> Cohort:
    """Return the ECGs as the training script reads them; those that cannot be used are listed in a file."""
    values, place = options.hyperparameters, options.output_dir
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{place}: cannot be made ({error.strerror}); name another --output-dir") from None
    cohort = read_cohort(quality=values.group("quality"), **values.group("cohort"))
    path, rejected = place / "rejected.csv", cohort.reading.rejected
    write_atomically(path, lambda aside: rejected.to_csv(aside, index=False))
    print(f"cohort      {len(cohort.table):,} ECGs read, {len(rejected):,} rejected ({path})")
    if "split" in cohort.table:
        print("            column split: not used, since the patients are dealt again")
    if cohort.reading.patients_assumed:
        print("            no patient_id column: each file counts as a patient of its own")
    return cohort


def deal_all(options: argparse.Namespace, cohort: Cohort) -> float:
    """Deal the patients for each seed, write and print the groups, and return the label's prevalence."""
    patient_of, labels = patients_of(cohort, options.label, options.init_from)
    n_known, n_positive = int((~np.isnan(labels)).sum()), int(np.nansum(labels))
    n_others = len(labels) - n_known
    others = f"; of {n_others:,} others it is not known, or they are left out" if n_others else ""
    print(f"label       {options.label} {n_positive:,} of {n_known:,} patients{others}")
    shares = {"test_share": options.test_share, "validation_share": options.validation_share}
    for seed in range(1, options.seeds + 1):
        deal = deal_patients(labels, sizes=options.sizes, seed=seed, **shares)
        for name, table in group_tables(cohort, patient_of, deal, options, seed).items():
            write_table(table_path(options, seed, name), table)
        print(f"seed {seed:<7}{_describe(deal, patient_of, labels, options)}", flush=True)
    return n_positive / n_known


def _describe(deal: Deal, patient_of: np.ndarray, labels: np.ndarray, options: argparse.Namespace) -> str:
    """Return text such as "test 247 patients with 253 ECGs (21 RBBB), fine-tuning 400 with 409 (34), …"."""
    fine_tuning = np.concatenate(list(deal.fine_tuning[max(options.sizes)].values()))
    groups = {"test": deal.test, "fine-tuning": fine_tuning}
    if not options.init_from:
        groups[PRETRAINING] = deal.pretraining
    counts = []
    for name, patients in groups.items():
        n_ecgs, n_positive = np.isin(patient_of, patients).sum(), np.nansum(labels[patients])
        words = ("", "", "") if counts else (" patients", " ECGs", f" {options.label}")
        numbers = (len(patients), n_ecgs, n_positive)
        n, ecgs, positive = (f"{x:,.0f}{word}" for x, word in zip(numbers, words, strict=True))
        counts.append(f"{name} {n} with {ecgs} ({positive})")
    return ", ".join(counts)


def report(
    options: argparse.Namespace, tested: dict[tuple[int, str], list[Scored]], prevalence: float
) -> None:
    """Print the table and what it means; write it and draw it."""
    table = curve_table(tested, range(1, options.seeds + 1))
    path = options.output_dir / "learning_curve.csv"
    write_atomically(path, lambda aside: table.to_csv(aside, index=False, float_format="%.6f"))
    n_tested = len(np.unique(next(iter(tested.values()))[0].patient_ids))
    seeds = f"{options.seeds} seed{'s' * (options.seeds > 1)}"
    title = f"{options.label}: {seeds}, each with {n_tested:,} test patients\n"
    title += "squares: means, with 95 % intervals; dots: the seeds"
    draw_curve(table, path.with_suffix(".png"), title=title)
    print(f"\n{format_table(table)}\n")
    validating = f"{100 * options.validation_share:g} % of the patients of each size validate"
    print(_wrapped("fine-tuning", validating))
    print(_wrapped("intervals", INTERVALS))
    print(_wrapped("test set", sample_size(table, options.label, prevalence, options.width)))
    print(f"written     {path}, .png, .svg")


def _wrapped(title: str, text: str) -> str:
    return textwrap.fill(f"{title:<12}{text}", 110, subsequent_indent=" " * 12)


def main() -> None:
    options = options_of(sys.argv[1:])
    cohort = read_ecgs(options)
    prevalence = deal_all(options, cohort)
    by_seed = [train_seed(options, seed) for seed in range(1, options.seeds + 1)]
    tested = {arm: [trained[arm] for trained in by_seed] for arm in by_seed[0]}
    report(options, tested, prevalence)


if __name__ == "__main__":
    with one_line_errors():
        try:
            main()
        except KeyboardInterrupt:
            raise UserError("interrupted; what is done is kept, and the same command continues") from None
