"""Compare finished runs on the same ECGs: networks, their ensemble, the ECG signs, clinical scores.

    python evaluate.py runs/train_atten-... runs/train_baseline-...        # which is better, or is it chance?
    python evaluate.py RUN --strata sex age site --rivals wells d_dimer    # columns of the labels table
    python evaluate.py RUN --prevalence 0.05                               # PPV and NPV where PE is rarer
    python evaluate.py RUN --cohort other_ecgs --labels other.csv          # on another hospital's patients
    python evaluate.py RUN --random-kernels                                # a rival; takes minutes
    python evaluate.py RUN --explain 20                                    # what it looks at; takes minutes
    python evaluate.py RUN --data-dir ecgs --labels labels.csv             # the run's ECGs lie elsewhere now

The runs must have tested the same ECGs in the same folds (one cohort, --seed and --folds). Beside them stand
the mean of their scores (the ensemble) and, under the same folds, logistic regressions that a network has to
beat: on the ECG signs of right-heart strain with age and sex, on heart rate alone, on age and sex alone; with
--random-kernels also one on what random convolution kernels find in the ECG (MiniRocket).
Differences of AUROC are tested by DeLong's method, decisions by McNemar's, both with patients as clusters;
beside each p stands Holm's, adjusted for all of these tests. The results go into a new folder: metrics.json,
differences.csv, strata.csv, heart_rate.csv, report.html; predict.py takes the folder of several runs as their
ensemble.

With --cohort the runs score ECGs that they have never seen, with their thresholds and calibration as they
are; nothing is fitted, so there are no logistic regressions to compare with. An ECG that a run has seen is
refused, exported again or not, and so are its patients where one key made both tables' pseudonyms
(--patient-key).

With --explain each run shows which leads and parts of the beat speak for a label, in true and false positives
and negatives, and its most confident errors: explanations.csv, explained_errors.csv, a picture, report.html.
"""

import runtime.early_end  # noqa: F401  Ctrl-C ends the imports, which take seconds, in one line

import argparse
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dataset.cohort import Cohort, places, read_cohort
from dataset.labels_table import read_files
from dataset.sign_columns import given_columns, sign_columns
from ecg.quality import count_missing
from explanations.groups import ExplainedLabel, explain_run
from hyperparameters.declaration import Hyperparameters
from inference.comparison import (
    Comparison,
    Scores,
    lines_of,
    note_changed_labels,
    read_comparison,
    score_cohort,
)
from inference.differences import LabelComparison, adjust_for_many, compare_models
from inference.lead_count import add_min_leads
from inference.rivals import KERNELS, kernel_models, rival_scores, sign_features, sign_models
from inference.sign_baseline import PROBES
from inference.strata import auroc_by_heart_rate, metrics_by_stratum, strata_of
from reporting.figures.group_attribution import draw_group_attribution
from reporting.pages.comparison_page import (
    GroupTable,
    OtherCohort,
    count_groups,
    count_words,
    write_comparison_page,
)
from reporting.pages.explanation_section import (
    ExplanationSection,
    explained_errors,
    explanation_section,
    left_out_words,
    save_explanation_picture,
)
from reporting.pages.run_page import write_report
from reporting.words.cohort_flow import cohort_flow, hours_from_ct, left_out_rows, record_of, table_one
from reporting.words.comparison_table import format_comparison, format_decisions, group_cells, tests_in_words
from reporting.words.formatting import plain, with_interval
from run_folder.ensemble import (
    ENSEMBLE,
    clinical_columns_of,
    label_names_of,
    mean_decisions,
    save_ensemble,
)
from run_folder.files import RunFiles, found_again
from run_folder.hub import is_published, run_argument
from run_folder.lineage import roots_of
from run_folder.run import Run, new_folder
from run_folder.run_record import EXTERNAL, read_run
from runtime.command_line import (
    OneLineParser,
    add_device,
    one_line_errors,
    prepare,
    require,
    share,
    whole_number,
)
from runtime.errors import UserError
from runtime.interruption import HANDLER
from runtime.messages import counted


