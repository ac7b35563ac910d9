"""Search hyperparameters of a training script, by validation only.

    python search.py train_atten.py --trials 30 -- --data-dir ecgs --labels labels.csv
    python search.py train_baseline.py --trials 30 --metric average_precision -- --data-dir ecgs --epochs 15

Optuna (Akiba et al. 2019, arXiv:1907.10902) draws from the space below, which is to be edited; a
hyperparameter that is given after -- keeps that value. The first trial is the script's own recipe. The
patients whom the script would test, by its seed or the table's split column, are taken out before anything
else: no trial sees them. Each trial is a cross-validation of the others, and its value is the pooled score of
the ECGs that each fold held out.

The same command goes on after an interruption, and a larger --trials adds some. In --output-dir are
development.csv, the table without those patients, trials.csv, search.db, and one folder per trial. At the end
stands the command that trains with the best values and tests, once, the patients who were kept apart. The
best of many values is a little too good: believe that test, not the search.

Needs one more package: pip install optuna
"""

import runtime.early_end  # noqa: F401  Ctrl-C ends the imports, which take seconds, in one line

import argparse
import json
import runpy
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cohorts.synthetic import DEMO_FOLDER
from dataset.cohort import read_cohort
from dataset.sign_columns import given_columns
from dataset.splits import make_folds
from hyperparameters.declaration import Hyperparameters
from hyperparameters.reading import read_hyperparameters, read_yaml
from run_folder.files import RunFiles
from runtime.atomic_files import csv_text, write_text_atomically
from runtime.command_line import OneLineParser, add_device, one_line_errors, whole_number
from runtime.device import choose_device
from runtime.errors import UserError
from runtime.folder_lock import hold
from training.script_runs import ROOT, SCRIPTS, train

if TYPE_CHECKING:
    import optuna

# What is searched, of what the script has: (lowest, highest), the same on a logarithmic scale, or a list.
SPACE: dict[str, tuple | list] = {
    "learning_rate": (1e-4, 3e-3, "log"),
    "weight_decay": (1e-3, 0.3, "log"),
    "batch_size": [16, 32, 64],
    "dropout": (0.0, 0.5),
    "gamma": [0.0, 1.0, 2.0],
    "weight_average": [0.0, 0.98, 0.99],
    "gaussian_noise": (0.0, 0.5),
    "baseline_wander": (0.0, 0.5),
}
OURS = {"resume", "folds", "repeats", "output_dir", "device"}  # flags that the search itself sets
FIRST = "trial-000"  # the folder of the script's own recipe
TAKEN = ("age", "sex")  # of the table, beside patients, labels and clinical columns


def main() -> None:
    options = options_of(sys.argv[1:])
    check_optuna()
    choose_device(options.device)  # here, or each trial would fail
    options.output_dir.mkdir(parents=True, exist_ok=True)
    hold(options.output_dir, "searching in this folder")
    table, data_dir = development_table(options)
    study = open_study(options)
    flags = [*options.further, "--data-dir", data_dir, "--labels", str(table), "--folds", str(options.folds)]
    space = {name: values for name, values in SPACE.items() if name in searched(options)}
    print(f"space       {'; '.join(f'{name} {_in_words(values)}' for name, values in space.items())}")
    queue(study, options, space)
    while (trial := next_trial(study, options, space)) is not None:
        run_trial(study, trial, options, flags)
    report(study, options)


