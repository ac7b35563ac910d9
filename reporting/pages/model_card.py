"""The model card of an exported run: what a person must know before using the file.

After Mitchell et al., Model cards for model reporting, FAT* 2019 (doi:10.1145/3287560.3287596). It is made
from the run's files and holds counts and metrics, but nothing about a patient: no file name, no identifier.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dataset.clinical import coding_of
from ecg.recording import MIN_SECONDS
from hyperparameters.declaration import Hyperparameters
from inference.scoring import Scorer
from reporting.pages.page_parts import TEMPLATES
from reporting.words.cohort_flow import cohort_flow, table_one
from reporting.words.comparison_table import group_cells
from reporting.words.formatting import number, signed
from reporting.words.metric_meanings import metric_groups
from reporting.words.run_sentences import calibrated_on, confusion_sentences, fold_thresholds, verdict
from reporting.words.study_facts import external, started_from
from run_folder.ensemble import performance_of, read_ensemble
from run_folder.files import RunFiles
from run_folder.lineage import roots_of
from run_folder.repeats import ecgs_of
from run_folder.run_record import RunRecord, read_run
from runtime.errors import UserError, one_line
from runtime.messages import counted
from xml_loader import LEADS, SAMPLING_RATE

CONFIDENCE = 0.95  # of the intervals in a comparison
# Without those of paths and cohorts
SHOWN_GROUPS = {
    "split", "decision", "batches", "augmentation", "layers", "rnn", "encoder",
    "loss", "optimizer", "schedule", "step", "length", "training", "run",
}  # fmt: skip
LEFT_OUT = (
    "output_dir",
    "resume",
    "compile",
    "sync_batch_norm",
    "folds_at_once",
)  # paths, and what changes only speed
SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*<>[]|"})  # in Markdown

Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # header and rows


@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """An exported file.

    Attributes
    ----------
    name : without a folder.
    sha256, n_bytes : of its content.
    largest_difference : between its scores and PyTorch's.
    versions : of the programs that made and checked it.
    """

    name: str
    sha256: str
    n_bytes: int
    largest_difference: float
    versions: dict[str, str]


def render_model_card(
    folder: Path, scorer: Scorer, file: OnnxFile | None = None, *, evaluation: Path | None = None
) -> str:
    """Return the card, Markdown, of an exported run, fold, cross-validation or ensemble of a comparison.

    Parameters
    ----------
    folder : what was exported. The card names what it lacks (no test, no table of the split).
    file : the ONNX file; None for the card of a folder that predict.py takes.
    evaluation : a folder of ``evaluate.py`` whose first model is this run; its strata are shown.

    Raises
    ------
    UserError : a file is damaged, or ``evaluation`` has another first model.
    """
    try:
        record, runs = _records(folder)
        strata, strata_of = _strata(record, evaluation)
        card = markdown_environment().get_template("model_card.md")
        return card.render(
            scorer=scorer,
            file=file,
            labels=", ".join(scorer.label_names),
            label_names=scorer.label_names,
            answers=_answers(scorer),
            verdict=verdict(record),
            run=folder.resolve().name,
            trained=str(record.environment.get("started", ""))[:10],
            limits=_limits(record),
            flow=cohort_flow(record) if len(record.splits) else None,
            table_one=table_one(record),
            started_from=started_from(runs),
            epochs=_epochs(runs),
            hyperparameters=_hyperparameters(runs),
            tested=_tested(record, "file" if file else "folder"),
            interval=f"{100 * record.metrics.get('confidence', CONFIDENCE):g} % interval",
            metrics=_metrics(record),
            strata=strata,
            strata_of=strata_of,
            decisions=_decisions(record, scorer),
            leads=LEADS,
            sampling_rate=SAMPLING_RATE,
            stretch=_stretch(scorer),
            clinical_columns=scorer.clinical_columns,
            codings=[[name, coding_of(name)] for name in scorer.clinical_columns],
            members=_members(scorer),
            versions=_versions(record, file),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{folder}: found files that make no model card ({one_line(error)}), expected those "
            "of a finished run"
        ) from None


def exported_record(folder: Path) -> RunRecord:
    """Return the record of an exported run, fold, cross-validation or ensemble, for a card for programs."""
    return _records(folder)[0]


def markdown(value: object) -> object:
    """Return text that Markdown shows as it is, on one line; other values, and safe text, unchanged."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return " ".join(value.split()).translate(SPECIAL)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """Return a table of text."""
    lines = [header, ["---"] * len(header), *rows]
    cells = ([str(markdown(cell)) for cell in line] for line in lines)
    return Markup("".join(f"| {' | '.join(line)} |\n" for line in cells))


def markdown_environment() -> Environment:
    """Return what fills the template; all values are escaped for Markdown."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        finalize=markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"table": markdown_table, "counted": counted}
    return environment


