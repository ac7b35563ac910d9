"""Pretrain the 1D ResNet-18 trunk on many ECGs, for the models that have it to start from.

With --objective contrastive no label is needed: two halves of an ECG come from one heart, and the trunk
learns to tell which halves belong together, from the other patients of the batch and in spite of noise
(contrastive multi-segment coding, arXiv:2005.13249). With --objective statements a whole model learns every
0/1 column of a table, and beside them what can be measured in each ECG without a label: rate, intervals,
axis, and the waves of each lead.

    python pretrain.py                                                  # on a synthetic demo cohort
    python pretrain.py --data-dir ecgs                                  # on all ECG files of a folder
    python pretrain.py --data-dir ecgs --labels all.csv                 # on a table's: file, patient_id
    python pretrain.py --data-dir ptbxl --objective statements          # on the labels of ptbxl/labels.csv
    python pretrain.py --help                                           # every hyperparameter is a flag
    python train_atten.py --data-dir ecgs --init-from runs/pretrain-…   # then learn the labels, from there

Without labels, only the training patients of a split column are used: those who validate or test a model must
not have been pretrained on. With statements the column says who trains, validates and is tested here, on
other ECGs than those to come. An epoch takes about as long as one of train_atten.py on as many ECGs.
"""

import runtime.early_end  # noqa: F401  Ctrl-C ends the imports, which take seconds, in one line

import torch
from torch import nn

from data_augmentation import Augmentation
from dataset.batches import EvaluationBatches, TrainingBatches, make_batches
from dataset.cohort import read_cohort, read_unlabelled
from dataset.measured_values import measured_values
from dataset.signals import place_signals
from dataset.splits import split_for_pretraining, split_for_statements, with_patients_as_targets
from hyperparameters.declaration import Hyperparameters
from hyperparameters.reading import read_hyperparameters
from inference.scoring import predict_logits
from models import MODELS
from models.contrastive_resnet18 import ContrastiveResNet18
from run_folder.run import Run
from runtime.command_line import one_line_errors, prepare
from runtime.errors import UserError
from runtime.processes import count, stop
from training.contrastive import AugmentedHalves, ContrastiveLoss, announce_chance, retrieval
from training.experiment import start_run
from training.loop import TrainingStep, ValidationMetrics, fit
from training.optimization import adamw, learning_rate_schedule
from training.statements import (
    Question,
    StatementsLoss,
    announce_scores,
    ask,
    score_outputs,
    validation_metrics,
    without_labels,
)
from training.transfer import keep_trunk, load_pretrained

# What this experiment sets; hyperparameters/declaration.py declares all, with range and default.
HYPERPARAMETERS = {
    "objective": "contrastive",
    # training
    "epochs": 50,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "schedule": "one_cycle",
    # model
    "kernel_size": 3,
    "sampling_rate": 500,
    # contrast
    "projection_size": 128,
    "temperature": 0.1,
    "baseline_wander": 0.5,
    "mains_hum": 0.5,
    "gaussian_noise": 0.5,
    # statements
    "architecture": "attention",
    "dropout": 0.2,
    "attention_heads": 4,
    "rnn_cell": "lstm",
    "rnn_layers": 1,
    "rnn_hidden_size": 128,
    "rnn_bidirectional": True,
    "encoder_layers": 3,
    "encoder_heads": 4,
    "encoder_width": 256,
    "measured_weight": 0.3,
    "leave_out": [],
}

# What needs one label to predict, or other weights.
WITHOUT = [
    "clinical_columns",
    "ecg_signs",
    "min_steps",
    "gamma",
    "alpha",
    "patience",
    "keep",
    "monitor",
    "recipe",
    "folds",
    "repeats",
    "folds_at_once",
    "calibration",
    "threshold_policy",
]

OF_THE_1D_TRUNK = ("dropout", "kernel_size", "sampling_rate", "drop_path")
# --architecture: the file in models/, and which of the layers' hyperparameters it takes
ARCHITECTURES = {
    "attention": (
        "resnet18_with_atten",
        (*OF_THE_1D_TRUNK, "attention_heads"),
    ),
    "rnn": (
        "resnet_with_rnn",
        (*OF_THE_1D_TRUNK, "rnn_cell", "rnn_layers", "rnn_hidden_size", "rnn_bidirectional"),
    ),
    "encoder": (
        "resnet_with_encoder",
        (*OF_THE_1D_TRUNK, "encoder_layers", "encoder_heads", "encoder_width"),
    ),
    "baseline": ("res_net_model", ("dropout", "drop_path")),
    "spectrogram": ("resnet18_with_atten_spectr", ("dropout", "attention_heads", "drop_path")),
}


def main() -> None:
    values = read_hyperparameters(__doc__, HYPERPARAMETERS, {}, {}, without=WITHOUT)
    device = prepare(values.seed, values.device)
    {"contrastive": learn_from_halves, "statements": learn_statements}[values.objective](values, device)
    stop()


