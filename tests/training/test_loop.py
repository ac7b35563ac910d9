"""The loop: learning rates by hand, the best epoch, stopping, resuming, and a test set scored once."""

import json
import math
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from fake_cohort import SignalsInMemory
from safetensors.torch import load_file
from tiny_experiment import (
    CPU,
    FOLD,
    PARTS,
    Experiment,
    TinyModel,
    make_cohort,
)
from torch import nn

from dataset.batches import TrainingBatches
from dataset.splits import Fold
from focal_loss import FocalLoss
from hyperparameters.declaration import Hyperparameters
from inference.scoring import predict_logits
from metrics_and_performance import youden_threshold
from run_folder.run import Run
from runtime import processes
from runtime.errors import UserError
from runtime.interruption import StoppedError
from training import loop as training_module
from training.experiment import start_run

SCHEDULES = ("constant", "step", "milestones", "cosine", "one_cycle")


class BreakingLoss(FocalLoss):
    """A loss that is not a number at one call."""

    def __init__(self, breaks_at):
        super().__init__(gamma=0.0)
        self.calls, self.breaks_at = 0, breaks_at

    def forward(self, logits, targets):
        self.calls += 1
        return super().forward(logits, targets) * (math.nan if self.calls == self.breaks_at else 1.0)


def with_signals(cohort, part, signals):
    """Return a cohort with other signals of some ECGs."""
    changed = cohort.signals.values.copy()
    changed[part] = signals
    return replace(cohort, signals=SignalsInMemory(changed))


@pytest.fixture(scope="module")
def cohort():
    return make_cohort()


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return Run(tmp_path / "run")


def score(model, signals):
    """Return the scores without calibration."""
    return 1 / (1 + np.exp(-predict_logits(model, signals)))


def log_of(run):
    return pd.read_csv(run.folder / "log.csv")


# Weights that stay as they are


def test_pretrained_weights_stay_in_the_first_epochs(cohort, run):
    weights = []

    class Watching(FocalLoss):
        def forward(self, logits, targets):
            weights.append(experiment.model.hidden.weight.detach().clone())
            return super().forward(logits, targets)

    experiment = Experiment(cohort, run, epochs=3, freeze_epochs=2)
    experiment.loss = Watching(gamma=0.0)
    experiment.pretrained = frozenset(["hidden.weight", "hidden.bias"])
    head = experiment.model.head.weight.detach().clone()
    experiment.fit()
    # Each epoch: three steps and a validation. The first step of the third epoch is taken before it moves.
    assert all(torch.equal(weight, weights[0]) for weight in weights[:9])
    assert not torch.equal(weights[10], weights[0])
    assert not torch.equal(experiment.model.head.weight, head)


@pytest.mark.parametrize("freeze_epochs", [0, 1])
def test_batch_norms_that_were_loaded_keep_their_statistics(cohort, run, freeze_epochs):
    experiment = Experiment(cohort, run, epochs=1, freeze_epochs=freeze_epochs)
    experiment.model.hidden = nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 6))
    experiment.optimizer = torch.optim.AdamW(experiment.model.parameters(), 0.01)
    experiment.schedule = experiment.make_schedule("constant", steps_per_epoch=3)
    experiment.pretrained = frozenset(["hidden.0.weight", "hidden.0.bias"])
    experiment.fit()
    norm = experiment.model.hidden[0]
    assert norm.num_batches_tracked == 0 and (norm.running_mean == 0).all()
    assert (norm.weight == 1).all() == bool(freeze_epochs)


# The best epoch


def follow(monkeypatch, **columns):
    """Let validation give these values, and return the list that the model's weights go into at each."""
    names = ("val_loss", "val_auroc", "val_average_precision")
    weights = []

    def validate(model, loss, validation, metrics):
        epoch = len(weights) + 1
        weights.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return {name: columns.get(name, [0.5] * 9)[epoch - 1] for name in names}

    monkeypatch.setattr(training_module, "_validate", validate)
    return weights


