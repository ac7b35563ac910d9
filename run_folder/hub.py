"""A folder in the form of Hugging Face in place of a run: in any place, or named as ``hf://owner/name``.

``reporting.publish`` writes such folders. Nothing in them tells which ECGs the models have seen.
"""

import argparse
import os
import re
from pathlib import Path

from runtime.errors import UserError, one_line

CONFIG = "config.json"
PREFIX = "hf://"
ONLINE = ("0", "false", "no", "off")  # values of HF_HUB_OFFLINE that let a model be downloaded


def is_published(folder: Path) -> bool:
    """Return whether a folder is such a one, and not a run that happens to have a file of that name."""
    return (folder / CONFIG).is_file() and not (folder / "splits.csv").exists()


def is_copy(name: str | Path) -> bool:
    """Return whether a name means a copy of a model of Hugging Face."""
    return str(name).startswith(PREFIX)


def located(name: str) -> Path:
    """Return the folder that a name means: a path or, after ``hf://``, the copy of a model of Hugging Face.

    The copy is that in the cache of the package huggingface_hub, unless the variable HF_HUB_OFFLINE of the
    environment is 0: then it is brought up to date, which needs the network.

    Raises
    ------
    UserError : the name is none, huggingface_hub is not installed, or there is no such copy.
    """
    if not is_copy(name):
        return Path(name)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name.removeprefix(PREFIX)):
        raise UserError(f"{name}: found no owner and name of a model, expected {PREFIX}owner/name")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        expected = "expected it for such names: pip install huggingface_hub"
        raise UserError(f"{name}: found no package huggingface_hub, {expected}") from None
    offline = os.environ.get("HF_HUB_OFFLINE", "1").strip().lower() not in ONLINE
    try:
        return Path(snapshot_download(name.removeprefix(PREFIX), local_files_only=offline))
    except Exception as error:  # of many kinds: no such model, no network, no access
        if offline:
            expected = "expected one; HF_HUB_OFFLINE=0 lets it be downloaded"
            raise UserError(f"{name}: found no copy in the cache, {expected}") from None
        raise UserError(f"{name}: found no copy ({one_line(error, 200)}), expected a public model") from None


def run_argument(name: str) -> Path:
    """Return the folder of a run that a command line names."""
    try:
        return located(name)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
