"""What is written as a model's embedding is what its head was given."""

from pathlib import Path

import numpy as np
import pytest
import torch
from described_models import describe
from one_line import failure_of

from inference.embeddings import Embeddings
from inference.scoring import Scorer
from models import MODELS
from run_folder.run import Run


@pytest.fixture
def scorer(tmp_path):
    """Two models in folders of their own, each with its digest in its weights' file."""
    members = []
    for number in range(2):
        torch.manual_seed(number)
        description = describe("res_net_model")
        model = MODELS["res_net_model"](**description.arguments).eval()
        folder = tmp_path / f"fold-{number + 1}"
        folder.mkdir()
        Run(folder).save_weights(model.state_dict())
        members.append((model, description))
    folders = [tmp_path / "fold-1", tmp_path / "fold-2"]
    return Scorer(members, thresholds=[0.5, 0.5], device=torch.device("cpu"), folders=folders)


def test_the_head_makes_the_scores_of_the_embedding(scorer, tmp_path):
    signals = np.random.default_rng(0).integers(-900, 900, (3, 12, 5000)).astype(np.int16)
    files = [Path(name) for name in ("a.xml", "b.xml", "c.xml")]
    with Embeddings(scorer) as embeddings:
        scores = np.concatenate([scorer.score_members(part) for part in (signals[:2], signals[2:])], axis=1)
    scorer.score_members(signals)  # no longer recorded
    embeddings.save(tmp_path / "e.npz", files)
    with np.load(tmp_path / "e.npz", allow_pickle=False) as saved:
        content = dict(saved)
    assert content["ecg_file"].tolist() == ["a.xml", "b.xml", "c.xml"]
    assert content["member"].tolist() == ["fold-1", "fold-2"]
    for number, (model, description) in enumerate(zip(scorer.models, scorer.descriptions, strict=True)):
        columns = np.char.startswith(content["feature"], f"fold-{number + 1}:")
        vector = content["embedding"][:, columns].astype(float)
        weight, bias = (
            tensor.detach().numpy().astype(float) for tensor in (model.head.weight, model.head.bias)
        )
        logits = vector @ weight.T + bias
        slopes, intercepts = description.calibration_slopes, description.calibration_intercepts
        expected = 1 / (1 + np.exp(-(np.array(slopes) * logits + np.array(intercepts))))
        np.testing.assert_allclose(scores[number], expected, rtol=1e-4)
        assert content["sha256"][number] == sha256_of(tmp_path / f"fold-{number + 1}")
    assert content["sha256"][0] != content["sha256"][1]


def sha256_of(folder):
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as weights:
        return weights.metadata()["sha256"]


def test_a_disk_that_refuses_is_one_line(scorer, tmp_path):
    with Embeddings(scorer) as embeddings:
        scorer.score_members(np.ones((1, 12, 5000), np.int16))
    line = failure_of(embeddings.save, tmp_path / "none" / "e.npz", [Path("a.xml")])
    assert line.startswith(f"{tmp_path / 'none' / 'e.npz'}: cannot be written (")
