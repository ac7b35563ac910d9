"""Means of attributions over groups of ECGs against numbers worked by hand, and how they are shown."""

import io
import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fake_cohort import cohort_of

from ecg.recording import LEADS
from ecg.signs import NOT_MEASURED
from ecg.simulation import draw_patient, simulate_ecg
from ecg.waves import SEGMENTS, find_waves
from explanations.attribution import NO_BEATS, Explanation
from explanations.group_means import GROUPS, PARTS, ExplainedEcg, group_means, sum_attribution
from explanations.groups import ExplainedLabel, check_never_trained, draw_groups
from reporting.figures.group_attribution import draw_group_attribution
from reporting.pages.explanation_section import (
    explained_errors,
    explanation_section,
    save_explanation_picture,
    signs_in_words,
)
from runtime.errors import UserError

V2, QRS = LEADS.index("V2"), PARTS.index("QRS")


def explained(v2, *, beats=True, complete=True):
    """Return an ECG of which the QRS of V2 adds so much to the logit, and nothing else."""
    leads, cells = np.zeros(12), np.zeros((12, 5))
    leads[V2] = cells[V2, QRS] = v2
    return ExplainedEcg(cells if beats else np.full((12, 5), math.nan), leads, complete)


def means_of(**groups):
    """Return the means of groups, each a dictionary of patients and their ECGs' values in V2."""
    named = {group: groups.get(group.replace(" ", "_"), []) for group in GROUPS}
    ecgs = {group: [explained(value) for _, value in pairs] for group, pairs in named.items()}
    patients = {group: [patient for patient, _ in pairs] for group, pairs in named.items()}
    return group_means(ecgs, patients).set_index(["group", "lead", "segment"])


# The means


def test_means_and_differences_are_those_worked_by_hand():
    means = means_of(
        true_positive=[("a", 1.0), ("b", 2.0), ("c", 6.0)], true_negative=[("d", 0.5), ("e", 1.5)]
    )
    for segment in ("all", "QRS"):
        assert means.loc[("true positive", "V2", segment), "mean"] == pytest.approx(3)
        assert means.loc[("true positive", "V2", segment), "difference"] == pytest.approx(2)
        assert means.loc[("true positive", "V2", segment), "n"] == 3
    assert means.loc[("true positive", "V2", "T"), "mean"] == 0
    assert means.loc[("true positive", "V1", "all"), "mean"] == 0
    assert math.isnan(means.loc[("true negative", "V2", "all"), "difference"])
    assert math.isnan(means.loc[("true negative", "V2", "all"), "low"])  # of two patients
    assert math.isnan(means.loc[("false negative", "V2", "all"), "mean"])
    assert means.loc[("false negative", "V2", "all"), "n"] == 0
    assert len(means) == 4 * 12 * 6


def test_the_interval_is_that_of_every_resample():
    values = [0.0, 1.0, 2.0, 10.0, 4.0]
    all_resamples = [np.mean(draw) for draw in itertools.product(values, repeat=5)]
    expected = np.quantile(all_resamples, [0.025, 0.975])
    row = means_of(false_positive=list(zip("abcde", values, strict=True))).loc[
        ("false positive", "V2", "all")
    ]
    assert [row["low"], row["high"]] == pytest.approx(expected, abs=0.25)


def test_ecgs_of_a_patient_are_drawn_together():
    values = list(zip("abcde", (0.0, 1.0, 2.0, 6.0, 3.0), strict=True))
    once, thrice = (means_of(true_positive=n * values).loc[("true positive", "V2", "all")] for n in (1, 3))
    assert thrice["n"] == 3 * once["n"]
    assert [thrice["low"], thrice["high"]] == pytest.approx([once["low"], once["high"]])


def test_a_difference_of_groups_that_never_overlap_leaves_out_0():
    sick = [(f"a{number}", 3 + number) for number in range(6)]
    well = [(f"b{number}", -number) for number in range(6)]
    row = means_of(true_positive=sick, true_negative=well).loc[("true positive", "V2", "all")]
    assert row["difference"] == pytest.approx(5.5 + 2.5)
    assert 0 < row["difference_low"] < row["difference"] < row["difference_high"]


