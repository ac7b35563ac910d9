"""Make a folder of weights that ships with the program, from a run of pretrain.py on PTB-XL.

    python -m reporting.ship_trunk runs/pretrain-20261127-081500 pretrained/ptbxl
    python -m reporting.ship_trunk runs/pretrain-20261127-081500 pretrained/ptbxl --data-dir ptbxl
    python -m reporting.ship_trunk runs/pretrain-… pretrained/ptbxl --with runs/pretrain-… runs/pretrain-…

It holds the weights in half precision, what --init-from NAME needs to know (model.json), a
model card (README.md, test_scores.csv), and what recognises the ECGs that the run has seen, in any of its
parts, and their patients. The ECGs must be those of the run, in a table of cohorts.ptbxl: they are read again
if the cache does not hold them. PTB-XL's patient numbers are public, so their pseudonyms and the key are too.
"""

import argparse
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cohorts.ptbxl import SOURCE, leave_public_key
from dataset.labels_table import read_files
from dataset.pseudonyms import key_fingerprint, pseudonymise
from dataset.signal_store.signal_cache import CachedSignals, StoredSignals, cached_signals, fingerprints_of
from reporting.pages.trunk_card import command_without_paths, render_trunk_card
from run_folder.descriptions import PretrainedDescription
from run_folder.files import KEY_FINGERPRINT, RunFiles
from run_folder.run import Run
from run_folder.shipped import PUBLIC_KEY_FILE, SeenEcgs, companions_head, write_seen
from runtime.command_line import OneLineParser, one_line_errors, whole_number_from_0
from runtime.errors import UserError, reason

HALF = torch.float16


def main() -> None:
    arguments = parse_arguments()
    run, folder = Run(arguments.run), arguments.output
    description = run.load_any_description()
    if not isinstance(description, PretrainedDescription):
        raise UserError(f"{run.folder}: found a run that scores, expected one of pretrain.py")
    weights = weights_to_ship(run)
    others = [Run(other) for other in arguments.companions]
    beside = {}
    for other in others:
        companion, more = companion_of(run, weights, other)
        weights |= more
        beside[companion.model] = companion.arguments
    cached = read_again(run, description, arguments)
    make_folder(folder, arguments.overwrite)
    shipped = Run(folder)
    leave_public_key(folder / PUBLIC_KEY_FILE)
    seen = what_it_has_seen(run, cached, arguments, folder / PUBLIC_KEY_FILE)
    write_seen(folder, seen)
    shipped.save_weights(weights)
    shipped.save_description(replace(description, companions=beside, source=SOURCE))
    shipped.write_text("environment.json", environment_to_ship(run, folder / PUBLIC_KEY_FILE))
    if run.has("test_scores.csv"):
        shutil.copyfile(run.folder / "test_scores.csv", folder / "test_scores.csv")
    rates = cached.measurements["file_rate"][cached.entries["row"]]
    shipped.write_text("README.md", render_trunk_card(folder, run, np.unique(rates).tolist(), others))
    n_bytes = (folder / "model.safetensors").stat().st_size
    print(f"weights     {len(weights)} tensors, {n_bytes / 1e6:.1f} MB")
    print(f"seen        {len(seen.fingerprints):,} ECGs of {len(set(seen.patient_ids)):,} patients")
    print(f"trunk       {folder}: start from it by --init-from {folder.name}")


