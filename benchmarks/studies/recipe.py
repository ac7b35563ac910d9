"""Does a change of the recipe pay? Cross-validations of the training scripts, several at once.

    python -m benchmarks.studies.recipe ptbxl --label-columns MI RBBB --output-dir recipe --at-once 12

Trains each of the settings below with ``--folds 5`` on every label and prints a table: the AUROC of the
pooled out-of-fold scores with its interval, and mean and standard deviation over the folds. What is finished
in the output folder is not trained again. ``--list`` prints the settings, ``--only`` takes those whose name
has a word; flags after ``--`` are the scripts'.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from run_folder.files import RunFiles
from runtime.command_line import OneLineParser, one_line_errors, whole_number
from runtime.errors import UserError
from training.script_runs import train

MODELS = {
    "attention": ("train_atten.py", []),
    "baseline": ("train_baseline.py", []),
    "spectrogram": ("train_spectrogram.py", []),
    "rnn": ("train_main_ecg.py", ["--model", "rnn"]),
    "encoder": ("train_main_ecg.py", ["--model", "encoder"]),
}
WITH_TRUNK = ("attention", "rnn", "encoder")
EPOCHS = (10, 15, 20, 30)
OF_ONE_MODEL = {  # of the attention model, with the epochs of the first column
    "weight decay 0.2": ["--weight-decay", "0.2"],
    "weight average 0.99": ["--weight-average", "0.99"],
    "no augmentation": ["--augmentation", "none"],
    "learning rate 2e-3": ["--learning-rate", "2e-3"],
    "drop path 0.1": ["--drop-path", "0.1"],
    "best epoch by AUROC": ["--keep", "best", "--monitor", "auroc"],
}
TUNED = {  # of models that start from pretrained weights: for how long, and how fast, these learn
    "as the script does": [],
    "2 epochs": ["--epochs", "2"],
    "10 epochs": ["--epochs", "10"],
    "rate 0.1": ["--pretrained-rate", "0.1"],
    "rate 0.3": ["--pretrained-rate", "0.3"],
    "frozen": ["--epochs", "1", "--freeze-epochs", "1"],
}


class Setting(NamedTuple):
    """One cross-validation of one label."""

    name: str
    label: str
    script: str
    flags: list[str]


def settings(labels: list[str], init_from: str | None) -> Iterator[Setting]:
    """Yield what is trained, the most wanted first."""
    if init_from:
        for model in WITH_TRUNK:
            script, own = MODELS[model]
            for name, flags in TUNED.items():
                words = [*own, "--init-from", init_from, *flags]
                yield from (Setting(f"{model}, tuned, {name}", label, script, words) for label in labels)
        return
    for epochs in EPOCHS:
        for model, (script, own) in MODELS.items():
            words = [*own, "--epochs", str(epochs)]
            yield from (Setting(f"{model}, {epochs} epochs", label, script, words) for label in labels)
    script, own = MODELS["attention"]
    for name, flags in OF_ONE_MODEL.items():
        words = [*own, "--epochs", str(EPOCHS[0]), *flags]
        yield from (Setting(f"attention, {name}", label, script, words) for label in labels)


def train_one(
    setting: Setting, options: argparse.Namespace, shared: list[str]
) -> tuple[Setting, Path | None]:
    """Return the run of a setting; None where no time was left to start it."""
    if time.monotonic() - options.started > options.minutes * 60:
        return setting, None
    folder = options.output_dir / f"{setting.name.replace(', ', '-').replace(' ', '_')}-{setting.label}"
    flags = [*shared, "--label-columns", setting.label, "--folds", "5", *setting.flags]
    return setting, train(setting.script, flags, folder).run


def row_of(setting: Setting, run: Path) -> str:
    """Return the line of a finished run."""
    metrics = RunFiles(run).metrics()
    auroc = metrics["labels"][setting.label]["auroc"]
    folds = np.array([fold[setting.label] for fold in metrics["auroc_of_folds"]])
    spread = f"{folds.mean():.3f} ± {folds.std(ddof=1):.3f}"
    interval = f"{auroc.value:.3f} ({auroc.low:.3f}-{auroc.high:.3f})"
    return f"{setting.name:<44}{setting.label:<8}{interval:<24}{spread}"


def main() -> None:
    parser = OneLineParser(description=__doc__)
    parser.add_argument("data_dir", type=Path, help="folder of the ECGs, with labels.csv")
    parser.add_argument("--label-columns", nargs="+", default=["MI", "RBBB"])
    parser.add_argument("--output-dir", type=Path, default=Path("recipe"))
    parser.add_argument("--at-once", type=whole_number, default=1, help="trainings side by side")
    parser.add_argument("--minutes", type=float, default=1e6, help="after which no training is started")
    parser.add_argument("--init-from", help="trunk or run: how to tune it is tried in place of the recipe")
    parser.add_argument("--only", default="", help="settings whose name has this in it")
    parser.add_argument("--list", action="store_true", help="print the settings and end")
    words, more = sys.argv[1:], []
    if "--" in words:
        words, more = words[: words.index("--")], words[words.index("--") + 1 :]
    options = parser.parse_args(words)
    options.started = time.monotonic()
    chosen = [
        setting
        for setting in settings(options.label_columns, options.init_from)
        if options.only in setting.name
    ]
    if not chosen:
        raise UserError(f"--only: found {options.only!r}, expected a part of a name that --list prints")
    if options.list:
        print("\n".join(f"{one.name}, {one.label}" for one in chosen))
        return
    shared = ["--data-dir", str(options.data_dir), *more]
    print(f"{'':<44}{'label':<8}{'pooled AUROC':<24}of the folds, mean and SD")
    with ThreadPoolExecutor(options.at_once) as pool:
        for setting, run in pool.map(lambda one: train_one(one, options, shared), chosen):
            print(
                row_of(setting, run) if run else f"{setting.name:<44}{setting.label:<8}no time left",
                flush=True,
            )


if __name__ == "__main__":
    with one_line_errors():
        main()
