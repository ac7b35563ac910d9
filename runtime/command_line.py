"""What every script does first and last: seed and device; one line in place of a traceback.

Imports that take seconds stand in functions: wrong flags, and scripts without a model, do not wait for them.
"""

import argparse
import contextlib
import gc
import importlib.util
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from runtime.code_pages import print_on_any_page
from runtime.device import HELP, checked_name
from runtime.errors import UserError, message_of
from runtime.folder_lock import release_all
from runtime.interruption import HANDLER

if TYPE_CHECKING:
    import torch

Number = TypeVar("Number", int, float)

_usual_warning = warnings.formatwarning


def prepare(seed: int, device: str = "auto") -> "torch.device":
    """Seed what draws the initial weights, and return the device of that name, see ``runtime/device.py``."""
    import torch

    from runtime import processes

    gc.freeze()  # no collection, not even the last, walks through all of torch again: 0.3 s
    chosen = processes.start(device)
    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("high")  # TF32 for what autocast leaves in float32 on a GPU
    torch.backends.cudnn.benchmark = True  # the sizes of the batches do not change
    return chosen


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """End a script with one line instead of a traceback where the user can mend what is wrong.

    A warning of the metrics is one line too, without its place in the code. Printing never fails for
    want of a sign.
    """
    warnings.formatwarning = _short_warning
    print_on_any_page()
    HANDLER.take_over()
    script = Path(sys.argv[0]).name
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        caught = isinstance(error.__context__, KeyboardInterrupt)  # by the script, whose error says more
        if isinstance(error, KeyboardInterrupt) or (HANDLER.came and not caught):
            left = HANDLER.how_to_go_on(trains=script.startswith(("train", "pretrain")))
            sys.exit(f"{script}: interrupted{left and f'; {left}'}")
        if not isinstance(error, UserError | OSError):
            raise
        sys.exit(f"{script}: {message_of(error)}")
    finally:
        release_all()


def require(package: str, purpose: str, *, for_flag: str) -> None:
    """Raise a UserError where the package that a flag needs for a purpose is not installed."""
    if importlib.util.find_spec(package) is None:
        expected = f"expected it for {purpose}: pip install {package}"
        raise UserError(f"{for_flag}: found no package {package}, {expected}")


def _short_warning(message: Warning, category: type, *place: object, **line: object) -> str:
    """Return the text that a warning prints."""
    if category.__name__ == "UndefinedMetricWarning":  # scikit-learn's, which takes a second to import
        return f"note        {message}\n"
    return _usual_warning(message, category, *place, **line)


class OneLineParser(argparse.ArgumentParser):
    """ArgumentParser with one-line errors, whole flags only, and the docstring's line breaks in its help."""

    def __init__(self, **options: Any):
        ours = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(**ours | options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())} (--help lists the flags)\n")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Give a script the flag ``--device``, whose value ``prepare`` takes."""
    parser.add_argument("--device", default="auto", type=_device_name, help=HELP)


def _device_name(text: str) -> str:
    try:
        return checked_name(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("--device: ")) from None


def number_flag(
    kind: Callable[[str], Number], expected: str, holds: Callable[[Number], bool] = lambda value: True
) -> Callable[[str], Number]:
    """Return the type of a flag whose value is a number, or the line that says what was expected.

    Parameters
    ----------
    kind : int, float, or what else makes a number of a text, with a ValueError where it is none.
    expected : which numbers, for a reader: "a number between 0 and 1".
    holds : what must be true of the number.
    """

    def parse(text: str) -> Number:
        with contextlib.suppress(ValueError):
            value = kind(text)
            if text.isascii() and "_" not in text and math.isfinite(value) and holds(value):
                return value
        raise argparse.ArgumentTypeError(f"found {text}, expected {expected}")

    return parse


whole_number = number_flag(int, "a whole number from 1 on", lambda value: value >= 1)
whole_number_from_0 = number_flag(int, "a whole number from 0 on", lambda value: value >= 0)
share = number_flag(float, "a number between 0 and 1", lambda value: 0 < value < 1)
