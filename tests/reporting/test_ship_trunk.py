"""A pretraining becomes a trunk that ships; runs start from it by its name, but not to test what it saw."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from format_writers import write_wfdb
from safetensors.torch import load_file
from scipy.signal import decimate
from tiny_runs import ROOT, line_of, make_tiny_cohort, run_folder_of, run_here, tiny, train_here

from cohorts.ptbxl import PUBLIC_KEY, leave_public_key
from cohorts.synthetic import make_cohort
from inference.unseen import TrainedOn
from models import MODELS
from reporting.pages.trunk_card import command_without_paths
from reporting.words.study_facts import started_from
from run_folder.files import RunFiles
from run_folder.run import Run
from run_folder.run_record import read_run
from run_folder.shipped import companions_head, read_seen
from xml_loader import read_at_rest

FILES = {
    *("README.md", "model.json", "model.safetensors", "environment.json"),
    *("seen.safetensors", "patient_key.txt", "test_scores.csv"),
}
SHIPPED = sorted(path.parent for path in ROOT.glob("pretrained/*/model.json"))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A public set of 24 ECGs, a pretraining on it, and the trunk that ships, called public."""
    places = tmp_path_factory.mktemp("places")
    make_tiny_cohort(places / "set")
    make_cohort(places / "ecgs", n_ecgs=24, n_patients=22, prevalence=0.4, seed=8)
    where = ("--output-dir", places / "runs", "--cache-dir", places / "cache")
    flags = ("--data-dir", places / "set", "--objective", "statements", "--leave-out", "MI", *where)
    sizes = ("--epochs", 1, "--batch-size", 8, "--n-samples", 512, "--workers", 1)
    run_folder_of(run_here("pretrain.py", *flags, *sizes)).rename(places / "run")
    above = ("--architecture", "rnn", "--init-from", places / "run")
    for name, epochs in (("above", 1), ("tuned", 0)):
        folder = run_folder_of(run_here("pretrain.py", *flags, *sizes, *above, "--freeze-epochs", epochs))
        folder.rename(places / name)
    return places


@pytest.fixture(scope="module")
def trunk(places):
    outcome = ship(places, places / "pretrained" / "public")
    assert outcome.returncode == 0, outcome.stderr
    assert "24 ECGs of 22 patients" in outcome.stdout and "--init-from public" in outcome.stdout
    return places / "pretrained" / "public"


@pytest.fixture(autouse=True)
def found_there(places, monkeypatch):
    monkeypatch.setattr("run_folder.shipped.PRETRAINED", places / "pretrained")


def ship(places, folder, *flags):
    where = ("--cache-dir", places / "cache", "--workers", 1)
    return run_here("reporting.ship_trunk", places / "run", folder, *where, *flags)


def start(places, *flags, script="train_atten.py", cohort="ecgs"):
    where = ("--output-dir", places / "runs", "--cache-dir", places / "cache", "--init-from", "public")
    return train_here(script, *tiny(places / cohort, *where, *flags))


# What ships


def test_weights_in_half_precision(places, trunk):
    assert {file.name for file in trunk.iterdir()} == FILES
    before, after = (load_file(folder / "model.safetensors") for folder in (places / "run", trunk))
    assert set(before) == set(after)
    for name, tensor in after.items():
        assert tensor.dtype == (torch.float16 if tensor.ndim > 1 else before[name].dtype), name
        torch.testing.assert_close(tensor.float(), before[name].float(), rtol=1e-3, atol=1e-6)
    assert (trunk / "model.safetensors").stat().st_size < 10.5e6


def test_it_has_seen_every_part_under_the_public_key(places, trunk):
    seen, splits = read_seen(trunk), pd.read_csv(places / "run" / "splits.csv")
    assert len(seen.fingerprints) == len(splits) == 24 and set(splits["split"]) >= {"test", "validation"}
    assert len(seen.patient_ids) == 22 and not set(seen.patient_ids) & set(splits["patient_id"])
    assert bytes.fromhex((trunk / "patient_key.txt").read_text()).startswith(b"PTB-XL")


