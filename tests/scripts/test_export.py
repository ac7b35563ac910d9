"""The ONNX file of a run gives the run's scores, says what it is, and is not written where it would not."""

import dataclasses
import functools
import hashlib
import importlib.util
import json
import re
import shutil

import numpy as np
import pytest
import torch
from scipy.special import expit, logit
from tiny_runs import ROOT, line_of, run_here

from ecg.simulation import draw_patient, simulate_ecg
from inference.exported import GRAPH, RECORD, ExportedScorer, NotExportedError, session_of, write_export
from inference.onnx_graph import SignalToLogits, SignalToScore, check_graph, check_member_graph, to_onnx
from inference.scoring import Scorer
from models import MODELS
from run_folder.descriptions import ModelDescription
from run_folder.ensemble import save_ensemble
from run_folder.run import Run
from runtime.errors import UserError
from xml_loader import LEADS

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
needs_onnx = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in PACKAGES),
    reason="onnx, onnxscript or onnxruntime is not installed",
)
SHARED = {"n_labels": 2, "dropout": 0.3}
TRUNK = {**SHARED, "kernel_size": 3}
LSTM = {"rnn_cell": "lstm", "rnn_layers": 1, "rnn_hidden_size": 16, "rnn_bidirectional": True}
ENCODER = {"encoder_layers": 1, "encoder_heads": 4, "encoder_width": 32}
CASES = {  # of each model: arguments, crop, normalisation
    "res_net_model": (SHARED, 1024, "none"),
    "resnet18_with_atten": ({**TRUNK, "attention_heads": 4}, 4096, "recording"),
    "resnet18_with_atten_spectr": ({**SHARED, "attention_heads": 4}, 5000, "lead"),
    "resnet_with_rnn": ({**TRUNK, **LSTM}, 512, "recording"),
    "resnet_with_encoder": ({**TRUNK, **ENCODER}, 1023, "lead"),
}
THRESHOLDS = [0.25, 0.125]


def ecgs(seed, n):
    """Return simulated ECGs in microvolts, int16 (n, 12, 5000)."""
    generator = np.random.default_rng(seed)
    simulated = [simulate_ecg(draw_patient(generator, pe=bool(i % 2)), generator)[0] for i in range(n)]
    return np.rint(1000 * np.stack(simulated)).astype(np.int16)


def normalised(signals, n_samples, normalisation):
    """Return what a model sees, computed from the definition in float64."""
    start = (5000 - n_samples) // 2
    millivolts = signals[:, :, start : start + n_samples] / 1000
    if normalisation == "none":
        return millivolts
    axes = (1, 2) if normalisation == "recording" else 2
    deviation = millivolts.std(axis=axes, keepdims=True)
    return (millivolts - millivolts.mean(axis=axes, keepdims=True)) / np.maximum(deviation, 1e-3)


def logits_of(model, description, signals):
    seen = normalised(signals, description.n_samples, description.normalisation)
    with torch.no_grad():
        return model(torch.from_numpy(seen).float()).double().numpy()


def member(name, seed=0):
    """Return a model of random weights, calibrated so that its scores spread, and its description."""
    arguments, n_samples, normalisation = CASES[name]
    torch.manual_seed(seed)
    model = MODELS[name](**arguments).eval()
    description = ModelDescription(
        model=name,
        arguments=arguments,
        label_names=["PE", "MI"],
        n_samples=n_samples,
        normalisation=normalisation,
        leads=list(LEADS),
        sampling_rate=500,
        calibration="platt",
        calibration_slopes=[1.0, 1.0],
        calibration_intercepts=[0.0, 0.0],
        prevalences=[0.1, 0.2],
        thresholds=THRESHOLDS,
        threshold_policy="youden",
    )
    logits = logits_of(model, description, ecgs(1, 6))
    slopes = 1.5 / logits.std(axis=0)
    intercepts = -slopes * logits.mean(axis=0) + [0.3, -0.4]
    fitted = {"calibration_slopes": slopes.tolist(), "calibration_intercepts": intercepts.tolist()}
    return model, dataclasses.replace(description, **fitted)


