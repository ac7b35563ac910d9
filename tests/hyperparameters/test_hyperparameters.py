"""Hyperparameters: who overrules whom, errors of one line that name the key, and what a run keeps."""

import importlib
import inspect
import json
import types
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from data_augmentation import AUGMENTATIONS, Augmentation
from dataset.batches import EvaluationBatches, TrainingBatches
from dataset.cohort import read_cohort
from dataset.signals import place_signals
from dataset.splits import make_folds
from focal_loss import FocalLoss
from hyperparameters.declaration import ABSENT, EXPECTED, LISTS, Hyperparameters
from hyperparameters.reading import read_hyperparameters, read_yaml, to_yaml
from models import MODELS
from runtime.errors import UserError
from training import test_set
from training.loop import TrainingStep, fit
from training.optimization import adamw, learning_rate_schedule, length_of_training
from training.transfer import load_pretrained

BLOCK = {"epochs": 7, "learning_rate": 0.5, "dropout": 0.25}
PRETRAINED = {"epochs": 3, "seed": 6}
PUBLISHED = {"epochs": 9, "gamma": 1.5}
ONE_MODEL_SCRIPTS = ("train_baseline", "train_atten", "train_spectrogram")


def read(*arguments, defaults=BLOCK, pretrained=PRETRAINED, published=PUBLISHED, **options):
    return read_hyperparameters("A script.", defaults, pretrained, published, list(arguments), **options)


@pytest.fixture
def refused(capsys):
    """Return a function that gives the line with which ``read`` exits."""

    def line(*arguments, **blocks):
        with pytest.raises(SystemExit) as exit_:
            read(*arguments, **blocks)
        assert exit_.value.code == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1 and printed.err.endswith("\n")
        return printed.err

    return line


def script_blocks(script):
    """Return a script's own values and sections, as ``read`` takes them: its blocks, or its YAML file's."""
    module = importlib.import_module(script)
    blocks = (getattr(module, name, None) for name in ("HYPERPARAMETERS", "PRETRAINED", "PUBLISHED"))
    if script == "train_main_ecg":
        blocks = read_yaml(module.HYPERPARAMETERS_FILE)
    return dict(zip(("defaults", "pretrained", "published"), blocks, strict=True))


# Who overrules whom


def test_declared_default_then_block_then_recipe_then_flag():
    declared, published = Hyperparameters(), ("--recipe", "published")
    assert read().epochs == 7 != declared.epochs
    assert read(*published).epochs == 9
    assert read(*published, "--epochs", "3").epochs == 3
    assert read("--epochs", "3", *published).epochs == 3
    assert read(*published).learning_rate == 0.5  # of the block, since the recipe does not set it
    assert read().gamma == declared.gamma != 1.5
    assert read(*published).gamma == 1.5
    assert read().weight_decay == read(*published).weight_decay == declared.weight_decay


def test_what_starts_from_pretrained_weights_has_values_of_its_own():
    """They overrule the block, and the published recipe and flags overrule them."""
    start, published = ("--init-from", "ptbxl"), ("--recipe", "published")
    assert (read().epochs, read().seed) == (7, 42)
    assert (read(*start).epochs, read(*start).seed) == (3, 6)
    assert read(*start).learning_rate == 0.5 and read(*start).gamma == Hyperparameters().gamma
    assert read(*start, "--epochs", "4").epochs == 4
    values = read(*start, *published)
    assert (values.epochs, values.seed, values.gamma) == (9, 6, 1.5)
    assert read(defaults={**BLOCK, "init_from": "ptbxl"}).epochs == 3


def test_who_gives_the_epochs_gets_these():
    pretrained = {"epochs": 3, "min_steps": 100}
    length = lambda *flags: read(*flags, pretrained=pretrained).group("length")  # noqa: E731
    assert length("--init-from", "run") == pretrained
    assert length("--init-from", "run", "--epochs", "4") == {"epochs": 4, "min_steps": 0}
    assert length("--init-from", "run", "--epochs", "4", "--min-steps", "9") == {"epochs": 4, "min_steps": 9}
    assert length()["min_steps"] == 0