# ----------------------------------------------------------------------------------------------------
# The files
# ----------------------------------------------------------------------------------------------------


def _records(folder: Path) -> tuple[RunRecord, list[RunRecord]]:
    """Return the record with the metrics of what was exported, and those of the runs that trained it."""
    runs = [read_run(root) for root in roots_of(folder) if RunFiles(root).has("splits.csv")]
    if not runs:
        runs = [read_run(folder)]
    if runs[0].folder.resolve() == folder.resolve():
        return runs[0], runs
    if RunFiles(folder).has("ensemble.json"):
        return replace(runs[0], folder=folder, metrics=_ensemble_metrics(folder)), runs
    fold = _fold_record(runs[0], folder)
    return fold, [fold]


def _fold_record(run: RunRecord, folder: Path) -> RunRecord:
    """Return the record of one fold of a cross-validation, as if it were a single split."""
    fold, name = read_run(folder), folder.resolve().name
    splits = run.splits.drop(columns=run.fold_columns).assign(split=run.splits[name])
    return replace(
        run,
        folder=folder,
        metrics=fold.metrics,
        predictions=fold.predictions,
        splits=splits,
        logs=fold.logs,
        descriptions=fold.descriptions,
    )


def _ensemble_metrics(folder: Path) -> dict:
    """Return the metrics of the ensemble of a comparison, in the form of those of a run."""
    labels = performance_of(folder)
    counts = {
        key: max((label[key] for label in labels.values()), default=0) for key in ("n_ecgs", "n_patients")
    }
    counts["n_repeats"] = max((label.get("n_repeats", 1) for label in labels.values()), default=1)
    return {**counts, "confidence": CONFIDENCE, "labels": labels}


# ----------------------------------------------------------------------------------------------------
# The sections
# ----------------------------------------------------------------------------------------------------


def _answers(scorer: Scorer) -> str:
    pairs = zip(scorer.label_names, scorer.prevalences, strict=True)
    names = ", ".join(f"{name} ({100 * prevalence:.1f} % in development)" for name, prevalence in pairs)
    return f"the probability, from 0 to 1, of {names}"


def _limits(record: RunRecord) -> list[str]:
    sentences = [
        "For research on ECGs whose truth is known. It decides nothing about a patient, neither for a "
        "further test nor against it.",
        "It holds for patients like those that it was trained on, selected in the same way (see Data). Who "
        "gets an ECG and the reference test differs between hospitals, and so will its errors.",
        _elsewhere(record),
        "PPV and NPV hold for a prevalence like that of the tested ECGs, and for no other.",
        "The intervals say how much depends on which patients were tested, not how much on the training.",
        "Nothing is known of its errors in groups that are not listed under Evaluation.",
    ]
    if record.is_demo:
        sentences.insert(
            0, "It was trained on synthetic ECGs, computed from formulas, and says nothing about patients."
        )
    return sentences


def _elsewhere(record: RunRecord) -> str:
    """Return how the run did on other cohorts, as far as that is recorded beside it."""
    tested = "This card reports no test at another hospital (evaluate.py --cohort makes one)."
    if validated := external(record):
        tested = f"On another cohort: {validated}."
    return f"{tested} Test it on ECGs of your own before you believe it."