def expected_scores(members, signals):
    """Return the sigmoid of the mean of calibrated logits, in float64."""
    logits = [
        np.multiply(description.calibration_slopes, logits_of(model, description, signals))
        + description.calibration_intercepts
        for model, description in members
    ]
    return expit(np.mean(logits, axis=0))


def scorer_of(*members):
    return Scorer(members, thresholds=THRESHOLDS, device=torch.device("cpu"))


def run_onnx(graph, signals):
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (score,) = session.run(["score"], {"signal_mv": (signals / 1000).astype(np.float32)})
    return score


def save(run, model, description):
    run.folder.mkdir()
    run.save_weights(model.state_dict())
    run.save_description(description)


@pytest.fixture(scope="module")
def attention():
    """The scorer of one model, and its graph."""
    scorer = scorer_of(member("resnet18_with_atten"))
    return scorer, to_onnx(SignalToScore(scorer), {"run": "attention"})


@pytest.fixture(scope="module")
def single_run(attention, tmp_path_factory):
    """The folder of that model."""
    folder = tmp_path_factory.mktemp("single") / "run"
    save(Run(folder), attention[0].models[0], attention[0].descriptions[0])
    return folder


@functools.cache
def member_graph(name):
    """Return the scorer of a model, and its graph for predict.py."""
    scorer = scorer_of(member(name))
    return scorer, to_onnx(SignalToLogits(scorer.models[0], scorer.descriptions[0]), {})


@pytest.fixture
def graph_of(attention, monkeypatch):
    """Return a function that lets the script write a given graph instead of tracing the run's model."""
    return lambda graph: monkeypatch.setattr("inference.onnx_graph.to_onnx", lambda *_: graph)


