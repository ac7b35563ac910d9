"""The contrastive loss and retrieval against values worked by hand and loops; what the two views are."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.contrastive_resnet18 import ContrastiveResNet18
from training import contrastive
from training.contrastive import (
    AugmentedHalves,
    ContrastiveLoss,
    announce_chance,
    chance_of_loss,
    chance_of_retrieval,
    groups_of,
    retrieval,
    two_halves,
)

X, Y, Z = torch.eye(3)


def loss_of(embeddings, patients, temperature=1.0):
    return ContrastiveLoss(temperature=temperature)(embeddings, column(patients))


def column(patients):
    return torch.tensor(patients, dtype=torch.float32)[:, None]


def random_embeddings(n_ecgs, size=8, seed=0):
    return torch.randn(n_ecgs, 2, size, generator=torch.Generator().manual_seed(seed))


def at_angles(*pairs):
    """Return embeddings in the plane, one ECG a pair of angles in degrees."""
    angles = np.radians(pairs)
    return np.stack([np.cos(angles), np.sin(angles)], axis=2)


# The loss


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.5514447), (0.5, 0.2395447)])
def test_two_patients_by_hand(temperature, expected):
    """Each view has one positive of cosine 1 and two negatives of cosine 0: log(1 + 2 exp(-1 / t))."""
    embeddings = torch.stack([torch.stack([X, 2 * X]), torch.stack([Y, Y])])  # lengths do not count
    assert loss_of(embeddings, [0, 1], temperature).item() == pytest.approx(expected, abs=1e-6)


def test_views_that_are_all_the_same_by_hand():
    """Four views have two negatives, two have four: (4 log 3 + 2 log 5) / 6."""
    found = loss_of(torch.ones(3, 2, 5), [7, 7, 9]).item()
    assert found == pytest.approx((4 * math.log(3) + 2 * math.log(5)) / 6, abs=1e-6)
    assert found == pytest.approx(chance_of_loss(np.array([[7], [7], [9]])), abs=1e-6)


def loss_by_loops(embeddings, patients, temperature):
    views = [view / np.linalg.norm(view) for ecg in embeddings.double().numpy() for view in ecg]
    patient_of = np.repeat(patients, 2)
    of_views = []
    for i, view in enumerate(views):
        exps = [math.exp(view @ other / temperature) for other in views]
        negatives = sum(exps[j] for j in range(len(views)) if patient_of[j] != patient_of[i])
        positives = [exps[j] for j in range(len(views)) if j != i and patient_of[j] == patient_of[i]]
        of_views.append(np.mean([-math.log(p / (p + negatives)) for p in positives]))
    return np.mean(of_views)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_loss_is_that_of_loops(temperature):
    embeddings, patients = random_embeddings(9), [0, 1, 2, 0, 3, 3, 0, 4, 5]
    expected = loss_by_loops(embeddings, patients, temperature)
    assert loss_of(embeddings, patients, temperature).item() == pytest.approx(expected, rel=1e-5)


def test_with_one_ecg_a_patient_it_is_the_loss_of_simclr():
    embeddings = random_embeddings(6)
    views = functional.normalize(embeddings.flatten(0, 1), dim=1)
    logits = (views @ views.T / 0.1).fill_diagonal_(-math.inf)
    expected = functional.cross_entropy(logits, torch.tensor([i ^ 1 for i in range(12)]))
    torch.testing.assert_close(loss_of(embeddings, range(6), 0.1), expected)


@pytest.mark.parametrize(("patients", "attracted"), [([0, 0, 1], True), ([0, 1, 2], False)])
def test_ecgs_of_a_patient_attract_each_other_and_those_of_others_do_not(patients, attracted):
    embeddings = torch.stack([torch.stack([axis, axis]) for axis in (X, Y, Z)]).requires_grad_()
    loss_of(embeddings, patients).backward()
    of_second = -embeddings.grad[1, 0]  # the way that the first half of the second ECG is to go
    assert (of_second[0] > 0) == attracted  # towards the first ECG
    assert of_second[2] < 0  # away from the third


def test_a_patient_alone_has_no_loss_and_no_gradient():
    embeddings = random_embeddings(2).requires_grad_()
    loss = loss_of(embeddings, [3, 3], 0.1)
    loss.backward()
    assert loss.item() == 0 and (embeddings.grad == 0).all()


def test_many_validation_ecgs_are_compared_in_groups(monkeypatch):
    """In each group loss, retrieval and their chance are those of its ECGs alone; training contrasts all."""
    monkeypatch.setattr(contrastive, "GROUP", 4)
    embeddings, patients = random_embeddings(9), np.array([0, 1, 2, 0, 3, 3, 0, 4, 5])
    groups = groups_of(patients[:, None])
    assert [len(group) for group in groups] == [3, 3, 3]
    assert sorted(np.concatenate(groups)) == list(range(9))
    expected = np.mean([loss_by_loops(embeddings[group], patients[group], 0.1) for group in groups])
    with torch.no_grad():
        assert loss_of(embeddings, patients, 0.1).item() == pytest.approx(expected, rel=1e-5)
    everything = loss_by_loops(embeddings, patients, 0.1)
    assert loss_of(embeddings, patients, 0.1).item() == pytest.approx(everything, rel=1e-5)
    alone = [(column(patients[group]).numpy(), embeddings[group].numpy()) for group in groups]
    both = column(patients).numpy(), embeddings.numpy()
    assert retrieval(*both) == pytest.approx(np.mean([retrieval(*one) for one in alone]))
    for chance in (chance_of_loss, chance_of_retrieval):
        assert chance(both[0]) == pytest.approx(np.mean([chance(one) for one, _ in alone]))


def test_groups_keep_a_patients_ecgs_together(monkeypatch):
    monkeypatch.setattr(contrastive, "GROUP", 60)
    patients = np.repeat(np.arange(30), 4)[:, None]
    one, other = (set(patients[group, 0]) for group in groups_of(patients))
    assert len(one) == len(other) == 15 and not one & other
    assert one != set(range(15))  # not in the table's order, which may be that of the hospitals


def test_chance_names_the_groups(monkeypatch, capsys):
    monkeypatch.setattr(contrastive, "GROUP", 4)
    announce_chance([3], column(range(8)).numpy())
    assert capsys.readouterr().out == (  # log 5, log 7, 1 / 7
        "chance      loss 1.61 in training batches, 1.95 in validation, which compares its ECGs in groups "
        "of at most 4; retrieval 0.1429\n"
    )


def test_bfloat16_is_summed_in_float32():
    embeddings = random_embeddings(5).bfloat16()
    loss = loss_of(embeddings, range(5), 0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, loss_of(embeddings.float(), range(5), 0.1))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"embeddings have shape \(4, 8\), patients \(4, 1\)"):
        loss_of(random_embeddings(4)[:, 0], range(4))


# Retrieval

ANGLES = ((0, 10), (52, 90), (60, 180))


@pytest.mark.parametrize(("patients", "expected"), [([0, 1, 2], 2 / 6), ([0, 1, 1], 5 / 6)])
def test_retrieval_by_hand(patients, expected):
    """Apart, 60 degrees is nearer to 52 and 90 than these to each other; of one patient, it is left out."""
    assert retrieval(column(patients).numpy(), at_angles(*ANGLES)) == pytest.approx(expected)


def test_embeddings_that_are_all_the_same_retrieve_nothing():
    assert retrieval(column([0, 1, 2]).numpy(), np.ones((3, 2, 4))) == 0


def test_chance_by_hand_and_by_random_embeddings():
    assert chance_of_retrieval(np.array([[0], [0], [1]])) == pytest.approx((1 / 3 + 1 / 3 + 1 / 5) / 3)
    patients = column(np.repeat(np.arange(10), 2)).numpy()
    found = [retrieval(patients, random_embeddings(20, 32, seed).numpy()) for seed in range(100)]
    assert np.mean(found) == pytest.approx(chance_of_retrieval(patients), abs=0.01)  # 1 / 37


# Views


@pytest.mark.parametrize("n_samples", [8, 9])
def test_no_sample_is_in_both_views(n_samples):
    signal = torch.arange(2 * 3 * n_samples).reshape(2, 3, n_samples)
    halves = two_halves(signal)
    assert halves.shape == (4, 3, 4)
    assert torch.equal(halves[2], signal[1, :, :4]) and torch.equal(halves[3], signal[1, :, 4:8])
    assert len(halves.unique()) == halves.numel()


def test_each_half_is_augmented_by_itself():
    signal = torch.randn(2, 12, 9, generator=torch.Generator().manual_seed(0))

    def add_number(halves, generator):
        return halves + torch.arange(len(halves))[:, None, None]

    added = AugmentedHalves(add_number)(signal, None) - signal
    expected = torch.tensor([[0.0] * 4 + [1] * 4 + [0], [2] * 4 + [3] * 4 + [0]])
    torch.testing.assert_close(added, expected[:, None].expand(2, 12, 9))


def test_an_embedding_sees_its_own_half_alone():
    torch.manual_seed(0)
    model = ContrastiveResNet18(kernel_size=3, projection_size=16).eval()
    signal = torch.randn(2, 12, 512)
    changed = signal.clone()
    changed[:, :, 256:] += 1
    with torch.inference_mode():
        before, after = model(signal), model(changed)
    assert before.shape == (2, 2, 16)
    torch.testing.assert_close(before[:, 0], after[:, 0])
    assert not torch.isclose(before[:, 1], after[:, 1]).all(dim=1).any()
