"""Train the 1D ResNet-18 with multihead attention.

Convolutions find what a beat looks like; self-attention relates the beats of the 10 s to one another.

    python train_atten.py                                               # on a synthetic demo cohort
    python train_atten.py --data-dir ecgs --labels labels.csv           # on your ECGs, to find PE
    python train_atten.py --help                                        # every hyperparameter is a flag

On 1,014 real ECGs (PTB-XL, label MI), 10 epochs of about 31 s on two CPU cores, cross-validated by --folds 5,
should give an AUROC of about 0.86 (95 % CI 0.83-0.89).
"""

import runtime.early_end  # noqa: F401  Ctrl-C ends the imports, which take seconds, in one line

from data_augmentation import Augmentation
from dataset.batches import make_batches
from dataset.cohort import read_cohort
from dataset.splits import make_folds
from focal_loss import FocalLoss
from hyperparameters.reading import read_hyperparameters
from models import MODELS
from reporting.run_report import report_run
from runtime.command_line import one_line_errors, prepare
from training.experiment import finish, start_run, unfinished
from training.linear_probe import fit_head
from training.loop import TrainingStep, fit
from training.optimization import adamw, learning_rate_schedule, length_of_training
from training.test_set import score_test_set
from training.transfer import load_pretrained

MODEL = "resnet18_with_atten"  # models/resnet18_with_atten.py

# What this experiment sets; hyperparameters/declaration.py declares all, with range and default.
HYPERPARAMETERS = {
    # training
    "epochs": 10,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "schedule": "one_cycle",
    # model
    "dropout": 0.2,
    "kernel_size": 3,
    "sampling_rate": 500,
    "attention_heads": 4,
}

# What --init-from sets instead: a model that starts from pretrained weights needs fewer epochs.
PRETRAINED = {
    "epochs": 5,
    "min_steps": 100,
}

# What --recipe published sets instead: the settings of the published code.
PUBLISHED = {
    "learning_rate": 1e-4,
    "batch_size": 32,
    "schedule": "constant",
    "epochs": 200,
    "gamma": 2.0,
    "alpha": 0.7,
    "weight_decay": 0.01,
    "weight_average": 0.0,
    "keep": "best",
    "augmentation": "published",
}


def main() -> None:
    # 1. Values and seed
    values = read_hyperparameters(__doc__, HYPERPARAMETERS, PRETRAINED, PUBLISHED)
    device = prepare(values.seed, values.device)

    # 2. Cohort and folds
    cohort = read_cohort(quality=values.group("quality"), **values.group("cohort"))
    folds = make_folds(cohort, seed=values.seed, **values.group("split"))
    title = MODELS[MODEL].title
    run = start_run(__file__, title=title, values=values, device=device, cohort=cohort, folds=folds)

    todo = unfinished(folds, run=run, cohort=cohort, values=values, device=device)
    for fold, fold_run, signals in todo:  # one, unless --folds
        # 3. Batches and model
        augmentation = Augmentation(**values.group("augmentation"))
        training, validation, test = make_batches(
            cohort, fold, signals=signals, augmentation=augmentation, **values.group("batches")
        )
        arguments = {**cohort.model_arguments, **values.group("layers")}
        model = MODELS[MODEL](**arguments).to(device)
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
            name=MODEL,
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