def test_help_says_what_counts_with_pretrained_weights(capsys):
    with pytest.raises(SystemExit):
        read("--help")
    assert "[7; with --init-from 3]" in " ".join(capsys.readouterr().out.split())


def test_block_can_choose_the_recipe_and_a_flag_can_undo_it():
    block = {**BLOCK, "recipe": "published"}
    assert read(defaults=block).epochs == 9
    assert read("--recipe", "default", defaults=block).epochs == 7


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        (["--label-columns", "PE", "1e5", "null"], "label_columns", ["PE", "1e5", "null"]),
        (["--milestones", "2", "30"], "milestones", [2, 30]),
        (["--alpha", "null"], "alpha", None),
        (["--alpha", "0.25"], "alpha", 0.25),
        (["--learning-rate=1e-5"], "learning_rate", 1e-5),
        (["--data-dir", "2024"], "data_dir", "2024"),
        (["--output-dir", "{runs}"], "output_dir", "{runs}"),
        (["--epochs", "4"], "epochs", 4),
    ],
)
def test_flag_gives_a_plain_value_of_its_type(flags, name, value):
    found = getattr(read(*flags), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "scalar", "expected"), [("label_columns", "PE", ["PE"]), ("milestones", 4, [4])]
)
def test_scalar_in_a_block_becomes_a_list(name, scalar, expected):
    assert getattr(read(defaults={**BLOCK, name: scalar}), name) == expected


# What is refused


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--nope", "3"], "--nope"),
        (["extra"], "extra"),
        (["--epoch", "3"], "--epoch 3"),  # an abbreviation
        (["--batch_size", "3"], "--batch_size"),
        (["--rnn-cell", "gru"], "--rnn-cell"),  # of another model's script
        (["--epochs", "many"], "epochs"),
        (["--epochs", "2.5"], "epochs"),
        (["--epochs", "null"], "epochs"),
        (["--epochs"], "--epochs"),
        (["--epochs", "0"], "epochs"),
        (["--n-samples", "511"], "n_samples"),
        (["--n-samples", "5001"], "n_samples"),
        (["--dropout", "1"], "dropout"),
        (["--dropout", "null"], "dropout"),
        (["--alpha", "1"], "alpha"),
        (["--lead-drop", "1.01"], "lead_drop"),
        (["--learning-rate", "0"], "learning_rate"),
        (["--learning-rate", "nan"], "learning_rate"),
        (["--learning-rate", "inf"], "learning_rate"),
        (["--warmup-epochs", "inf"], "warmup_epochs"),
        (["--validation-fraction", "0.5"], "validation_fraction"),
        (["--schedule", "exponential"], "schedule"),
        (["--seed", "-1"], "seed"),
        (["--milestones", "5", "5"], "milestones"),
        (["--milestones", "9", "3"], "milestones"),
        (["--milestones", "0", "3"], "milestones"),
        (["--labels", "table.csv"], "--data-dir"),
    ],
)
def test_wrong_flag_is_one_line_that_names_it(refused, flags, names):
    assert names in refused(*flags)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epohcs", 3),
        ("rnn_cell.x", "gru"),
        ("epochs", "many"),
        ("epochs", None),  # a key of a YAML file without a value
        ("seed", None),
        ("milestones", None),
        ("dropout", None),
        ("epochs", True),
        ("epochs", 0),
        ("learning_rate", -1.0),
        ("schedule", "exponential"),
        ("label_columns", [1, 2]),
        ("milestones", [9, 3]),
        ("data_dir", 5),
        ("rnn_bidirectional", 1),
    ],
)
def test_wrong_value_in_a_block_is_one_line_that_names_the_key(refused, key, value):
    assert key in refused(defaults={**BLOCK, key: value})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epochs", "0"], "epochs: found 0, expected a whole number above 0"),
        (["--epochs", "many"], "epochs: found many, expected a whole number above 0"),
        (["--epochs", "null"], "epochs: found null, expected a whole number above 0"),
        (["--n-samples", "511"], "n_samples: found 511, expected a whole number from 512 to 5000"),
        (["--alpha", "1"], "alpha: found 1, expected a number above 0 and below 1, or null"),
        (["--recipe", "mine"], "recipe: found mine, expected default or published"),
        (["--quality-checks", "perhaps"], "quality_checks: found perhaps, expected true or false"),
        (["--milestones", "5", "x"], "milestones: found x, expected a whole number above 0"),
        (
            ["--threshold-policy", "f1>=0.9"],
            "threshold_policy: found 'f1>=0.9', expected prevalence, youden, or for",
        ),
        (["--repeats", "5"], "repeats: found 5, expected --folds: a single split has one"),
        (["--calibration", "none", "--gamma", "2"], "found prevalence with --calibration none and a focal"),
    ],
)
def test_a_wrong_value_is_said_in_plain_words(refused, flags, message):
    assert f": {message}" in refused(*flags)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epochs", True, "found True, expected a whole number above 0"),
        ("epochs", None, "found no value (null), expected a whole number above 0"),
        ("data_dir", 5, "found 5, expected text, or null"),
        ("label_columns", [1], "found 1, expected text"),
        ("milestones", {"first": 1}, "found dict, expected a whole number above 0"),
    ],
)
def test_a_wrong_value_in_a_block_is_said_in_plain_words(refused, key, value, message):
    assert f": {key}: {message}" in refused(defaults={**BLOCK, key: value})