@pytest.mark.parametrize(("monitor", "best"), [("auroc", 2), ("average_precision", 4), ("loss", 3)])
def test_weights_of_the_epoch_that_the_monitor_prefers_are_kept(cohort, run, monkeypatch, monitor, best):
    weights = follow(
        monkeypatch,
        val_auroc=[0.6, 0.8, 0.7, 0.8],  # a tie is not better
        val_average_precision=[0.2, 0.1, 0.3, 0.4],
        val_loss=[0.5, 0.6, 0.4, 0.9],
    )
    Experiment(cohort, run, epochs=4, monitor=monitor).fit()
    kept = load_file(run.folder / "model.safetensors")
    same = [all(torch.equal(kept[name], then[name]) for name in kept) for then in weights]
    assert same == [epoch == best for epoch in (1, 2, 3, 4)]
    log = log_of(run)
    assert log["epoch"][log["kept"] == 1].max() == best
    assert log["kept"][0] == 1


def test_weights_of_the_last_epoch_are_kept_though_validation_prefers_another(
    cohort, run, monkeypatch, capsys
):
    weights = follow(monkeypatch, val_loss=[0.5, 0.1, 0.4])
    Experiment(cohort, run, keep="last").fit()
    kept = load_file(run.folder / "model.safetensors")
    assert all(torch.equal(kept[name], weights[-1][name]) for name in kept)
    assert log_of(run)["kept"].tolist() == [0, 0, 1]
    assert "3 epochs; kept: the averaged weights of the last" in capsys.readouterr().out


def test_scores_that_differ_by_rounding_are_a_tie(cohort, run, monkeypatch):
    follow(monkeypatch, val_auroc=[0.5, 94 / 104, 94 / 104 * (1 + 2**-52)])
    Experiment(cohort, run, monitor="auroc").fit()
    assert log_of(run)["kept"].tolist() == [1, 1, 0]


def test_checkpoints_are_saved_by_time_and_at_the_end(cohort, run, monkeypatch):
    saved = []
    monkeypatch.setattr(run, "save_checkpoint", lambda state: saved.append(len(state["log"])))
    Experiment(cohort, run).fit()
    assert saved == [3]
    assert log_of(run)["epoch"].tolist() == [1, 2, 3]  # but what happened can be read


@pytest.mark.parametrize(("patience", "n_epochs"), [(0, 6), (1, 3), (2, 4), (3, 6)])
def test_training_stops_without_a_better_score(cohort, run, monkeypatch, capsys, patience, n_epochs):
    follow(monkeypatch, val_auroc=[0.6, 0.7, 0.7, 0.6, 0.8, 0.1])
    Experiment(cohort, run, epochs=6, monitor="auroc", patience=patience).fit()
    assert log_of(run)["epoch"].tolist() == list(range(1, n_epochs + 1))
    assert ("no better" in capsys.readouterr().out) == (n_epochs < 6)


def test_resuming_a_run_that_stopped_early_trains_no_further(cohort, run, monkeypatch):
    follow(monkeypatch, val_auroc=[0.7, 0.6, 0.5, 0.9, 0.9, 0.9])
    Experiment(cohort, run, epochs=6, monitor="auroc", patience=2).fit()
    weights = (run.folder / "model.safetensors").read_bytes()
    Experiment(cohort, run, epochs=6, monitor="auroc", patience=2).fit()
    assert len(log_of(run)) == 3
    assert (run.folder / "model.safetensors").read_bytes() == weights


# Steps


def test_training_loss_is_the_mean_over_the_ecgs(cohort, run):
    experiment = Experiment(cohort, run, epochs=1, learning_rate=1e-12)
    experiment.model.dropout.p = 0.0
    experiment.deal_training(batch_size=7)
    batches = list(experiment.training.epoch(1))
    assert [len(indices) for _, _, indices in batches] == [6, 6]
    with torch.no_grad():
        losses = [FocalLoss(gamma=0.0)(experiment.model(x), y).item() * len(y) for (x,), y, _ in batches]
    experiment.fit()
    assert log_of(run)["train_loss"][0] == pytest.approx(sum(losses) / 12, rel=1e-5)


