"""Weights of another model, in a .safetensors file: what is loaded, what is said, and what is refused."""

import hashlib
import json
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_runs import line_of, make_tiny_cohort, run_as_user, run_folder_of, run_here, tiny, train_here
from torch import nn

from models import MODELS
from run_folder.lineage import foreign_starts
from runtime.errors import UserError
from training.foreign_weights import load_foreign


class Own(nn.Module):
    """Two modules of a trunk, and a head that is never loaded."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(2, 3, (1, 5), bias=False), nn.Linear(3, 2))
        self.norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(2, 1)


KERNEL = torch.arange(30.0).reshape(3, 2, 5)
LINE = torch.tensor([[1.0, -2.0, 0.5], [4.0, 0.25, -8.0]])  # halves of integers: exact in any precision
STEM = {"encoder.0.weight": KERNEL}
NORM = {
    "encoder.bn.weight": torch.tensor([1.0, 2.0, 3.0]),
    "encoder.bn.bias": torch.tensor([4.0, 5.0, 6.0]),
    "encoder.bn.running_mean": torch.tensor([7.0, 8.0, 9.0]),
    "encoder.bn.running_var": torch.tensor([10.0, 11.0, 12.0]),
    "encoder.bn.num_batches_tracked": torch.tensor(13),
}


@pytest.fixture
def weights_file(tmp_path):
    """Return a function that writes a file of weights."""

    def write(tensors):
        own = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
        save_file(own, tmp_path / "theirs.safetensors")
        return tmp_path / "theirs.safetensors"

    return write


def test_what_fits_by_mapped_name_is_loaded_and_the_rest_is_listed(weights_file, capsys):
    model, before = Own(), Own().state_dict()
    model.load_state_dict(before)
    file = weights_file({**STEM, **NORM, "encoder.1.weight": torch.ones(2, 4), "top": torch.ones(1)})
    loaded = load_foreign(model, file, ["trunk=encoder", "norm=encoder.bn"])
    after = model.state_dict()
    assert loaded == {"trunk.0.weight", "norm.weight", "norm.bias"}  # parameters, not statistics
    assert after["trunk.0.weight"].flatten().tolist() == list(range(30))
    assert after["norm.running_var"].tolist() == [10, 11, 12] and after["norm.num_batches_tracked"] == 13
    assert torch.equal(after["trunk.1.weight"], before["trunk.1.weight"])
    assert torch.equal(after["head.weight"], before["head.weight"])
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert capsys.readouterr().out.splitlines() == [
        f"init        6 of the model's 8 tensors, in trunk, norm, from theirs.safetensors "
        f"(SHA-256 {digest[:16]}…); new: head",
        "            1 the model's, new: trunk.1.bias",
        "            1 the file's, unused: top",
        "            1 of other shapes, new: trunk.1.weight (2, 3), the file's encoder.1.weight (2, 4)",
        "note        nobody here knows which ECGs these weights have seen: those tested may be among them",
    ]


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_that_of_the_model(weights_file, precision):
    model = Own()
    load_foreign(model, weights_file({"trunk.1.weight": LINE.to(precision)}), [])
    assert model.trunk[1].weight.dtype == torch.float32 and torch.equal(model.trunk[1].weight, LINE)


@pytest.mark.parametrize(
    ("theirs", "prefixes"),
    [
        ("trunk.1.weight", []),
        ("module.trunk.1.weight", ["=module"]),
        ("1.weight", ["trunk="]),
        ("f.weight", ["trunk=e", "trunk.1=f"]),  # the longest counts
        ("f.weight", ["trunk.1=f", "trunk=e"]),
    ],
)
def test_prefixes_are_whole_modules_and_the_longest_counts(weights_file, theirs, prefixes):
    model = Own()
    file = weights_file({theirs: LINE, "e.0.weight": torch.ones(3, 2, 1, 5), "trunk10": LINE})
    load_foreign(model, file, prefixes)
    assert torch.equal(model.trunk[1].weight, LINE)


@pytest.mark.parametrize(
    ("tensors", "prefixes", "message"),
    [
        (
            STEM,
            ["trunk=encode"],
            "map: found trunk=encode, expected a prefix of the file's names, .* encoder",
        ),
        (
            STEM,
            ["tru=encoder"],
            "map: found tru=encoder, expected a prefix of the model's names, .* trunk, no",
        ),
        (STEM, ["head=encoder"], r"which begin with trunk, norm \(head is always new\)"),
        (
            STEM,
            [],
            "found nothing that fits: its names begin with encoder.0.weight; expected names like trunk",
        ),
        (
            {"trunk.0.weight": KERNEL[:, :, :4]},
            [],
            r"other shapes: trunk.0.weight \(3, 2, 1, 5\), .* \(3, 2, 4\)",
        ),
        ({"norm.running_mean": torch.ones(3)}, [], "found nothing that fits"),  # statistics alone are nothing
        ({"trunk.1.weight": LINE * torch.inf}, [], "found weights that are not finite in torch.float32"),
        ({"trunk.1.weight": LINE.double() * 1e300}, [], "found weights that are not finite in torch.float32"),
        ({"trunk.1.weight": LINE.to(torch.int8)}, [], "found weights of type torch.int8, expected .*float32"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_loaded(weights_file, tensors, prefixes, message):
    model, before = Own(), Own().state_dict()
    model.load_state_dict(before)
    with pytest.raises(UserError, match=message) as error:
        load_foreign(model, weights_file(tensors), prefixes)
    assert "\n" not in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"gone\.safetensors: found no usable weights \(No such file"):
        load_foreign(Own(), tmp_path / "gone.safetensors", [])
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(UserError, match=r"text\.safetensors: found no usable weights \(.*, expected \.safe"):
        load_foreign(Own(), tmp_path / "text.safetensors", [])


def test_the_weights_of_a_run_are_refused_without_its_folder(weights_file):
    file = weights_file({"trunk.1.weight": LINE})
    (file.parent / "model.json").write_text("{}")
    with pytest.raises(UserError, match=f"expected its folder, .* --init-from {file.parent}"):
        load_foreign(Own(), file, [])


def batch_norm(name, n):
    sizes = {"weight": (n,), "bias": (n,), "running_mean": (n,), "running_var": (n,)}
    return {f"{name}.{key}": torch.ones(size) for key, size in sizes.items()} | {
        f"{name}.num_batches_tracked": torch.tensor(1)
    }


def test_the_names_and_shapes_of_the_published_age_network_fit_the_baseline(weights_file, capsys):
    """As github.com/antonior92/ecg-age-prediction has them (resnet.py, train.py); docs/training.md's map."""
    tensors = {"conv1.weight": torch.ones(64, 12, 17), **batch_norm("bn1", 64)}
    widths = [64, 64, 128, 196, 256, 320]
    for number, (n_in, n_out) in enumerate(pairwise(widths)):
        block = f"resblock1d_{number}"
        tensors |= {f"{block}.conv1.weight": torch.ones(n_out, n_in, 17)} | batch_norm(f"{block}.bn1", n_out)
        tensors |= {f"{block}.conv2.weight": torch.ones(n_out, n_out, 17)} | batch_norm(f"{block}.bn2", n_out)
        if n_in != n_out:
            tensors[f"{block}.skip_connection.1.weight"] = torch.ones(n_out, n_in, 1)
    tensors |= {"lin.weight": torch.ones(1, 5120), "lin.bias": torch.ones(1)}
    prefixes = ["stem=conv1", "norm=bn1"]
    for number in range(4):
        own, theirs = f"blocks.{number}", f"resblock1d_{number + 1}"
        prefixes += [f"{own}={theirs}", f"{own}.skip={theirs}.skip_connection.1"]
        prefixes += [f"{own}.norm1={theirs}.bn1", f"{own}.norm2={theirs}.bn2"]
    model = MODELS["res_net_model"](n_labels=1, dropout=0.1)
    loaded = load_foreign(model, weights_file(tensors), prefixes)
    assert loaded == {name for name, _ in model.named_parameters() if not name.startswith("head.")}
    assert (
        "58 of the model's 58 tensors" in (said := capsys.readouterr().out)
        and "14 the file's, unused" in said
    )