def test_every_type_can_be_said_in_words():
    for name, kind in get_type_hints(Hyperparameters).items():
        kind = LISTS.get(name, kind)
        kind = get_args(kind)[0] if isinstance(kind, types.UnionType) else kind
        assert get_args(kind) or kind in EXPECTED, name


@pytest.mark.parametrize(("key", "value"), [("epohcs", 3), ("epochs", 0), ("rnn_cell", "gru")])
def test_wrong_value_in_the_recipe_is_refused_even_when_unused(refused, key, value):
    assert key in refused(published={**PUBLISHED, key: value})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"epochs: [3\n", "line 2"),
        (b"- epochs\n", "found list"),
        (b"epochs\n", "found str"),
        (b"", "found NoneType"),
        (b"published: 3\n", "published: found 3"),
        (b"published: [gamma]\n", "published: found ['gamma']"),
        (b"pretrained: 3\n", "pretrained: found 3"),
        (b"epochs: \xff\n", "utf-8"),
        (None, "found no such file, expected hyperparameters"),
        (b"epochs: 3\nseed: 1\nepochs: 4\n", "line 3: epochs: found a second time, expected each key once"),
        (b"published:\n  gamma: 3\n  gamma: 4\n", "line 3: gamma: found a second time"),
    ],
)
def test_unusable_yaml_is_one_line_that_names_the_file(tmp_path, content, message):
    path = tmp_path / "settings.yml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_key_of_a_file_is_named_with_file_section_and_the_nearest_known_one(refused):
    file = Path("settings.yml")
    line = refused(defaults={**BLOCK, "gama": 1}, file=file)
    assert ": settings.yml: gama: found no such hyperparameter, expected gamma (" in line
    line = refused(published={"gama": 1}, file=file)
    assert ": settings.yml: published: gama: found no such hyperparameter, expected gamma (" in line
    line = refused(pretrained={"gama": 1}, file=file)
    assert ": settings.yml: pretrained: gama: found no such hyperparameter, expected gamma (" in line
    line = refused(published={"epochs": 0}, file=file)
    assert ": settings.yml: published: epochs: found 0, expected a whole number above 0 (" in line
    assert ": epochs: found 0" in refused("--epochs", "0", file=file)  # which does not stand in the file
    assert ": settings.yml: epochs: found no value" in refused(defaults={"epochs": None}, file=file)


def test_a_missing_required_key_is_one_line_that_names_it(refused):
    options = {"required": ("model", "dropout"), "file": Path("settings.yml")}
    assert ": settings.yml: model: found none, expected rnn or encoder (" in refused(**options)
    assert read("--model", "rnn", **options).model == "rnn"
    assert ": settings.yml: dropout: found none, expected a number" in refused(
        "--model", "rnn", defaults={}, **options
    )


