"""Clinical columns enter the head, standardised on training ECGs; a value that is not known is no number."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from model_arguments import ARGUMENTS
from safetensors.torch import load_file
from tiny_runs import line_of, make_tiny_cohort, run_here, tiny, train_here

from cohorts.synthetic import make_cohort
from dataset.clinical import check_clinical, clinical_values, coding_of, given_values, in_words, value_of
from dataset.decoding import decode
from inference.onnx_graph import SignalToScore, check_graph, to_onnx
from inference.prediction import check_finite
from inference.scoring import Scorer
from models import MODELS
from models.head import Head
from run_folder.run import Run
from runtime.errors import UserError

TABLE = pd.DataFrame(
    {
        "file": ["a", "b", "c"],
        "age": ["63", "95", ""],
        "sex": ["M", "female", "NA"],
        "wells": ["4.5", "unknown", "0"],
        "site": ["Ulm", "Bonn", "Ulm"],
        "PE": ["0", "1", "0"],
        "nobody": ["", "nan", "n/a"],
    },
    index=[2, 3, 5],
)


def test_values_are_numbers_or_words_and_ages_above_89_are_90():
    values = clinical_values(TABLE, ["age", "sex", "wells"])
    np.testing.assert_array_equal(values, [[63, 0, 4.5], [90, 1, np.nan], [np.nan, np.nan, 0]])
    assert values.dtype == np.float32
    assert value_of("weight", "95") == 95 and value_of("age", "89") == 89 and value_of("age", "90.5") == 90
    assert [value_of("x", text) for text in ("ten", "inf", "1e999", "1,5")] == [None] * 4


def test_values_in_words_and_their_coding_for_programs():
    assert in_words(["age", "d_dimer"], [63.0, np.nan]) == {"age": "63", "d_dimer": "not known"}
    for word, letter in (("F", "F"), ("female", "F"), ("m", "M"), ("", "not known"), ("2", "2")):
        assert in_words(["sex", "wells"], given_values(["sex", "wells"], [f"sex={word}", "wells=1"])) == {
            "sex": letter,
            "wells": "1",
        }
    assert coding_of("sex") == "m 0, male 0, f 1, female 1" and coding_of("age").startswith("years; 90 if")
    assert coding_of("smoker").endswith("; no 0, yes 1, false 0, true 1")


@pytest.mark.parametrize("age", ["-1", "131", "630", "m"])
def test_an_age_that_nobody_has_is_one_line(age):
    expected = "expected 0 to 130 years, or nothing where it is not known"
    for check in (
        lambda: check_clinical("labels.csv", TABLE.assign(age=["63", age, "0"]), ["age"]),
        lambda: given_values(["age"], [f"age={age}"]),
    ):
        with pytest.raises(UserError) as error:
            check()
        assert "found " in str(error.value) and age in str(error.value)
        assert str(error.value).endswith(expected) and "\n" not in str(error.value)
    assert [value_of("age", text) for text in ("0", "130", "90")] == [0, 90, 90]
    assert value_of("wells", "-1") == -1 and value_of("d_dimer", "630") == 630


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["site"], "labels.csv line 2: found Ulm in clinical column site, expected a number, m, male, f"),
        (["PE"], "labels.csv: clinical column PE: found a label that is to be learnt"),
        (
            ["file"],
            "labels.csv: clinical column file: found none, expected one of age, sex, wells, site, nobody",
        ),
        (["age", "age"], "labels.csv: clinical column age: found twice"),
        (["nobody"], "labels.csv: clinical column nobody: found no value that is known"),
    ],
)
def test_a_wrong_column_is_one_line(columns, message):
    with pytest.raises(UserError) as error:
        check_clinical("labels.csv", TABLE, columns, label_names=["PE"])
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_the_head_by_hand():
    head = Head(2, 1, 2)
    head.standardise(np.array([[50.0, 1.0], [70.0, np.nan], [60.0, 1.0]]))
    deviation = np.sqrt(200 / 3)
    np.testing.assert_allclose(head.clinical_mean, [60, 1])
    np.testing.assert_allclose(head.clinical_deviation, [deviation, 1], rtol=1e-6)  # 0 would divide by 0
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]))
        head.bias.fill_(0.5)
    features = torch.tensor([[1.0, 10.0], [1.0, 10.0]])
    logits = head(features, torch.tensor([[80.0, 0.0], [torch.nan, 1.0]]))
    expected = [0.5 + 21 + 3 * 20 / deviation - 4, 0.5 + 21 + 5]
    np.testing.assert_allclose(logits.detach()[:, 0], expected, rtol=1e-6)


def test_a_value_that_was_never_missing_adds_nothing_where_it_is_missing():
    torch.manual_seed(1)
    head = Head(3, 1, 1)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.1, weight_decay=0.05)
    clinical = torch.linspace(40, 80, 16)[:, None]
    head.standardise(clinical.numpy())
    for _ in range(20):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            head(torch.zeros(16, 3), clinical), (clinical > 60).float()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    missing, average = (head(torch.zeros(1, 3), torch.tensor([[x]])) for x in (torch.nan, 60.0))
    torch.testing.assert_close(missing, average)
    assert head(torch.zeros(1, 3), torch.tensor([[80.0]])) > average + 0.5


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_begins_from_the_ecg_alone_and_learns_from_clinical_values(name):
    torch.manual_seed(0)
    model = MODELS[name](n_labels=2, n_clinical=3, dropout=0.0, **ARGUMENTS[name]).eval()
    torch.manual_seed(0)
    alone = MODELS[name](n_labels=2, dropout=0.0, **ARGUMENTS[name]).eval()
    alone.load_state_dict(
        {k: v for k, v in model.state_dict().items() if not k.startswith("head.")}, strict=False
    )
    signal, clinical = torch.randn(2, 12, 512), torch.tensor([[63.0, 1.0, torch.nan], [40.0, 0.0, 2.0]])
    with torch.no_grad():
        alone.head.weight.copy_(model.head.weight[:, : alone.head.in_features])
        alone.head.bias.copy_(model.head.bias)
    torch.testing.assert_close(model(signal, clinical), alone(signal))
    model(signal, clinical).sum().backward()
    gradient = model.head.weight.grad[:, alone.head.in_features :]
    assert (gradient.abs().sum(dim=0) > 0).tolist() == [True] * 3 + [False, False, True]
    with pytest.raises(ValueError, match="expected 3 values per ECG"):
        model(signal)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a cohort's folder in which some ages are unknown, a run with age and sex, and its output."""
    folder = tmp_path_factory.mktemp("clinical")
    cohort = make_tiny_cohort(folder / "ecgs")
    table = pd.read_csv(cohort / "labels.csv", dtype=str)
    table.loc[::5, "age"] = ""
    table.to_csv(cohort / "labels.csv", index=False)
    flags = tiny(cohort, "--clinical-columns", "age", "sex", "--output-dir", folder / "runs")
    outcome = train_here("train_atten.py", *flags)
    assert outcome.returncode == 0, outcome.stderr
    (run,) = (folder / "runs").iterdir()
    return cohort, run, outcome


