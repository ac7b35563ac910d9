"""Score ECG files with the model of a finished run.

    python predict.py runs/train_atten-20261122-101500 patient.xml
    python predict.py runs/train_atten-20261122-101500 new_ecgs --output scores.csv
    python predict.py runs/train_atten-20261122-101500 new_ecgs --prevalence 0.05
    python predict.py runs/train_atten-20261122-101500 patient.xml --report patient.html

Prints one line per ECG, and writes it to --output, a .csv or .json file:

    file
    score_LABEL       calibrated probability, 0 to 1
    decision_LABEL    1 where the score reaches the threshold that the run fixed before its test
    lowest_, highest_LABEL    scores of the members, where the run is a cross-validation or the folder of a
                      comparison, whose models score together
    restated_LABEL    with --prevalence: the score for patients of whom that share has the disease, in place
                      of the share in development; decisions stay as they are
    set_LABEL         with --alpha: LABEL, no LABEL or not sure, such that at most that share of the
                      patients of each class is called the other; on the page of --report too
    warnings          what is doubtful about the ECG, in what it is unlike those that trained the model, or
                      that it is one of them

A run with --clinical-columns needs their values: --clinical age=63 sex=F for one ECG, or --clinical-table.
What a run with --ecg-signs sees is measured in the file.

--report writes a page about one ECG, to be read on the screen or printed on one side of A4: score, threshold,
warnings, the ECG with what the model looked at, and the signs that a cardiologist measures. It shows nothing
from the file but the signal, and not its name, which may be the patient's; --title gives it a heading.

--embeddings writes the vector that each model hands to its last layer, one row per ECG that was scored.

Every file of a folder and its subfolders that may be an ECG is taken. A file that cannot be read, or
whose ECG the run would not have been trained on (--any-quality scores it all the same), is listed with its
reason, the rest is scored, and the exit status is 1. Memory does not grow with the number of files, but for
one line for each that is doubtful or not scored.

PyTorch computes the scores or, where "export.py RUN" has left scoring.onnx in the run, onnxruntime, which
starts sooner; --engine chooses.
"""

import runtime.early_end  # noqa: F401  Ctrl-C ends the imports, which take seconds, in one line

import argparse
import contextlib
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from dataset.decoding import decode
from dataset.sign_columns import given_columns
from ecg.quality import missing_leads
from ecg.recording import LEAST_SECONDS
from inference.abstention import Abstention, abstentions
from inference.exported import ExportedScorer, NotExportedError, has_export
from inference.lead_count import add_min_leads
from inference.likeness import TrainingDistribution
from inference.members import Members
from inference.prediction import TRAINED_ON, Failure, Scored, clinical_source, decide, score_files
from inference.scores_file import PrintedTable, ScoresFile
from inference.unseen import TrainedOn
from reporting.words.decision_words import span_of_folds, untested_together
from reporting.words.formatting import plain, with_interval
from reporting.words.set_words import sets_line
from run_folder.ensemble import performance_of
from run_folder.hub import is_published, run_argument
from runtime.atomic_files import check_file_to_write
from runtime.command_line import (
    OneLineParser,
    add_device,
    number_flag,
    one_line_errors,
    prepare,
    require,
    share,
)
from runtime.errors import UserError
from runtime.messages import counted
from xml_loader import find_files


def main() -> int:
    """Score the files of the command line; return the exit status."""
    arguments = parse_arguments()
    check_outputs(arguments)
    scorer = load_scorer(arguments)
    scorer.min_seconds = arguments.min_seconds or scorer.min_seconds
    if arguments.min_leads:
        scorer.accept_leads(arguments.min_leads)
    check_prevalences(arguments.prevalence, scorer)
    check_label(arguments.label, scorer)
    files, left_out, failures = find_files(arguments.paths)
    clinical_of = clinical_source(
        given_columns(scorer.clinical_columns),
        run=arguments.run,
        paths=arguments.paths,
        files=files,
        words=arguments.clinical,
        table=arguments.clinical_table,
    )
    print(f"{scorer.title} of {arguments.run}; thresholds: {describe_thresholds(scorer)}")
    for line in describe_performance(arguments.run, scorer):
        print(line)
    sets = abstentions(arguments.run, scorer.label_names, arguments.alpha) if arguments.alpha else []
    for one in sets:
        print(f"sets        {sets_line(one)}")
    trained_on = [TrainingDistribution.load(folder) for folder in scorer.folders]
    if not any(trained_on):
        print(
            "note        the run did not record what its training ECGs were like: none is called unlike them"
        )
    seen = TrainedOn.of(arguments.run)
    if is_published(arguments.run):
        print("note        the folder does not tell which ECGs trained the model: none is called one of them")
    results = score_files(files, scorer, trained_on, clinical_of, seen, any_quality=arguments.any_quality)
    with recording(arguments, scorer) as embeddings:
        rest = write_rows(results, files, scorer, arguments, sets)
    rest.failures[:0] = failures
    print_rest(rest, n_left_out=len(left_out))
    if embeddings and rest.scored:
        embeddings.save(arguments.embeddings, rest.scored)
    for written in (arguments.output, arguments.embeddings if rest.scored else None):
        if written:
            print(f"written     {written}")
    if arguments.report and rest.n_scored:
        write_page(arguments, scorer, rest.last, sets)
    return 1 if rest.failures else 0