def test_an_ecg_without_beats_counts_for_its_leads_alone():
    nobody = {group: [] for group in GROUPS}
    ecgs = nobody | {"true positive": [explained(1.0), explained(3.0, beats=False)]}
    patients = nobody | {"true positive": ["a", "b"]}
    means = group_means(ecgs, patients).set_index(["group", "lead", "segment"]).loc["true positive"]
    assert means.loc[("V2", "all"), ["mean", "n"]].tolist() == [2.0, 2]
    assert means.loc[("V2", "QRS"), ["mean", "n"]].tolist() == [1.0, 1]


def test_sums_lie_in_the_lead_and_part_of_the_beat_that_the_attribution_lies_in():
    generator = np.random.default_rng(0)
    signal, _ = simulate_ecg(draw_patient(generator, pe=False), generator)
    waves = find_waves(signal)
    attribution = np.zeros(signal.shape, np.float32)
    for stretch in waves.slices("T"):
        attribution[V2, stretch] = 0.01
    n_samples = sum(stretch.stop - stretch.start for stretch in waves.slices("T"))
    nothing = np.zeros(12), np.zeros(4)
    of = {"logit": 0.0, "baseline_logit": 0.0, "completeness_gap": 0.0, "n_steps": 32, "attention": None}
    names = ("lead_occlusion", "segment_occlusion")
    of |= dict(zip(names, nothing, strict=True))
    sums = sum_attribution(Explanation(attribution=attribution, waves=waves, warnings=(), **of))
    expected = np.zeros((12, 5))
    expected[V2, SEGMENTS.index("T")] = 0.01 * n_samples
    np.testing.assert_allclose(sums.cells, expected, atol=1e-5)
    np.testing.assert_allclose(sums.leads, expected.sum(axis=1), atol=1e-5)
    assert sums.complete
    without = sum_attribution(Explanation(attribution=attribution, waves=None, warnings=(NO_BEATS,), **of))
    assert np.isnan(without.cells).all() and without.complete and without.leads[V2] > 0
    gap = sum_attribution(Explanation(attribution=attribution, waves=waves, warnings=("add up to 3",), **of))
    assert not gap.complete


# Who is explained


def table_of(y_true, y_score, threshold=0.5, files=None):
    files = [f"{number}.xml" for number in range(len(y_true))] if files is None else files
    columns = {"file": files, "y_true": y_true, "y_score": y_score, "threshold": threshold}
    return pd.DataFrame(columns).assign(patient_id=files)


def test_groups_are_those_of_the_decisions():
    drawn = draw_groups(table_of([1, 1, 0, 0, 1], [0.9, 0.1, 0.8, 0.2, 0.5]), 10, seed=1)
    assert {group: lines["file"].tolist() for group, lines in drawn.items()} == {
        "true positive": ["0.xml", "4.xml"],  # at the threshold: flagged
        "false negative": ["1.xml"],
        "false positive": ["2.xml"],
        "true negative": ["3.xml"],
    }


def test_at_most_n_are_drawn_by_the_seed_and_each_file_once():
    table = table_of([1] * 40, [0.9] * 40, files=[f"{number // 2}.xml" for number in range(40)])
    one, same, other = (draw_groups(table, 8, seed)["true positive"]["file"].tolist() for seed in (1, 1, 2))
    assert one == same != other
    assert len(one) == len(set(one)) == 8
    assert len(draw_groups(table, 100, 1)["true positive"]) == 20


def test_a_model_never_explains_what_it_was_trained_on(tmp_path):
    splits = pd.DataFrame({"file": ["a", "b"], "fold-1": ["test", "train"], "fold-2": ["validation", "test"]})
    splits.to_csv(tmp_path / "splits.csv", index=False)
    check_never_trained(tmp_path, pd.DataFrame({"file": ["a", "b"], "fold": [1, 2]}))
    for fold, file, part in ((1, "b", "train"), (2, "a", "validation"), (2, "c", "nan")):
        with pytest.raises(UserError) as caught:
            check_never_trained(tmp_path, pd.DataFrame({"file": [file], "fold": [fold]}))
        assert f"found {file} in {part} of fold {fold}, expected it in test" in str(caught.value)


# What is shown


def label_of(means, errors, left_out=()):
    sizes = {"true positive": 7, "false negative": 1, "false positive": 2, "true negative": 40}
    return ExplainedLabel("network", "PE", sizes, means.reset_index(), errors, list(left_out))


