"""Every hyperparameter, declared once: name, type and range, default, one line of help with its unit.

The block at the top of a script, ``hyperparameters.yml``, the recipes and the flags all go through this
declaration. jsonargparse does the parsing: it checks YAML and flags against the same types and names the
key that is wrong.
"""

import math
import re
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NoReturn, get_type_hints

import yaml
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    OpenUnitInterval,
    PositiveFloat,
    PositiveInt,
    restricted_number_type,
)

CropLength = restricted_number_type("CropLength", int, [(">=", 512), ("<=", 5000)])
BelowOne = restricted_number_type("BelowOne", float, [(">=", 0), ("<", 1)])
Share = restricted_number_type("Share", float, [(">", 0), ("<=", 1)])
Fraction = restricted_number_type("Fraction", float, [(">", 0), ("<", 0.5)])
EncoderWidth = restricted_number_type("EncoderWidth", int, [(">=", 16), ("<=", 4096)])
# Flags of those scripts alone whose block names them.
MODEL_GROUPS = ("model", "layers", "rnn", "encoder", "projection", "contrast")
ABSENT = "not of this script"  # the value of what a script has no use for
THRESHOLD_POLICY = re.compile(r"youden|(sensitivity|specificity)>=(0?\.[0-9]+|1(\.0*)?)")
LISTS = {
    "label_columns": str,
    "clinical_columns": str,
    "milestones": PositiveInt,
}  # flags that take several values, and the type of each