@dataclass
class Rest:
    """What is kept of all files while their rows are written: counts, doubts, why some have no score."""

    n_scored: int = 0
    doubtful: list[Scored] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    last: Scored | None = None
    scored: list[Path] = field(default_factory=list)  # where their names are needed, with --embeddings


def write_rows(
    results: Iterable[tuple[list[Scored], list[Failure]]],
    files: Sequence[Path],
    scorer: Members,
    arguments: argparse.Namespace,
    sets: Sequence[Abstention],
) -> Rest:
    """Print the rows of the table as they come, and write them to --output; return the rest."""
    rest, printed = Rest(), PrintedTable(files)
    bar = tqdm(total=len(files), desc="scoring", unit="file", disable=None, leave=False)
    with ScoresFile(arguments.output) if arguments.output else contextlib.nullcontext() as output, bar:
        for scored, failed in itertools.chain([([], [])], results):
            table = decide(scored, scorer, arguments.prevalence)
            for one in sets:
                words = one.in_words(table[f"score_{one.label}"].to_numpy())
                table.insert(len(table.columns) - 1, f"set_{one.label}", words)  # before the warnings
            for line in printed.lines(table):
                bar.write(line)
            if output:
                output.add(table)  # the first, without rows, gives the columns
            rest.n_scored += len(scored)
            rest.doubtful += [ecg for ecg in scored if ecg.doubts]
            rest.failures += [failure.reason for failure in failed]
            rest.last = scored[-1] if scored else rest.last
            rest.scored += [ecg.file for ecg in scored] if arguments.embeddings else []
            bar.update(len(scored) + len(failed))
    return rest


def load_scorer(arguments: argparse.Namespace) -> Members:
    """Return the run's models, computed by what --engine says.

    A line says where that is onnxruntime, and where an export is there and cannot be used, why.
    """
    is_possible = arguments.device in ("auto", "cpu") and not (arguments.report or arguments.embeddings)
    if arguments.engine == "onnx" or (arguments.engine == "auto" and is_possible):
        try:
            if arguments.engine == "onnx" or has_export(arguments.run):
                scorer = ExportedScorer.load(arguments.run)
                print(f"engine      {scorer.engine}")
                return scorer
        except NotExportedError as error:
            if arguments.engine == "onnx":
                raise
            print(f"engine      PyTorch: {error}")
    from inference.scoring import Scorer  # PyTorch takes two seconds

    return Scorer.load(arguments.run, prepare(seed=0, device=arguments.device))


def recording(arguments: argparse.Namespace, scorer: Members) -> AbstractContextManager:
    """Return the context in which --embeddings are recorded, or one that gives None."""
    if not arguments.embeddings:
        return contextlib.nullcontext()
    from inference.embeddings import Embeddings  # PyTorch takes two seconds

    return Embeddings(scorer)


def print_rest(rest: Rest, *, n_left_out: int) -> None:
    """Print, after the table, doubts, then what was not scored and why, then the counts."""
    for ecg in rest.doubtful:
        print(f"doubtful    {ecg.file}: {'; '.join(ecg.doubts)}")
    if n_known := sum(TRAINED_ON in ecg.doubts for ecg in rest.doubtful):
        print(
            f"note        {counted(n_known, 'ECG')} trained or validated the model: no test of how good it is"
        )
    for failure in rest.failures:
        print(f"not scored  {failure}", file=sys.stderr)
    others = f"; {counted(n_left_out, 'other file')} in the folders" if n_left_out else ""
    print(f"{counted(rest.n_scored, 'ECG')} scored, {counted(len(rest.failures), 'file')} not{others}")


def parse_arguments() -> argparse.Namespace:
    parser = OneLineParser(description=__doc__)
    parser.add_argument(
        "run", type=run_argument, help="folder of a finished run or of export.py --hub, or hf://owner/name"
    )
    parser.add_argument(
        "paths", type=Path, nargs="+", metavar="file_or_folder", help="ECG files, or folders of them"
    )
    parser.add_argument("--output", type=Path, help="CSV or JSON file to write")
    parser.add_argument(
        "--prevalence", type=share, nargs="+", help="share of these patients with each label, between 0 and 1"
    )
    help = "score recordings from this length on, padded to 10 s, with a warning [the run's]"
    length = number_flag(
        float, f"a number from {LEAST_SECONDS:g} to 10", lambda value: LEAST_SECONDS <= value <= 10
    )
    parser.add_argument("--min-seconds", type=length, metavar="S", help=help)
    help = "score recordings of this many leads or more, the others zeros, with a warning [the run's]"
    add_min_leads(parser, help=help)
    parser.add_argument(
        "--alpha",
        type=number_flag(float, "a number above 0 and below 0.5", lambda value: 0 < value < 0.5),
        help="add sets of PE, no PE or not sure that miss at most this share of each class, such as 0.1",
    )
    parser.add_argument("--any-quality", action="store_true", help="score unusable ECGs too, with a warning")
    parser.add_argument(
        "--clinical",
        nargs="+",
        metavar="NAME=VALUE",
        help="what the run sees beside one ECG: age=63 sex=",
    )
    parser.add_argument("--clinical-table", type=Path, help="the same for many: a table with a column file")
    add_device(parser)
    parser.add_argument(
        "--embeddings",
        type=Path,
        metavar="FILE",
        help=".npz file to write, what each head is given",
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "torch", "onnx"),
        default="auto",
        help="what computes: PyTorch, or onnxruntime where export.py was run (default: the latter if it can)",
    )
    parser.add_argument("--report", type=Path, help="HTML file to write, a page about one ECG")
    parser.add_argument("--label", help="which label the page is about (default: the run's first)")
    parser.add_argument("--title", default="", help="heading of the page; the file's name is not shown")
    return parser.parse_args()


