"""Where models compute: what ``--device`` may say, and which device that is.

Torch is imported where a device is chosen: a wrong name does not wait for it.
"""

import re
from typing import TYPE_CHECKING

from runtime.errors import UserError
from runtime.messages import counted

if TYPE_CHECKING:
    import torch

PATTERN = r"auto|cpu|cuda(:[0-9]{1,3})?"
EXPECTED = "auto, cpu, cuda, or one GPU of several by its number, such as cuda:1"
HELP = "what computes: auto (a GPU where there is one), cpu, cuda, or one of several GPUs, such as cuda:1"


def checked_name(text: str) -> str:
    """Return what ``--device`` says, as it stands.

    Raises
    ------
    UserError : it is no name of a device; whether this machine has it is not looked at.
    """
    if not re.fullmatch(PATTERN, text):
        raise UserError(f"--device: found {text}, expected {EXPECTED}")
    return text


def choose_device(name: str, *, n_processes: int = 1, number: int = 0) -> "torch.device":
    """Return a process's device.

    Parameters
    ----------
    name : see ``PATTERN``; auto is a GPU where there is one, else the CPU.
    n_processes : of this machine that train together; each takes one GPU, or all share the CPU.
    number : of this process among them, from 0 on.

    Raises
    ------
    UserError : this machine has no such GPU, or not one for each process.
    """
    import torch

    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if checked_name(name) == "cpu" or (name == "auto" and not n_gpus):
        return torch.device("cpu")
    gpus = counted(n_gpus, "GPU") if n_gpus else "no GPU that PyTorch can use"
    if not n_gpus:
        raise UserError(f"--device: found {name} and {gpus}, expected auto or cpu on this machine")
    if ":" in name:
        if n_processes > 1:
            raise UserError(
                f"--device: found {name} for {n_processes} processes, expected cuda: one GPU each"
            )
        number = int(name.partition(":")[2])
        if number >= n_gpus:
            raise UserError(f"--device: found {name} and {gpus}, expected a number from 0 to {n_gpus - 1}")
    elif n_processes > n_gpus:
        raise UserError(
            f"--nproc-per-node: found {n_processes} processes for {gpus}, expected one for each at most"
        )
    return torch.device("cuda", number)