def damaged(graph, change):
    """Return a graph with another bias of the last layer."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(graph)
    (bias,) = (one for one in model.graph.initializer if one.name.endswith("head.bias"))
    changed = numpy_helper.to_array(bias) + np.float32(change)
    bias.CopyFrom(numpy_helper.from_array(changed, bias.name))
    return model.SerializeToString()


@needs_onnx
@pytest.mark.parametrize("name", MODELS)
def test_each_model_scores_in_onnxruntime_as_computed_from_its_parts(name, attention):
    members = [member(name)]
    graph = attention[1] if name == "resnet18_with_atten" else to_onnx(SignalToScore(scorer_of(*members)), {})
    signals = ecgs(2, 3)
    signals[1, 6] = 0  # a lead without its electrode
    expected = expected_scores(members, signals)
    assert np.ptp(expected, axis=0).min() > 0.05  # else any graph would agree
    for batch in (signals, signals[:1]):
        score = run_onnx(graph, batch)
        assert score.shape == (len(batch), 2) and score.dtype == np.float32
        np.testing.assert_allclose(score, expected[: len(batch)], atol=1e-4)


@pytest.mark.parametrize("normalisation", ["recording", "lead", "none"])
def test_the_module_scores_as_the_run_does(normalisation):
    model, description = member("resnet18_with_atten_spectr")
    scorer = scorer_of((model, dataclasses.replace(description, normalisation=normalisation)))
    signals = ecgs(3, 3)
    millivolts = torch.from_numpy(signals).float() / 1000
    before = millivolts.clone()
    with torch.no_grad():
        score = SignalToScore(scorer)(millivolts)
    np.testing.assert_allclose(score.numpy(), scorer.score(signals), atol=1e-5)
    assert torch.equal(millivolts, before)  # an input is not normalised in place


def test_an_ensemble_limits_the_logits_of_its_members_as_the_run_does():
    model, description = member("resnet18_with_atten_spectr")
    sure = dataclasses.replace(description, calibration_intercepts=[1000.0, -1000.0])
    scorer = scorer_of((model, description), (model, sure))
    signals = ecgs(3, 2)
    with torch.no_grad():
        score = SignalToScore(scorer)(torch.from_numpy(signals).float() / 1000)
    expected = scorer.score(signals)
    np.testing.assert_allclose(score.numpy(), expected, rtol=1e-3)
    assert expected[:, 1].min() > 1e-12  # a mean without limits would be 0


def save_an_ensemble(places):
    """Leave two models and their ensemble in folders of this one, and return the models."""
    members = [member("res_net_model"), member("resnet_with_encoder", seed=1)]
    folders = [places / "baseline", places / "encoder"]
    for folder, one in zip(folders, members, strict=True):
        save(Run(folder), *one)
    (places / "ensemble").mkdir()
    stretched = {"calibration_slopes": [1.2, 0.9], "calibration_intercepts": [0.1, 0.0]}
    save_ensemble(Run(places / "ensemble"), folders, dataclasses.replace(members[0][1], **stretched))
    return members


@needs_onnx
def test_an_ensemble_as_a_user_exports_it(tmp_path):
    members = save_an_ensemble(tmp_path)
    outcome = run_here("export.py", tmp_path / "ensemble", tmp_path / "both.onnx")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    graph = (tmp_path / "both.onnx").read_bytes()
    signals = ecgs(4, 3)
    expected = expit(logit(expected_scores(members, signals)) * [1.2, 0.9] + [0.1, 0.0])
    np.testing.assert_allclose(run_onnx(graph, signals), expected, atol=1e-4)
    np.testing.assert_allclose(run_onnx(graph, signals[2:]), expected[2:], atol=1e-4)
    difference = float(re.search(r"scores differ by at most (\S+)", outcome.stdout).group(1))
    assert 0 <= difference <= 1e-4
    assert hashlib.sha256(graph).hexdigest() in outcome.stdout
    written = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert written == ["MODEL_CARD.md", "both.onnx", "model_card.xml"]
    check_metadata(graph)
    check_snippet(tmp_path / "MODEL_CARD.md", n_lines=6)


@needs_onnx
def test_a_run_with_clinical_values_has_a_snippet_that_runs(tmp_path):
    arguments = {**CASES["res_net_model"][0], "n_clinical": 2}
    description = member("res_net_model")[1]
    with_both = MODELS["res_net_model"](**arguments).eval()
    with torch.no_grad():
        with_both.head.weight[:, -4:] = torch.tensor([0.1, -0.2, 0.3, 0.4])
    columns = {"clinical_columns": ["age", "sex"], "window_start": 1.5}
    save(Run(tmp_path / "run"), with_both, dataclasses.replace(description, arguments=arguments, **columns))
    outcome = run_here("export.py", tmp_path / "run", tmp_path / "pe.onnx")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    found = check_snippet(tmp_path / "MODEL_CARD.md", n_lines=7)
    unknown = np.full((1, 2), np.nan, np.float32)
    scorer = Scorer.load(tmp_path / "run", torch.device("cpu"))
    expected = scorer.score(np.zeros((1, 12, 5000), np.int16), unknown)
    np.testing.assert_allclose(found["score"], expected, atol=1e-4)
    assert "from second 1.5 on" in (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")


def check_metadata(graph):
    """The file says what it takes and gives, and nothing about the computer that made it."""
    import onnx

    metadata = {one.key: one.value for one in onnx.load_from_string(graph).metadata_props}
    lists = ("label_names", "thresholds", "prevalences", "leads")
    assert [json.loads(metadata[name]) for name in lists] == [
        ["PE", "MI"],
        pytest.approx(THRESHOLDS),
        [0.1, 0.2],
        ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"],
    ]
    assert metadata["threshold_policy"] == "youden" and metadata["run"] == "ensemble"
    assert (metadata["unit"], metadata["sampling_rate"], metadata["n_samples"]) == ("mV", "500", "5000")
    assert metadata["intended_use"].startswith("research only")
    assert set(json.loads(metadata["versions"])) == {"python", "torch", *PACKAGES}
    assert b"stack_trace" not in graph and b"site-packages" not in graph and str(ROOT).encode() not in graph


def check_snippet(card, n_lines):
    """The lines of the card that call the file run as they stand, beside the file; return what they leave."""
    code = re.search(r"```python\n(.*?)```", card.read_text(encoding="utf-8"), re.DOTALL).group(1)
    assert len(code.strip().splitlines()) == n_lines
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(card.parent)
        exec(code, found)
    assert found["decision"].tolist() == (found["score"] >= THRESHOLDS).tolist()
    return found


@needs_onnx
def test_the_check_passes_a_right_graph_and_refuses_wrong_ones(attention):
    scorer, graph = attention
    signals = ecgs(5, 5)
    assert check_graph(graph, scorer, signals) <= 1e-4
    slope = min(scorer.descriptions[0].calibration_slopes)
    for change in (0.01 / slope, float("nan")):  # 0.01 of a calibrated logit is up to 0.0025 of a score
        with pytest.raises(UserError, match=r"^the graph: found scores that differ by up to \S+ from"):
            check_graph(damaged(graph, change), scorer, signals)
    with pytest.raises(UserError, match="cannot compute it") as caught:
        check_graph(graph[: len(graph) // 2], scorer, signals)
    assert len(str(caught.value).splitlines()) == 1


@needs_onnx
def test_a_wrong_graph_leaves_nothing_and_keeps_what_was_there(single_run, attention, graph_of, tmp_path):
    graph_of(damaged(attention[1], 1.0))
    (tmp_path / "old.onnx").write_bytes(b"an earlier export")
    for name in ("new.onnx", "old.onnx"):
        line = line_of(run_here("export.py", single_run, tmp_path / name))
        assert line.startswith("export.py: the graph: found scores that differ by up to ")
    assert [path.name for path in tmp_path.iterdir()] == ["old.onnx"]
    assert (tmp_path / "old.onnx").read_bytes() == b"an earlier export"


@needs_onnx
def test_a_model_that_cannot_be_written_as_onnx_is_one_line(attention, monkeypatch):
    scorer = attention[0]
    monkeypatch.setattr(type(scorer.models[0]), "forward", lambda self, signal: torch.linalg.svdvals(signal))
    with pytest.raises(UserError, match="cannot write this run as ONNX") as caught:
        to_onnx(SignalToScore(scorer), {})
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_one_line_that_says_how_to_install_it(name, single_run, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, name, None)
    line = line_of(run_here("export.py", single_run, tmp_path / "out.onnx"))
    assert line.startswith(f"export.py: {name}: ")
    assert line.endswith("pip install onnx onnxscript onnxruntime")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("out.pt", "expected one that ends in .onnx"),
        ("none/out.onnx", "found no folder"),
        ("folder.onnx", "found a folder"),
        ("other/new.onnx", "found the card of another file"),
        ("program/new.onnx", "model_card.xml, expected a folder without one"),
    ],
)
def test_an_output_that_cannot_be_is_one_line(output, expected, tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "model_card.xml").write_text("<AppliedModelCard/>", encoding="utf-8")
    (tmp_path / "other" / "MODEL_CARD.md").write_text("| file | old.onnx, 3.1 MB, ONNX |", encoding="utf-8")
    line = line_of(run_here("export.py", tmp_path / "run", tmp_path / output))
    assert line.startswith(f"export.py: {tmp_path / output}: ") and expected in line


@needs_onnx
def test_a_folder_that_is_no_run_is_one_line(tmp_path):
    line = line_of(run_here("export.py", tmp_path, tmp_path / "out.onnx"))
    assert str(tmp_path / "model.json") in line and "expected a finished run" in line


# For predict.py


NOTHING = np.empty((3, 0), np.float32)


@pytest.fixture(scope="module")
def ensemble_with_exports(tmp_path_factory):
    """The folder of an ensemble of two models that was exported for predict.py, and what that printed."""
    places = tmp_path_factory.mktemp("exported")
    save_an_ensemble(places)
    return places / "ensemble", run_here("export.py", places / "ensemble")


def exported_beside(folder, tmp_path):
    """Return a copy of the exported baseline of that ensemble, to be changed."""
    return shutil.copytree(folder.parent / "baseline", tmp_path / "run")


class FirstSamples(torch.nn.Module):
    """Gives the first two samples of lead I as logits, so that scores show what a model sees."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.scale * x[:, 0, :2]


