"""Where and with what a run was trained: ``environment.json``."""

import platform
import subprocess
import sys
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from runtime.messages import counted

KEY_FINGERPRINT = "patient_key_fingerprint"
RECORDED_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "safetensors", "jsonargparse")


def environment_of(device: torch.device, patient_key: str) -> dict[str, Any]:
    """Return versions, device, command, git commit, and the fingerprint of the key of the pseudonyms."""
    return {
        "command": sys.argv,
        "started": datetime.now().isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: version(name) for name in RECORDED_PACKAGES} | {"torch": torch.__version__},
        "device": device_name(device),
        "gpu": gpu_versions(device),
        "threads": torch.get_num_threads(),
        "git_commit": _git_commit(),
        KEY_FINGERPRINT: patient_key,
    }


def device_name(device: torch.device) -> str:
    """Return the device's name for a reader."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"the CPU ({counted(torch.get_num_threads(), 'thread')})"


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