def test_a_run_keeps_the_training_ecgs_mean_and_deviation(trained):
    cohort, run, outcome = trained
    assert "clinical    beside the ECG: age (known of 79 %), sex (known of 100 %)" in outcome.stdout
    assert json.loads((run / "model.json").read_text())["clinical_columns"] == ["age", "sex"]
    table = pd.read_csv(cohort / "labels.csv")
    parts = pd.read_csv(run / "splits.csv").set_index("file")["split"]
    ages = table.loc[table["file"].map(parts) == "train", "age"]
    weights = load_file(run / "model.safetensors")
    assert weights["head.clinical_mean"][0] == pytest.approx(ages.mean(), rel=1e-6)
    assert weights["head.clinical_deviation"][0] == pytest.approx(ages.std(ddof=0), rel=1e-6)


def test_a_finished_run_scores_with_clinical_values_and_not_without(trained):
    _, run, _ = trained
    scorer = Scorer.load(run, torch.device("cpu"))
    assert scorer.clinical_columns == ["age", "sex"]
    signals = np.random.default_rng(0).integers(-500, 500, (2, 12, 5000)).astype(np.int16)
    values = np.array([[63, 1], [63, 1]], np.float32)
    scores = scorer.score(signals, values)
    assert scores.shape == (2, 1) and np.isfinite(scorer.score(signals, values * np.nan)).all()
    with torch.no_grad():
        scorer.models[0].head.weight[:, -4] = 5.0  # of the age
    older = scorer.score(signals, values + np.array([[0, 0], [20, 0]], np.float32))
    assert older[1] > older[0] or scores[1] != scores[0]
    with pytest.raises(ValueError, match="expected age, sex of each ECG"):
        scorer.score(signals)


