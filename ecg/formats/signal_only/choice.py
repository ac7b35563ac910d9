"""What a parser gets of a file, and which of several rhythms that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ecg.recording import MIN_SECONDS, RECORDED_LEADS

Candidate = TypeVar("Candidate")


@dataclass(frozen=True)
class SignalOnly:
    """What a parser gets, and what it is not told.

    Attributes
    ----------
    files : contents by name; the first is the one to parse.
    names : those of the channels in the copy, as the file has them; None: as the copy has them.
    other_leads : the names of the channels that are left out.
    sampling_rate : in Hz, as precise as the file has it; None where the parser's own is.
    warnings : sentences about what was chosen.
    """

    files: dict[str, bytes]
    names: Sequence[str] | None = None
    other_leads: Sequence[str] = ()
    sampling_rate: float | None = None
    warnings: list[str] = field(default_factory=list)


def rate_of_interval(seconds: float, precision: float) -> float:
    """Return the rate of a sampling interval that a file has to a precision, in s: whole where it can be.

    0.0039 s, which is 256.4 Hz to the letter, is how 256 Hz are written with four decimals.
    """
    if not 0 < seconds < math.inf:
        return 0.0
    whole = round(1 / seconds)
    return float(whole) if whole and abs(1 / whole - seconds) <= precision / 2 * 1.001 else 1 / seconds


def the_rhythm(
    candidates: Iterable[Candidate],
    leads_of: Callable[[Candidate], Iterable[str | None]],
    seconds_of: Callable[[Candidate], float],
    warnings: list[str],
) -> Candidate | None:
    """Return the candidate with the most of the recorded leads and, of these, the longest; never by position.

    A warning is added where another one would have done as well.
    """
    ranked = [
        (len(RECORDED_LEADS & set(leads_of(candidate))), seconds_of(candidate), candidate)
        for candidate in candidates
    ]
    if not ranked:
        return None
    best = max(ranked, key=lambda rank: rank[:2])
    equal = [rank for rank in ranked if rank[0] == best[0] and rank[1] >= MIN_SECONDS]
    if len(equal) > 1:
        warnings.append(
            f"{len(equal)} rhythms of {MIN_SECONDS:g} s or more are in the file; the longest is read"
        )
    return best[2]