def main() -> None:
    """Compare the runs of the command line."""
    arguments = parse_arguments()
    if arguments.explain:
        require("captum", "integrated gradients", for_flag="--explain")
    names = arguments.names or [run.name for run in arguments.runs]
    check_names([*names, *arguments.rivals, *PROBES, KERNELS, ENSEMBLE])
    comparison, cohort, seed = read_scores(arguments, names)
    lines = lines_of(comparison.table, cohort)
    features = read_features(arguments, comparison, cohort, lines)
    strata = {name: strata_of(cohort, name)[lines] for name in arguments.strata}
    models = compared_models(arguments, comparison, cohort, lines, features, seed)
    run = Run(new_folder(arguments.output_dir, "evaluate"))
    HANDLER.run_folder = run.folder
    print(f"comparison  {run.folder}")
    other_cohort = describe_cohort(run, arguments, comparison, cohort) if arguments.cohort else None
    results = [
        compare_models(label, of_label, comparison, seed=seed, prevalence=arguments.prevalence)
        for label, of_label in models.items()
    ]
    results = adjust_for_many(results)
    for result in results:
        print_comparison(result)
    save_comparison(run, comparison, results)
    groups = measure_groups(comparison, strata, features)
    save_groups(run, groups)
    if words := tests_in_words(results, count_groups(groups)):
        print(f"\nnote        {words}")
    sections = explanations(run, arguments, comparison, cohort, seed) if arguments.explain else []
    page = write_comparison_page(
        run.folder, len(arguments.runs), results, groups, sections, other_cohort, comparison.min_seconds
    )
    print(f"\nreport      {page}")
    if arguments.cohort:
        record_validation(run, arguments.runs, names)


def parse_arguments() -> argparse.Namespace:
    parser = OneLineParser(description=__doc__)
    parser.add_argument("runs", type=run_argument, nargs="+", metavar="run", help="folders of finished runs")
    parser.add_argument("--names", nargs="+", help="of the runs, for the tables")
    parser.add_argument("--strata", nargs="+", default=[], help="columns of the labels table to report by")
    parser.add_argument("--rivals", nargs="+", default=[], help="columns to compare with; higher is sicker")
    parser.add_argument("--prevalence", type=share, help="to restate PPV and NPV for, between 0 and 1")
    parser.add_argument("--cohort", metavar="DIR", help="folder of ECGs that the runs have not seen")
    parser.add_argument("--data-dir", metavar="DIR", help="the runs' own ECGs, where they lie elsewhere now")
    parser.add_argument("--labels", help="labels table of --cohort or --data-dir [labels.csv in the folder]")
    parser.add_argument("--patient-key", metavar="FILE", help="key of their pseudonyms [beside the table]")
    help = "with --cohort, accept recordings of this many leads or more, the others zeros [the first run's]"
    add_min_leads(parser, help=help)
    parser.add_argument("--no-signs", dest="signs", action="store_false", help="leave out the ECG signs")
    parser.add_argument(
        "--random-kernels",
        action="store_true",
        help="compare with random convolution kernels too; takes minutes",
    )
    parser.add_argument(
        "--explain",
        type=whole_number,
        metavar="N",
        help="explain at most N true and false positives and negatives each",
    )
    add_device(parser)
    parser.add_argument("--output-dir", type=Path, default=Path("runs"), help="of the new folder [runs]")
    arguments = parser.parse_args()
    if arguments.names and len(arguments.names) != len(arguments.runs):
        parser.error(f"--names: found {len(arguments.names)}, expected one for each of the runs")
    if arguments.patient_key and not arguments.cohort:
        parser.error("--patient-key: found no --cohort, expected the folder of the ECGs that it is for")
    if arguments.labels and not (arguments.cohort or arguments.data_dir):
        parser.error("--labels: found no --cohort and no --data-dir, expected the folder that it is for")
    if arguments.min_leads and not arguments.cohort:
        parser.error("--min-leads: found no --cohort, expected the folder of the ECGs that it is for")
    if arguments.cohort and arguments.data_dir:
        parser.error("--data-dir: found --cohort too, expected one of them")
    if arguments.random_kernels and arguments.cohort:
        parser.error("--random-kernels: found --cohort, expected none: nothing is fitted on its ECGs")
    return arguments