def declared(group: str, default: Any, help: str) -> Any:
    """Return a field that belongs to a group and carries its line of help."""
    metadata = {"group": group, "help": help}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """One resolved set, in groups: each group holds the keyword arguments of one function or class."""

    # data
    data_dir: str | None = declared("data", None, "folder of the ECG files; none: a synthetic demo cohort")
    labels: str | None = declared("cohort", None, "labels table; none: labels.csv in the data folder")
    label_columns: list[str] | None = declared("cohort", None, "0/1 columns to learn; none: PE")
    clinical_columns: list[str] | None = declared(
        "cohort", None, "columns that the head sees beside the ECG, such as age sex; none: the ECG alone"
    )
    cache_dir: str = declared("cohort", "cache", "folder that keeps the decoded signals")
    workers: NonNegativeInt = declared("cohort", 0, "processes that read files; 0: one a core")
    window_start: NonNegativeFloat = declared(
        "cohort", 0.0, "second of each recording at which its 10 s begin"
    )
    patient_key: str | None = declared(
        "cohort",
        None,
        "file with the key of the patients' pseudonyms; none: patient_key.txt beside the table",
    )

    # quality: what each ECG must have to be used; quality.csv lists what was found
    quality_checks: bool = declared("quality", True, "reject unusable ECGs, and warn of doubtful ones")
    max_flat_seconds: NonNegativeFloat = declared("quality", 5.0, "s, longest flat stretch of a lead")
    max_clipped: ClosedUnitInterval = declared(
        "quality", 0.05, "share of a lead's samples cut off at its peak"
    )
    min_qrs_mv: NonNegativeFloat = declared("quality", 0.05, "mV, least median QRS amplitude")
    max_qrs_mv: NonNegativeFloat = declared("quality", 20.0, "mV, greatest median QRS amplitude")
    max_einthoven: NonNegativeFloat = declared("quality", 1.3, "rms of I + III - II by that of these leads")
    max_goldberger: NonNegativeFloat = declared("quality", 1.3, "the same of aVR, aVL, aVF against I and II")
    max_reversal: ClosedUnitInterval = declared(
        "quality", 0.1, "likeness of lead I to V6 upside down above which exchanged arms are suspected"
    )

    # placement
    signals: Literal["auto", "device", "disk"] = declared(
        "placement",
        "auto",
        "where they lie in training; auto: on the device if they fit",
    )

    # split, by patient, where the table has no split column
    validation_fraction: Fraction = declared(
        "split", 0.1, "share of the patients that picks checkpoint and threshold"
    )
    test_fraction: Fraction = declared("split", 0.2, "share of the patients that is scored once, at the end")
    folds: NonNegativeInt = declared("split", 0, "of a cross-validation, 2 or more; 0: a single split")
    repeats: PositiveInt = declared("split", 1, "how often the patients are dealt to folds anew")

    # decision, fitted on the validation ECGs alone
    calibration: Literal["temperature", "platt", "none"] = declared(
        "decision", "platt", "what turns logits into probabilities; temperature alone lets folds drift apart"
    )
    threshold_policy: str = declared(
        "decision", "youden", "youden, or such as 'sensitivity>=0.95' or 'specificity>=0.9'"
    )

    # batches
    batch_size: PositiveInt = declared("batches", 32, "ECGs a step, at most")
    n_samples: CropLength = declared("batches", 4096, "samples of each ECG that the model sees, at 500 Hz")
    normalisation: Literal["recording", "lead", "none"] = declared(
        "batches",
        "recording",
        "zero mean and unit deviation over the whole ECG, over each lead, or millivolts as they are",
    )

    # augmentation, of training ECGs alone
    augmentation: Literal["independent", "published", "none"] = declared(
        "augmentation", "independent", "each with its probability; one of the published seven; or none"
    )
    polarity_flip: ClosedUnitInterval = declared("augmentation", 0.0, "probability; destroys signs of PE")
    sample_drop: ClosedUnitInterval = declared(
        "augmentation", 0.0, "probability of losing 10 % of the samples"
    )
    lead_drop: ClosedUnitInterval = declared("augmentation", 0.0, "probability; destroys signs of PE")
    amplitude_scaling: ClosedUnitInterval = declared(
        "augmentation", 0.0, "probability of a factor of 0.25 to 1"
    )
    sine: ClosedUnitInterval = declared("augmentation", 0.0, "probability of a sine wave")
    square_wave: ClosedUnitInterval = declared("augmentation", 0.0, "probability of a square wave")
    baseline_wander: ClosedUnitInterval = declared("augmentation", 0.2, "probability of baseline wander")
    mains_hum: ClosedUnitInterval = declared("augmentation", 0.2, "probability of mains hum, 50 or 60 Hz")
    gaussian_noise: ClosedUnitInterval = declared("augmentation", 0.2, "probability of Gaussian noise")

    # model; the script gives these values
    model: Literal["rnn", "encoder"] | None = declared("model", None, "what follows the 1D trunk")
    dropout: BelowOne | None = declared("layers", None, "probability, before the last linear layer")
    kernel_size: Literal[3, 5, 7, 9] | None = declared("layers", None, "samples, in the trunk's blocks")
    attention_heads: Literal[1, 2, 4, 8, 16] | None = declared("layers", None, "of the self-attention")
    rnn_cell: Literal["rnn", "lstm", "gru"] | None = declared("rnn", None, "recurrent cell")
    rnn_layers: PositiveInt | None = declared("rnn", None, "stacked recurrent layers")
    rnn_hidden_size: PositiveInt | None = declared("rnn", None, "units a layer and direction")
    rnn_bidirectional: bool | None = declared("rnn", None, "read the ECG in both directions")
    encoder_layers: PositiveInt | None = declared("encoder", None, "layers of the transformer encoder")
    encoder_heads: Literal[1, 2, 4, 8, 16] | None = declared("encoder", None, "attention heads a layer")
    encoder_width: EncoderWidth | None = declared("encoder", None, "features a position in the encoder")

    # what is trained in place of the head where there are no labels
    projection_size: PositiveInt | None = declared("projection", None, "numbers of an embedding")
    temperature: PositiveFloat | None = declared(
        "contrast", None, "of the contrastive loss; lower: the nearest other patients count more"
    )

    # weights to start from
    init_from: str | None = declared(
        "transfer",
        None,
        "run, or fold of one, whose weights to start from, all but the head's",
    )

    # focal loss
    gamma: NonNegativeFloat = declared(
        "loss", 0.0, "how fast the weight of easy ECGs falls; 0: cross-entropy"
    )
    alpha: OpenUnitInterval | None = declared(
        "loss", None, "weight of positives, negatives weigh the rest; null: no weights"
    )

    # optimizer: AdamW
    learning_rate: PositiveFloat = declared("optimizer", 1e-3, "the highest of the schedule")
    weight_decay: NonNegativeFloat = declared("optimizer", 0.05, "decoupled")
    pretrained_rate: Share = declared(
        "optimizer", 1.0, "learning rate of what --init-from has loaded, as a share of the others'"
    )

    # schedule of the learning rate
    schedule: Literal["constant", "step", "milestones", "cosine", "one_cycle"] = declared(
        "schedule", "one_cycle", "how the learning rate goes"
    )
    warmup_epochs: NonNegativeFloat = declared("schedule", 1.0, "linear rise before the cosine")
    step_epochs: PositiveInt = declared("schedule", 10, "epochs between two steps")
    milestones: list[PositiveInt] = declared("schedule", [5, 10, 30, 50], "epochs after which the rate falls")
    decay: OpenUnitInterval = declared("schedule", 0.5, "factor of each step or milestone")

    # training
    epochs: PositiveInt = declared("training", 30, "passes over the training ECGs")
    gradient_clip: NonNegativeFloat = declared("training", 0.0, "largest norm of the gradient; 0: no limit")
    freeze_epochs: NonNegativeInt = declared(
        "training", 0, "first epochs in which what --init-from has loaded stays as it is"
    )
    weight_average: BelowOne = declared(
        "training", 0.98, "decay of the moving average of the weights that is validated and kept; 0: none"
    )
    compile: Literal["none", "default", "reduce-overhead", "max-autotune"] = declared(
        "training", "none", "mode of torch.compile, which needs a C++ compiler; reduce-overhead: CUDA graphs"
    )
    sync_batch_norm: bool = declared(
        "training", True, "under torchrun, batch norms see the whole batch, as in one process"
    )
    patience: NonNegativeInt = declared(
        "training", 0, "epochs without a better validation score; 0: never stop early"
    )
    monitor: Literal["auroc", "average_precision", "loss"] = declared(
        "training", "auroc", "validation score that picks the checkpoint"
    )

    # run
    recipe: Literal["default", "published"] = declared(
        "run", "default", "default, or the settings of the published code"
    )
    seed: NonNegativeInt = declared("run", 42, "of split, weights, order, crops and augmentation")
    output_dir: str = declared("run", "runs", "folder of the run folders")
    tracking: Literal["none", "tensorboard", "wandb"] = declared(
        "run", "none", "also tell TensorBoard or Weights & Biases of epochs and metrics, of no patient"
    )
    resume: str | None = declared("run", None, "continue this run folder, with its own hyperparameters")

    def group(self, name: str) -> dict[str, Any]:
        """Return one group as keyword arguments, those that the script has."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.metadata["group"] == name}
        values = {key: value for key, value in values.items() if value != ABSENT}
        if name in MODEL_GROUPS:
            return {key: value for key, value in values.items() if value is not None}
        return values


def read_hyperparameters(
    description: str,
    defaults: Mapping[str, Any],
    published: Mapping[str, Any],
    arguments: Sequence[str] | None = None,
    *,
    without: Collection[str] = (),
) -> Hyperparameters:
    """Return the hyperparameters of a script: declared defaults < the script's < the recipe's < flags.

    Parameters
    ----------
    description : the script's docstring, for ``--help``.
    defaults, published : the script's own values, and those of ``--recipe published``.
    arguments : the command line; None reads ``sys.argv``.
    without : hyperparameters that the script has no use for: they are no flags and in no group.

    Exits with one line that names the key where a key is unknown, a type is wrong or a value is out of range.
    With ``--resume`` every value comes from that run, and any other flag is an error.
    """
    parser = _parser(description, defaults, without)
    defaults, published = _checked(parser, defaults), _checked(parser, published)
    given = _plain(parser.parse_args(arguments, defaults=False))
    if given.get("resume"):
        values = _of_run(parser, given, defaults)
    else:
        recipe = {**defaults, **given}.get("recipe")
        values = {**defaults, **(published if recipe == "published" else {}), **given}
    hyperparameters = Hyperparameters(**values, **dict.fromkeys(without, ABSENT))
    _check_values(parser, hyperparameters, defaults)
    _check_together(parser, hyperparameters)
    return hyperparameters


def read_yaml(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the defaults of a YAML file, and its ``published`` section.

    Exits with one line where the file cannot be read.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        sys.exit(f"{path}: {' '.join(str(error).split())}")
    if not isinstance(content, dict):
        sys.exit(f"{path}: found {type(content).__name__}, expected keys and values")
    published = content.pop("published", None) or {}
    if not isinstance(published, dict):
        sys.exit(f"{path}: published: found {published!r}, expected keys and values")
    return content, published


def to_yaml(hyperparameters: Hyperparameters) -> str:
    """Return every value under its group's heading, in a form that ``read_yaml`` reads."""
    lines = []
    for group in dict.fromkeys(declaration.metadata["group"] for declaration in fields(Hyperparameters)):
        values = hyperparameters.group(group)
        lines += [f"# {group}"] if values else []
        for name, value in values.items():
            text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=math.inf)
            lines.append(f"{name}: {text.removesuffix('...' + chr(10)).strip()}")
    return "\n".join(lines) + "\n"