def learn_from_halves(values: Hyperparameters, device: torch.device) -> None:
    """Pretrain without labels."""
    # 1. Cohort and split
    for name in ("label_columns", "leave_out", "init_from", "map"):
        if getattr(values, name):
            raise UserError(f"{name}: found some, expected --objective statements, which has a use for it")
    cohort = read_unlabelled(quality=values.group("quality"), **_without_labels_named(values))
    fold = split_for_pretraining(cohort, seed=values.seed, validation_fraction=values.validation_fraction)
    title = ContrastiveResNet18.title
    run = start_run(__file__, title=title, values=values, device=device, cohort=cohort, folds=[fold])
    signals = place_signals(cohort, device=device, batch_size=values.batch_size, **values.group("placement"))

    # 2. Batches and model
    augmentation = AugmentedHalves(Augmentation(**values.group("augmentation")))
    cohort_of_patients = with_patients_as_targets(cohort)
    training, validation, _ = make_batches(
        cohort_of_patients, fold, signals=signals, augmentation=augmentation, **values.group("batches")
    )
    announce_chance([size // count() for size in training.sizes], validation.all_targets.numpy())
    layers = {name: getattr(values, name) for name in ("kernel_size", "sampling_rate", "drop_path")}
    arguments = {**layers, **values.group("projection")}
    model = ContrastiveResNet18(**arguments).to(device)

    # 3. Train, and keep what others start from
    metrics = ValidationMetrics({"retrieval": "retrieval"}, lambda *ecgs: [retrieval(*ecgs)])
    train(model, ContrastiveLoss(**values.group("contrast")), training, validation, run, metrics, values)
    keep_trunk(
        run,
        name="contrastive_resnet18",
        arguments=arguments,
        method="contrastive multi-segment coding",
        cohort=cohort,
        n_samples=values.n_samples,
        normalisation=values.normalisation,
    )


def _without_labels_named(values: Hyperparameters) -> dict:
    group = values.group("cohort")
    return {name: value for name, value in group.items() if name != "label_columns"}


def learn_statements(values: Hyperparameters, device: torch.device) -> None:
    """Pretrain on every label of a table, and on what is measured in each ECG."""
    # 1. Cohort, split, and what is asked for
    group = {**values.group("cohort"), "label_columns": values.label_columns or ["all"]}
    labelled = read_cohort(quality=values.group("quality"), **group)
    labelled = without_labels(labelled, values.leave_out)
    fold = split_for_statements(
        labelled,
        seed=values.seed,
        validation_fraction=values.validation_fraction,
        test_fraction=values.test_fraction,
    )
    unnamed = without_labels(labelled, labelled.label_names)
    name, layers = ARCHITECTURES[values.architecture]
    title = MODELS[name].title
    held_out = ("test",)  # validation chooses nothing here: the last epoch is kept
    run = start_run(
        __file__,
        title=title,
        values=values,
        device=device,
        cohort=unnamed,
        folds=[fold],
        held_out=held_out,
    )
    measured = measured_values(
        labelled, workers=values.workers, relative=values.normalisation != "none"
    ).iloc[:, : None if values.measured_weight else 0]
    cohort, question = ask(labelled, measured, fold.parts["train"], values.leave_out)
    print(f"asked for   {question}")
    signals = place_signals(cohort, device=device, batch_size=values.batch_size, **values.group("placement"))

    # 2. Batches and model
    augmentation = Augmentation(**values.group("augmentation"))
    training, validation, test = make_batches(
        cohort, fold, signals=signals, augmentation=augmentation, **values.group("batches")
    )
    arguments = {"n_labels": question.n_outputs}
    given = values.group("layers") | values.group("rnn") | values.group("encoder")
    arguments |= {key: value for key, value in given.items() if key in layers}
    model = MODELS[name](**arguments).to(device)
    pretrained = load_pretrained(model, **values.group("transfer"))

    # 3. Train, score the test ECGs once, and keep what others start from
    n_labels = len(question.label_names)
    loss = StatementsLoss(n_labels=n_labels, **values.group("statements"))
    train(model, loss, training, validation, run, validation_metrics(n_labels), values, pretrained.names)
    score(model, test, question, run)
    keep_trunk(
        run,
        name=name,
        arguments=arguments,
        method="statements and measured values" if question.value_names else "statements",
        cohort=cohort,
        n_samples=values.n_samples,
        normalisation=values.normalisation,
        asked_for=question.as_lists(),
    )


def train(
    model: nn.Module,
    loss: nn.Module,
    training: TrainingBatches,
    validation: EvaluationBatches,
    run: Run,
    metrics: ValidationMetrics,
    values: Hyperparameters,
    pretrained: frozenset[str] = frozenset(),
) -> None:
    """Train with what the hyperparameters say of optimizer, schedule and step."""
    optimizer = adamw(model, pretrained=pretrained, **values.group("optimizer"))
    schedule = learning_rate_schedule(
        optimizer, epochs=values.epochs, steps_per_epoch=len(training), **values.group("schedule")
    )
    step = TrainingStep(model, loss, optimizer, schedule, pretrained=pretrained, **values.group("step"))
    keep = {"patience": 0, "keep": "last", "monitor": "loss"}
    fit(step, training, validation, run, metrics=metrics, epochs=values.epochs, **keep)


def score(model: nn.Module, test: EvaluationBatches, question: Question, run: Run) -> None:
    """Score the test ECGs, where there are any, and write ``test_scores.csv``."""
    if not test.n_ecgs:
        return
    run.load_weights(model)
    outputs = predict_logits(model, (inputs for inputs, _ in test))
    scores = score_outputs(question, test.all_targets.numpy(), outputs)
    announce_scores(scores, test.n_ecgs)
    run.write_table("test_scores.csv", scores)


if __name__ == "__main__":
    with one_line_errors():
        main()
