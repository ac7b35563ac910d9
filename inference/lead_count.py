"""The flag --min-leads of the programs that read ECGs outside a training: the fewest leads of a recording."""

import argparse
import re

from ecg.recording import LEADS, LEAST_LEADS


def add_min_leads(parser: argparse.ArgumentParser, *, help: str) -> None:
    """Add the flag; None where it is not given."""
    parser.add_argument("--min-leads", type=_n_leads, metavar="N", help=help)


def _n_leads(text: str) -> int:
    value = int(text) if re.fullmatch(r"\d{1,2}", text) else 0
    if not LEAST_LEADS <= value <= len(LEADS):
        expected = f"a whole number from {LEAST_LEADS} to {len(LEADS)}"
        raise argparse.ArgumentTypeError(f"found {text}, expected {expected}")
    return value