@pytest.mark.parametrize(("clip", "expected"), [(1e-3, 1e-3), (0.0, None), (1e6, None)])
def test_gradient_is_no_longer_than_the_clip(cohort, run, clip, expected):
    experiment = Experiment(cohort, run, epochs=1, gradient_clip=clip)
    experiment.deal_training(batch_size=12)
    experiment.optimizer = torch.optim.SGD(experiment.model.parameters(), lr=1.0)  # a step is the gradient
    experiment.schedule = experiment.make_schedule("constant", steps_per_epoch=1)
    before = nn.utils.parameters_to_vector(experiment.model.parameters()).detach().clone()
    experiment.fit()
    step = nn.utils.parameters_to_vector(experiment.model.parameters()).detach() - before
    assert step.norm().item() == pytest.approx(expected, rel=1e-2) if expected else step.norm() > 0.01


@pytest.mark.parametrize(("synchronised", "joined"), [(True, []), (False, [0, 1])])
def test_norms_of_several_processes_are_joined_before_each_validation(
    cohort, run, monkeypatch, synchronised, joined
):
    found = []

    def join(model, average):
        assert model is experiment.model and average is not model
        found.append(len(experiment.diary))

    monkeypatch.setattr(processes, "average_norms", join)
    experiment = Experiment(cohort, run, epochs=2, sync_batch_norm=synchronised)
    experiment.fit()
    assert found == joined and experiment.diary == ["validation"] * 2


def test_a_training_loss_that_rose_is_said(cohort, run, capsys):
    log = [{"train_loss": 0.7, "kept": 0}, {"train_loss": 219836840.0, "kept": 1, "epoch": 2}]
    training_module._print_end(log, 2, 0, "last", "loss")
    words = "the training loss rose from 0.7000 to 2.198e+08: try a lower --learning-rate"
    assert words in capsys.readouterr().out
    Experiment(cohort, run, epochs=2).fit()
    assert "rose" not in capsys.readouterr().out


def test_a_loss_that_is_not_finite_names_epoch_step_and_files(cohort, run, monkeypatch):
    monkeypatch.setattr(training_module, "SAVE_EVERY", 0)
    experiment = Experiment(cohort, run)
    experiment.loss = BreakingLoss(breaks_at=6)  # an epoch: three steps and a validation
    *_, (_, _, indices), _ = experiment.training.epoch(2)
    with pytest.raises(UserError, match="epoch 2, step 2 of 3") as caught:
        experiment.fit()
    message = str(caught.value)
    assert "nan" in message and "checkpoint of epoch 1 is kept" in message
    assert message.endswith(": " + ", ".join(f"{index}.xml" for index in indices))
    assert len(message.splitlines()) == 1
    assert [row["epoch"] for row in run.load_checkpoint(CPU)["log"]] == [1]
    assert log_of(run)["epoch"].tolist() == [1]
    assert all(tensor.isfinite().all() for tensor in load_file(run.folder / "model.safetensors").values())


def test_a_loss_that_is_not_finite_in_the_first_epoch_leaves_no_checkpoint(cohort, run):
    experiment = Experiment(cohort, run)
    experiment.loss = BreakingLoss(breaks_at=1)
    with pytest.raises(UserError, match=r"epoch 1, step 1 of 3; no checkpoint was saved"):
        experiment.fit()
    assert run.load_checkpoint(CPU) is None


def test_a_validation_loss_that_is_not_finite_ends_training(cohort, run, monkeypatch):
    monkeypatch.setattr(training_module, "SAVE_EVERY", 0)
    experiment = Experiment(cohort, run)
    experiment.loss = BreakingLoss(breaks_at=8)
    with pytest.raises(UserError, match=r"validation loss is nan after epoch 2; the checkpoint of epoch 1"):
        experiment.fit()
    assert len(run.load_checkpoint(CPU)["log"]) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU would take what lies on the CPU for its own")