@needs_onnx
def test_a_graph_sees_ecgs_as_pytorch_does_where_they_are_far_from_zero():
    """Their sums are large: added up one after another in float32, the input would be off by 1e-3."""
    _, description = member("resnet18_with_atten")
    scorer = scorer_of((FirstSamples(), description))
    signals = ecgs(4, 3) // 4 + np.array([-20_000, 0, 20_000], np.int16)[:, None, None]
    found = run_onnx(to_onnx(SignalToScore(scorer), {}), signals)
    np.testing.assert_allclose(found, expected_scores([(scorer.models[0], description)], signals), atol=2e-6)


@needs_onnx
@pytest.mark.parametrize("name", [name for name in MODELS if name != "resnet_with_encoder"])
def test_each_model_gives_predict_the_scores_and_features_of_pytorch(name):
    """The encoder is in the ensemble below."""
    scorer, graph = member_graph(name)
    exported = ExportedScorer(
        [session_of(graph)], scorer.titles, scorer.descriptions, thresholds=THRESHOLDS, folders=[]
    )
    check_alike(exported, scorer, np.empty((3, 0), np.float32))


def check_alike(exported, scorer, clinical, atol=1e-5):
    """Scores are the same to 1e-5, more where calibration stretches them, as are the features."""
    signals = ecgs(2, 3)
    signals[1, 6] = 0  # a lead without its electrode
    (scores, features), (expected, seen) = (
        one.scores_and_features(signals, clinical) for one in (exported, scorer)
    )
    assert np.ptp(expected, axis=1).min() > 0.05  # else any graph would agree
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, expected, rtol=0, atol=atol)
    np.testing.assert_allclose(
        exported.score(signals[:1], clinical[:1]), scorer.score(signals)[:1], atol=1e-5
    )
    for found, right in zip(features, seen, strict=True):
        assert right.size and found.dtype == np.float32
        np.testing.assert_allclose(found, right, rtol=1e-3, atol=1e-4)