def test_what_the_main_script_requires_is_all_that_its_file_must_set():
    defaults = script_blocks("train_main_ecg")["defaults"]
    required = importlib.import_module("train_main_ecg").REQUIRED
    declared = {field.name for field in fields(Hyperparameters) if field.default is ABSENT}
    assert set(required) == declared & defaults.keys()


def test_yaml_is_split_into_defaults_and_sections(tmp_path):
    path = tmp_path / "settings.yml"
    path.write_text("epochs: 3\npublished:\n  gamma: 2.0\npretrained:\n  seed: 2\n", encoding="utf-8")
    assert read_yaml(path) == ({"epochs": 3}, {"seed": 2}, {"gamma": 2.0})
    path.write_text("epochs: 3\npublished:\n", encoding="utf-8")
    assert read_yaml(path) == ({"epochs": 3}, {}, {})


# What a run keeps


UNUSUAL = [
    *("--learning-rate", "1e-5", "--alpha", "0.7", "--milestones", "1", "12", "--patience", "3"),
    *("--keep", "best"),
    *("--label-columns", "PE", "no", "--data-dir", "ÄKG: 2024", "--dropout", "0"),
]


@pytest.mark.parametrize("arguments", [[], UNUSUAL])
@pytest.mark.parametrize("script", [*ONE_MODEL_SCRIPTS, "train_main_ecg"])
def test_what_is_written_is_read_back(tmp_path, monkeypatch, script, arguments):
    monkeypatch.chdir(tmp_path)
    Path("ÄKG: 2024").mkdir()
    blocks = script_blocks(script)
    values = read(*arguments, **blocks)
    (tmp_path / "hyperparameters.yml").write_text(to_yaml(values), encoding="utf-8")
    again = read("--resume", str(tmp_path), **blocks)
    for declaration in fields(Hyperparameters):
        expected = str(tmp_path) if declaration.name == "resume" else getattr(values, declaration.name)
        assert getattr(again, declaration.name) == expected, declaration.name
        assert type(getattr(again, declaration.name)) is type(expected), declaration.name


@pytest.mark.parametrize(
    ("schedule", "keep"), [("one_cycle", "last"), ("cosine", "last"), ("constant", "best"), ("step", "best")]
)
def test_the_last_epoch_is_kept_where_the_learning_rate_ends_near_0(tmp_path, schedule, keep):
    values = read("--schedule", schedule)
    assert values.keep == keep
    text = to_yaml(values)
    (tmp_path / "hyperparameters.yml").write_text(text, encoding="utf-8")
    assert read("--resume", str(tmp_path)).keep == keep
    first_version = text.replace(f"keep: {keep}\n", "")
    (tmp_path / "hyperparameters.yml").write_text(first_version, encoding="utf-8")
    assert read("--resume", str(tmp_path)).keep == "best"


def test_patience_needs_a_best_epoch(capsys):
    with pytest.raises(SystemExit):
        read("--patience", "3")
    assert "patience: found 3, expected --keep best" in capsys.readouterr().err
    assert read("--patience", "3", "--keep", "best").patience == 3


