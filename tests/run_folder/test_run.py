"""The run folder: files whole or not at all, nothing unpickled, one line for a file that cannot be used."""

import json
import os
import pickle
import re
from datetime import datetime as real_datetime
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from described_models import ARGUMENTS, describe

from hyperparameters.declaration import Hyperparameters
from hyperparameters.reading import read_yaml
from models import MODELS
from run_folder import run as run_module
from run_folder.run import Run, new_folder
from runtime.errors import UserError

CPU = torch.device("cpu")
SPLITS = pd.DataFrame({"file": ["a.xml", "b.xml"], "patient_id": ["1", "2"], "split": ["train", "test"]})


class Trap:
    """Something that, unpickled, leaves a folder behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def create(output_dir, script="train_x", splits=SPLITS, **options):
    rejected = pd.DataFrame({"file": ["c.xml"], "reason": ["no leads"]})
    values = Hyperparameters(output_dir=str(output_dir), **options)
    quality = pd.DataFrame(
        {"file": ["a.xml"], "check": ["gaps"], "verdict": ["note"], "finding": ["3 samples"]}
    )
    return Run.create(
        script=script,
        values=values,
        device=CPU,
        splits=splits,
        rejected=rejected,
        quality=quality,
        patient_key="0123456789abcdef",
    )


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return Run(tmp_path / "run")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a model."""
    run = Run(tmp_path_factory.mktemp("saved"))
    run.save_weights(MODELS["res_net_model"](**ARGUMENTS["res_net_model"]).state_dict())
    run.save_description(describe())
    return run


@pytest.fixture
def damaged(run, saved):
    """Return a function that copies the saved model with one of its files changed, and loads it."""

    def message_of(name, change, blamed=None):
        for file in saved.folder.iterdir():
            (run.folder / file.name).write_bytes(file.read_bytes())
        content = change((run.folder / name).read_bytes())
        (run.folder / name).unlink()
        if content is not None:
            (run.folder / name).write_bytes(content)
        return error_of(lambda: run.load_model(CPU), run.folder / (blamed or name))

    return message_of


def error_of(action, file):
    """Return the message of the UserError, after checking that it is one line that names the file."""
    with pytest.raises(UserError) as caught:
        action()
    message = str(caught.value)
    assert message.startswith(f"{file}: ") and len(message.splitlines()) == 1
    return message


# Files whole or not at all


def test_metrics_that_json_cannot_hold_leave_the_run_untested(run):
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.write_metrics({"auroc": float("inf")})
    assert not run.is_tested
    run.write_metrics({"auroc": float("nan")})
    assert run.is_tested and json.loads((run.folder / "metrics.json").read_text()) == {"auroc": None}


# The checkpoint


def test_checkpoint_comes_back_and_is_none_before_the_first_epoch(run):
    assert run.load_checkpoint(CPU) is None
    run.save_checkpoint({"model": {"weight": torch.arange(3.0)}, "log": [{"epoch": 1, "val_loss": 0.5}]})
    checkpoint = run.load_checkpoint(CPU)
    assert checkpoint["log"] == [{"epoch": 1, "val_loss": 0.5}]
    assert torch.equal(checkpoint["model"]["weight"], torch.arange(3.0))


