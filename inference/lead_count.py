"""The flag --min-leads of the programs that read ECGs outside a training: the fewest leads of a recording."""

import argparse

from ecg.recording import LEADS, LEAST_LEADS
from runtime.command_line import number_flag


def add_min_leads(parser: argparse.ArgumentParser, *, help: str) -> None:
    """Add the flag; None where it is not given."""
    expected = f"a whole number from {LEAST_LEADS} to {len(LEADS)}"
    kind = number_flag(int, expected, lambda n_leads: LEAST_LEADS <= n_leads <= len(LEADS))
    parser.add_argument("--min-leads", type=kind, metavar="N", help=help)
