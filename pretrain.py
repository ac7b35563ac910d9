"""Pretrain the 1D ResNet-18 trunk on ECGs without labels, for the models that have it to start from.

Two halves of an ECG come from one heart: the trunk learns to tell which halves belong together, from the
other patients of the batch and in spite of noise (contrastive multi-segment coding, arXiv:2005.13249).

    python pretrain.py                                                  # on a synthetic demo cohort
    python pretrain.py --data-dir ecgs                                  # on all ECG files of a folder
    python pretrain.py --data-dir ecgs --labels all.csv                 # on a table's: file, patient_id
    python pretrain.py --help                                           # every hyperparameter is a flag
    python train_atten.py --data-dir ecgs --init-from runs/pretrain-…   # then learn the labels, from there

From a table with a split column only the training patients are used: those who validate or test a model must
not have been pretrained on. An epoch takes about as long as one of train_atten.py on as many ECGs.
"""

from data_augmentation import Augmentation
from dataset.batches import make_batches
from dataset.cohort import read_unlabelled
from dataset.signals import place_signals
from dataset.splits import split_for_pretraining, with_patients_as_targets
from hyperparameters.reading import read_hyperparameters
from models.contrastive_resnet18 import ContrastiveResNet18
from runtime.command_line import one_line_errors, prepare
from runtime.processes import count, stop
from training.contrastive import AugmentedHalves, ContrastiveLoss, announce_chance, retrieval
from training.experiment import start_run
from training.loop import TrainingStep, ValidationMetrics, fit
from training.optimization import adamw, learning_rate_schedule
from training.transfer import keep_trunk

# What this experiment sets; hyperparameters/declaration.py declares all, with range and default.
HYPERPARAMETERS = {
    # training
    "epochs": 50,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "schedule": "one_cycle",
    # model
    "kernel_size": 3,
    "projection_size": 128,
    # contrast
    "temperature": 0.1,
    "baseline_wander": 0.5,
    "mains_hum": 0.5,
    "gaussian_noise": 0.5,
}

# What needs labels, a test or other weights.
WITHOUT = [
    "label_columns",
    "clinical_columns",
    "gamma",
    "alpha",
    "patience",
    "keep",
    "monitor",
    "recipe",
    "test_fraction",
    "folds",
    "repeats",
    "calibration",
    "threshold_policy",
    "init_from",
    "freeze_epochs",
    "pretrained_rate",
]


def main() -> None:
    # 1. Values and seed
    values = read_hyperparameters(__doc__, HYPERPARAMETERS, {}, without=WITHOUT)
    device = prepare(values.seed)

    # 2. Cohort and split
    cohort = read_unlabelled(quality=values.group("quality"), **values.group("cohort"))
    fold = split_for_pretraining(cohort, seed=values.seed, **values.group("split"))
    title = ContrastiveResNet18.title
    run = start_run(__file__, title=title, values=values, device=device, cohort=cohort, folds=[fold])
    signals = place_signals(cohort, device=device, **values.group("placement"))

    # 3. Batches and model
    augmentation = AugmentedHalves(Augmentation(**values.group("augmentation")))
    cohort_of_patients = with_patients_as_targets(cohort)
    training, validation, _ = make_batches(
        cohort_of_patients, fold, signals=signals, augmentation=augmentation, **values.group("batches")
    )
    announce_chance([size // count() for size in training.sizes], validation.all_targets.numpy())
    arguments = {**values.group("layers"), **values.group("projection")}
    model = ContrastiveResNet18(**arguments).to(device)

    # 4. Loss, optimizer and step
    loss = ContrastiveLoss(**values.group("contrast"))
    optimizer = adamw(model, pretrained=(), pretrained_rate=1.0, **values.group("optimizer"))
    schedule = learning_rate_schedule(
        optimizer, epochs=values.epochs, steps_per_epoch=len(training), **values.group("schedule")
    )
    step = TrainingStep(model, loss, optimizer, schedule, freeze_epochs=0, **values.group("step"))

    # 5. Train, and keep what others start from
    metrics = ValidationMetrics({"retrieval": "retrieval"}, lambda *ecgs: [retrieval(*ecgs)])
    keep = {"patience": 0, "keep": "last", "monitor": "loss"}
    fit(step, training, validation, run, metrics=metrics, epochs=values.epochs, **keep)
    keep_trunk(
        run,
        name="contrastive_resnet18",
        arguments=arguments,
        method="contrastive multi-segment coding",
        cohort=cohort,
        n_samples=values.n_samples,
        normalisation=values.normalisation,
    )
    stop()


if __name__ == "__main__":
    with one_line_errors():
        main()