def test_the_card_says_what_the_run_says(places, trunk):
    card, run = (trunk / "README.md").read_text(), places / "run"
    scores = pd.read_csv(run / "test_scores.csv").set_index("name")
    assert "python train_atten.py --data-dir ecgs --init-from public" in card
    assert "CC BY 4.0" in card and "Wagner et al." in card and "10.13026/kfzx-aw45" in card
    assert "1 label: PE." in card and "left out: MI." in card and "| all | 24 | 22 |" in card
    assert f"| {scores['score']['PE']:.3f} |" in card and "Nothing above 250 Hz" in card
    assert "`python pretrain.py --data-dir set --objective statements --leave-out MI --epochs 1" in card
    shipped = "".join(path.read_text() for path in trunk.iterdir() if path.suffix != ".safetensors")
    splits = pd.read_csv(run / "splits.csv")
    assert str(places) not in shipped
    assert not [text for text in (*splits["file"], *splits["patient_id"]) if text in shipped]


def test_no_path_is_in_the_command():
    words = ["/home/me/pretrain.py", "--data-dir=/data/of/ptbxl", "--cache-dir", "/fast", "--epochs", "3"]
    assert command_without_paths(words) == ["python", "pretrain.py", "--data-dir", "ptbxl", "--epochs", "3"]


def test_what_cannot_ship_is_one_line(places, trunk, tmp_path):
    line = line_of(ship(places, trunk))
    assert "public: found something already, expected nothing; --overwrite replaces its files" in line
    line = line_of(ship(places, tmp_path / "new", "--data-dir", places / "ecgs"))
    assert "ecgs: found" in line and "of the 24 files absent or changed, such as" in line
    table = pd.read_csv(places / "set" / "labels.csv")
    table[1:].to_csv(tmp_path / "labels.csv", index=False)
    line = line_of(ship(places, tmp_path / "new", "--labels", tmp_path / "labels.csv"))
    assert f"labels.csv: found no row of {table['file'][0]}, expected the table of" in line
    shutil.copytree(places / "run", tmp_path / "scores")
    (tmp_path / "scores" / "model.json").write_text("{}")
    assert "found no usable model" in line_of(run_here("reporting.ship_trunk", tmp_path / "scores", "new"))


# Who starts from it


def test_the_name_is_enough_from_any_folder(places, trunk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "public").mkdir()  # a folder of ECGs
    outcome = start(places, "--freeze-epochs", 1, "--weight-average", 0)
    run = run_folder_of(outcome)
    assert f"tensors of trunk, attention from {trunk}; new: head" in outcome.stdout
    assert f"recognised with --patient-key {trunk / 'patient_key.txt'}" in outcome.stdout
    before, after = (load_file(folder / "model.safetensors") for folder in (trunk, run))
    for name, tensor in before.items():
        if name.startswith("head."):
            continue
        # The only epoch was one of the frozen
        assert after[name].dtype in (torch.float32, torch.int64) and torch.equal(
            after[name], tensor.to(after[name])
        )
    assert RunFiles(run).hyperparameters()["init_from"] == "public"
    sentence = started_from([read_run(run)])
    assert "those of public (PTB-XL 1.0.3: Wagner et al.," in sentence and "CC BY 4.0" in sentence