@pytest.mark.parametrize(
    "change",
    [lambda content: content[: len(content) // 2], lambda content: b"", lambda content: b"\0" * len(content)],
    ids=["truncated", "empty", "zeros"],
)
def test_damaged_checkpoint_is_one_line(run, change):
    run.save_checkpoint({"model": torch.zeros(1000), "log": []})
    path = run.folder / "checkpoint.pt"
    path.write_bytes(change(path.read_bytes()))
    assert "cannot be read" in error_of(lambda: run.load_checkpoint(CPU), path)


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_the_checkpoint_before_stands_in_for_a_damaged_one(run, capsys, damage):
    for epoch in (1, 2, 3):
        run.save_checkpoint({"model": torch.full((1000,), float(epoch)), "log": [{"epoch": epoch}]})
    path = run.folder / "checkpoint.pt"
    content = path.read_bytes()
    if damage == "missing":  # killed between two renames
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        place = content.index(torch.full((1000,), 3.0).numpy().tobytes()) + 2000
        path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
    checkpoint = run.load_checkpoint(CPU)
    assert checkpoint["log"] == [{"epoch": 2}] and (checkpoint["model"] == 2).all()
    assert (f"{path}: the checkpoint cannot be read" in capsys.readouterr().out) == (damage != "missing")
    run.forget_checkpoint_before()
    assert not list(run.folder.glob("*before*"))


def bits_of(content, n):
    """Return contents that differ from this one in one bit, at places all over it."""
    for place in range(0, len(content), max(1, len(content) // n)):
        yield content[:place] + bytes([content[place] ^ 64]) + content[place + 1 :]


def test_no_flipped_bit_gives_another_checkpoint(run):
    state = {"model": torch.arange(500.0), "log": [{"epoch": 1, "val_loss": 0.5}]}
    run.save_checkpoint(state)
    path, refused = run.folder / "checkpoint.pt", 0
    for content in bits_of(path.read_bytes(), n=150):
        path.write_bytes(content)
        try:
            found = run.load_checkpoint(CPU)
        except UserError:
            refused += 1
        else:  # the bit lies between the parts of the archive
            assert torch.equal(found["model"], state["model"]) and found["log"] == state["log"]
    assert refused > 100


def test_no_flipped_bit_gives_other_weights(run):
    model, other = torch.nn.Linear(20, 10), torch.nn.Linear(20, 10)
    run.save_weights(model.state_dict())
    path, refused = run.folder / "model.safetensors", 0
    for content in bits_of(path.read_bytes(), n=150):
        path.write_bytes(content)
        try:
            run.load_weights(other)
        except UserError:
            refused += 1
        else:  # the bit lies in the name of the checksum
            assert torch.equal(other.weight, model.weight) and torch.equal(other.bias, model.bias)
    assert refused > 100


def test_a_full_disk_is_one_line_and_keeps_what_was_there(run, monkeypatch):
    run.save_checkpoint({"log": [{"epoch": 1}]})
    weights = torch.nn.Linear(2, 2)
    run.save_weights(weights.state_dict())

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_module.os, "fsync", full)
    for save in (
        lambda: run.save_checkpoint({"log": [{"epoch": 2}]}),
        lambda: run.save_weights(weights.state_dict()),
    ):
        with pytest.raises(UserError, match=r"cannot be written \(No space left on device\).* --resume "):
            save()
    monkeypatch.undo()
    assert run.load_checkpoint(CPU)["log"] == [{"epoch": 1}]
    run.load_weights(weights)
    assert not [path for path in run.folder.iterdir() if "partial" in path.name]


@pytest.mark.parametrize("save", [torch.save, lambda trap, path: path.write_bytes(pickle.dumps(trap, 2))])
def test_checkpoint_with_an_object_is_refused_and_not_executed(run, tmp_path, save):
    path, sprung = run.folder / "checkpoint.pt", tmp_path / "sprung"
    save({"model": Trap(sprung)}, path)
    error_of(lambda: run.load_checkpoint(CPU), path)
    assert not sprung.exists()
    torch.load(path, weights_only=False) if save is torch.save else pickle.loads(path.read_bytes())
    assert sprung.exists()  # the trap is one


# The model


@pytest.mark.parametrize("name", ARGUMENTS)
def test_loaded_model_gives_identical_logits(run, name):
    torch.manual_seed(1)
    model = MODELS[name](**ARGUMENTS[name])
    model(torch.randn(4, 12, 512))  # moves the statistics of the batch norms
    run.save_weights(model.state_dict())
    run.save_description(describe(name))
    signal = torch.randn(3, 12, 512)
    loaded, description = run.load_model(CPU)
    assert description == describe(name)
    assert not any(module.training for module in loaded.modules())
    with torch.inference_mode():
        assert torch.equal(loaded(signal), model.eval()(signal))


def test_saved_weights_are_those_of_that_moment(run):
    model = MODELS["res_net_model"](**ARGUMENTS["res_net_model"])
    run.save_weights(model.state_dict())
    before = model.head.bias.detach().clone()
    torch.nn.init.constant_(model.head.bias, 9.0)
    run.load_weights(model)
    assert torch.equal(model.head.bias, before)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
@pytest.mark.parametrize(
    "change",
    [lambda content: content[: len(content) // 2], lambda content: b"", lambda content: None],
    ids=["truncated", "empty", "absent"],
)
def test_damaged_model_is_one_line_that_names_the_file(damaged, name, change):
    damaged(name, change)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", "resnet152", "resnet152"),
        ("arguments", {"n_labels": 1}, "dropout"),
        ("leads", ["I", "II"], "found leads I, II at 500 Hz"),
        ("sampling_rate", 250, "at 250 Hz"),
        ("surprise", 1, "surprise"),
    ],
)
def test_description_of_another_model_is_one_line(damaged, key, value, message):
    changed = damaged("model.json", lambda text: json.dumps({**json.loads(text), key: value}).encode())
    assert message in changed


def test_description_must_be_an_object(damaged):
    damaged("model.json", lambda text: b"[1, 2]")


def test_weights_of_another_shape_are_one_line(damaged):
    def one_label(text):
        description = json.loads(text)
        return json.dumps({**description, "arguments": {**description["arguments"], "n_labels": 1}}).encode()

    assert "head.weight" in damaged("model.json", one_label, blamed="model.safetensors")


# The folder


def test_new_run_has_what_is_known_before_training(tmp_path):
    run = create(tmp_path / "deep" / "runs", epochs=3)
    assert run.folder.parent == tmp_path / "deep" / "runs"
    assert re.fullmatch(r"train_x-\d{8}-\d{6}", run.folder.name)
    found = sorted(file.name for file in run.folder.iterdir())
    assert found == ["environment.json", "hyperparameters.yml", "quality.csv", "rejected.csv", "splits.csv"]
    assert read_yaml(run.folder / "hyperparameters.yml")[0]["epochs"] == 3
    assert pd.read_csv(run.folder / "rejected.csv").to_dict("list") == {
        "file": ["c.xml"],
        "reason": ["no leads"],
    }
    environment = json.loads((run.folder / "environment.json").read_text(encoding="utf-8"))
    assert environment["packages"]["torch"] == torch.__version__
    assert "CPU" in environment["device"] and environment["threads"] == torch.get_num_threads()
    assert set(environment) >= {"command", "started", "python", "git_commit"}


def test_two_runs_of_one_second_get_two_folders(tmp_path, monkeypatch):
    moment = real_datetime(2026, 11, 22, 10, 15)
    monkeypatch.setattr(run_module, "datetime", SimpleNamespace(now=lambda: moment))
    names = [create(tmp_path).folder.name for _ in range(3)]
    assert names == ["train_x-20261122-101500", "train_x-20261122-101500-2", "train_x-20261122-101500-3"]
    assert create(tmp_path, script="train_y").folder.name == "train_y-20261122-101500"
    names = [new_folder(tmp_path, "evaluate").name for _ in range(2)]
    assert names == ["evaluate-20261122-101500", "evaluate-20261122-101500-2"]


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_output_dir_that_is_a_file_is_one_line(tmp_path, name):
    (tmp_path / "file").write_text("here")
    with pytest.raises(UserError, match="--output-dir") as caught:
        create(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_resume_takes_the_same_splits_alone(tmp_path):
    folder = create(tmp_path).folder
    assert Run.resume(folder, SPLITS.copy()).folder == folder
    for other in (SPLITS[::-1], SPLITS.assign(split=["test", "train"]), SPLITS.assign(patient_id=["1", "3"])):
        message = error_of(lambda other=other: Run.resume(folder, other), folder)
        assert "splits.csv" in message and "start a new run" in message


def test_resume_of_a_run_with_line_ends_in_the_names_of_files(tmp_path):
    splits = SPLITS.assign(file=["Icon\r", "a\r\nb"])
    folder = create(tmp_path, splits=splits).folder
    assert Run.resume(folder, splits.copy()).folder == folder


def test_resume_names_what_differs(tmp_path):
    folder = create(tmp_path).folder
    with_label = SPLITS.assign(PE=["0", "1"])
    others = {
        "files (such as a.xml)": SPLITS.assign(file=["c.xml", "b.xml"]),
        "patients (such as that of b.xml)": SPLITS.assign(patient_id=["1", "3"]),
        "parts (such as that of a.xml)": SPLITS.assign(split=["test", "train"]),
        "columns (labels, age, sex or folds)": with_label,
    }
    for words, other in others.items():
        assert f"{folder}: {words} are not those" in error_of(
            lambda other=other: Run.resume(folder, other), folder
        )
    with_label.assign(digest=["x", "y"]).to_csv(folder / "splits.csv", index=False)
    for words, values in (
        ("contents of files", {"digest": ["x", "z"]}),
        ("labels or values in column PE", {}),
    ):
        other = with_label.assign(**{"digest": ["x", "y"], **values})
        other["PE"] = other["PE"] if values else ["0", "0"]
        with pytest.raises(UserError, match=rf"{words} \(such as that of b.xml\) are not those"):
            Run.resume(folder, other)


def test_another_key_of_the_pseudonyms_is_named_as_the_cause(tmp_path):
    folder = create(tmp_path).folder
    other = SPLITS.assign(patient_id=["8", "9"])
    line = error_of(lambda: Run.resume(folder, other, patient_key="fedcba9876543210"), folder)
    assert "the key of the patients' pseudonyms is another than this run began with; put its own " in line
    line = error_of(lambda: Run.resume(folder, other, patient_key="0123456789abcdef"), folder)
    assert "patients (such as that of a.xml) are not those" in line


def test_a_run_of_an_earlier_version_is_resumed_without_the_digests_of_its_signals(tmp_path):
    folder = create(tmp_path).folder
    with_waveform = SPLITS.assign(waveform=["0a", "0b"])
    assert Run.resume(folder, with_waveform).folder == folder
    with_waveform.to_csv(folder / "splits.csv", index=False)
    with pytest.raises(UserError, match="start a new run"):
        Run.resume(folder, with_waveform.assign(waveform=["0a", "0c"]))


def test_resume_of_a_folder_that_is_no_run_is_one_line(tmp_path):
    assert "splits.csv" in error_of(lambda: Run.resume(tmp_path, SPLITS), tmp_path)
    message = error_of(lambda: Run.resume(tmp_path / "none", SPLITS), tmp_path / "none")
    assert "found no usable splits.csv (No such file or directory), expected" in message


def test_what_a_run_has_cost_is_recorded_once(tmp_path):
    run = create(tmp_path)
    run.record_compute(12.34)
    Run.resume(run.folder, SPLITS).record_compute(99)
    used = run.json("environment.json")["compute"]
    assert used["training_seconds"] == 12.3 and used["processes"] == 1 and not used["resumed"]
    assert used["run_seconds"] > 0 and used["cpu_seconds"] > 0
    assert Run.resume(create(tmp_path).folder, SPLITS).resumed
