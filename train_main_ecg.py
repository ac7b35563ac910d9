"""Train the ResNet-RNN hybrid or the ResNet-transformer encoder.

What follows the 1D ResNet-18 trunk, and every other hyperparameter, stands in hyperparameters.yml.

    python train_main_ecg.py                                               # on a synthetic demo cohort
    python train_main_ecg.py --data-dir ecgs --labels labels.csv           # on your ECGs, to find PE
    python train_main_ecg.py --help                                        # every hyperparameter is a flag

On 1,014 real ECGs (PTB-XL, label MI), 10 epochs of 30 to 40 s on two CPU cores, cross-validated by --folds 5,
should give an AUROC of about 0.87 (95 % CI 0.84-0.89) with either model.
"""

import runtime.early_end  # noqa: F401  Ctrl-C ends the imports, which take seconds, in one line

from pathlib import Path

from data_augmentation import Augmentation
from dataset.batches import make_batches
from dataset.cohort import read_cohort
from dataset.splits import make_folds
from focal_loss import FocalLoss
from hyperparameters.reading import read_hyperparameters, read_yaml
from models import MODELS
from reporting.run_report import report_run
from runtime.command_line import one_line_errors, prepare
from training.experiment import finish, start_run, unfinished
from training.linear_probe import fit_head
from training.loop import TrainingStep, fit
from training.optimization import adamw, learning_rate_schedule, length_of_training
from training.test_set import score_test_set
from training.transfer import load_pretrained

# What this experiment sets; hyperparameters/declaration.py declares all, with range and default.
HYPERPARAMETERS_FILE = Path(__file__).with_name("hyperparameters.yml")
MODEL = {"rnn": "resnet_with_rnn", "encoder": "resnet_with_encoder"}  # --model: the file in models/

# What the file must set, since no default is declared
REQUIRED = [
    "model",
    "dropout",
    "kernel_size",
    "sampling_rate",
    "rnn_cell",
    "rnn_layers",
    "rnn_hidden_size",
    "rnn_bidirectional",
    "encoder_layers",
    "encoder_heads",
    "encoder_width",
]


def main() -> None:
    # 1. Values and seed
    settings = read_yaml(HYPERPARAMETERS_FILE)
    values = read_hyperparameters(__doc__, *settings, required=REQUIRED, file=HYPERPARAMETERS_FILE)
    device = prepare(values.seed, values.device)

    # 2. Cohort and folds
    cohort = read_cohort(quality=values.group("quality"), **values.group("cohort"))
    folds = make_folds(cohort, seed=values.seed, **values.group("split"))
    name = MODEL[values.model]
    title = MODELS[name].title
    run = start_run(__file__, title=title, values=values, device=device, cohort=cohort, folds=folds)

    todo = unfinished(folds, run=run, cohort=cohort, values=values, device=device)
    for fold, fold_run, signals in todo:  # one, unless --folds
        # 3. Batches and model
        augmentation = Augmentation(**values.group("augmentation"))
        training, validation, test = make_batches(
            cohort, fold, signals=signals, augmentation=augmentation, **values.group("batches")
        )
        arguments = {**cohort.model_arguments, **values.group("layers"), **values.group(values.model)}
        model = MODELS[name](**arguments).to(device)
        model.head.standardise(training.clinical)
        pretrained = load_pretrained(model, **values.group("transfer"))

        # 4. Loss, head, optimizer and step
        loss = FocalLoss(**values.group("loss"))
        fitted = fit_head(
            model, training, loss, pretrained=pretrained, precision=values.precision, run=fold_run
        )
        optimizer = adamw(model, pretrained=fitted, **values.group("optimizer"))
        epochs = length_of_training(len(training), **values.group("length"))
        schedule = learning_rate_schedule(
            optimizer, epochs=epochs, steps_per_epoch=len(training), **values.group("schedule")
        )
        step = TrainingStep(
            model, loss, optimizer, schedule, pretrained=pretrained.names, **values.group("step")
        )

        # 5. Train and test
        fit(step, training, validation, fold_run, epochs=epochs, **values.group("training"))
        score_test_set(
            model,
            name=name,
            arguments=arguments,
            cohort=cohort,
            fold=fold,
            validation=validation,
            test=test,
            run=fold_run,
            **values.group("decision"),
        )
    finish(run, folds, seed=values.seed, report=report_run)


if __name__ == "__main__":
    with one_line_errors():
        main()