def _epochs(runs: Sequence[RunRecord]) -> str:
    """Name the epoch whose weights were kept, for each model; "" where there is no log."""
    kept = []
    for run in runs:
        whose = f"{run.folder.resolve().name} " if len(runs) > 1 else ""
        for name, log in run.logs.items():
            epoch = log.loc[log["kept"] == 1, "epoch"].max()
            kept.append(f"{whose}{name} epoch {epoch} of {len(log)}".replace("  ", " ").strip())
    if not kept:
        return ""
    if runs[0].hyperparameters.get("keep") == "last":
        return (
            f"The averaged weights of the last epoch were kept, whatever validation said: {'; '.join(kept)}."
        )
    monitor = runs[0].hyperparameters.get("monitor", "score")
    return f"The weights with the best validation {monitor} were kept: {'; '.join(kept)}."


def _hyperparameters(runs: Sequence[RunRecord]) -> Table | None:
    """Return name, value in each run, and meaning of the hyperparameters that shaped the training."""
    rows = []
    for declared in fields(Hyperparameters):
        values = [run.hyperparameters.get(declared.name) for run in runs]
        group = declared.metadata["group"]
        if group not in SHOWN_GROUPS or declared.name in LEFT_OUT or all(value is None for value in values):
            continue
        if group == "augmentation" and not any(values):
            continue  # only the augmentations that were used
        rows.append([declared.name, *map(_as_text, values), declared.metadata["help"]])
    names = [run.folder.resolve().name for run in runs] if len(runs) > 1 else ["value"]
    return (["hyperparameter", *names, "meaning"], rows) if rows else None