def test_another_cohort_needs_and_uses_the_columns(trained, tmp_path):
    _, run, _ = trained
    make_cohort(tmp_path / "other", n_ecgs=14, n_patients=12, prevalence=0.4, seed=11)
    words = ["--cohort", tmp_path / "other", "--output-dir", tmp_path / "out"]
    outcome = run_here("evaluate.py", run, *words)
    assert outcome.returncode == 0, outcome.stderr
    (folder,) = (tmp_path / "out").iterdir()
    scores = pd.read_csv(folder / "predictions.csv", index_col="file").filter(like="y_score")
    table = pd.read_csv(tmp_path / "other" / "labels.csv", dtype=str)
    signals = np.stack([decode(tmp_path / "other" / file, 0.0)[1] for file in table["file"]])
    expected = Scorer.load(run, torch.device("cpu")).score(signals, clinical_values(table, ["age", "sex"]))
    np.testing.assert_allclose(scores.loc[table["file"]].iloc[:, 0], expected[:, 0], rtol=1e-4)
    table.drop(columns="age").to_csv(tmp_path / "other" / "labels.csv", index=False)
    outcome = run_here("evaluate.py", run, *words)
    assert "clinical column age: found none, expected one of sex" in line_of(outcome)


def test_an_ensemble_of_ecg_alone_and_ecg_with_clinical_values(trained, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    _, run, _ = trained
    with_both, of_both = Run(run).load_model(torch.device("cpu"))
    with torch.no_grad():
        with_both.head.weight[:, -4:] = torch.tensor([1.0, -2.0, 3.0, 4.0])
    torch.manual_seed(1)
    arguments = {**of_both.arguments, "n_clinical": 0}
    alone = MODELS[of_both.model](**arguments).eval()
    of_alone = replace(of_both, arguments=arguments, clinical_columns=[])
    arguments = {**of_both.arguments, "n_clinical": 1}
    with_sex = MODELS[of_both.model](**arguments).eval()
    with torch.no_grad():
        with_sex.head.weight[:, -2:] = torch.tensor([-1.0, 2.0])
    of_sex = replace(of_both, arguments=arguments, clinical_columns=["sex"])
    models = [(alone, of_alone), (with_sex, of_sex), (with_both, of_both)]
    scorer = Scorer(models, thresholds=[0.5], device=torch.device("cpu"))
    assert scorer.clinical_columns == ["sex", "age"]
    signals = np.random.default_rng(0).integers(-500, 500, (4, 12, 5000)).astype(np.int16)
    clinical = np.array([[1, 63], [0, 80], [np.nan, 40], [1, np.nan]], np.float32)
    members = scorer.score_members(signals, clinical)
    for number, values in ((1, clinical[:, :1]), (2, clinical[:, ::-1])):
        one = Scorer(
            [(scorer.models[number], scorer.descriptions[number])], thresholds=[0.5], device=scorer.device
        )
        np.testing.assert_allclose(members[number], one.score(signals, values.copy()), rtol=1e-5)
    graph = to_onnx(SignalToScore(scorer), {})
    assert (
        check_graph(graph, scorer, np.concatenate([signals, signals[:1]]), clinical[[0, 1, 2, 3, 0]]) <= 1e-4
    )
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert [(one.name, one.shape[1:]) for one in session.get_inputs()] == [
        ("signal_mv", [12, 5000]),
        ("clinical", [2]),
    ]


def scores_of(outcome, path):
    assert outcome.returncode == 0, outcome.stderr
    return pd.read_csv(path)


def test_predict_takes_the_values_of_one_ecg_and_of_many(trained, tmp_path):
    cohort, run, _ = trained
    table = pd.read_csv(cohort / "labels.csv", dtype=str, keep_default_na=False)
    scorer = Scorer.load(run, torch.device("cpu"))
    signals = np.stack([decode(cohort / file, 0.0)[1] for file in table["file"]])
    expected = scorer.score(signals, clinical_values(table, ["age", "sex"]))[:, 0]
    output = tmp_path / "scores.csv"
    words = ["--clinical-table", cohort / "labels.csv", "--output", output]
    found = scores_of(run_here("predict.py", run, cohort, *words), output)
    np.testing.assert_allclose(found["score_PE"], expected, rtol=1e-4)
    unknown = found["warnings"].fillna("").str.contains("not known: age")
    assert unknown.tolist() == (table["age"] == "").tolist() and unknown.sum() == 5
    one = cohort / table["file"][1]
    words = ["--clinical", f"age={table['age'][1]}", f"sex={table['sex'][1]}", "--output", output]
    found = scores_of(run_here("predict.py", run, one, *words), output)
    assert found["score_PE"][0] == pytest.approx(expected[1], rel=1e-4)
    words = ["--clinical", "age=", "sex=", "--output", output]
    other = scores_of(run_here("predict.py", run, one, *words), output)
    assert other["warnings"][0].endswith("; not known: age, sex")  # after: this ECG trained the model


def test_a_bare_name_in_the_table_is_of_one_file_alone(trained, tmp_path):
    cohort, run, _ = trained
    first = cohort / "demo-0001.xml"
    (tmp_path / "ecgs" / "sub").mkdir(parents=True)
    for place in ("demo-0001.xml", "sub/demo-0001.xml"):
        shutil.copy(first, tmp_path / "ecgs" / place)
    (tmp_path / "clinical.csv").write_text("file,age,sex\ndemo-0001.xml,30,F\n")
    words = ["--clinical-table", tmp_path / "clinical.csv", "--output", tmp_path / "scores.csv"]
    outcome = run_here("predict.py", run, tmp_path / "ecgs", *words)
    found = scores_of(outcome, tmp_path / "scores.csv")
    assert "clinical.csv has no line for 1 of 2 files, such as " in outcome.stdout
    unknown = found["warnings"].fillna("").str.contains("not known: age, sex")
    assert dict(zip(found["file"].str.contains("sub/"), unknown, strict=True)) == {False: False, True: True}
    found = scores_of(run_here("predict.py", run, tmp_path / "ecgs" / "sub", *words), tmp_path / "scores.csv")
    assert not found["warnings"].fillna("").str.contains("not known").any()  # there is no other
    line = line_of(run_here("predict.py", run, cohort / "demo-0002.xml", *words))
    assert "clinical.csv: found none of the 1 files, such as " in line


def test_a_score_that_is_no_number_is_no_decision():
    scores = np.array([[[0.2], [np.nan]], [[0.3], [0.4]]])  # of two members, two files, one label
    with pytest.raises(UserError, match=r"b\.xml: found a score that is not a number"):
        check_finite(scores, [Path("a.xml"), Path("b.xml")])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "its models see age, sex beside the ECG: expected either --clinical age=VALUE sex=VALUE"),
        (["--clinical", "age=63"], "--clinical: found no sex, expected sex=VALUE, or sex= if not known"),
        (["--clinical", "age=63", "sex=Ulm"], "--clinical: found sex=Ulm, expected a number, m, male"),
        (["--clinical", "age=63", "weight=80"], "--clinical: found weight=80, expected age=VALUE sex=VALUE"),
    ],
)
def test_wrong_values_are_one_line(trained, words, message):
    cohort, run, _ = trained
    assert message in line_of(run_here("predict.py", run, next(cohort.glob("*.xml")), *words))