# ----------------------------------------------------------------------------------------------------
# Flags
# ----------------------------------------------------------------------------------------------------


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the flags; under `further` those after --, under `values` the hyperparameters that result."""
    parser = OneLineParser(description=__doc__)
    parser.add_argument("script", choices=SCRIPTS, metavar="SCRIPT", help=", ".join(SCRIPTS))
    parser.add_argument("--trials", type=whole_number, default=30, help="in all, with those before [30]")
    parser.add_argument("--folds", type=whole_number, default=3, help="of each trial's cross-validation [3]")
    parser.add_argument("--metric", choices=["auroc", "average_precision"], default="auroc")
    add_device(parser)
    parser.add_argument("--output-dir", type=Path, default=Path("runs/search"))
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:end])
    options.further = list(arguments[end + 1 :])
    options.given = {
        word.partition("=")[0].removeprefix("--").replace("-", "_")
        for word in options.further
        if word.startswith("--")
    }
    if options.folds < 2:
        parser.error(f"--folds: found {options.folds}, expected 2 or more")
    if wrong := sorted(options.given & OURS):
        parser.error(
            f"found --{wrong[0].replace('_', '-')} after --, expected none of those that search.py sets"
        )
    options.values = hyperparameters_of(options.script, options.further, __doc__)
    return options


def hyperparameters_of(script: str, flags: Sequence[str], description: str) -> Hyperparameters:
    """Return what a training script makes of its flags; exits with one line where one is wrong.

    ``description`` is the help text of the program that needs them.
    """
    # A script runs others by their path, and reads their blocks in the same way; no script imports another.
    block = runpy.run_path(str(ROOT / script))
    if "HYPERPARAMETERS" in block:
        sections = [block[name] for name in ("HYPERPARAMETERS", "PRETRAINED", "PUBLISHED")]
        return read_hyperparameters(description, *sections, flags)
    return read_hyperparameters(description, *read_yaml(block["HYPERPARAMETERS_FILE"]), flags)


def searched(options: argparse.Namespace) -> list[str]:
    """Return the hyperparameters of the space that the script has, and that are not given."""
    missing = [name for name in SPACE if not hasattr(options.values, name)]
    if missing:
        raise UserError(f"SPACE: found {', '.join(missing)}, expected declared names")
    return [name for name in SPACE if name in options.values.present() and name not in options.given]


def check_optuna() -> None:
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UserError(f"optuna: cannot be imported ({error}); pip install optuna") from None


def _in_words(values: tuple | list) -> str:
    if isinstance(values, list):
        return "/".join(f"{value:g}" for value in values)
    return f"{values[0]:g} to {values[1]:g}{' (log)' if 'log' in values else ''}"


# ----------------------------------------------------------------------------------------------------
# The patients whom trials may see
# ----------------------------------------------------------------------------------------------------


def development_table(options: argparse.Namespace) -> tuple[Path, str]:
    """Write the labels table without the test patients; return it, and the folder of the ECG files.

    Raises
    ------
    UserError : anything that is wrong with table, folder or split, or another table is there already.
    """
    values: Hyperparameters = options.values
    cohort = read_cohort(quality=values.group("quality"), **values.group("cohort"))
    (fold,) = make_folds(cohort, seed=values.seed, **values.group("split"))
    ours = np.sort(np.concatenate([fold.parts["train"], fold.parts["validation"]]))
    columns = ["file", "patient_id", *(name for name in TAKEN if name in cohort.table)]
    columns += [
        name for name in (*cohort.label_names, *given_columns(cohort.clinical)) if name not in columns
    ]
    table = cohort.table.iloc[ours][columns]
    path = options.output_dir / "development.csv"
    text = csv_text(table)
    if not path.exists():
        write_text_atomically(path, text)
    elif path.read_bytes().decode("utf-8") != text:
        raise UserError(f"{path}: found other ECGs or labels than now; name another --output-dir")
    n_test = len(fold.parts["test"])
    print(
        f"cohort      {len(table):,} ECGs of {table['patient_id'].nunique():,} patients for the search; "
        f"{n_test:,} ECGs are kept for the test, and not looked at"
    )
    return path, values.data_dir or DEMO_FOLDER


# ----------------------------------------------------------------------------------------------------
# Trials
# ----------------------------------------------------------------------------------------------------


def open_study(options: argparse.Namespace) -> "optuna.Study":
    """Return the study of the folder, new or to go on with; a UserError where it is another search's."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    n_before = len(list(options.output_dir.glob("trial-*")))  # so that a search that goes on draws others
    study = optuna.create_study(
        study_name="search",
        storage=f"sqlite:///{(options.output_dir / 'search.db').resolve()}",
        sampler=optuna.samplers.TPESampler(seed=options.values.seed + n_before),
        direction="maximize",
        load_if_exists=True,
    )
    words = [
        options.script,
        "--folds",
        str(options.folds),
        "--metric",
        options.metric,
        "--",
        *options.further,
    ]
    now = {"command": shlex.join(words), "space": json.dumps(SPACE)}
    before = study.user_attrs or now
    for name, value in now.items():
        if before.get(name) != value:
            raise UserError(
                f"{options.output_dir}: found a search with {before.get(name)!r}, expected {value!r}; name "
                "another --output-dir"
            )
        study.set_user_attr(name, value)
    return study


