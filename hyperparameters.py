"""Every hyperparameter, declared once: name, type and range, default, one line of help with its unit.

The block at the top of a script, ``hyperparameters.yml``, the recipes and the flags all go through this
declaration. jsonargparse does the parsing: it checks YAML and flags against the same types and names the
key that is wrong.
"""

import difflib
import json
import math
import re
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, get_args, get_type_hints

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

from threshold_policy import parse_policy

CropLength = restricted_number_type("CropLength", int, [(">=", 512), ("<=", 5000)])
BelowOne = restricted_number_type("BelowOne", float, [(">=", 0), ("<", 1)])
Share = restricted_number_type("Share", float, [(">", 0), ("<=", 1)])
Fraction = restricted_number_type("Fraction", float, [(">", 0), ("<", 0.5)])
EncoderWidth = restricted_number_type("EncoderWidth", int, [(">=", 16), ("<=", 4096)])
EXPECTED = {  # in words, what values of these types are
    PositiveInt: "a whole number above 0",
    NonNegativeInt: "a whole number from 0 on",
    CropLength: "a whole number from 512 to 5000",
    EncoderWidth: "a whole number from 16 to 4096",
    PositiveFloat: "a number above 0",
    NonNegativeFloat: "a number from 0 on",
    ClosedUnitInterval: "a number from 0 to 1",
    OpenUnitInterval: "a number above 0 and below 1",
    BelowOne: "a number from 0 on, below 1",
    Share: "a number above 0, at most 1",
    Fraction: "a number above 0 and below 0.5",
    bool: "true or false",
    str: "text",
}
ABSENT = "not of this script"  # the value of what a script has no use for; such have no flag
LISTS = {
    "label_columns": str,
    "clinical_columns": str,
    "milestones": PositiveInt,
}  # flags that take several values, and the type of each
PLACES = ("data_dir", "labels", "patient_key", "cache_dir")  # may be said anew where a run is resumed


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

    # model; the script gives these values, and has those alone that it gives
    model: Literal["rnn", "encoder"] = declared("model", ABSENT, "what follows the 1D trunk")
    dropout: BelowOne = declared("layers", ABSENT, "probability, before the last linear layer")
    kernel_size: Literal[3, 5, 7, 9] = declared("layers", ABSENT, "samples, in the trunk's blocks")
    attention_heads: Literal[1, 2, 4, 8, 16] = declared("layers", ABSENT, "of the self-attention")
    rnn_cell: Literal["rnn", "lstm", "gru"] = declared("rnn", ABSENT, "recurrent cell")
    rnn_layers: PositiveInt = declared("rnn", ABSENT, "stacked recurrent layers")
    rnn_hidden_size: PositiveInt = declared("rnn", ABSENT, "units a layer and direction")
    rnn_bidirectional: bool = declared("rnn", ABSENT, "read the ECG in both directions")
    encoder_layers: PositiveInt = declared("encoder", ABSENT, "layers of the transformer encoder")
    encoder_heads: Literal[1, 2, 4, 8, 16] = declared("encoder", ABSENT, "attention heads a layer")
    encoder_width: EncoderWidth = declared("encoder", ABSENT, "features a position in the encoder")

    # what is trained in place of the head where there are no labels; the script gives these too
    projection_size: PositiveInt = declared("projection", ABSENT, "numbers of an embedding")
    temperature: PositiveFloat = declared(
        "contrast", ABSENT, "of the contrastive loss; lower: the nearest other patients count more"
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

    def of_script(self) -> dict[str, Any]:
        """Return all that the script has, by name."""
        values = {declaration.name: getattr(self, declaration.name) for declaration in fields(self)}
        return {name: value for name, value in values.items() if value != ABSENT}

    def group(self, name: str) -> dict[str, Any]:
        """Return one group as keyword arguments, those that the script has."""
        members = {declared.name for declared in fields(self) if declared.metadata["group"] == name}
        return {key: value for key, value in self.of_script().items() if key in members}


class HyperparameterError(ValueError):
    """A file of hyperparameters that cannot be used; one line: the file, what was found and expected."""


def read_hyperparameters(
    description: str,
    defaults: Mapping[str, Any],
    published: Mapping[str, Any],
    arguments: Sequence[str] | None = None,
    *,
    without: Collection[str] = (),
    required: Collection[str] = (),
    file: Path | None = None,
) -> Hyperparameters:
    """Return the hyperparameters of a script: declared defaults < the script's < the recipe's < flags.

    Parameters
    ----------
    description : the script's docstring, for ``--help``.
    defaults, published : the script's own values, and those of ``--recipe published``.
    arguments : the command line; None reads ``sys.argv``.
    without : hyperparameters that the script has no use for: they are no flags and in no group.
    required : those that it cannot do without and that have no declared default.
    file : where ``defaults`` and ``published`` stand, if not in the script; errors name it.

    Exits with one line that names the key where a key is unknown, a type is wrong or a value is out of range.
    With ``--resume`` every value comes from that run; other flags, but where its files lie, are an error.
    """
    parser = _parser(description, defaults, without, required)
    where = f"{file}: " if file else ""
    defaults = _checked(parser, defaults, where)
    published = _checked(parser, published, f"{where}published: ")
    given = _plain(parser.parse_args(arguments, defaults=False))
    if given.get("resume") is not None:
        values = _of_run(parser, given, {*defaults, *required})
    else:
        recipe = {**defaults, **given}.get("recipe")
        values = {**defaults, **(published if recipe == "published" else {}), **given}
    _check_values(parser, given)
    for name in required:
        if name not in values:
            parser.error(f"{where}{name}: found none, expected {_expected(name)}")
    hyperparameters = Hyperparameters(**values, **dict.fromkeys(without, ABSENT))
    _check_together(parser, hyperparameters)
    return hyperparameters


def read_yaml(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the defaults of a YAML file, and its ``published`` section.

    Raises
    ------
    HyperparameterError : the file cannot be read, or has a key twice.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise HyperparameterError(f"{path}: found no such file, expected hyperparameters") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise HyperparameterError(f"{path}: {reason}") from None
    if not isinstance(content, dict):
        raise HyperparameterError(f"{path}: found {type(content).__name__}, expected keys and values")
    published = content.pop("published", None) or {}
    if not isinstance(published, dict):
        raise HyperparameterError(f"{path}: published: found {published!r}, expected keys and values")
    return content, published


class _UniqueKeys(yaml.SafeLoader):
    """Reads YAML, and refuses a key that is there twice, of which PyYAML would take the second."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                line = node.value[number][0].start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: {key}: found a second time, expected each key once")
        return super().construct_mapping(node, deep)


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


def _expected(name: str) -> str:
    """Return in words which values a hyperparameter, or each of its several, may have."""
    kind = LISTS.get(name, get_type_hints(Hyperparameters)[name])
    or_null = isinstance(kind, UnionType)
    kind = get_args(kind)[0] if or_null else kind
    choices = [str(choice) for choice in get_args(kind)]
    words = f"{', '.join(choices[:-1])} or {choices[-1]}" if choices else EXPECTED[kind]
    return f"{words}, or null" if or_null else words


class _Parser(ArgumentParser):
    """An ArgumentParser whose errors are one line.

    Attributes
    ----------
    names : of the hyperparameters that the script has.
    where : what stands before an error: the file and section that are being checked.
    """

    names: tuple[str, ...] = ()
    where = ""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        line = self.where + _in_our_words(" ".join(str(message).split()))
        print(f"{self.prog}: {line} (--help lists the hyperparameters)", file=sys.stderr)
        sys.exit(2)


def _in_our_words(message: str) -> str:
    """Return what jsonargparse says of a wrong value as we say it: key, found, expected."""
    key = re.match(r'Parser key "(\w+)"', message)
    if not key:
        return message
    places = (  # where the value stands in it
        r"Given value: (.*)",
        r"Got value: (.*)",
        r": (\S+) (?:does not conform|not a number)",
        r"(?:base 10|to float): '(.*)'",
        r", not '(.*)'",
    )
    found = next(filter(None, (re.search(place, message) for place in places)), None)
    value = found[1].replace("NoneType", "null") or "nothing" if found else "something else"
    return f"{key[1]}: found {value}, expected {_expected(key[1])}"


def _parser(
    description: str, defaults: Mapping[str, Any], without: Collection[str], required: Collection[str]
) -> _Parser:
    """Return the parser of one script; of what has no declared default, it has what its block names."""
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
        if name in without or (declaration.default == ABSENT and name not in {*defaults, *required}):
            continue
        if group not in headings:
            headings[group] = parser.add_argument_group(group)
        headings[group].add_argument(
            "--" + name.replace("_", "-"),
            type=LISTS.get(name, types[name]),
            nargs="+" if name in LISTS else None,
            help=_help(declaration, defaults).replace("%", "%%"),
        )
        parser.names += (name,)
    return parser


def _help(declaration: Field, defaults: Mapping[str, Any]) -> str:
    """Return the line of help, with the value that counts where neither recipe nor flag gives one."""
    default = defaults.get(declaration.name, _default(declaration))
    if default is None or default == ABSENT:
        return declaration.metadata["help"]
    shown = " ".join(map(str, default)) if isinstance(default, list) else default
    return f"{declaration.metadata['help']} [{shown}]"


def _default(declaration: Field) -> Any:
    return declaration.default if declaration.default is not MISSING else declaration.default_factory()


def _checked(parser: _Parser, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a script's or a YAML file's values with names and types checked."""
    parser.where = where
    for key in map(str, values):
        if key not in parser.names:
            near = difflib.get_close_matches(key, parser.names, n=1)
            parser.error(f"{key}: found no such hyperparameter, expected {near[0] if near else 'one'}")
    values = {
        key: [value] if key in LISTS and value is not None and not isinstance(value, list) else value
        for key, value in values.items()
    }
    values = _plain(parser.parse_object(values, defaults=False))
    _check_values(parser, values)
    parser.where = ""
    return values


def _plain(namespace: Namespace) -> dict[str, Any]:
    """Return parsed values as Python's own int and float instead of jsonargparse's restricted ones."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(element) for element in value]
        bases = (kind for kind in (bool, int, float) if isinstance(value, kind))
        return next(bases, lambda unchanged: unchanged)(value)

    return {key: plain(value) for key, value in vars(namespace).items()}


def _of_run(parser: _Parser, given: dict[str, Any], needed: Collection[str]) -> dict[str, Any]:
    """Return the values of the run that is resumed; where its files lie may be given anew."""
    if others := [key for key in given if key not in ("resume", *PLACES)]:
        flags = ", ".join("--" + key.replace("_", "-") for key in others)
        parser.error(f"--resume continues a run with its own hyperparameters: remove {flags}")
    if not given["resume"]:
        parser.error("--resume: found nothing, expected the folder of a run")
    folder = Path(given["resume"])
    _check_is_run(parser, folder)
    values, _ = read_yaml(folder / "hyperparameters.yml")
    _check_script(parser, folder, values, needed)
    values = _checked(parser, values, f"{folder / 'hyperparameters.yml'}: ")
    for name in ("data_dir", "labels", "patient_key"):
        if name not in given and (place := values.get(name)) and not Path(place).exists():
            parser.error(
                f"--resume: {name}: found no {place} here, expected what the run was started with; go to "
                f"the folder where it was started, or give --{name.replace('_', '-')}"
            )
    return {**values, **given}


def _check_is_run(parser: _Parser, folder: Path) -> None:
    """Check that a folder is one that can be resumed."""
    if (folder / "hyperparameters.yml").exists():
        return
    if (folder.parent / "hyperparameters.yml").exists() and folder.is_dir():
        parser.error(f"--resume: {folder}: found a fold, expected its run: --resume {folder.parent}")
    found = "no hyperparameters.yml in it" if folder.is_dir() else "no such folder"
    parser.error(f"--resume: {folder}: found {found}, expected the folder of a run")


def _check_script(parser: _Parser, folder: Path, values: Mapping[str, Any], needed: Collection[str]) -> None:
    """Check that a run has the hyperparameters of this script: no two of our scripts have the same."""
    others = sorted(needed - values.keys()) or [str(key) for key in values if key not in parser.names]
    if not others:
        return
    try:
        text = (folder / "environment.json").read_text(encoding="utf-8")
        script = Path(json.loads(text)["command"][0]).name
    except (OSError, ValueError, LookupError, TypeError):
        script = parser.prog
    if script != parser.prog:
        parser.error(f"--resume: {folder}: found a run of {script}, expected one of {parser.prog}")
    has = "has no" if needed - values.keys() else "has"
    parser.error(f"--resume: {folder}: {has} {', '.join(others)}; is it a run of another script or version?")


def _check_values(parser: _Parser, values: Mapping[str, Any]) -> None:
    """Check what the parser lets pass: a key without a value in a script or YAML file, and infinity."""
    for declaration in fields(Hyperparameters):
        name = declaration.name
        if name in values and values[name] is None and _default(declaration) is not None:
            parser.error(f"{name}: found no value (null), expected {_expected(name)}")
        if values.get(name) == math.inf:
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
    if hyperparameters.threshold_policy != ABSENT:
        try:
            parse_policy(hyperparameters.threshold_policy)
        except ValueError:
            found = f"threshold_policy: found {hyperparameters.threshold_policy!r}"
            parser.error(f"{found}, expected youden, or such as 'sensitivity>=0.95' or 'specificity>=0.9'")
    milestones = hyperparameters.milestones
    if milestones != sorted(set(milestones)):
        parser.error(f"milestones: found {milestones}, expected rising epochs")
