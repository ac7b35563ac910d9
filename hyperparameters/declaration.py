"""Every hyperparameter, declared once: name, type and range, default, one line of help with its unit.

The block at the top of a script, ``hyperparameters.yml``, the recipes and the flags all go through this
declaration; ``hyperparameters/reading.py`` reads them.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from jsonargparse.typing import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    OpenUnitInterval,
    PositiveFloat,
    PositiveInt,
    restricted_number_type,
    restricted_string_type,
)

from ecg.recording import LEADS, LEAST_LEADS, LEAST_SECONDS, MIN_SECONDS, N_SAMPLES, SAMPLING_RATE
from runtime import device as devices

LEAST_CROP = 512  # samples, which each of the models takes
SECONDS = N_SAMPLES / SAMPLING_RATE  # of an ECG at rest

CropLength = restricted_number_type("CropLength", int, [(">=", LEAST_CROP), ("<=", N_SAMPLES)])
BelowOne = restricted_number_type("BelowOne", float, [(">=", 0), ("<", 1)])
RecordingLength = restricted_number_type("RecordingLength", float, [(">=", LEAST_SECONDS), ("<=", SECONDS)])
LeadCount = restricted_number_type("LeadCount", int, [(">=", LEAST_LEADS), ("<=", len(LEADS))])
Share = restricted_number_type("Share", float, [(">", 0), ("<=", 1)])
Fraction = restricted_number_type("Fraction", float, [(">", 0), ("<", 0.5)])
EncoderWidth = restricted_number_type("EncoderWidth", int, [(">=", 16), ("<=", 4096)])
DeviceName = restricted_string_type("DeviceName", f"^({devices.PATTERN})\\Z")
EXPECTED = {  # in words, what values of these types are
    PositiveInt: "a whole number above 0",
    NonNegativeInt: "a whole number from 0 on",
    CropLength: f"a whole number from {LEAST_CROP} to {N_SAMPLES}",
    EncoderWidth: "a whole number from 16 to 4096",
    PositiveFloat: "a number above 0",
    NonNegativeFloat: "a number from 0 on",
    ClosedUnitInterval: "a number from 0 to 1",
    OpenUnitInterval: "a number above 0 and below 1",
    BelowOne: "a number from 0 on, below 1",
    RecordingLength: f"a number from {LEAST_SECONDS:g} to {SECONDS:g}",
    LeadCount: f"a whole number from {LEAST_LEADS} to {len(LEADS)}",
    Share: "a number above 0, at most 1",
    Fraction: "a number above 0 and below 0.5",
    DeviceName: devices.EXPECTED,
    bool: "true or false",
    str: "text",
}
# Flags that take several values, and the type of each
LISTS = dict.fromkeys(("label_columns", "clinical_columns", "leave_out", "map"), str)
LISTS["milestones"] = PositiveInt


class _Absent:
    """The value of a hyperparameter that a script does not have; it has no flag and is in no group."""

    def __repr__(self) -> str:
        return "absent"


ABSENT: Any = _Absent()


def declared(group: str, default: Any, help: str) -> Any:
    """Return a field that belongs to a group and carries its line of help."""
    metadata = {"group": group, "help": help}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """One resolved set, in groups: each group holds the keyword arguments of one function or class."""

    # cohort
    data_dir: str | None = declared("cohort", None, "folder of the ECG files; none: a synthetic demo cohort")
    labels: str | None = declared("cohort", None, "labels table; none: labels.csv in the data folder")
    label_columns: list[str] | None = declared(
        "cohort", None, "0/1 columns to learn, all: each of them; none: PE"
    )
    clinical_columns: list[str] | None = declared(
        "cohort", None, "columns that the head sees beside the ECG, such as age sex; none: the ECG alone"
    )
    ecg_signs: bool = declared(
        "cohort", False, "let the head see the signs of right-heart strain, measured in each ECG, beside it"
    )
    cache_dir: str = declared("cohort", "cache", "folder that keeps the decoded signals")
    workers: NonNegativeInt = declared("cohort", 0, "processes that read files; 0: one per core")
    window_start: NonNegativeFloat = declared(
        "cohort", 0.0, "second of each recording at which its 10 s begin"
    )
    min_seconds: RecordingLength = declared(
        "cohort", MIN_SECONDS, "s, shortest recording that is used; what lacks to 10 s is padded, and noted"
    )
    min_leads: LeadCount = declared(
        "cohort",
        len(LEADS),
        "leads that a recording has at least; fewer than 12, the others zeros, need --lead-drop",
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
        "placement", "auto", "where they lie in training; auto: on the device if they fit"
    )

    # split, by patient, where the table has no split column
    validation_fraction: Fraction = declared(
        "split",
        0.1,
        "share of the patients that picks the epoch of --keep best and, in a single split, fits the "
        "calibration and a threshold other than prevalence",
    )
    test_fraction: Fraction = declared("split", 0.2, "share of the patients that is scored once, at the end")
    folds: NonNegativeInt = declared("split", 0, "of a cross-validation, 2 or more; 0: a single split")
    repeats: PositiveInt = declared("split", 1, "how many times the patients are dealt to folds")

    # decision, fitted on ECGs that no weight was fitted on
    calibration: Literal["shrunken", "platt", "temperature", "none"] = declared(
        "decision",
        "shrunken",
        "what turns logits into probabilities; shrunken: Platt's, with few positives near slope 1",
    )
    threshold_policy: str = declared(
        "decision",
        "prevalence",
        "score from which an ECG is flagged: prevalence, youden, 'sensitivity>=0.95', 'specificity>=0.9'",
    )

    # batches
    batch_size: PositiveInt = declared("batches", 32, "ECGs per step, at most")
    n_samples: CropLength = declared("batches", 4096, "samples of each ECG that the model sees, at 500 Hz")
    normalisation: Literal["recording", "lead", "none"] = declared(
        "batches",
        "recording",
        "zero mean and unit deviation over the whole ECG, over each lead, or millivolts as they are",
    )

    # augmentation, of training ECGs only
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
    low_pass: ClosedUnitInterval = declared("augmentation", 0.0, "probability of a low-pass, 30 to 150 Hz")

    # model; the script gives these values, and has only those that it gives
    model: Literal["rnn", "encoder"] = declared("model", ABSENT, "what follows the 1D trunk")
    dropout: BelowOne = declared("layers", ABSENT, "probability, before the last linear layer")
    kernel_size: Literal[3, 5, 7, 9] = declared("layers", ABSENT, "samples, in the trunk's blocks")
    sampling_rate: Literal[100, 250, 500] = declared(
        "layers", ABSENT, "Hz, to which the trunk brings its signal; less costs less"
    )
    attention_heads: Literal[1, 2, 4, 8, 16] = declared("layers", ABSENT, "of the self-attention")
    drop_path: BelowOne = declared(
        "layers", 0.0, "probability that the last residual block is left out for an ECG; the first ones less"
    )
    rnn_cell: Literal["rnn", "lstm", "gru"] = declared("rnn", ABSENT, "recurrent cell")
    rnn_layers: PositiveInt = declared("rnn", ABSENT, "stacked recurrent layers")
    rnn_hidden_size: PositiveInt = declared("rnn", ABSENT, "units per layer and direction")
    rnn_bidirectional: bool = declared("rnn", ABSENT, "read the ECG in both directions")
    encoder_layers: PositiveInt = declared("encoder", ABSENT, "layers of the transformer encoder")
    encoder_heads: Literal[1, 2, 4, 8, 16] = declared("encoder", ABSENT, "attention heads per layer")
    encoder_width: EncoderWidth = declared("encoder", ABSENT, "features per position in the encoder")

    # pretraining; the script gives these too
    objective: Literal["contrastive", "statements"] = declared(
        "pretraining", ABSENT, "what is learnt: which halves are of one ECG, or all labels and measurements"
    )
    architecture: Literal["attention", "rnn", "encoder", "baseline", "spectrogram"] = declared(
        "pretraining", ABSENT, "of statements; attention, rnn and encoder have one trunk"
    )
    leave_out: list[str] = declared("pretraining", ABSENT, "labels of the table that are not learnt")
    measured_weight: NonNegativeFloat = declared(
        "statements", ABSENT, "of the loss of what is measured beside that of the labels; 0: labels alone"
    )
    projection_size: PositiveInt = declared("projection", ABSENT, "numbers of an embedding")
    temperature: PositiveFloat = declared(
        "contrast", ABSENT, "of the contrastive loss; lower: the nearest other patients count more"
    )

    # weights to start from
    init_from: str | None = declared(
        "transfer",
        None,
        "run, fold of one, name of weights that ship, such as ptbxl, or .safetensors file of another model, "
        "to start from, all but the head's",
    )
    map: list[str] | None = declared(
        "transfer",
        None,
        "OWN=THEIRS, prefixes of the parameters' names here and in that .safetensors file: trunk=encoder",
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
        "optimizer",
        0.03,
        "learning rate of what --init-from has loaded, and of the head then, as a share of the others'",
    )

    # schedule of the learning rate
    schedule: Literal["constant", "step", "milestones", "cosine", "one_cycle"] = declared(
        "schedule", "one_cycle", "how the learning rate goes"
    )
    warmup_epochs: NonNegativeFloat = declared("schedule", 1.0, "linear rise before the cosine")
    step_epochs: PositiveInt = declared("schedule", 10, "epochs between two steps")
    milestones: list[PositiveInt] = declared("schedule", [5, 10, 30, 50], "epochs after which the rate falls")
    decay: OpenUnitInterval = declared("schedule", 0.5, "factor of each step or milestone")

    # step: what one batch does to the weights
    gradient_clip: NonNegativeFloat = declared("step", 0.0, "largest norm of the gradient; 0: no limit")
    weight_average: BelowOne = declared(
        "step", 0.98, "decay of the moving average of the weights that is validated and kept; 0: none"
    )
    freeze_epochs: NonNegativeInt = declared(
        "step", 0, "first epochs in which what --init-from has loaded stays as it is"
    )
    compile: Literal["none", "default", "reduce-overhead", "max-autotune"] = declared(
        "step", "none", "mode of torch.compile, which needs a C++ compiler; reduce-overhead: CUDA graphs"
    )
    precision: Literal["auto", "float32", "bfloat16"] = declared(
        "step", "auto", "type in which a step computes; auto: bfloat16 on CUDA and on CPUs with AMX"
    )
    cuda_graph: bool = declared("step", True, "on one GPU, launch a step as one CUDA graph")
    sync_batch_norm: bool = declared(
        "step", True, "under torchrun, batch norms see the whole batch, as in one process"
    )

    # length of the training
    epochs: PositiveInt = declared("length", 10, "passes over the training ECGs")
    min_steps: NonNegativeInt = declared(
        "length", 0, "more epochs where they make fewer steps, as with few ECGs; --epochs N alone: just N"
    )

    # training
    patience: NonNegativeInt = declared(
        "training", 0, "with --keep best, epochs without a better score; 0: never stop early"
    )
    keep: Literal["last", "best"] | None = declared(
        "training",
        None,
        "averaged weights of the last or the best epoch; none: the last of one_cycle and cosine",
    )
    monitor: Literal["auroc", "average_precision", "loss"] = declared(
        "training", "loss", "validation score that --keep best goes by"
    )

    # run
    recipe: Literal["default", "published"] = declared(
        "run", "default", "default, or the settings of the published code"
    )
    seed: NonNegativeInt = declared("run", 42, "of split, weights, order, crops and augmentation")
    device: DeviceName = declared("run", "auto", devices.HELP)
    folds_at_once: PositiveInt = declared(
        "run", 1, "folds that are trained side by side, each in a process of its own"
    )
    output_dir: str = declared("run", "runs", "folder of the run folders")
    tracking: Literal["none", "tensorboard", "wandb", "mlflow"] = declared(
        "run", "none", "also send epochs and metrics, no patient, to TensorBoard, Weights & Biases or MLflow"
    )
    searched_in: str | None = declared(
        "run", None, "folder of the search.py that chose these values; recorded for the report"
    )
    resume: str | None = declared("run", None, "continue this run folder, with its own hyperparameters")

    def present(self) -> dict[str, Any]:
        """Return all that the script has, by name."""
        values = {declaration.name: getattr(self, declaration.name) for declaration in fields(self)}
        return {name: value for name, value in values.items() if value is not ABSENT}

    def group(self, name: str) -> dict[str, Any]:
        """Return one group as keyword arguments, only those that the script has.

        Raises
        ------
        KeyError : there is no such group.
        """
        members = {field.name for field in fields(self) if field.metadata["group"] == name}
        if not members:
            raise KeyError(name)
        return {key: value for key, value in self.present().items() if key in members}