def queue(study: "optuna.Study", options: argparse.Namespace, space: dict[str, Any]) -> None:
    """Begin with the script's own recipe; try the values of interrupted trials again."""
    from optuna.trial import TrialState

    if not study.trials:
        study.enqueue_trial({name: getattr(options.values, name) for name in space})
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.enqueue_trial(trial.params, user_attrs={"folder": trial.user_attrs.get("folder")})
        study.tell(trial.number, state=TrialState.FAIL)


def next_trial(
    study: "optuna.Study", options: argparse.Namespace, space: dict[str, Any]
) -> "optuna.Trial | None":
    """Return a trial with its values drawn, or None where there are enough."""
    from optuna.trial import TrialState

    done = study.get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED])
    if len(done) >= options.trials:
        return None
    trial = study.ask()
    for name, values in space.items():
        if isinstance(values, list):
            trial.suggest_categorical(name, values)
        else:
            trial.suggest_float(name, *values[:2], log="log" in values)
    if not trial.user_attrs.get("folder"):
        trial.set_user_attr("folder", f"trial-{trial.number:03}")
    return trial


def run_trial(
    study: "optuna.Study", trial: "optuna.Trial", options: argparse.Namespace, flags: Sequence[str]
) -> None:
    """Train with the trial's values, give the study the score of the held-out ECGs, and print a line.

    A training that fails, such as one whose loss is not finite, is a trial without a value.
    """
    from optuna.trial import TrialState

    folder = trial.user_attrs["folder"]
    try:
        done = train(
            options.script, [*flags, *_as_flags(trial.params)], options.output_dir / folder, options.device
        )
    except UserError as error:
        study.tell(trial, state=TrialState.PRUNED)
        print(f"{folder}   failed: {error}", flush=True)
        return
    labels = RunFiles(done.run).metrics()["labels"]
    values = [label[options.metric].value for label in labels.values()]
    if np.isnan(values).any():
        study.tell(trial, state=TrialState.PRUNED)
        print(f"{folder}   failed: {options.metric} is undefined", flush=True)
        return
    study.tell(trial, float(np.mean(values)))
    print(
        f"{folder}   {options.metric} {np.mean(values):.3f}   {done.seconds:,.0f} s   {_shown(trial.params)}",
        flush=True,
    )


def _as_flags(params: dict[str, Any]) -> list[str]:
    return [
        word for name, value in params.items() for word in (f"--{name.replace('_', '-')}", f"{value:.6g}")
    ]


def _shown(params: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in params.items())


def report(study: "optuna.Study", options: argparse.Namespace) -> None:
    """Print the best trials beside the first, write trials.csv, and print the command to train with."""
    from optuna.trial import TrialState

    rows = [
        {"trial": trial.user_attrs["folder"], options.metric: trial.value, **trial.params}
        for trial in study.get_trials(states=[TrialState.COMPLETE])
    ]
    if not rows:
        raise UserError(
            f"{options.output_dir}: found no trial that finished, expected one; see their output.txt"
        )
    table = pd.DataFrame(rows)
    path = options.output_dir / "trials.csv"
    write_text_atomically(path, csv_text(table))
    best = table.sort_values(options.metric, ascending=False, kind="stable")
    recipe = table[table["trial"] == FIRST]
    shown = pd.concat([best.head(5), recipe]).drop_duplicates("trial")
    print(f"\n{shown.to_string(index=False, float_format='%.4g')}")
    own = f"has {recipe[options.metric].iloc[0]:.3f}" if len(recipe) else "failed"
    print(
        f"\nbest        {options.metric} {best[options.metric].iloc[0]:.3f} by cross-validation of the "
        f"development patients, of {len(table)} trials; the script's own recipe {own}"
    )
    chosen = [name for name in table if name in SPACE]
    words = _as_flags({name: best[name].iloc[0] for name in chosen})
    words += ["--searched-in", str(options.output_dir)]
    print(f"written     {path}")
    print(f"now train   python {options.script} {shlex.join([*options.further, *words])}")


if __name__ == "__main__":
    with one_line_errors():
        try:
            main()
        except KeyboardInterrupt:
            raise UserError("interrupted; what is done is kept, and the same command goes on") from None
