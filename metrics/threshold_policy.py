"""How a policy for the decision threshold is written: a word, or text such as ``sensitivity>=0.95``."""

import math
import re

WORDS = ("prevalence", "youden")


def parse_policy(policy: str) -> tuple[str, float]:
    """Return a word, or "sensitivity" or "specificity", and the wanted value (nan for a word).

    Raises
    ------
    ValueError
        The policy, which it names, is none of these.
    """
    if policy in WORDS:
        return policy, math.nan
    match = re.fullmatch(r"\s*(sensitivity|specificity)\s*>=\s*([0-9.]+(?:[eE]-?[0-9]+)?)\s*", policy)
    try:
        wanted = float(match[2]) if match else math.nan
    except ValueError:
        wanted = math.nan
    if not 0 <= wanted <= 1:
        raise ValueError(
            f"threshold policy {policy!r}: expected {', '.join(WORDS)}, sensitivity>=X or specificity>=X, X "
            "from 0 to 1"
        )
    return match[1], wanted