def check_names(names: list[str]) -> None:
    """Refuse two models of one name: the tables would hold only one of them."""
    for name, times in Counter(names).items():
        if times > 1:
            raise UserError(f"{name}: found as the name of two models, expected two names (--names)")


def read_scores(arguments: argparse.Namespace, names: Sequence[str]) -> tuple[Comparison, Cohort, int]:
    """Return the scores of the runs, the cohort that they scored, and the first run's seed."""
    root = roots_of(arguments.runs[0])[0]
    values = read_values(root)
    if arguments.cohort:
        cohort = read_other_cohort(arguments, values)
        device = prepare(values.seed, arguments.device)
        return score_cohort(arguments.runs, names, cohort, device), cohort, values.seed
    comparison = read_comparison(arguments.runs, names)
    return comparison, read_own_cohort(arguments, root, values), values.seed


def read_own_cohort(arguments: argparse.Namespace, root: Path, values: Hyperparameters) -> Cohort:
    """Return the cohort that the runs were trained on, where --data-dir says or where the first run found it.

    Raises
    ------
    UserError : it is not there, or see ``read_cohort``.
    """
    names = {name: getattr(values, name) for name in ("data_dir", "labels", "patient_key")}
    own = {name: found_again(root, values.present(), path) for name, path in names.items() if path}
    if not arguments.data_dir and "data_dir" in own and not own["data_dir"].is_dir():
        raise UserError(
            f"{own['data_dir']}: found no such folder here, nor where {root} was trained, expected its ECGs "
            "(data_dir in its hyperparameters.yml); --data-dir names their folder"
        )
    places = {name: str(path) for name, path in own.items()}
    if arguments.data_dir:
        places["data_dir"] = arguments.data_dir
        if arguments.labels or not ("labels" in own and own["labels"].is_file()):
            places["labels"] = arguments.labels
    return read_cohort(quality=values.group("quality"), **{**values.group("cohort"), **places})


def read_other_cohort(arguments: argparse.Namespace, values: Hyperparameters) -> Cohort:
    """Return another hospital's cohort, read and judged as the first run's own was; print what is unknown."""
    _, path = places(arguments.cohort, arguments.labels)
    run_labels, columns = label_names_of(arguments.runs[0]), read_files(path).columns
    labels = [name for name in run_labels if name in columns]
    if not labels:
        raise UserError(f"{path}: found no column {' or '.join(run_labels)}, expected the labels of the runs")
    beside = clinical_columns_of(arguments.runs)
    changed = {
        "data_dir": arguments.cohort,
        "labels": arguments.labels,
        "label_columns": labels,
        "patient_key": arguments.patient_key,
        "clinical_columns": given_columns(beside),
        "ecg_signs": bool(sign_columns(beside)),
    }
    if arguments.min_leads:
        changed["min_leads"] = arguments.min_leads
    cohort = read_cohort(quality=values.group("quality"), **{**values.group("cohort"), **changed})
    n_read, n_rejected = len(cohort.table), len(cohort.reading.rejected)
    print(f"cohort      {n_read + n_rejected:,} files: {n_read:,} read, {n_rejected:,} rejected")
    for name in run_labels:
        unknown = n_read
        if name in labels:
            unknown = int(np.isnan(cohort.targets[:, labels.index(name)]).sum())
        if unknown == n_read:
            print(f"labels      {name} is known of no ECG: it is not evaluated")
        elif unknown:
            print(f"labels      {name} is not known of {counted(unknown, 'ECG')}: evaluated without them")
    return cohort