def test_resumed_values_win_over_a_changed_block(tmp_path):
    (tmp_path / "hyperparameters.yml").write_text(to_yaml(read()), encoding="utf-8")
    again = read("--resume", str(tmp_path), defaults={**BLOCK, "epochs": 100})
    assert again.epochs == 7


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--epochs", "3"], "--epochs"),
        (["--batch-size", "3", "--seed", "1"], "--batch-size, --seed"),
        (["--recipe", "published"], "--recipe"),
    ],
)
def test_resume_with_another_flag_names_it(refused, tmp_path, flags, named):
    (tmp_path / "hyperparameters.yml").write_text(to_yaml(read()), encoding="utf-8")
    assert f"remove {named}" in refused("--resume", str(tmp_path), *flags)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The folder of a run that was started in another folder than the present one."""
    run = tmp_path / "home" / "runs" / "one"
    run.mkdir(parents=True)
    values = read("--data-dir", "../ecgs", "--labels", "labels.csv")
    (run / "hyperparameters.yml").write_text(to_yaml(values), encoding="utf-8")
    (tmp_path / "ecgs").mkdir()
    (tmp_path / "home" / "labels.csv").touch()
    monkeypatch.chdir(tmp_path)
    return run


def test_resume_from_another_folder_says_so_and_takes_the_places_anew(refused, elsewhere, monkeypatch):
    line = refused("--resume", str(elsewhere))
    assert "--resume: data_dir: found no ../ecgs here, expected what the run was started with; go to" in line
    assert "or give --data-dir" in line
    assert "or give --labels" in refused("--resume", str(elsewhere), "--data-dir", "ecgs")
    flags = ("--data-dir", "ecgs", "--labels", "home/labels.csv")
    values = read("--resume", str(elsewhere), *flags)
    assert (values.data_dir, values.labels, values.epochs) == ("ecgs", "home/labels.csv", 7)
    monkeypatch.chdir(elsewhere.parent.parent)
    assert read("--resume", "runs/one").data_dir == "../ecgs"


def test_resume_of_what_is_no_run_says_what_it_is(refused, elsewhere, tmp_path):
    (elsewhere / "fold-1").mkdir()
    for place, message in {
        tmp_path / "none": f"{tmp_path / 'none'}: found no such folder, expected the folder of a run",
        tmp_path: f"{tmp_path}: found no hyperparameters.yml in it, expected the folder of a run",
        elsewhere / "fold-1": f"found a fold, expected its run: --resume {elsewhere} ",
        "": "--resume: found nothing, expected the folder of a run",
    }.items():
        assert message in refused("--resume", str(place))


def test_resume_names_the_script_whose_run_it_is(refused, tmp_path):
    blocks = script_blocks("train_atten")
    text = to_yaml(read(**blocks))
    (tmp_path / "hyperparameters.yml").write_text(text, encoding="utf-8")
    environment = json.dumps({"command": ["/somewhere/train_atten.py", "--epochs", "3"]})
    (tmp_path / "environment.json").write_text(environment, encoding="utf-8")
    blocks = script_blocks("train_baseline")
    line = refused("--resume", str(tmp_path), **blocks)
    assert f"--resume: {tmp_path}: found a run of train_atten.py, expected one of " in line


@pytest.mark.parametrize(
    ("other", "key"), [("train_spectrogram", "kernel_size"), ("train_main_ecg", "attention_heads")]
)
def test_resume_of_another_scripts_run_names_what_differs(refused, tmp_path, other, key):
    blocks = script_blocks(other)
    text = to_yaml(read(**blocks))
    (tmp_path / "hyperparameters.yml").write_text(text, encoding="utf-8")
    blocks = script_blocks("train_atten")
    assert key in refused("--resume", str(tmp_path), **blocks)


def test_resume_of_a_larger_models_run_is_refused(refused, tmp_path):
    blocks = script_blocks("train_atten")
    text = to_yaml(read(**blocks))
    (tmp_path / "hyperparameters.yml").write_text(text, encoding="utf-8")
    blocks = script_blocks("train_baseline")
    assert "kernel_size" in refused("--resume", str(tmp_path), **blocks)


# Groups are keyword arguments


@pytest.mark.parametrize(
    ("function", "groups", "given"),
    [
        (read_cohort, ["cohort"], ["quality"]),
        (place_signals, ["placement"], ["cohort", "device", "batch_size"]),
        (make_folds, ["split"], ["cohort", "seed"]),
        (
            test_set.score_test_set,
            ["decision"],
            ["model", "name", "arguments", "cohort", "fold", "validation", "test", "run"],
        ),
        (EvaluationBatches.__init__, ["batches"], ["self", "cohort", "indices", "signals"]),
        (FocalLoss, ["loss"], []),
        (adamw, ["optimizer"], ["model", "pretrained"]),
        (load_pretrained, ["transfer"], ["model"]),
        (learning_rate_schedule, ["schedule"], ["optimizer", "epochs", "steps_per_epoch"]),
        (TrainingStep, ["step"], ["model", "loss", "optimizer", "schedule", "pretrained"]),
        (length_of_training, ["length"], ["steps_per_epoch"]),
        (fit, ["training"], ["step", "training", "validation", "run", "epochs", "metrics"]),
    ],
)
def test_group_is_what_its_function_takes(function, groups, given):
    keywords = {name: value for group in groups for name, value in read().group(group).items()}
    assert set(inspect.signature(function).parameters) == {*keywords, *given}


def test_batches_group_fits_the_training_batches_too():
    assert issubclass(TrainingBatches, EvaluationBatches.__mro__[1])
    own = set(inspect.signature(TrainingBatches.__init__).parameters)
    assert own == {"self", "cohort", "indices", "augmentation", "seed", "shared"}


def test_augmentation_group_names_every_augmentation():
    group = read().group("augmentation")
    assert set(group) == {"augmentation", *AUGMENTATIONS}
    assert Augmentation(**group).probabilities == {name: group[name] for name in AUGMENTATIONS}


@pytest.mark.parametrize("script", ONE_MODEL_SCRIPTS)
def test_layers_of_a_script_are_the_arguments_of_its_model(script):
    blocks = script_blocks(script)
    arguments = read(**blocks).group("layers")
    model = MODELS[importlib.import_module(script).MODEL]
    assert set(inspect.signature(model).parameters) == {"n_labels", "n_clinical", *arguments}


@pytest.mark.parametrize("model", ["rnn", "encoder"])
def test_layers_of_the_main_script_are_the_arguments_of_each_model(model):
    blocks = script_blocks("train_main_ecg")
    values = read("--model", model, **blocks)
    arguments = {**values.group("layers"), **values.group(values.model)}
    constructor = MODELS[importlib.import_module("train_main_ecg").MODEL[model]]
    assert set(inspect.signature(constructor).parameters) == {"n_labels", "n_clinical", *arguments}


def test_a_script_has_no_layers_of_other_models():
    assert read().group("layers") == {"dropout": 0.25, "drop_path": 0.0}  # every model has residual blocks
    assert read().group("rnn") == read().group("encoder") == read().group("model") == {}
    assert set(read().present()) == {field.name for field in fields(Hyperparameters)} - {
        *(
            "model",
            "kernel_size",
            "sampling_rate",
            "attention_heads",
            "rnn_cell",
            "rnn_layers",
            "rnn_hidden_size",
        ),
        *("rnn_bidirectional", "encoder_layers", "encoder_heads", "encoder_width"),
        *("projection_size", "temperature", "objective", "architecture", "measured_weight", "leave_out"),
    }


def test_what_a_script_has_no_use_for_is_no_flag_in_no_group_and_not_kept(tmp_path, capsys):
    without = ("monitor", "threshold_policy", "init_from", "test_fraction")
    groups = {declaration.metadata["group"] for declaration in fields(Hyperparameters)}
    values = read_hyperparameters("", BLOCK, {}, {}, ["--seed", "3"], without=without)
    assert not {name for name in without for group in groups if name in values.group(group)}
    assert not set(without) & values.present().keys()
    assert "validation_fraction" in values.group("split")
    (tmp_path / "hyperparameters.yml").write_text(to_yaml(values), encoding="utf-8")
    assert not set(without) & set(read_yaml(tmp_path / "hyperparameters.yml")[0])
    resumed = read_hyperparameters("", BLOCK, {}, {}, ["--resume", str(tmp_path)], without=without)
    assert to_yaml(resumed) == to_yaml(values).replace("resume: null", f"resume: {tmp_path}")
    with pytest.raises(SystemExit):
        read_hyperparameters("", BLOCK, {}, {}, ["--test-fraction", "0.2"], without=without)
    assert "--test-fraction" in capsys.readouterr().err


def test_every_declaration_has_a_line_of_help_and_a_default_in_range():
    values = read()
    for declaration in fields(Hyperparameters):
        assert declaration.metadata["help"] and "\n" not in declaration.metadata["help"]
        if getattr(values, declaration.name) not in (None, ABSENT):
            read(defaults={**BLOCK, declaration.name: getattr(values, declaration.name)})