@needs_onnx
def test_an_ensemble_scores_by_the_exports_of_its_members(ensemble_with_exports):
    folder, outcome = ensemble_with_exports
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert outcome.stdout.count("graph  ") == 2
    scorer, exported = Scorer.load(folder, torch.device("cpu")), ExportedScorer.load(folder)
    assert exported.title == scorer.title and exported.thresholds == scorer.thresholds
    check_alike(exported, scorer, NOTHING, atol=1e-5 * max(scorer.descriptions[1].calibration_slopes))
    assert sorted(path.name for path in folder.iterdir()) == ["ensemble.json"]


@needs_onnx
def test_clinical_values_go_into_the_graph_for_predict(tmp_path):
    arguments = {**CASES["res_net_model"][0], "n_clinical": 2}
    model = MODELS["res_net_model"](**arguments).eval()
    with torch.no_grad():
        model.head.weight[:, -4:] = torch.tensor([0.1, -0.2, 0.3, 0.4])
    description = member("res_net_model")[1]
    changed = {"arguments": arguments, "clinical_columns": ["age", "sex"]}
    changed |= {"calibration_slopes": [0.5, 0.2], "calibration_intercepts": [-3.0, -4.0]}
    save(Run(tmp_path / "run"), model, dataclasses.replace(description, **changed))
    assert run_here("export.py", tmp_path / "run").returncode == 0
    clinical = np.array([[63, 1], [np.nan, 0], [40, np.nan]], np.float32)
    scorer, exported = (
        Scorer.load(tmp_path / "run", torch.device("cpu")),
        ExportedScorer.load(tmp_path / "run"),
    )
    signals = ecgs(2, 3)
    expected = scorer.score(signals, clinical)
    assert np.abs(expected - scorer.score(signals, clinical[::-1].copy())).max() > 1e-3
    np.testing.assert_allclose(exported.score(signals, clinical), expected, atol=1e-5)


