"""What every script does first and last: seed and device; one line in place of a traceback."""

import argparse
import contextlib
import gc
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import torch

import processes
from interruption import StoppedError, TrainingError
from run_folder import RunError
from signal_store.signal_cache import CohortError

_usual_warning = warnings.formatwarning


def prepare(seed: int) -> torch.device:
    """Seed what draws the initial weights, and return the device: CUDA where there is one, else the CPU."""
    gc.freeze()  # no collection, and not that at the end, walks through all of torch again: 0.3 s
    device = processes.start()
    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("high")  # TF32 for what autocast leaves in float32 on a GPU
    torch.backends.cudnn.benchmark = True  # the sizes of the batches do not change
    return device


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Let a script end with one line instead of a traceback where the user can mend what is wrong.

    What the metrics warn of is one line too, without the place in the code.
    """
    warnings.formatwarning = _short_warning

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    script = Path(sys.argv[0]).name
    try:
        yield
        processes.stop()
    except (CohortError, RunError, StoppedError, TrainingError, OSError) as error:
        sys.exit(f"{script}: {error}")
    except KeyboardInterrupt:
        trains = script.startswith(("train", "pretrain"))
        resume = "; --resume RUN goes on after the last complete epoch" if trains else ""
        sys.exit(f"{script}: interrupted{resume}")


def _short_warning(message: Warning, category: type, *place: object, **line: object) -> str:
    """Return what is printed of a warning."""
    if category.__name__ == "UndefinedMetricWarning":  # scikit-learn's, which takes a second to import
        return f"note        {message}\n"
    return _usual_warning(message, category, *place, **line)


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())} (--help lists the flags)\n")


def whole_number(text: str) -> int:
    """Return a flag's value, a whole number from 1 on."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text}, expected a whole number from 1 on")
    return int(text)