def test_the_blocks_of_merls_resnet_fit_the_trunk_but_its_stem_does_not(weights_file, capsys):
    """As github.com/cheliu-computation/MERL-ICML2024 has them (utils/resnet1d.py)."""
    tensors = {"conv1.weight": torch.ones(64, 12, 7), **batch_norm("bn1", 64)}
    prefixes, n_in = ["trunk.stem=conv1", "trunk.norm=bn1"], 64
    for number, n_out in enumerate([64, 64, 128, 128, 256, 256, 512, 512]):
        block, own = f"layer{number // 2 + 1}.{number % 2}", f"trunk.stages.{number}"
        tensors |= {f"{block}.conv1.weight": torch.ones(n_out, n_in, 3)} | batch_norm(f"{block}.bn1", n_out)
        tensors |= {f"{block}.conv2.weight": torch.ones(n_out, n_out, 3)} | batch_norm(f"{block}.bn2", n_out)
        prefixes += [f"{own}={block}", f"{own}.norm1={block}.bn1", f"{own}.norm2={block}.bn2"]
        if n_in != n_out:
            tensors[f"{block}.shortcut.0.weight"] = torch.ones(n_out, n_in, 1)
            tensors |= batch_norm(f"{block}.shortcut.1", n_out)
            prefixes.append(f"{own}.skip={block}.shortcut")
        n_in = n_out
    model = MODELS["resnet18_with_atten"](n_labels=1, dropout=0.1, kernel_size=3, attention_heads=4)
    loaded = load_foreign(model, weights_file(tensors), prefixes)
    trunk = {f"trunk.{name}" for name, _ in model.trunk.named_parameters()}
    assert loaded == trunk - {"trunk.stem.weight"}
    said = capsys.readouterr().out
    assert "119 of the model's 126 tensors, in trunk," in said
    assert (
        "1 of other shapes, new: trunk.stem.weight (64, 12, 1, 17), the file's conv1.weight (64, 12, 7)"
        in said
    )


