"""Where and with what a run was trained: ``environment.json``."""

import os
import platform
import re
import subprocess
import sys
import time
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from run_folder.files import KEY_FINGERPRINT
from run_folder.foreign_weights import FOREIGN_WEIGHTS, is_foreign, record_of
from runtime.messages import counted

STARTED = time.monotonic()  # of the process, but for what Python loads before this module
RECORDED_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "safetensors", "jsonargparse")


def environment_of(device: torch.device, patient_key: str, init_from: str | None = None) -> dict[str, Any]:
    """Return versions, device, command, git commit, and the fingerprint of the key of the pseudonyms.

    Where the run starts from a file of weights (``init_from``), its name and SHA-256 too.
    """
    foreign = {FOREIGN_WEIGHTS: record_of(init_from)} if is_foreign(init_from) else {}
    return {
        "command": sys.argv,
        "started": datetime.now().isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: version(name) for name in RECORDED_PACKAGES} | {"torch": torch.__version__},
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "device": device_name(device),
        "gpu": gpu_versions(device),
        "threads": torch.get_num_threads(),
        "git_commit": _git_commit(),
        KEY_FINGERPRINT: patient_key,
        **foreign,
    }


def device_name(device: torch.device) -> str:
    """Return the device's name for a reader."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"the CPU ({counted(torch.get_num_threads(), 'thread')})"


def processor_name() -> str:
    """Return the CPU's name, as far as the system tells it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor()


def compute_used(training_seconds: float, *, n_processes: int, resumed: bool) -> dict[str, Any]:
    """Return what a run has cost, for ``environment.json``; called at its end.

    Parameters
    ----------
    training_seconds : of all epochs of all folds, validation included, also before an interruption.
    n_processes : that trained together.
    resumed : whether this process went on with a run that another had begun.

    Returns
    -------
    dict
        These, ``run_seconds``, the wall time of this process, and ``cpu_seconds``, those of all its threads
        and of the processes that have read files for it.
    """
    times = os.times()
    return {
        "training_seconds": round(training_seconds, 1),
        "run_seconds": round(time.monotonic() - STARTED, 1),
        "cpu_seconds": round(times.user + times.system + times.children_user + times.children_system, 1),
        "processes": n_processes,
        "resumed": resumed,
    }


def gpu_versions(device: torch.device) -> dict[str, str]:
    """Return the versions of CUDA, cuDNN and the driver; none where the device is no GPU."""
    if device.type != "cuda":
        return {}
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = "not known"
    return {"CUDA": torch.version.cuda, "cuDNN": str(torch.backends.cudnn.version()), "driver": driver}


def _git_commit() -> str | None:
    """Return the commit of the code, with a + where files differ from it, or None outside a clone."""
    here = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