def test_layers_of_another_model_ship_beside_the_trunk(places, trunk):
    folder = places / "pretrained" / "more"
    outcome = ship(places, folder, "--with", places / "above")
    assert outcome.returncode == 0, outcome.stderr
    alone, both, above = (load_file(one / "model.safetensors") for one in (trunk, folder, places / "above"))
    of_the_rnn = {name for name in above if name.startswith("rnn.")}
    assert set(both) - set(alone) == of_the_rnn | {"head.resnet_with_rnn.weight"}
    assert "--architecture rnn --freeze-epochs 1" in (folder / "README.md").read_text()
    flags = ("--init-from", "more", "--epochs", 1, "--freeze-epochs", 1, "--weight-average", 0)
    outcome = start(places, "--model", "rnn", *flags, script="train_main_ecg.py")
    assert f"tensors of trunk, rnn from {folder}; new: head" in outcome.stdout
    after = load_file(run_folder_of(outcome) / "model.safetensors")
    assert f"of {len(above['head.weight'])} answers" in outcome.stdout
    for name in (name for name in both.keys() & after.keys() if not name.startswith("head.")):
        assert torch.equal(after[name], both[name].to(after[name])), name
    assert f"trunk, attention from {folder}; new: head" in start(places, *flags).stdout
    for other in (("--model", "rnn", "--rnn-hidden-size", 64), ("--model", "encoder")):
        outcome = start(places, *other, *flags, script="train_main_ecg.py")
        assert f"tensors of trunk from {folder}; new: " in outcome.stdout
    description, weights = Run(folder).load_any_description(), Run(folder).read_weights()
    assert set(description.companions) == {"resnet_with_rnn"}
    model = MODELS["resnet_with_rnn"](**description.companions["resnet_with_rnn"])
    assert {name for name in model.state_dict() if not name.startswith("head.")} <= set(weights)
    torch.testing.assert_close(
        weights["head.resnet_with_rnn.weight"].float(), above["head.weight"], rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("name", ["tuned", "run"])
def test_layers_above_another_trunk_do_not_ship(places, trunk, tmp_path, name):
    line = line_of(ship(places, tmp_path / "new", "--with", places / name))
    assert f"{name}: found another trunk, or the same model, expected a pretraining of another" in line


def test_layers_that_were_asked_for_something_else_do_not_ship(places, trunk, tmp_path):
    other = shutil.copytree(places / "above", tmp_path / "other")
    description = json.loads((other / "model.json").read_text())
    description["value_names"].reverse()
    (other / "model.json").write_text(json.dumps(description))
    line = line_of(ship(places, tmp_path / "new", "--with", other))
    assert "other: found one that was asked for other labels or values, expected a pretraining" in line


@pytest.mark.parametrize("model", ["rnn", "encoder"])
def test_the_other_models_with_the_1d_trunk_take_it(places, trunk, model):
    flags = ("--model", model, "--freeze-epochs", 1, "--weight-average", 0)
    outcome = start(places, *flags, script="train_main_ecg.py")
    before, after = (load_file(one / "model.safetensors") for one in (trunk, run_folder_of(outcome)))
    assert f"tensors of trunk from {trunk}; new: " in outcome.stdout
    shared = [name for name in after if name.startswith("trunk.")]
    assert len(shared) > 100 and all(
        torch.equal(after[name], before[name].to(after[name])) for name in shared
    )


def test_the_others_say_what_they_can_start_from(places, trunk):
    for name in ("baseline", "spectrogram"):
        line = line_of(start(places, script=f"train_{name}.py"))
        assert (
            f"{trunk}: found weights of resnet18_with_atten, expected those of a run of train_{name}.py"
            in line
        )
        assert f"pretrain.py --objective statements --architecture {name}" in line


# Who must not


def test_what_it_has_seen_cannot_be_tested(places, trunk):
    line = line_of(start(places, cohort="set"))
    assert f"{trunk}: found" in line and "its own test ECGs included, may train, but not validate" in line


def test_nor_can_the_same_recordings_in_other_files(places, trunk, tmp_path):
    """At 100 Hz, in steps of 4 µV, as WFDB; the patients have other names."""
    table = pd.read_csv(places / "set" / "labels.csv")
    for number, file in enumerate(table["file"]):
        signal = decimate(read_at_rest(places / "set" / file).astype(float), 5, axis=1, ftype="fir")
        counts = np.rint(signal / 4).astype(int)
        write_wfdb(tmp_path / f"r{number}.hea", counts, sampling_rate=100, microvolts_per_count=4)
    table["file"] = [f"r{number}.hea" for number in range(len(table))]
    table["patient_id"] = "x" + table["patient_id"]
    table.to_csv(tmp_path / "labels.csv", index=False)
    line = line_of(start(places, cohort=tmp_path))
    n_held_out = int(line.split(" of this run's test ECGs")[0].split()[-1])
    assert f"{trunk}: found {n_held_out} of this run's" in line and n_held_out > 5


def test_nor_can_another_ecg_of_a_patient(places, trunk, tmp_path):
    """Whose number is the public set's, in a table of its maker, which leaves the public key."""
    shutil.copytree(places / "ecgs", tmp_path / "ecgs")
    (tmp_path / "ecgs" / "patient_key.txt").unlink(missing_ok=True)
    table = pd.read_csv(tmp_path / "ecgs" / "labels.csv")
    table["patient_id"] = pd.read_csv(places / "set" / "labels.csv")["patient_id"]
    table.to_csv(tmp_path / "ecgs" / "labels.csv", index=False)
    leave_public_key(tmp_path / "ecgs" / "patient_key.txt")
    assert "or their patients, among those that trained or validated it" in line_of(
        start(places, cohort=tmp_path / "ecgs")
    )


def test_predict_knows_the_ecgs_that_a_model_has_seen_by_way_of_it(places, trunk):
    run = run_folder_of(start(places))
    known, files = TrainedOn.of(run), sorted((places / "set").glob("*.xml"))[:3]
    assert [known.has(file, 0, read_at_rest(file)) for file in files] == [True] * 3
    other = make_cohort(places / "new", n_ecgs=2, n_patients=2, prevalence=0.5, seed=77).parent
    assert not any(known.has(file, 0, read_at_rest(file)) for file in other.glob("*.xml"))


def test_evaluate_compares_with_it_too(places, trunk):
    run = run_folder_of(start(places))
    line = line_of(run_here("evaluate.py", run, "--cohort", places / "set"))
    assert f"by way of {trunk}" in line


# What has shipped


@pytest.mark.parametrize("folder", SHIPPED, ids=[folder.name for folder in SHIPPED])
def test_a_trunk_in_the_repository_is_whole(folder, monkeypatch, tmp_path):
    monkeypatch.setattr("run_folder.shipped.PRETRAINED", ROOT / "pretrained")
    description, weights = Run(folder).load_any_description(), Run(folder).read_weights()
    model = MODELS[description.model](**description.arguments)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not missing  # with its head it answers what it was asked for
    for name, arguments in description.companions.items():
        theirs = MODELS[name](**arguments).state_dict()
        head = weights[companions_head(name)]
        assert (
            head.shape == theirs.pop("head.weight").shape and theirs.pop("head.bias").shape == head.shape[:1]
        )
        assert {name: tensor.shape for name, tensor in theirs.items()} == {
            name: weights[name].shape for name in theirs
        }
        unexpected = [tensor for tensor in unexpected if tensor not in (*theirs, companions_head(name))]
    assert not unexpected
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    assert sum(path.stat().st_size for path in folder.iterdir()) < 16e6  # of three models
    card = (folder / "README.md").read_text()
    assert "CC BY 4.0" in card and "Wagner et al." in card and "CC BY 4.0" in description.source
    seen = read_seen(folder)
    assert len(np.unique(seen.fingerprints, axis=0)) == len(seen.fingerprints) >= len(seen.patient_ids)
    assert (folder / "patient_key.txt").read_text().strip() == PUBLIC_KEY
    assert json.loads((folder / "environment.json").read_text())["device"] in card
    make_cohort(tmp_path / "ecgs", n_ecgs=24, n_patients=22, prevalence=0.4, seed=8)
    where = ("--output-dir", tmp_path / "runs", "--cache-dir", tmp_path / "cache", "--init-from", folder.name)
    if description.model == "resnet18_with_atten":
        outcome = train_here("train_atten.py", *tiny(tmp_path / "ecgs", *where))
        assert f"from {folder}; new: head" in outcome.stdout