def read_features(
    arguments: argparse.Namespace, comparison: Comparison, cohort: Cohort, lines: np.ndarray
) -> pd.DataFrame | None:
    """Return the ECG signs of all ECGs of the runs, if wanted; print which labels are no longer the runs'."""
    if not arguments.signs:
        tested = comparison.table.rename(columns=lambda name: name.removeprefix("y_true_"))
        note_changed_labels(tested, cohort, lines)
        return None
    lines = lines_of(comparison.splits, cohort)
    note_changed_labels(comparison.splits, cohort, lines)
    return sign_features(cohort, lines)


def compared_models(
    arguments: argparse.Namespace,
    comparison: Comparison,
    cohort: Cohort,
    lines: np.ndarray,
    features: pd.DataFrame | None,
    seed: int,
) -> dict[str, list[Scores]]:
    """Return what is compared for each label: the runs, their rivals, then what is fitted beside them."""
    rivals = rival_scores(cohort, arguments.rivals, lines, comparison.label_names)
    kernels = kernel_models(cohort, comparison, seed=seed) if arguments.random_kernels else {}
    models = {}
    for number, label in enumerate(comparison.label_names):
        models[label] = [model.for_label(number) for model in comparison.models] + rivals
        models[label] += sign_models(features, comparison, label) if features is not None else []
        models[label] += kernels.get(label, [])
    return models


def describe_cohort(
    run: Run, arguments: argparse.Namespace, comparison: Comparison, cohort: Cohort
) -> OtherCohort:
    """Write which of the cohort's files are not used and the scores of the others, and print table 1."""
    run.write_table("rejected.csv", cohort.reading.rejected)
    run.write_table("quality.csv", cohort.reading.findings)
    run.write_table("predictions.csv", tabulate_scores(comparison))
    record, development = record_of(cohort, run.folder), read_run(roots_of(arguments.runs[0])[0])
    known = None if is_published(development.folder) else development
    flow, (header, rows) = cohort_flow(record), table_one(record, known)
    for reason, n in flow.reasons:
        print(f"            {n:,} x {reason}")
    print(plain(pd.DataFrame(rows, columns=header).to_string(index=False)))
    left_out, hours = left_out_rows(record), hours_from_ct(record)
    if lacking := count_missing(cohort.measurements):
        print(f"leads       {lacking}")
    return OtherCohort(
        flow, comparison.label_names, header, rows, left_out, hours, comparison.unseen, lacking
    )


def record_validation(run: Run, folders: Sequence[Path], names: Sequence[str]) -> None:
    """Write which runs were validated, and make the reports anew of those that lie beside the evaluation.

    A run's report names its external validations. One that cannot be written anew is named.
    """
    runs = {
        name: os.path.relpath(folder.resolve(), run.folder.resolve())
        for name, folder in zip(names, folders, strict=True)
    }
    run.write_text(EXTERNAL, json.dumps({"runs": runs}, indent=2) + "\n")
    for folder in folders:
        if not all(map(RunFiles(folder).has, ("splits.csv", "report.html"))):
            continue  # a fold, or the ensemble of a comparison
        record = read_run(folder)
        if not record.external:
            continue
        try:
            print(f"            {write_report(record)} names it too")
        except OSError as error:
            print(f"            {folder / 'report.html'} does not name it: {error.strerror}")


def tabulate_scores(comparison: Comparison) -> pd.DataFrame:
    """Return the score that each model gave each ECG: one row per ECG."""
    scores = {
        f"y_score_{label}_{model.name}": model.y_score[:, number]
        for number, label in enumerate(comparison.label_names)
        for model in comparison.models
    }
    return comparison.table.drop(columns=["repeat", "fold"]).assign(**scores)


def read_values(run: Path) -> Hyperparameters:
    """Return the hyperparameters that a run was trained with."""
    try:
        return Hyperparameters(**RunFiles(run).hyperparameters())
    except TypeError as error:
        raise UserError(f"{run / 'hyperparameters.yml'}: found another version's values ({error})") from None


