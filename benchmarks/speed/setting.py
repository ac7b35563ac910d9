"""What the benchmarks of speed run on: the device, and the ECGs of a folder, or synthetic ones."""

import argparse
import os
import platform
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.speed.timing import Conditions
from cohorts.synthetic import make_cohort
from dataset.cohort import Cohort, read_cohort
from dataset.labels_table import read_labels
from run_folder.environment import device_name, gpu_versions
from runtime.command_line import prepare

NO_CHECKS = {"quality_checks": False}  # every readable ECG counts


def add_flags_of_ecgs(parser: argparse.ArgumentParser, synthetic: int) -> None:
    """Add the flags that `read_ecgs` takes; ``synthetic`` is how many it makes where none are named."""
    parser.add_argument(
        "folder", nargs="?", type=Path, help="of ECG files; synthetic ones are made if absent"
    )
    parser.add_argument("--labels", type=Path, help="labels table; none: labels.csv in the folder")
    parser.add_argument("--label-columns", nargs="+", help="0/1 columns; the first is learnt; none: PE")
    parser.add_argument("--ecgs", type=int, help=f"how many; none: all, or {synthetic:,} synthetic ones")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def read_ecgs(options: argparse.Namespace, scratch: Path, synthetic: int) -> tuple[Cohort, Path, Path]:
    """Return the ECGs, their folder and a table of them, which the training scripts read.

    Parameters
    ----------
    options : with the flags of `add_flags_of_ecgs`.
    scratch : a folder for their cache, and for synthetic ECGs.
    synthetic : how many are made where neither a folder nor a number is given.
    """
    folder, labels = options.folder, options.labels
    if folder is None:
        folder = scratch / "synthetic"
        n_ecgs = options.ecgs or synthetic
        make_cohort(folder, n_ecgs=n_ecgs, n_patients=n_ecgs, prevalence=0.3)
    table, label_names = read_labels(labels or folder / "labels.csv", options.label_columns)
    chosen = np.linspace(0, len(table) - 1, min(options.ecgs or len(table), len(table))).round().astype(int)
    path = scratch / "labels.csv"
    # An unknown label becomes 0, as the speed does not depend on it.
    table.iloc[chosen][["file", "patient_id", label_names[0]]].fillna(0).to_csv(path, index=False)
    cohort = read_cohort(
        data_dir=str(folder),
        labels=str(path),
        label_columns=label_names[:1],
        cache_dir=str(scratch / "own_cache"),
        workers=0,
        window_start=0.0,
        patient_key=None,
        quality=NO_CHECKS,
    )
    return cohort, folder, path


def device_of(flag: str) -> torch.device:
    """Set PyTorch up as the training scripts do, and return the device that ``--device`` names."""
    device = torch.device("cpu") if flag == "cpu" else prepare(0)
    if flag == "cuda" and device.type != "cuda":
        raise OSError("--device cuda: found no GPU that PyTorch can use")
    return device


def machine(given: Conditions) -> dict[str, str]:
    """Return the machine and software that the numbers depend on, each with its name."""
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    versions = "".join(f", {name} {version}" for name, version in gpu_versions(given.device).items())
    return {
        "date": f"{datetime.now():%Y-%m-%d %H:%M}",
        "processor": f"{_processor()}, {os.cpu_count()} cores, of which PyTorch uses {given.threads}{load}",
        "device": device_name(given.device) + versions,
        "software": f"PyTorch {torch.__version__}, NumPy {np.__version__}, pandas {pd.__version__}, "
        f"Python {platform.python_version()}, {platform.platform()}",
    }


def files_of(given: Conditions) -> str:
    """Return how many files there are, and of which size."""
    kilobytes = sum(path.stat().st_size for path in given.paths) / len(given.paths) / 1e3
    return f"{len(given.paths):,} files of {kilobytes:.0f} kB"


def header(lines: dict[str, str]) -> str:
    """Return the lines above the table."""
    return "\n".join(f"{name:<11}{text}" for name, text in lines.items())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