def test_the_figure_shows_differences_and_how_many_ecgs_they_are_of():
    means = means_of(
        true_positive=[("a", 1.0), ("b", 2.0), ("c", 6.0)], true_negative=[("d", 0.5), ("e", 1.5)]
    )
    figure = draw_group_attribution(replace(label_of(means, pd.DataFrame()), label="P$E", model="$n"))
    cells, leads = figure.axes[:2]
    assert cells.get_title(loc="left") == "true positives: 3 of 7 ECGs, minus true negatives"
    assert figure.axes[6].get_title(loc="left") == "true negatives: 2 of 40 ECGs"
    numbers = {text.get_position(): text.get_text() for text in cells.texts}
    assert numbers[QRS + 0.5, V2 + 0.5] == "+2.00" and len(numbers) == 60
    assert leads.containers[0].patches[0].get_width() == pytest.approx(2)
    assert [text.get_text() for text in figure.axes[2].texts] == []  # false negatives: none
    figure.savefig(io.BytesIO(), format="png")


def test_without_true_negatives_the_groups_are_shown_as_they_are():
    means = means_of(false_positive=[("a", 1.0), ("b", 2.0)])
    figure = draw_group_attribution(label_of(means, pd.DataFrame()))
    cells = figure.axes[4]
    assert cells.get_title(loc="left") == "false positives: 2 of 2 ECGs"
    assert "+1.50" in [text.get_text() for text in cells.texts]


def test_an_error_is_given_by_the_leads_that_differ_from_true_negatives():
    generator = np.random.default_rng(0)
    signal, _ = simulate_ecg(draw_patient(generator, pe=True, signs={"right_axis": 1}), generator)
    signals = np.rint(1000 * signal[None]).astype(np.int16)
    cohort = cohort_of([1, 0], signals=signals, rows=np.array([0, 0]))
    missed, alarm = explained(-1.0), explained(3.0, beats=False)
    alarm.leads[0] = 0.25
    errors = pd.DataFrame({"file": ["0.xml", "1.xml"], "patient_id": ["aa", "bb"], "y_true": [1, 0]})
    errors = errors.assign(y_score=[0.1, 0.9], threshold=0.5, ecg=[0, 1], explained=[missed, alarm])
    means = means_of(true_negative=[("d", 0.5), ("e", 1.5)])
    label = label_of(means, errors, left_out=["7.xml"])
    section = explanation_section(label, draw_group_attribution(label), cohort)
    assert section.left_out.startswith("1 ECG is in no mean") and "7.xml" in section.left_out
    first, second = section.errors
    leads = [one.leads.replace("\N{NO-BREAK SPACE}", " ") for one in section.errors]
    assert leads[0].startswith("V2 −2.00 (QRS), ") and leads[1].startswith("V2 +2.00, I +0.25, ")
    assert (first.kind, second.kind) == ("PE, missed", "no PE, flagged")
    assert "right axis" in first.signs and "bpm" in first.signs
    table = explained_errors(label)
    assert table["V2"].tolist() == [-1.0, 3.0] and "explained" not in table


def test_a_picture_never_replaces_another(tmp_path):
    means, nothing = means_of(true_negative=[("d", 0.5)]), pd.DataFrame(columns=["explained"])
    for label in ("A/B", "A?B"):
        one = label_of(means, nothing)
        explained_label = ExplainedLabel(one.model, label, one.sizes, one.means, nothing, [])
        save_explanation_picture(draw_group_attribution(explained_label), explained_label, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "explanations-A-B-network.png", "explanations-A-B-network-.png",
    }  # fmt: skip


def test_signs_are_told_in_words():
    signs = NOT_MEASURED._replace(
        heart_rate_bpm=104.4,
        qrs_axis_deg=98.0,
        qrs_ms=124.0,
        s1q3t3=1.0,
        n_inverted_t_v1_v4=3.0,
        rbbb_pattern=2.0,
    )
    words = "104 bpm, 98° axis, 124 ms QRS, S1Q3T3, T inverted in 3 of V1 to V4, complete RBBB"
    assert signs_in_words(signs) == words
    assert signs_in_words(NOT_MEASURED) == "no beats of one shape"