def test_a_step_that_cannot_be_captured_is_launched_kernel_by_kernel(cohort, tmp_path, monkeypatch, capsys):
    logs = []
    for on_gpu in (False, True):  # no GPU is here: its stream cannot be made
        monkeypatch.setattr(TrainingBatches, "is_on_gpu", on_gpu)
        run = Run(tmp_path / str(on_gpu))
        run.folder.mkdir()
        Experiment(cohort, run).fit()
        logs.append(log_of(run)["train_loss"].tolist())
    assert logs[0] == logs[1]
    assert capsys.readouterr().out.count("step        launched kernel by kernel") == 1


# Interrupted and resumed


def die():
    raise KeyboardInterrupt  # nothing is saved, as of a process that is killed


def interrupt(experiment, epoch, step, end=die):
    """Let something happen while one step's batch is made."""
    whole = experiment.training.epoch

    def broken(number, first_step):
        for count, batch in enumerate(whole(number, first_step), first_step + 1):
            if (number, count) == (epoch, step):
                end()
            yield batch

    experiment.training.epoch = broken
    return experiment


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("interrupted", [(1, 2), (3, 2)])
def test_resumed_run_ends_where_an_uninterrupted_one_does(cohort, tmp_path, schedule, interrupted):
    whole, parts = Run(tmp_path / "whole"), Run(tmp_path / "parts")
    whole.folder.mkdir()
    parts.folder.mkdir()
    options = {"schedule": schedule, "epochs": 4, "gradient_clip": 0.5}
    expected = Experiment(cohort, whole, **options).fit().score_test_set()
    with pytest.raises(KeyboardInterrupt):
        interrupt(Experiment(cohort, parts, **options), *interrupted).fit()
    found = Experiment(cohort, parts, **options).fit().score_test_set()
    for name in ("model.safetensors", "predictions.csv", "metrics.json", "model.json"):
        assert (parts.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name
    timings = ["seconds", "ecgs_per_second"]
    pd.testing.assert_frame_equal(log_of(parts).drop(columns=timings), log_of(whole).drop(columns=timings))
    for name, tensor in expected.model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], tensor)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("epoch", "step", "place"), [(2, 2, "in epoch 2 after step 2"), (2, 3, "after epoch 2")]
)
def test_a_signal_lets_the_step_end_and_saves_it(cohort, tmp_path, number, epoch, step, place):
    whole, parts = Run(tmp_path / "whole"), Run(tmp_path / "parts")
    whole.folder.mkdir()
    parts.folder.mkdir()
    Experiment(cohort, whole).fit().score_test_set()
    with pytest.raises(StoppedError, match=place) as caught:
        interrupt(Experiment(cohort, parts), 2, step, lambda: signal.raise_signal(number)).fit()
    assert number.name in str(caught.value) and f"--resume {parts.folder}" in str(caught.value)
    resumed = Experiment(cohort, parts)
    resumed.diary.clear()
    resumed.fit().score_test_set()
    assert (parts.folder / "model.safetensors").read_bytes() == (
        whole.folder / "model.safetensors"
    ).read_bytes()
    losses = [log_of(run)["train_loss"].tolist() for run in (parts, whole)]
    assert losses[0] == losses[1]  # the steps before the signal are in the mean


def test_after_training_a_signal_does_what_it_did_before(cohort, run):
    before = signal.getsignal(signal.SIGTERM)
    Experiment(cohort, run, epochs=1).fit()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_long_epoch_is_saved_within(cohort, run, monkeypatch):
    monkeypatch.setattr(training_module, "SAVE_EVERY", 0)
    with pytest.raises(KeyboardInterrupt):
        interrupt(Experiment(cohort, run), 1, 3).fit()
    assert len(run.load_checkpoint(CPU)["losses"]) == 2


def test_kill_between_checkpoint_and_log_costs_no_row(cohort, run):
    Experiment(cohort, run).fit()
    log = log_of(run)
    (run.folder / "log.csv").unlink()
    Experiment(cohort, run).fit()
    pd.testing.assert_frame_equal(log_of(run), log)