def check_outputs(arguments: argparse.Namespace) -> None:
    """Raise a UserError where what is to be written cannot be, before anything is scored."""
    for path in filter(None, (arguments.output, arguments.report, arguments.embeddings)):
        check_file_to_write(path)
    if arguments.embeddings and arguments.embeddings.suffix != ".npz":
        raise UserError(f"--embeddings: found {arguments.embeddings}, expected a name that ends in .npz")
    check_engine(arguments)
    if not arguments.report:
        for flag in ("label", "title"):
            if getattr(arguments, flag):
                raise UserError(f"--{flag}: found no --report, expected one, the page that it is for")
        return
    if arguments.report.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--report: found {arguments.report}, expected a name that ends in .html")
    if len(arguments.paths) != 1 or arguments.paths[0].is_dir():
        found = f"{len(arguments.paths)} paths" if len(arguments.paths) > 1 else "a folder"
        raise UserError(f"--report: found {found}, expected one ECG file: a page is about one ECG")
    if arguments.report.resolve() == arguments.paths[0].resolve():
        raise UserError(f"--report: found the ECG file itself, {arguments.report}, expected another name")
    require("captum", "integrated gradients", for_flag="--report")


def check_engine(arguments: argparse.Namespace) -> None:
    """Raise a UserError where onnxruntime is to do what only PyTorch does."""
    device = "" if arguments.device in ("auto", "cpu") else arguments.device
    for flag, is_given in {
        "report": arguments.report,
        "embeddings": arguments.embeddings,
        "device": device,
    }.items():
        if arguments.engine == "onnx" and is_given:
            raise UserError(f"--engine: found onnx with --{flag}, expected torch, which alone can do that")


def check_label(name: str | None, scorer: Members) -> None:
    if name is not None and name not in scorer.label_names:
        raise UserError(f"--label: found {name}, expected one of {', '.join(scorer.label_names)}")


def check_prevalences(prevalences: list[float] | None, scorer: Members) -> None:
    if prevalences is None:
        return
    n_labels = len(scorer.label_names)
    if len(prevalences) != n_labels:
        found = " ".join(f"{prevalence:g}" for prevalence in prevalences)
        raise UserError(f"--prevalence: found {found}, expected {counted(n_labels, 'number')}, one per label")


def describe_thresholds(scorer: Members) -> str:
    pairs = zip(scorer.label_names, scorer.thresholds, strict=True)
    return ", ".join(f"{name} {threshold:.3g}" for name, threshold in pairs) + f" ({scorer.threshold_source})"


def describe_performance(run: Path, scorer: Members) -> Iterator[str]:
    """Yield what the decisions were worth on the run's own test ECGs, one line per label.

    Of several models together it is said what was tested of them, and at which thresholds.
    """
    performance = performance_of(run)
    for name, label in performance.items():
        shares = (
            f"{key} {plain(with_interval(label[key]))}"
            for key in ("sensitivity", "specificity")
            if key in label and label[key].is_defined
        )
        span = span_of_folds(label)
        at = f"the thresholds of the folds, {span}" if span else "this threshold"
        yield f"{name} at {at}, on the run's test ECGs: {', '.join(shares)}; 95 % intervals"
    if performance and (note := untested_together(run)):
        yield f"note        {note}"


def write_page(
    arguments: argparse.Namespace, scorer: Members, ecg: Scored, sets: Sequence[Abstention]
) -> None:
    """Write the page about one ECG."""
    from reporting.pages.patient_page import write_patient_page  # matplotlib, jinja2 and captum take seconds

    label = scorer.label_names.index(arguments.label) if arguments.label else 0
    window = scorer.window_start, scorer.min_seconds, scorer.min_leads
    _, signal, measurement = decode(ecg.file, *window)
    write_patient_page(
        arguments.report,
        scorer=scorer,
        run=arguments.run,
        signal=signal,
        member_scores=ecg.member_scores[:, None],
        label=label,
        missing=missing_leads(measurement),
        warnings=ecg.doubts,
        clinical=ecg.clinical[None] if scorer.clinical_columns else None,
        prevalence=arguments.prevalence[label] if arguments.prevalence else None,
        sets=sets[label] if sets else None,
        title=arguments.title,
    )
    print(f"page        {arguments.report}: {scorer.label_names[label]}")


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