def parse_arguments() -> argparse.Namespace:
    parser = OneLineParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run of pretrain.py")
    parser.add_argument("output", type=Path, help="folder to make, such as pretrained/ptbxl")
    parser.add_argument(
        "--with",
        dest="companions",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="runs of other models with its trunk, frozen: their layers between trunk and head ship too",
    )
    parser.add_argument("--data-dir", type=Path, help="folder of the run's ECGs [as the run has it]")
    parser.add_argument("--labels", type=Path, help="its table [labels.csv in that folder]")
    parser.add_argument("--cache-dir", type=Path, default=Path("cache"), help="of the signals [cache]")
    parser.add_argument(
        "--workers", type=whole_number_from_0, default=0, help="processes that read files; 0: one per core"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the folder's files")
    return parser.parse_args()


def make_folder(folder: Path, overwrite: bool) -> None:
    if folder.exists() and not overwrite:
        raise UserError(
            f"{folder}: found something already, expected nothing; --overwrite replaces its files"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({reason(error)})") from None


def weights_to_ship(run: Run) -> dict[str, torch.Tensor]:
    """Return the weights: arrays in half precision, vectors as they are.

    The variances of a batch norm, which are vectors, may be below what half precision can hold.
    """
    weights = {
        name: tensor.to(HALF) if tensor.is_floating_point() and tensor.ndim > 1 else tensor
        for name, tensor in run.read_weights().items()
    }
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{run.folder}: found {name} beyond half precision, expected finite numbers")
    return weights


def companion_of(
    run: Run, weights: Mapping[str, torch.Tensor], other: Run
) -> tuple[PretrainedDescription, dict[str, torch.Tensor]]:
    """Return what another run is, and what it adds to the weights of the run whose trunk it kept.

    Raises
    ------
    UserError : it is no pretraining of another model, has learnt from other ECGs, or has another trunk.
    """
    description = other.load_any_description()
    more = weights_to_ship(other)
    expected = (
        f"{other.folder}: found {{}}, expected a pretraining of another model with the trunk of {run.folder}"
    )
    if not isinstance(description, PretrainedDescription):
        raise UserError(expected.format("a run that scores"))
    if set(other.splits()["digest"]) - set(run.splits()["digest"]):
        raise UserError(expected.format("ECGs that are not of it"))
    own = run.load_any_description()
    if (description.label_names, description.value_names) != (own.label_names, own.value_names):
        raise UserError(expected.format("one that was asked for other labels or values"))
    added = {name: tensor for name, tensor in more.items() if name not in weights}
    trunk = [name for name in more if name.startswith("trunk.")]
    if not added or not trunk or any(not torch.equal(more[name], weights[name]) for name in trunk):
        raise UserError(expected.format("another trunk, or the same model"))
    return description, added | {companions_head(description.model): more["head.weight"]}


def read_again(run: Run, description: PretrainedDescription, arguments: argparse.Namespace) -> CachedSignals:
    """Return the signals of the run's ECGs.

    Raises
    ------
    UserError : a file is not there, or not as it was.
    """
    splits, folder = run.splits(), data_dir_of(run, arguments)
    cached = cached_signals(
        folder,
        list(splits["file"]),
        cache_dir=arguments.cache_dir,
        workers=arguments.workers,
        window_start=description.window_start,
    )
    changed = splits.loc[cached.entries["digest"] != splits["digest"], "file"]
    if len(changed):
        raise UserError(
            f"{folder}: found {len(changed):,} of the {len(splits):,} files absent or changed, such as "
            f"{changed.iloc[0]}; expected the ECGs of {run.folder} (--data-dir)"
        )
    return cached


def data_dir_of(run: RunFiles, arguments: argparse.Namespace) -> Path:
    folder = Path(arguments.data_dir or run.hyperparameters().get("data_dir") or "")
    if not folder.is_dir():
        raise UserError(f"{folder}: found no such folder, expected that of the run's ECGs (--data-dir)")
    return folder


def what_it_has_seen(
    run: Run, cached: CachedSignals, arguments: argparse.Namespace, key_file: Path
) -> SeenEcgs:
    """Return fingerprints and pseudonyms of all ECGs of a run, under the public key."""
    path = arguments.labels or data_dir_of(run, arguments) / "labels.csv"
    table = read_files(path)
    patients = pd.Series(table["patient_id"].to_numpy(), index=table["file"])
    files = cached.entries["file"]
    if absent := sorted(set(files) - set(patients.index)):
        raise UserError(f"{path}: found no row of {absent[0]}, expected the table of {run.folder} (--labels)")
    signals = StoredSignals.from_entries(cached.signals, cached.entries)
    return SeenEcgs(
        fingerprints_of(signals, np.arange(len(signals))),
        pseudonymise(patients[files], key_file).tolist(),
    )


def environment_to_ship(run: RunFiles, key_file: Path) -> str:
    """Return what the run's environment.json says, without paths, and with the public key's fingerprint."""
    environment = run.json("environment.json")
    environment["command"] = command_without_paths(environment["command"])
    environment[KEY_FINGERPRINT] = key_fingerprint(key_file)
    return json.dumps(environment, indent=2) + "\n"


if __name__ == "__main__":
    with one_line_errors():
        main()