def print_comparison(result: LabelComparison) -> None:
    """Print one label's metrics of all models, their differences from the first, and restated PPV and NPV."""
    print(f"\n{count_words(result)}; in brackets 95 % intervals, which count patients")
    print(format_comparison(result.metrics, result.differences))
    print("\nat the thresholds that the models brought")
    print(format_decisions(result.metrics))
    for name, model in result.metrics.items():
        if restated := model.get("at_prevalence"):
            ppv, npv = (plain(with_interval(restated[key])) for key in ("ppv", "npv"))
            print(
                f"{name} where {100 * restated['prevalence']:g} % have {result.label}: PPV {ppv}, NPV {npv}"
            )


def save_comparison(run: Run, comparison: Comparison, results: Sequence[LabelComparison]) -> None:
    """Write the metrics of all models, one row per difference, and of several runs their ensemble."""
    if comparison.ensemble_thresholds is not None:
        decisions = mean_decisions(comparison.members, comparison.ensemble_thresholds)
        save_ensemble(run, comparison.members, decisions)
    run.write_metrics({result.label: result.metrics for result in results})
    rows = [result.differences.assign(label=result.label) for result in results]
    run.write_table("differences.csv", pd.concat(rows))


def measure_groups(
    comparison: Comparison,
    strata: Mapping[str, pd.Categorical],
    features: pd.DataFrame | None,
) -> list[GroupTable]:
    """Return the first model's metrics by stratum, and within thirds of the heart rate."""
    first, tables = comparison.models[0].name, []
    if comparison.table["repeat"].nunique() > 1:
        first += " in its first repeat"
    if strata:
        rows = metrics_by_stratum(comparison, strata)
        tables.append(GroupTable(f"{first} by {', '.join(strata)}", "strata.csv", rows))
    if features is not None:
        rows = auroc_by_heart_rate(comparison, features["heart_rate_bpm"])
        tables.append(GroupTable(f"{first} within thirds of the heart rate", "heart_rate.csv", rows))
    return tables


def save_groups(run: Run, groups: Sequence[GroupTable]) -> None:
    """Print the tables of groups of ECGs, and write each to its file."""
    for group in groups:
        print(f"\n{group.title}")
        print(plain(group_cells(group.rows).to_string(index=False)))
        run.write_table(group.file, group.rows)


def explanations(
    run: Run, arguments: argparse.Namespace, comparison: Comparison, cohort: Cohort, seed: int
) -> list[ExplanationSection]:
    """Write what each run looks at, print what was left out, and return the sections of the page."""
    print()
    explained = explain_runs(arguments.runs, comparison, cohort, arguments.explain, seed, arguments.device)
    for words in filter(None, map(left_out_words, explained)):
        print(f"explain     {words}")
    figures = [draw_group_attribution(one) for one in explained]
    save_explanations(run, explained, figures)
    return [explanation_section(*pair, cohort) for pair in zip(explained, figures, strict=True)]


def explain_runs(
    folders: Sequence[Path], comparison: Comparison, cohort: Cohort, n_ecgs: int, seed: int, device_name: str
) -> list[ExplainedLabel]:
    """Return what each run looks at for each label; the ensemble is not explained."""
    device, explained = prepare(seed, device_name), []
    for folder, model in zip(folders, comparison.models, strict=False):  # the ensemble is the last
        explained += explain_run(folder, model, comparison, cohort, n_ecgs=n_ecgs, device=device, seed=seed)
    return explained


def save_explanations(run: Run, explained: Sequence[ExplainedLabel], figures: Sequence[Figure]) -> None:
    """Write the mean attributions, the most confident errors, and a picture for each run and label."""
    columns = ["label", "model", "group", "lead", "segment", "mean", "low", "high"]
    columns += ["difference", "difference_low", "difference_high", "n"]
    run.write_table("explanations.csv", pd.concat([one.means for one in explained])[columns])
    run.write_table("explained_errors.csv", pd.concat([explained_errors(one) for one in explained]))
    for one, figure in zip(explained, figures, strict=True):
        save_explanation_picture(figure, one, run.folder)


if __name__ == "__main__":
    with one_line_errors():
        main()
