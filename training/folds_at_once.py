"""``--folds-at-once``: the folds of a cross-validation side by side, each trained by a process of its own.

On one GPU they share its memory and its time, several GPUs get one fold after another, and on a CPU each fold
has its share of the threads. A process shares no random draw and no setting with another, so that a fold ends
in the bits that it has when it is trained alone by as many threads.
"""

import sys

import torch

from dataset.splits import Fold
from hyperparameters.declaration import Hyperparameters
from hyperparameters.reading import PLACES
from run_folder.run import Run
from runtime import processes
from runtime.errors import UserError
from runtime.messages import counted
from runtime.side_by_side import NEIGHBOURS, do_parts


def folds_at_once(values: Hyperparameters) -> int:
    """Return how many folds are to be trained at once, 1 where the script has none."""
    return values.present().get("folds_at_once", 1)


def refuse_with_torchrun(values: Hyperparameters) -> None:
    """Raise a UserError where several processes train one model and several folds were to be trained."""
    if folds_at_once(values) > 1 and processes.count() > 1:
        raise UserError(
            f"--folds-at-once: found {folds_at_once(values)} under torchrun, expected 1: torchrun deals the "
            "batches of one fold to the processes"
        )


def train_at_once(
    folds: list[Fold], *, n_folds: int, run: Run, values: Hyperparameters, device: torch.device
) -> None:
    """Train and test folds, each by this script in a process that goes on with the run, and has one fold.

    How many threads a fold has does not depend on what is done already, so that a resumed run ends in the
    same bits.

    Parameters
    ----------
    folds : those that are not tested yet, of all ``n_folds``.
    """
    at_once = min(folds_at_once(values), n_folds)
    n_gpus = torch.cuda.device_count() if device.type == "cuda" and ":" not in values.device else 1
    threads = max(1, torch.get_num_threads() // at_once)
    where = f" with {counted(threads, 'thread')}" if device.type == "cpu" else ""
    where = f" on {counted(n_gpus, 'GPU')}" if device.type == "cuda" else where
    print(f"at once     {at_once} of {counted(n_folds, 'fold')}, each in a process of its own{where}")
    places = {name: getattr(values, name) for name in PLACES if name not in ("device", "folds_at_once")}
    flags = [f"--{name.replace('_', '-')}={place}" for name, place in places.items() if place is not None]

    def command_of(name: str, number: int) -> list[str]:
        own = f"cuda:{number % n_gpus}" if n_gpus > 1 else values.device
        return [sys.executable, sys.argv[0], "--resume", str(run.folder), *flags, "--device", own]

    def send(name: str) -> None:
        fold_run = run.fold(name)
        for row in fold_run.log().to_dict("records"):
            run.tracker.epoch(row, name)
        run.tracker.metrics(fold_run.metrics(), name)

    names = [fold.name for fold in folds]
    shared = {"OMP_NUM_THREADS": str(threads), NEIGHBOURS: str(-(-at_once // n_gpus))}
    do_parts(names, command_of, at_once=at_once, environment=shared, begin="fold ", ended=send)