def test_resuming_refuses_another_cohort(cohort, tmp_path):
    values = Hyperparameters(output_dir=str(tmp_path))
    first = start_run("train_x.py", title="Tiny", values=values, device=CPU, cohort=cohort, folds=[FOLD])
    again = Hyperparameters(output_dir=str(tmp_path), resume=str(first.folder))
    resumed = start_run("train_x.py", title="Tiny", values=again, device=CPU, cohort=cohort, folds=[FOLD])
    assert resumed.folder == first.folder
    assert len(list(tmp_path.iterdir())) == 1
    other = make_cohort()
    other.table.loc[3, "digest"] = "changed"
    swapped = {**PARTS, "test": PARTS["validation"], "validation": PARTS["test"]}
    for changed_cohort, parts in ((other, PARTS), (cohort, swapped)):
        with pytest.raises(UserError, match=r"not those that this run began with \(splits.csv\)"):
            folds = [Fold(0, 1, 1, parts)]
            start_run(
                "train_x.py", title="Tiny", values=again, device=CPU, cohort=changed_cohort, folds=folds
            )


def test_splits_are_written_with_the_part_of_each_ecg(cohort, tmp_path):
    values = Hyperparameters(output_dir=str(tmp_path))
    run = start_run("train_x.py", title="Tiny", values=values, device=CPU, cohort=cohort, folds=[FOLD])
    table = pd.read_csv(run.folder / "splits.csv")
    assert table["split"].tolist() == ["train"] * 12 + ["validation"] * 6 + ["test"] * 6
    assert table["PE"].tolist() == cohort.targets[:, 0].tolist()
    assert table["waveform"].tolist() == [0] * 24  # of signals that were not measured


# The test


def test_the_test_part_is_scored_once_and_last(cohort, run):
    experiment = Experiment(cohort, run).fit()
    assert experiment.diary == ["validation"] * 3
    experiment.score_test_set()
    assert experiment.diary == ["validation"] * 4 + ["test"]
    metrics = (run.folder / "metrics.json").read_bytes()
    Experiment(cohort, run).fit().score_test_set()
    again = Experiment(cohort, run)
    again.score_test_set()
    assert again.diary == []
    assert (run.folder / "metrics.json").read_bytes() == metrics


def test_evaluation_is_without_dropout_and_without_chance(cohort, run):
    TinyModel.modes.clear()
    experiment = Experiment(cohort, run).fit()
    assert experiment.model.modes == ([True] * 3 + [False] * 2) * 3
    experiment.model.train()
    experiment.model.modes.clear()
    first, second = (score(experiment.model, (x for x, _ in experiment.test)) for _ in range(2))
    assert not any(experiment.model.modes)
    np.testing.assert_array_equal(first, second)
    centre = torch.from_numpy(cohort.signals.read(PARTS["test"])[:, :, 2244:2756] / 1000).float()
    with torch.no_grad():
        np.testing.assert_allclose(first, torch.sigmoid(experiment.model(centre)).numpy(), rtol=1e-5)


def test_predictions_are_those_of_the_best_epoch(cohort, run, monkeypatch):
    follow(monkeypatch, val_auroc=[0.9, 0.1, 0.1])
    experiment = Experiment(cohort, run, monitor="auroc", learning_rate=0.1).fit()
    last = score(experiment.model, (x for x, _ in experiment.test))
    experiment.score_test_set()
    best = score(experiment.model, (x for x, _ in experiment.test))
    assert not np.allclose(best, last)
    table = pd.read_csv(run.folder / "predictions.csv")
    assert table.columns.tolist() == [
        *["file", "patient_id", "fold", "repeat", "split", "y_true_PE", "logit_PE", "y_score_PE"]
    ]
    tested = table[table["split"] == "test"]
    assert tested["file"].tolist() == [f"{index}.xml" for index in PARTS["test"]]
    np.testing.assert_allclose(tested["y_score_PE"], best[:, 0], rtol=1e-12)
    assert tested["y_true_PE"].tolist() == cohort.targets[PARTS["test"], 0].tolist()