# As a user runs it


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A cohort, and a trunk under another name in half precision."""
    places = tmp_path_factory.mktemp("places")
    make_tiny_cohort(places / "ecgs")
    torch.manual_seed(3)
    model = MODELS["resnet18_with_atten"](n_labels=7, dropout=0.1, kernel_size=3, attention_heads=2)
    trunk = {
        f"encoder.{name}": tensor.half().contiguous() for name, tensor in model.trunk.state_dict().items()
    }
    tracked = {name: tensor.long() for name, tensor in trunk.items() if "num_batches" in name}
    save_file(trunk | tracked, places / "foreign.safetensors")
    return places


def flags_of(places, *flags):
    where = ("--output-dir", places / "runs", "--cache-dir", places / "cache")
    return tiny(places / "ecgs", *where, *flags)


def test_a_run_that_starts_from_a_file_keeps_its_trunk_and_says_where_it_is_from(places):
    file = places / "foreign.safetensors"
    flags = ["--init-from", file, "--map", "trunk=encoder", "--freeze-epochs", 1, "--weight-average", 0]
    outcome = run_as_user("train_atten.py", *flags_of(places, *flags), cwd=places)
    run = run_folder_of(outcome)
    assert "tensors, in trunk, from foreign.safetensors (SHA-256 " in outcome.stdout
    theirs, after = load_file(file), load_file(run / "model.safetensors")
    trunk = [name for name in after if name.startswith("trunk.")]
    assert len(trunk) == 120
    for name in trunk:  # the only epoch was one of the frozen
        assert torch.equal(after[name], theirs[name.replace("trunk", "encoder", 1)].to(after[name].dtype)), (
            name
        )
    record = {"file": "foreign.safetensors", "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert json.loads((run / "environment.json").read_text())["foreign_weights"] == record
    page = (run / "report.html").read_text()
    assert f"another model, foreign.safetensors (SHA-256 {record['sha256']})" in page
    assert "Nobody here knows which ECGs they have seen" in page

    assert foreign_starts(run) == [record]
    second = train_here("train_atten.py", *flags_of(places, "--init-from", run, "--seed", 1))
    assert "among those that trained or validated it" in line_of(second)  # the guard of runs still holds
    again = run_here("evaluate.py", run, "--cohort", places / "ecgs", "--output-dir", places / "evaluated")
    assert f"note        {run} began from foreign.safetensors: nobody here knows" in again.stdout

    (run / "metrics.json").unlink()
    save_file({"encoder.norm.weight": torch.ones(64)}, file)
    line = line_of(train_here("train_atten.py", "--resume", run))
    assert f"found another SHA-256 than when {run} began from it, expected {record['sha256']}" in line


@pytest.mark.parametrize(
    ("flags", "message", "status"),
    [
        (["--init-from", "w.pt"], "init_from: found w.pt, a pickled file, which can run code", 2),
        (["--init-from", "a/w.pth"], 'save_file(torch.load("w.pth", weights_only=True), "w.safetensors")', 2),
        (["--map", "trunk=encoder"], "map: found no --init-from, expected --init-from FILE.safetensors", 2),
        (
            ["--init-from", "ptbxl", "--map", "a=b"],
            "map: found --init-from ptbxl, whose names are our own",
            2,
        ),
        (["--init-from", "w.safetensors", "--map", "trunk"], "map: found 'trunk', expected OWN=THEIRS", 2),
        (
            ["--init-from", "w.safetensors", "--map", "a=b", "a=c"],
            "found 'a=b', expected OWN=THEIRS, each",
            2,
        ),
        (["--init-from", "w.safetensors"], "w.safetensors: found no usable weights (No such file", 1),
        (
            ["--init-from", "{}/ecgs/labels.csv"],
            "labels.csv: found a file, expected a folder of a run, or",
            1,
        ),
    ],
)
def test_wrong_flags_are_one_line(places, flags, message, status):
    flags = [flag.format(places) for flag in flags]
    assert message in line_of(train_here("train_atten.py", *flags_of(places, *flags)), status)