class _Parser(ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        line = " ".join(str(message).split()).removeprefix("Parser key ")
        # Of what a value of two possible types is not, the first says enough; the second is None.
        line = re.sub(
            r"Does not validate against any of the Union.*?Errors: - (.*?) - Expected.*", r"\1", line
        )
        print(f"{self.prog}: {line} (--help lists the hyperparameters)", file=sys.stderr)
        sys.exit(2)


def _parser(description: str, defaults: Mapping[str, Any], without: Collection[str]) -> _Parser:
    """Return the parser of one script, with those fields of the model that its block names."""
    parser = _Parser(
        prog=Path(sys.argv[0]).name,
        description=description,
        formatter_class=RawDescriptionHelpFormatter,
        usage="%(prog)s [--HYPERPARAMETER VALUE ...]",
        allow_abbrev=False,
    )
    types = get_type_hints(Hyperparameters)
    headings = {}
    for declaration in fields(Hyperparameters):
        name, group = declaration.name, declaration.metadata["group"]
        if name in without or (group in MODEL_GROUPS and name not in defaults):
            continue
        if group not in headings:
            headings[group] = parser.add_argument_group(group)
        headings[group].add_argument(
            "--" + name.replace("_", "-"),
            type=LISTS.get(name, types[name]),
            nargs="+" if name in LISTS else None,
            help=_help(declaration, defaults).replace("%", "%%"),
        )
    return parser


def _help(declaration: Field, defaults: Mapping[str, Any]) -> str:
    """Return the line of help, with the value that counts where neither recipe nor flag gives one."""
    default = defaults.get(declaration.name, _default(declaration))
    if default is None:
        return declaration.metadata["help"]
    shown = " ".join(map(str, default)) if isinstance(default, list) else default
    return f"{declaration.metadata['help']} [{shown}]"


def _default(declaration: Field) -> Any:
    return declaration.default if declaration.default is not MISSING else declaration.default_factory()


def _checked(parser: _Parser, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a script's or a YAML file's values with their types checked."""
    values = {
        key: [value] if key in LISTS and value is not None and not isinstance(value, list) else value
        for key, value in values.items()
    }
    return _plain(parser.parse_object(values, defaults=False))


def _plain(namespace: Namespace) -> dict[str, Any]:
    """Return parsed values as Python's own int and float instead of jsonargparse's restricted ones."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(element) for element in value]
        bases = (kind for kind in (bool, int, float) if isinstance(value, kind))
        return next(bases, lambda unchanged: unchanged)(value)

    return {key: plain(value) for key, value in vars(namespace).items()}


def _of_run(parser: _Parser, given: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the run that is resumed."""
    if others := [key for key in given if key != "resume"]:
        flags = ", ".join("--" + key.replace("_", "-") for key in others)
        parser.error(f"--resume continues a run with its own hyperparameters: remove {flags}")
    values, _ = read_yaml(Path(given["resume"]) / "hyperparameters.yml")
    if absent := [key for key in defaults if key not in values]:
        parser.error(
            f"--resume: {given['resume']} has no {', '.join(absent)}; is it a run of another script?"
        )
    return {**_checked(parser, values), **given}


def _check_values(parser: _Parser, hyperparameters: Hyperparameters, defaults: Mapping[str, Any]) -> None:
    """Check what the parser lets pass: a key without a value in a script or YAML file, and infinity."""
    for declaration in fields(Hyperparameters):
        name, value = declaration.name, getattr(hyperparameters, declaration.name)
        of_this_model = declaration.metadata["group"] in MODEL_GROUPS and name in defaults
        if value is None and (of_this_model or _default(declaration) is not None):
            parser.error(f"{name}: found no value (null), expected one")
        if value == math.inf:
            parser.error(f"{name}: found infinity, expected a finite number")


def _check_together(parser: _Parser, hyperparameters: Hyperparameters) -> None:
    """Check what no single type can say."""
    if hyperparameters.data_dir == "":
        parser.error("data_dir: found nothing, expected a folder")
    if hyperparameters.labels and not hyperparameters.data_dir:
        parser.error("labels: a labels table needs --data-dir, the folder of its files")
    if hyperparameters.init_from is None and hyperparameters.freeze_epochs:
        parser.error("freeze_epochs: found some, expected --init-from: there is nothing to freeze")
    if hyperparameters.folds == 1:
        parser.error("folds: found 1, expected 2 or more, or 0 for a single split")
    policy = hyperparameters.threshold_policy
    if policy != ABSENT and not THRESHOLD_POLICY.fullmatch(policy):
        found = f"threshold_policy: found {policy!r}"
        parser.error(f"{found}, expected youden, or such as 'sensitivity>=0.95' or 'specificity>=0.9'")
    milestones = hyperparameters.milestones
    if milestones != sorted(set(milestones)):
        parser.error(f"milestones: found {milestones}, expected rising epochs")
