"""The signs of `ecg/signs.py` as a table for a reader: measured value, and its usual limit."""

import math
from typing import NamedTuple

from ecg.signs import COMPLETE_MS, INVERTED_T, IRREGULAR, MIN_WAVE, R_PRIME, S1Q3, TACHYCARDIA, Signs
from reporting.words.formatting import signed

BRADYCARDIA = 60  # bpm
AXIS = (-30, 90)  # degrees; Surawicz et al., Circulation 2009;119:e235
NOT_MEASURABLE = "not measurable"


class SignRow(NamedTuple):
    """A line of the table; `unusual` where the value is beyond the limit."""

    name: str
    value: str
    limit: str
    unusual: bool = False


def sign_rows(signs: Signs) -> list[SignRow]:
    """Return one row per sign; the value of one that could not be measured is `NOT_MEASURABLE`."""
    return [
        _row(
            "Heart rate",
            signs.heart_rate_bpm,
            f"{signs.heart_rate_bpm:.0f}/min",
            f"{BRADYCARDIA} to {TACHYCARDIA}/min",
            not BRADYCARDIA <= signs.heart_rate_bpm <= TACHYCARDIA,
        ),
        _row(
            "RR irregularity",
            signs.rr_irregularity,
            f"{signs.rr_irregularity:.0%}".replace("%", " %"),
            f"up to {100 * IRREGULAR:.0f} %",
            signs.rr_irregularity > IRREGULAR,
        ),
        _row(
            "QRS duration",
            signs.qrs_ms,
            f"{signs.qrs_ms:.0f} ms",
            f"below {COMPLETE_MS} ms",
            signs.qrs_ms >= COMPLETE_MS,
        ),
        _row(
            "QRS axis",
            signs.qrs_axis_deg,
            f"{signed(signs.qrs_axis_deg, 0)}°",
            f"{signed(AXIS[0], 0)}° to {signed(AXIS[1], 0)}°",
            not AXIS[0] <= signs.qrs_axis_deg <= AXIS[1],
        ),
        _row(
            "S1Q3T3",
            signs.s1q3t3,
            f"{_yes(signs.s1q3t3)}: S {signed(signs.s_in_i_mv, 2)}, Q {signed(signs.q_in_iii_mv, 2)}, "
            f"T {signed(signs.t_in_iii_mv, 2)} mV",
            f"not S, Q to {signed(-S1Q3, 2)}, T to {signed(-MIN_WAVE, 2)}",
            signs.s1q3t3 == 1,
        ),
        _chest_t(signs),
        _row(
            "Late R in V1",
            signs.r_prime_in_v1_mv,
            f"{signs.r_prime_in_v1_mv:.2f} mV" if signs.r_prime_in_v1_mv else "none",
            f"below {R_PRIME:g} mV",
            signs.r_prime_in_v1_mv >= R_PRIME,
        ),
        _row(
            "RBBB pattern",
            signs.rbbb_pattern,
            {0: "none", 1: "incomplete", 2: "complete"}.get(signs.rbbb_pattern, ""),
            "none",
            signs.rbbb_pattern > 0,
        ),
    ]


def _row(name: str, measured: float, value: str, limit: str, unusual: bool) -> SignRow:
    if math.isnan(measured):
        return SignRow(name, NOT_MEASURABLE, limit)
    return SignRow(name, value, limit, bool(unusual))


def _chest_t(signs: Signs) -> SignRow:
    """Return the row of the T waves in V1 to V4; in V1 alone, an inverted one is usual."""
    waves = (signs.t_in_v1_mv, signs.t_in_v2_mv, signs.t_in_v3_mv, signs.t_in_v4_mv)
    name, limit = "T in V1 to V4, mV", f"above {signed(INVERTED_T, 1)} in V2 to V4"
    if all(math.isnan(wave) for wave in waves):
        return SignRow(name, NOT_MEASURABLE, limit)
    value = ", ".join("?" if math.isnan(wave) else signed(wave, 2) for wave in waves)
    return SignRow(name, value, limit, any(wave <= INVERTED_T for wave in waves[1:]))


def _yes(sign: float) -> str:
    return "present" if sign == 1 else "absent"