@needs_onnx
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda run: (run / RECORD).unlink(), "found no usable export (No such file or directory)"),
        (lambda run: (run / GRAPH).unlink(), "found no usable export (No such file or directory)"),
        (lambda run: (run / RECORD).write_text("{}"), "found no usable export ("),
        (lambda run: (run / GRAPH).write_bytes(b"\0" + (run / GRAPH).read_bytes()[1:]), "another checksum"),
        (
            lambda run: Run(run).save_weights(member("res_net_model", 5)[0].state_dict()),
            "other weights",
        ),
        (lambda run: describe_again(run, normalisation="lead"), "other weights"),
    ],
)
def test_an_export_that_is_not_of_these_weights_is_refused(change, expected, ensemble_with_exports, tmp_path):
    run = exported_beside(ensemble_with_exports[0], tmp_path)
    ExportedScorer.load(run)
    change(run)
    with pytest.raises(NotExportedError) as caught:
        ExportedScorer.load(run)
    assert str(caught.value).startswith(f"{run / GRAPH}: ") and expected in str(caught.value)
    assert str(caught.value).endswith(f"; python export.py {run} makes it")


def describe_again(run, **changes):
    description = json.loads((run / "model.json").read_text(encoding="utf-8"))
    (run / "model.json").write_text(json.dumps(description | changes), encoding="utf-8")


@needs_onnx
def test_decisions_may_change_after_an_export(ensemble_with_exports, tmp_path):
    """Calibration and thresholds are not in the graph, but applied as model.json has them."""
    run = exported_beside(ensemble_with_exports[0], tmp_path)
    describe_again(run, thresholds=[0.5, 0.6], calibration_intercepts=[0.7, 0.0])
    exported = ExportedScorer.load(run)
    assert exported.thresholds == [0.5, 0.6]
    signals = ecgs(2, 3)
    expected = Scorer.load(run, torch.device("cpu")).score(signals)
    np.testing.assert_allclose(exported.score(signals), expected, atol=1e-5)


@needs_onnx
def test_a_graph_that_onnxruntime_does_not_know_is_refused(ensemble_with_exports, tmp_path):
    run = exported_beside(ensemble_with_exports[0], tmp_path)
    write_export(Run(run), b"no graph", "a model", {})
    with pytest.raises(NotExportedError, match="found a graph that onnxruntime cannot compute"):
        ExportedScorer.load(run)


def test_without_onnxruntime_an_export_is_refused(single_run, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "onnxruntime" else find(name)
    )
    with pytest.raises(
        NotExportedError, match=r"^onnxruntime: found no such package.*pip install onnxruntime$"
    ):
        ExportedScorer.load(single_run)


@needs_onnx
def test_a_wrong_graph_for_predict_is_refused():
    (scorer, graph), signals = member_graph("resnet18_with_atten"), ecgs(5, 5)
    nothing = np.empty((5, 0), np.float32)
    assert check_member_graph(graph, scorer, signals, nothing) <= 1e-5
    for change in (1e-3, float("nan")):  # of a logit before calibration
        with pytest.raises(UserError, match=r"^the graph: found scores that differ by up to \S+ from"):
            check_member_graph(damaged(graph, change), scorer, signals, nothing)


def test_results_by_stratum_need_a_file_to_write(single_run, tmp_path):
    line = line_of(run_here("export.py", single_run, "--evaluation", tmp_path), status=2)
    assert "--evaluation: found no file to write" in line
