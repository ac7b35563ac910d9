"""What training ECGs were like: the distance by hand and by scikit-learn, limits, sentences, the file."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf
from tiny_experiment import FOLD, Experiment, make_cohort
from torch import nn

from ecg.quality import MEASUREMENTS
from inference.channel_statistics import ChannelStatistics
from inference.likeness import (
    RANGES,
    Gaussian,
    TrainingDistribution,
    ValidationDistances,
    unlike_training,
)
from inference.scoring import predict_logits
from models import MODELS
from run_folder.run import Run
from runtime.errors import UserError
from training import test_set

ARGUMENTS = {
    "res_net_model": {},
    "resnet18_with_atten": {"kernel_size": 3, "attention_heads": 4},
    "resnet18_with_atten_spectr": {"attention_heads": 4},
    "resnet_with_rnn": {
        **{"kernel_size": 3, "rnn_cell": "gru", "rnn_layers": 1},
        **{"rnn_hidden_size": 8, "rnn_bidirectional": True},
    },
    "resnet_with_encoder": {
        **{"kernel_size": 3, "encoder_layers": 1, "encoder_heads": 2, "encoder_width": 16}
    },
}
# Channels after the first quarter of the batch norms: stem and blocks of the trunk; of the spectrogram too,
# 12 leads of 33 frequencies before; of the baseline, with 9 norms, the stem and one of 128.
N_CHANNELS = {
    "res_net_model": 64 + 128,
    "resnet18_with_atten": 5 * 64,
    "resnet18_with_atten_spectr": 12 * 33 + 4 * 64,
    "resnet_with_rnn": 5 * 64,
    "resnet_with_encoder": 5 * 64,
}


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return Run(tmp_path / "run")


def build(name):
    torch.manual_seed(0)
    return MODELS[name](n_labels=1, dropout=0.5, **ARGUMENTS[name]).eval()


def measurements_of(qrs_mv, rate=500.0):
    measured = np.zeros(len(qrs_mv), MEASUREMENTS)
    measured["qrs_mv"], measured["file_rate"] = qrs_mv, rate
    return measured


def described(seed=0, n_features=3, **changes):
    """Return what 200 training ECGs with normal features were like."""
    generator = np.random.default_rng(seed)
    parts = {
        "training": generator.normal(size=(200, n_features)).astype(np.float32),
        "validation": generator.normal(size=(100, n_features)).astype(np.float32),
        "measurements": measurements_of(np.linspace(0.5, 2.5, 201)),
        "file_formats": ["hospital"] * 201,
        "ages": np.append(np.linspace(20, 80, 200), np.nan),
    }
    return TrainingDistribution.fit(**{**parts, **changes})


# The features


@pytest.mark.parametrize("name", MODELS)
def test_every_model_gives_features_beside_its_logits_in_one_pass(name):
    model, passes = build(name), []
    model.head.register_forward_hook(lambda *_: passes.append(1))
    signals = torch.randn(5, 12, 512, generator=torch.Generator().manual_seed(1))
    alone = predict_logits(model, [(signals,)])
    passes.clear()
    with ChannelStatistics(model) as statistics:
        logits = predict_logits(model, [(signals[:3],), (signals[3:],)])
        (features,) = statistics.take()
    assert len(passes) == 2
    np.testing.assert_allclose(logits, alone, atol=1e-5)
    assert features.shape == (5, 2 * N_CHANNELS[name]) and features.dtype == np.float32
    assert np.isfinite(features).all()
    predict_logits(model, [(signals,)])  # outside, nothing is noted
    assert statistics.take()[0].shape == (0, 0)


def test_features_are_mean_and_deviation_of_each_channel_by_hand():
    norm = nn.BatchNorm1d(2, eps=1e-12).eval()  # torch 2.11 refuses 0
    norm.running_mean[:], norm.running_var[:] = torch.tensor([1.0, 0.0]), torch.tensor([4.0, 1.0])
    with ChannelStatistics(norm) as statistics:
        norm(torch.tensor([[[1.0, 5.0], [3.0, 3.0]]]))
        # The first channel becomes 0 and 2: mean 1, deviation 1; the second stays.
        np.testing.assert_allclose(statistics.take()[0], [[1, 3, 1, 0]], atol=1e-6)
        norm(torch.tensor([[5.0, 3.0]]))  # channels without positions
        np.testing.assert_allclose(statistics.take()[0], [[2, 3, 0, 0]], atol=1e-6)


def test_each_member_of_an_ensemble_has_features_of_its_own():
    one, two = build("resnet18_with_atten"), build("res_net_model")
    signals = torch.randn(2, 12, 512)
    with ChannelStatistics(one, two) as statistics:
        for model in (one, two):
            predict_logits(model, [(signals,)])
        together = statistics.take()
    with ChannelStatistics(two) as statistics:
        predict_logits(two, [(signals,)])
    assert together[0].shape == (2, 640)
    np.testing.assert_array_equal(together[1], statistics.take()[0])


# The distance and its limit


def test_the_distance_is_that_of_scikit_learn():
    generator = np.random.default_rng(3)
    training = generator.normal(size=(40, 60)) * np.linspace(0.5, 3, 60) + generator.normal(size=60)
    others = generator.normal(size=(7, 60)) * 2
    expected = np.sqrt(LedoitWolf().fit(training).mahalanobis(others))
    found = Gaussian.fit(training.astype(np.float32)).distance(others.astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_distance_of_a_hand_worked_gaussian():
    """Many ECGs of deviations 2 and 1, uncorrelated: (4, 0) is two deviations off, (4, 2) is sqrt(4 + 4)."""
    generator = np.random.default_rng(0)
    training = generator.normal(size=(200_000, 2)) * [2, 1] + [10, -5]
    distance = Gaussian.fit(training).distance(np.array([[14, -5], [14, -3], [10, -5]], np.float32))
    np.testing.assert_allclose(distance, [2, math.sqrt(8), 0], atol=0.02)


def test_a_channel_that_never_varies_is_no_division_by_zero():
    training = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    training[:, 1] = 7
    distance = Gaussian.fit(training).distance(np.array([[0, 7, 0], [0, 8, 0]], np.float32))
    assert np.isfinite(distance).all() and distance[1] > 5 * distance[0]
    constant = Gaussian.fit(np.ones((4, 3), np.float32))
    assert np.isfinite(constant.distance(np.ones((2, 3), np.float32))).all()


def test_the_limit_by_hand():
    """Distances 1 to 10: the 80 % quantile is 8.2; 9 and 10 lie beyond, by 1.3 on average."""
    distances = ValidationDistances.fit(np.arange(1.0, 11.0))
    assert distances.quantiles == pytest.approx(np.arange(9) * 0.9 + 1)
    assert distances.tail == pytest.approx(1.3)
    assert distances.limit == pytest.approx(8.2 + 1.3 * math.log(10))


@pytest.mark.parametrize("n_ecgs", [1, 2, 5])
def test_few_validation_ecgs_give_a_limit(n_ecgs):
    distances = ValidationDistances.fit(np.arange(1.0, n_ecgs + 1))
    assert distances.limit >= n_ecgs - 1 and math.isfinite(distances.limit)


def test_about_one_in_fifty_ecgs_like_the_validation_ecgs_is_beyond_the_limit():
    shares = []
    for seed in range(40):
        found = described(seed, n_features=10)
        others = np.random.default_rng(1000 + seed).normal(size=(2000, 10)).astype(np.float32)
        shares.append(np.mean(found.gaussian.distance(others) > found.distances.limit))
    assert 0.01 < np.mean(shares) < 0.03


# What is said


def sentences(found, qrs_mv=1.0, rate=500.0, file_format="hospital", age=50.0, features=(0, 0, 0)):
    (of_ecg,) = found.findings(
        np.array([features], np.float32), measurements_of([qrs_mv], rate), [file_format], np.array([age])
    )
    return of_ecg


def test_an_ecg_like_the_training_ecgs_has_no_warning():
    assert sentences(described()) == {} == sentences(described(), age=np.nan)


def test_each_range_has_its_sentence():
    found = described()
    assert sentences(found, rate=1000.0) == {"rate": "sampled at 1,000 Hz, the training ECGs at 500 Hz"}
    assert sentences(found, file_format="GE MUSE") == {
        "file_format": "a file of the format GE MUSE, the training ECGs of hospital"
    }
    # 0.5 to 2.5 mV at 201 equal steps: half a per cent is one step
    assert sentences(found, qrs_mv=0.12) == {
        "amplitude": "QRS of 0.12 mV, 99 % of the training ECGs have 0.51 to 2.49 mV"
    }
    assert sentences(found, qrs_mv=0.52) == sentences(found, qrs_mv=2.48) == {}
    assert sentences(found, age=7.0) == {"age": "age 7, 99 % of the training ECGs are of 20 to 80 years"}


def test_a_distance_beyond_the_limit_has_its_sentence():
    found = described()
    limit = found.distances.limit
    assert sentences(found, features=(50, 0, 0))["distance"].startswith(
        "unlike the training ECGs in what the model sees: distance "
    )
    assert sentences(found, features=(50, 0, 0))["distance"].endswith(
        f"98 % of validation ECGs are below {limit:.3g}"
    )


def test_several_formats_and_rates_are_named_with_their_shares():
    rates = measurements_of(np.ones(201))
    rates["file_rate"][:50] = 250
    found = described(measurements=rates, file_formats=["GE MUSE"] * 151 + ["hospital"] * 50)
    said = sentences(found, rate=100.0, file_format="WFDB")
    assert said["rate"] == "sampled at 100 Hz, the training ECGs at 500 Hz (75 %), 250 Hz (25 %)"
    assert (
        said["file_format"]
        == "a file of the format WFDB, the training ECGs of GE MUSE (75 %), hospital (25 %)"
    )


def test_ages_above_89_are_like_90():
    found = described(ages=np.full(201, 90.0))
    assert "age" not in sentences(found, age=90.0) | sentences(found, age=101.0)
    assert "age" in sentences(found, age=60.0)
    assert described(ages=None).ages is None is described(ages=np.full(201, np.nan)).ages


# The ensemble


def test_at_least_half_of_the_members_must_find_an_ecg_unlike():
    near, far = np.zeros((1, 3), np.float32), np.full((1, 3), 50, np.float32)
    members = [described(seed) for seed in range(4)]

    def warnings(*features):
        return unlike_training(members, features, measurements_of([1.0]), ["hospital"])[0]

    assert warnings(near, near, near, far) == []
    for features in ((near, near, far, far), (far, far, near, near)):
        (sentence,) = warnings(*features)
        assert sentence.endswith(" (2 of 4 models)")
    (sentence,) = warnings(far, far, far, far)
    assert sentence.endswith(" (4 of 4 models)")


def test_members_of_earlier_versions_have_no_say():
    near, far = np.zeros((2, 3), np.float32), np.full((2, 3), 50, np.float32)
    ecgs = (measurements_of([1.0, 9.0]), ["hospital", "hospital"])
    assert unlike_training([None, None], [far, far], *ecgs) == [[], []]
    one, two = unlike_training([None, described()], [far, near], *ecgs)
    assert one == [] and [sentence.startswith("QRS of 9 mV") for sentence in two] == [True]


# The file


def test_what_was_saved_comes_back(run):
    written = described()
    written.save(run)
    read = TrainingDistribution.load(run.folder)
    assert read.distances == written.distances
    stored = json.loads((run.folder / "training_distribution.json").read_text())
    assert stored["forms"] == {"hospital": 201}  # as earlier versions call and read it
    for name in ("n_ecgs", "file_rates", "file_formats", "qrs_mv", "ages"):
        assert getattr(read, name) == getattr(written, name)
    features = np.random.default_rng(5).normal(size=(9, 3)).astype(np.float32)
    np.testing.assert_array_equal(read.gaussian.distance(features), written.gaussian.distance(features))


def test_a_run_of_an_earlier_version_has_none(run):
    assert TrainingDistribution.load(run.folder) is None


@pytest.mark.parametrize("name", ["training_distribution.json", "training_distribution.safetensors"])
@pytest.mark.parametrize("change", [lambda content: content[:-40], lambda content: b"[]", None])
def test_a_damaged_file_is_one_line(run, name, change):
    described().save(run)
    path = run.folder / name
    content = path.read_bytes()
    path.unlink()
    if change:
        path.write_bytes(change(content))
    elif name.endswith("json"):
        path.mkdir()
    with pytest.raises(UserError) as caught:
        TrainingDistribution.load(run.folder)
    assert str(caught.value).startswith(f"{path}: ") and len(str(caught.value).splitlines()) == 1


def test_no_flipped_bit_gives_another_distance(run):
    described().save(run)
    path = run.folder / "training_distribution.safetensors"
    content = path.read_bytes()
    for place in range(len(content) - 48, len(content)):  # the matrices are the end
        path.write_bytes(content[:place] + bytes([content[place] ^ 64]) + content[place + 1 :])
        with pytest.raises(UserError, match="another checksum"):
            TrainingDistribution.load(run.folder)


# After training


class Convolutional(nn.Module):
    """A model with batch norms, that trains in no time."""

    title = "Convolutional"

    def __init__(self, n_channels):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(12, n_channels, 5, 4), nn.BatchNorm1d(n_channels), nn.ReLU())
        self.head = nn.Linear(n_channels, 1)

    def forward(self, signal):
        return self.head(self.layers(signal).mean(dim=2))


@pytest.mark.parametrize("n_channels", [3, 400])  # fewer features than the 12 training ECGs, and many more
def test_a_finished_run_knows_its_training_ecgs(run, n_channels):
    cohort = make_cohort()
    cohort.measurements["qrs_mv"] = np.arange(24) / 10
    cohort.measurements["file_rate"] = np.repeat([500, 250], 12)  # the first 12 are the training part
    cohort.table["file_format"] = ["hospital"] * 12 + ["DICOM"] * 12
    cohort.table["age"] = ["", "40", "about 60", *map(str, range(50, 71))]
    experiment = Experiment(cohort, run, epochs=1)
    experiment.model = Convolutional(n_channels)
    experiment.optimizer = torch.optim.AdamW(experiment.model.parameters(), 1e-3)
    experiment.schedule = experiment.make_schedule("constant", steps_per_epoch=3)
    experiment.fit().score_test_set()
    found = TrainingDistribution.load(run.folder)
    assert (found.n_ecgs, found.file_rates, found.file_formats) == (12, {"500": 12}, {"hospital": 12})
    assert found.qrs_mv == pytest.approx([0.0055, 1.0945])
    assert 40 < found.ages[0] < 50 and 57 < found.ages[1] < 58
    with ChannelStatistics(experiment.model) as statistics:
        predict_logits(experiment.model, (inputs for inputs, _ in experiment.validation))
    distances = found.gaussian.distance(statistics.take()[0])
    assert found.distances.n_ecgs == 6 and found.distances.quantiles[0] == pytest.approx(distances.min())
    hum = torch.sin(torch.arange(512) * 2 * math.pi / 10).expand(2, 12, 512) * 5
    with ChannelStatistics(experiment.model) as statistics:
        predict_logits(experiment.model, [(hum,)])
    (features,) = statistics.take()
    assert (found.gaussian.distance(features) > found.distances.limit).all()


def test_a_model_without_batch_norms_leaves_ranges_alone(run):
    Experiment(make_cohort(), run, epochs=1).fit().score_test_set()
    found = TrainingDistribution.load(run.folder)
    assert found.gaussian is None is found.distances and found.file_formats == {} and found.n_ecgs == 12
    assert found.findings(np.empty((0, 0)), measurements_of([5.0]), ["hospital"])[0].keys() == {
        "rate",
        "amplitude",
    }


def test_the_test_part_has_no_say(tmp_path):
    """Other test ECGs leave the same description, bit for bit."""
    left = []
    for name in ("one", "two"):
        cohort, run = make_cohort(), Run(tmp_path / name)
        run.folder.mkdir()
        if name == "two":
            cohort.signals.values[FOLD.parts["test"]] //= 2
            cohort.measurements["qrs_mv"][FOLD.parts["test"]] = 99
        experiment = Experiment(cohort, run, epochs=1)
        torch.manual_seed(0)
        experiment.model = Convolutional(4)
        experiment.optimizer = torch.optim.AdamW(experiment.model.parameters(), 1e-3)
        experiment.schedule = experiment.make_schedule("constant", steps_per_epoch=3)
        experiment.fit().score_test_set()
        left.append((run.folder / RANGES).read_bytes())
    assert left[0] == left[1]


def test_of_many_ecgs_some_are_drawn_by_the_seed(monkeypatch):
    monkeypatch.setattr(test_set, "MAX_ECGS", 10)
    many = np.arange(100, 400)
    drawn = test_set._some(many, seed=3)
    assert len(set(drawn)) == 10 and set(drawn) <= set(many) and (np.diff(drawn) > 0).all()
    np.testing.assert_array_equal(drawn, test_set._some(many, seed=3))
    assert not np.array_equal(drawn, test_set._some(many, seed=4))
    assert test_set._some(many[:10], seed=3).tolist() == many[:10].tolist()