def _as_text(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _tested(record: RunRecord, kind: str) -> str:
    """Describe the scored ECGs, and whether what was exported, a file or a folder, itself gave the scores."""
    metrics = record.metrics
    if not metrics:
        return "No test set has been scored: how good the model is, is not known."
    n_ecgs = ecgs_of(metrics["n_ecgs"], metrics)
    ecgs = (
        f"{counted(n_ecgs, 'ECG')} of {counted(metrics['n_patients'], 'patient')}, scored after training, "
        "calibration and thresholds were fixed."
    )
    if not record.is_cross_validation:
        return f"{ecgs} None of these patients was in training or validation."
    together = "the one model" if metrics.get("auroc_of_folds") else "an ensemble"
    return (
        f"{ecgs} Each ECG was scored by {together} that had not seen its patient (cross-validation in "
        f"{record.n_folds} folds). The {kind} holds the models of all folds, which score together: "
        "that was not tested itself, for want of ECGs that none of them has seen."
    )


def _metrics(record: RunRecord) -> list[tuple[str, list[tuple[str, list[list[str]]]]]]:
    """Return each label with its groups of metrics: heading and rows."""
    if not record.metrics:
        return []
    labels = []
    for name in record.label_names:
        groups = metric_groups(name, record.metrics)
        cells = [
            (title, [[row.title, row.value, row.interval, row.meaning] for row in rows])
            for title, rows in groups
        ]
        labels.append((name, cells))
    return labels


def _strata(record: RunRecord, evaluation: Path | None) -> tuple[Table | None, str]:
    """Return the metrics by stratum, and whose they are: in a comparison's folder, the first model's."""
    files = RunFiles(evaluation or record.folder)
    if evaluation:
        if not files.has("strata.csv"):
            path = evaluation / "strata.csv"
            raise UserError(f"{path}: found none, expected that of evaluate.py --strata")
        _check_same_model(record, evaluation)
    elif not files.has("strata.csv"):
        return None, ""
    cells = group_cells(files.table("strata.csv"))
    whose = "Metrics of the tested ECGs in each group; small groups have wide intervals."
    if not evaluation:
        first = next(iter(next(iter(files.metrics().values()))))
        whose = f"Of {first}, the first of the compared models, and not of their ensemble. {whose}"
    return (list(cells), cells.to_numpy().tolist()), whose


def _check_same_model(record: RunRecord, evaluation: Path) -> None:
    """Refuse an evaluation whose first model is another one, as its AUROC shows."""
    evaluated = RunFiles(evaluation).metrics()
    for name in record.label_names:
        models = evaluated.get(name) or {"": {}}
        found, expected = next(iter(models.values())), record.metrics.get("labels", {}).get(name, {})
        pair = [label["auroc"].value if "auroc" in label else math.nan for label in (found, expected)]
        if not math.isclose(*pair, rel_tol=1e-9):
            raise UserError(
                f"{evaluation}: found an AUROC of {name} of {pair[0]}, expected that of {record.folder}, "
                f"{pair[1]}: the run must be the first of the evaluation, on its own test ECGs"
            )


def _decisions(record: RunRecord, scorer: Scorer) -> list[str]:
    sentences = [_calibration(record, scorer)]
    averaged = " The folds have thresholds of their own; this is theirs together."
    pairs = zip(scorer.label_names, scorer.thresholds, scorer.prevalences, strict=True)
    for name, threshold, prevalence in pairs:
        flagged = f"{name}: an ECG is flagged where its score is {threshold:.3g} or more"
        several = record.is_cross_validation and record.metrics and len(fold_thresholds(record, name)) > 1
        mean = averaged if several else ""
        sentences.append(f"{flagged} ({scorer.threshold_source}).{mean}")
        if record.metrics:
            sentences.append(f"In the test: {' '.join(confusion_sentences(name, record.metrics))}")
        sentences.append(
            f"The score holds where {100 * prevalence:.1f} % have {name}, as in development. Where another "
            f"share q has it, move the score's logit by log(q / (1 - q)) − ({_logit(prevalence)}), as "
            "predict.py --prevalence does. Decisions stay as they are."
        )
    return sentences


def _logit(share: float) -> str:
    return number(math.log(share / (1 - share))) if 0 < share < 1 else "undefined"


def _calibration(record: RunRecord, scorer: Scorer) -> str:
    methods = sorted({description.calibration for description in scorer.descriptions})
    if methods == ["none"]:
        return "Scores were not calibrated: their order counts, not their value."
    return (
        f"Scores were calibrated on {calibrated_on(record)} ({', '.join(methods)}): of ECGs with a score of "
        "0.2, about one in five should be positive. Calibration slope and intercept above show how far that "
        f"holds.{_stretched(record)}"
    )


def _stretched(record: RunRecord) -> str:
    """Say by how much the mean of the models' logits is stretched; empty where it is not."""
    if not RunFiles(record.folder).has("ensemble.json"):
        return ""
    slopes = read_ensemble(record.folder).calibration_slopes
    if all(slope == 1 for slope in slopes):
        return ""
    factors = ", ".join(f"{slope:.2f}" for slope in slopes)
    return (
        " That is of single models. The mean of their logits spreads less, since what they do not share "
        f"averages out; it is stretched around the prevalence by {factors}, which follows from how far they "
        "disagree about ECGs that none of them was trained on. This was not tested."
    )


def _stretch(scorer: Scorer) -> str:
    """Say which 10 s of a recording the models were trained on, and how few leads."""
    padded = ""
    if scorer.min_seconds < MIN_SECONDS:
        padded = f" (recordings of {scorer.min_seconds:g} s or more were padded to 10 s)"
    if scorer.min_leads < len(LEADS):
        padded += f" (of recordings with {scorer.min_leads} leads or more, those missing were zeros)"
    if not scorer.window_start:
        return f"the first 10 s of the recording{padded}"
    return f"10 s of the recording, from second {scorer.window_start:g} on{padded}"


def _members(scorer: Scorer) -> Table:
    """Return crop, normalisation and calibration of each model in the graph."""
    rows = []
    for place, (model, description) in enumerate(zip(scorer.models, scorer.descriptions, strict=True), 1):
        crop = f"{description.n_samples:,} samples ({description.n_samples / SAMPLING_RATE:g} s)"
        fitted = [f"{number(one.slope)} × logit {signed(one.intercept)}" for one in description.calibrations]
        rows.append([str(place), model.title, crop, description.normalisation, *fitted])
    calibrated = [f"calibrated logit of {name}" for name in scorer.label_names]
    return ["", "model", "centre crop", "normalisation", *calibrated], rows


def _versions(record: RunRecord, file: OnnxFile | None) -> list[list[str]]:
    environment = record.environment
    trained = {name: environment.get(name) for name in ("python", "device", "git_commit")}
    trained |= environment.get("packages", {}) | environment.get("gpu", {})
    rows = [[f"training: {name.replace('_', ' ')}", str(value)] for name, value in trained.items() if value]
    return rows + [[f"export: {name}", value] for name, value in (file.versions if file else {}).items()]