def test_thresholds_come_from_validation_alone(tmp_path):
    thresholds = []
    for number, flipped in enumerate((None, "test", "validation")):
        cohort, run = make_cohort(), Run(tmp_path / str(number))
        run.folder.mkdir()
        experiment = Experiment(cohort, run).fit()
        if flipped:
            cohort.targets[PARTS[flipped]] = 1 - cohort.targets[PARTS[flipped]]
        experiment.score_test_set()
        description = json.loads((run.folder / "model.json").read_text(encoding="utf-8"))
        metrics = json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))
        assert description["thresholds"] == [metrics["labels"]["PE"]["threshold"]]
        scores = score(experiment.model, (x for x, _ in experiment.validation))[:, 0]
        assert description["thresholds"] == [youden_threshold(cohort.targets[PARTS["validation"], 0], scores)]
        thresholds += description["thresholds"]
    unchanged, test_flipped, validation_flipped = thresholds
    assert unchanged == test_flipped != validation_flipped


@pytest.mark.parametrize("calibration", ["temperature", "platt"])
def test_calibration_comes_from_validation_alone(tmp_path, calibration):
    """Other labels of the test ECGs, or other test ECGs altogether, change neither slope nor intercept."""
    fitted = []
    for change in ("nothing", "test labels", "test signals", "validation labels"):
        cohort, run = make_cohort(), Run(tmp_path / change)
        run.folder.mkdir()
        experiment = Experiment(cohort, run).fit()
        part, what = (PARTS[change.split()[0]], change.split()[1]) if " " in change else ([], "")
        if what == "labels":
            cohort.targets[part] = 1 - cohort.targets[part]
        elif what == "signals":
            cohort = with_signals(cohort, part, cohort.signals.read(part) // 2)
            experiment.test = Experiment(cohort, run).test
        experiment.score_test_set(calibration)
        description = json.loads((run.folder / "model.json").read_text(encoding="utf-8"))
        assert description["calibration"] == calibration
        fitted.append((description["calibration_slopes"], description["calibration_intercepts"]))
    nothing, test_labels, test_signals, validation_labels = fitted
    assert nothing == test_labels == test_signals != validation_labels
    assert nothing != ([1.0], [0.0])


@pytest.mark.parametrize(("calibration", "part"), [("platt", "validation"), ("temperature", "train")])
def test_scores_hold_for_the_prevalence_that_their_level_follows(tmp_path, calibration, part):
    """Platt's intercept follows the validation ECGs, which a split column may have enriched otherwise."""
    cohort, run = make_cohort(), Run(tmp_path)
    cohort.table["split"] = "in the table"
    cohort.targets[PARTS["validation"]] = np.float32([[1], [0], [0], [0], [0], [0]])
    experiment = Experiment(cohort, run).fit()
    experiment.score_test_set(calibration)
    description = json.loads((run.folder / "model.json").read_text(encoding="utf-8"))
    prevalences = {name: float(cohort.targets[PARTS[name]].mean()) for name in ("train", "validation")}
    assert prevalences["train"] != pytest.approx(prevalences["validation"])
    assert description["prevalences"] == [pytest.approx(prevalences[part])]


def test_scores_are_calibrated_logits(cohort, run):
    experiment = Experiment(cohort, run).fit()
    experiment.score_test_set("platt")
    description = json.loads((run.folder / "model.json").read_text(encoding="utf-8"))
    logits = predict_logits(experiment.model, (x for x, _ in experiment.test))[:, 0]
    slope, intercept = description["calibration_slopes"][0], description["calibration_intercepts"][0]
    table = pd.read_csv(run.folder / "predictions.csv")
    expected = 1 / (1 + np.exp(-(slope * logits + intercept)))
    np.testing.assert_allclose(table.loc[table["split"] == "test", "y_score_PE"], expected, rtol=1e-12)
    assert description["prevalences"] == [6 / 18]  # of the training and validation ECGs


def test_metrics_are_of_the_test_part(cohort, run):
    Experiment(cohort, run).fit().score_test_set()
    metrics = json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["split"], metrics["n_ecgs"], metrics["n_patients"]) == ("test", 6, 6)
    assert metrics["labels"]["PE"]["n_positive"] == 2
