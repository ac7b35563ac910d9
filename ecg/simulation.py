"""Simulate 12-lead ECGs, some with the signs of acute pulmonary embolism (PE).

    patient = draw_patient(generator, pe=True)
    signal, truth = simulate_ecg(patient, generator)    # (12, 5000) in mV at 500 Hz, and what was planted

Each beat is a moving dipole, a sum of Gaussians for P, QRS, ST and T (McSharry et al., IEEE Trans Biomed Eng
2003;50:289; in three dimensions Sameni et al., EURASIP J Adv Signal Process 2007:43407), projected on the
leads by the Dower matrix (Dower et al., Clin Cardiol 1980;3:87). It lets the programs run without patients.
It is not clinical evidence, and a metric obtained on it says nothing about the diagnosis of PE.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ecg.recording import N_SAMPLES, SAMPLING_RATE

MV_PER_COUNT = 0.0025  # mV; signals are whole counts, as in files

# P(sign | PE), P(sign | no PE), chosen for the demo, so that a small network learns something in minutes. The
# comments give the rates of 6,049 emergency patients (Marchick et al., Ann Emerg Med 2010;55:331), which
# separate far less. Given PE or no PE the signs are independent; given the signs, nothing else in an ECG
# depends on PE.
SIGN_RATES = {
    "sinus_tachycardia": (0.60, 0.15),  # 0.288, 0.157
    "S1Q3T3": (0.35, 0.03),  # 0.085, 0.033
    "right_axis": (0.30, 0.05),
    "incomplete_RBBB": (0.25, 0.06),  # 0.048, 0.028
    "T_inversion_V1_V4": (0.40, 0.04),  # 0.073, 0.020
}

# Frank X (to the left), Y (to the feet), Z (to the back) -> the eight independent leads (Dower et al. 1980).
DOWER = np.array([
    [0.632, -0.235, 0.059], [0.235, 1.066, -0.132],  # I, II
    [-0.515, 0.157, -0.917], [0.044, 0.164, -1.387], [0.882, 0.098, -1.277],  # V1, V2, V3
    [1.213, 0.127, -0.601], [1.125, 0.127, -0.086], [0.831, 0.076, 0.230],  # V4, V5, V6
])  # fmt: skip
# A dipole is written here as what it gives in lead I, in aVF times 2 / sqrt(3) ("F"), and in V2. I and F span
# the frontal plane: the axis is atan2(F, I), and lead III is the projection on 120 degrees.
TO_I_F_V2 = np.array([[1, 0, 0], [-1 / np.sqrt(3), 2 / np.sqrt(3), 0], [0, 0, 1]]) @ DOWER[[0, 1, 3]]
PROJECTION = DOWER @ np.linalg.inv(TO_I_F_V2)  # (8, 3)
LEAD_III = np.array([-0.5, np.sqrt(0.75)])

# Potentials of RA, LA, LL, V1 … V6 -> I, II, V1 … V6; chest leads refer to the mean of the three limbs.
ELECTRODES = np.eye(9)[1:]
ELECTRODES[:2, 0], ELECTRODES[2:, :3] = -1, -1 / 3


@dataclass(frozen=True)
class Patient:
    """What the ECGs of one synthetic patient share.

    Times are in s from the R peak. A wave is a row: centre, width before and after it (standard deviations),
    and the amplitudes in I, F and V2 in mV.
    """

    patient_id: str
    age: int
    sex: str
    PE: int
    signs: dict[str, int]  # 0 or 1
    heart_rate: float  # beats per minute
    pr: float  # s
    qrs_duration: float  # s
    qtc: float  # s, corrected for the rate after Fridericia
    qrs_axis: float  # degrees
    p_waves: np.ndarray  # (2, 6), centres from the onset of P
    qrs_waves: np.ndarray  # (4, 6)
    t_wave: np.ndarray  # (3,), amplitudes
    chest_gains: np.ndarray  # (6,), how well each chest electrode sees the heart


def achievable_auroc(sign_rates: Mapping[str, tuple[float, float]] = SIGN_RATES) -> float:
    """Return the AUROC of the best possible score, the likelihood ratio of the planted signs.

    It is exact: the probability that a pattern drawn given PE has a higher ratio than one drawn given no PE,
    ties counting half, summed over all pairs of the 2^n patterns. It is the mean over cohorts: on one of them
    the same score may have more or less.
    """
    rates = np.array(list(sign_rates.values()))  # (n, 2)
    patterns = np.array(list(itertools.product((0, 1), repeat=len(rates))))[:, :, None]
    with_pe, without_pe = np.where(patterns, rates, 1 - rates).prod(axis=1).T  # (2^n,) each
    ratio = with_pe / without_pe
    wins = (ratio[:, None] > ratio) + 0.5 * (ratio[:, None] == ratio)
    return float(with_pe @ wins @ without_pe)


def sign_log_ratio(signs: Mapping[str, int]) -> float:
    """Return the log likelihood ratio of a patient's signs, the score that no model can beat on average."""
    chances = [np.array(rates) if signs[sign] else 1 - np.array(rates) for sign, rates in SIGN_RATES.items()]
    with_pe, without_pe = np.prod(chances, axis=0)
    return float(np.log(with_pe / without_pe))


def draw_patient(
    generator: np.random.Generator,
    *,
    pe: bool,
    patient_id: str = "demo",
    signs: Mapping[str, int] | None = None,
) -> Patient:
    """Draw one patient.

    Parameters
    ----------
    pe : whether the patient has PE; decides how likely each sign is
    signs : sign name -> 0 or 1, planted instead of drawn ones; those left out are drawn

    Raises
    ------
    ValueError : a sign that is not one of ``SIGN_RATES``.
    """
    unknown = set(signs or ()) - set(SIGN_RATES)
    if unknown:
        raise ValueError(f"signs: found {sorted(unknown)}, expected some of {list(SIGN_RATES)}")
    drawn = {sign: int(generator.random() < rates[0 if pe else 1]) for sign, rates in SIGN_RATES.items()}
    signs = {**drawn, **(signs or {})}
    usual_rate, usual_axis = generator.normal(74, 10), generator.normal(45, 22)
    heart_rate = generator.uniform(105, 132) if signs["sinus_tachycardia"] else np.clip(usual_rate, 50, 94)
    axis = generator.uniform(98, 130) if signs["right_axis"] else np.clip(usual_axis, -25, 82)
    axis = max(axis, 40 + usual_axis % 40) if signs["S1Q3T3"] else axis  # an S in I goes with a vertical axis
    duration = generator.uniform(0.106, 0.118) if signs["incomplete_RBBB"] else generator.uniform(0.08, 0.10)
    qrs_waves = draw_qrs(generator, signs, np.radians(axis))
    qrs_waves[:, :3] *= duration / np.ptp(qrs_limits(qrs_waves))
    return Patient(
        patient_id=patient_id,
        age=int(np.clip(generator.normal(62, 16), 20, 95)),
        sex=str(generator.choice(["F", "M"])),
        PE=int(pe),
        signs=signs,
        heart_rate=float(heart_rate),
        pr=float(np.clip(generator.normal(0.158, 0.016), 0.125, 0.198) - 0.0004 * max(heart_rate - 75, 0)),
        qrs_duration=float(duration),
        qtc=float(np.clip(generator.normal(0.408, 0.014), 0.375, 0.440)),
        qrs_axis=float(axis),
        p_waves=draw_p(generator),
        qrs_waves=qrs_waves,
        t_wave=draw_t(generator, signs, axis),
        chest_gains=np.exp(generator.normal(0, 0.10, 6)),
    )


def draw_p(generator: np.random.Generator) -> np.ndarray:
    """Return the two P waves, (2, 6): the right atrium (forwards and down), then the left (backwards)."""
    waves = np.array(
        [[0.036, 0.015, 0.016, 0.045, 0.085, 0.050], [0.066, 0.016, 0.018, 0.055, 0.060, -0.015]]
    )
    waves[:, 3:] *= np.exp(generator.normal(0, 0.2, (2, 1)))
    return waves


def draw_qrs(generator: np.random.Generator, signs: Mapping[str, int], axis: float) -> np.ndarray:
    """Return the QRS waves, (4, 6): septum, left ventricle, base, and the late right ventricle of RBBB.

    The direction of the left ventricle is solved for, so that the net area of the QRS has the axis, in
    radians.
    """
    severity = generator.uniform(0, 1)
    septum = np.array([-0.07, -0.04, 0.33]) * np.exp(generator.normal(0, 0.25))
    ventricle = np.array([0.0, 0.0, generator.normal(-0.33, 0.22)])
    base = np.array([-0.12, -0.12, -0.68]) * np.exp(generator.normal(0, 0.25))
    late = np.array([-0.20, 0.05, 0.50]) * signs["incomplete_RBBB"] * (0.65 + 0.45 * severity)
    if signs["S1Q3T3"]:
        septum[:2] = [0.10, -0.32 - 0.20 * severity]
    if signs["S1Q3T3"] or signs["right_axis"]:
        base[:2] += [-0.35 - 0.25 * severity, 0.15]
    amplitudes = np.vstack([septum, ventricle, base, late])
    centres = np.array([[-0.0230], [0.0], [0.0240], [0.0500]])
    widths = np.array([[0.0085], [0.0095], [0.0105], [0.0110]])

    rest = (amplitudes * widths).sum(axis=0)[:2] / widths[1]  # all but the ventricle, in units of its area
    along = rest @ [np.cos(axis), np.sin(axis)]
    across = rest @ [np.sin(axis), -np.cos(axis)]  # the part of the rest that turns the axis
    # Large enough to turn it back and to leave a net vector of 0.4 mV along the axis.
    size = max(0.95 * np.exp(generator.normal(0, 0.22)), np.hypot(across, 0.4 - along))
    direction = axis + np.arcsin(across / size)
    amplitudes[1, :2] = size * np.cos(direction), size * np.sin(direction)
    return np.hstack([centres, widths, widths, amplitudes])


def draw_t(generator: np.random.Generator, signs: Mapping[str, int], axis: float) -> np.ndarray:
    """Return the amplitudes of the T wave, (3,), for a QRS axis in degrees."""
    angle = np.radians(45 + 0.3 * (np.clip(axis, -20, 80) - 45) + generator.normal(0, 8))
    frontal = 0.24 * np.exp(generator.normal(0, 0.25)) * np.array([np.cos(angle), np.sin(angle)])
    v2 = 0.33 * np.exp(generator.normal(0, 0.22))
    if signs["T_inversion_V1_V4"]:
        v2 = -generator.uniform(0.18, 0.50)
        # Nearly upright in aVF and flat in I: otherwise the leftward V4 would stay positive.
        frontal = generator.uniform(0.15, 0.35) * -v2 * np.array([0.27, 0.96])
    if signs["S1Q3T3"]:
        frontal -= (frontal @ LEAD_III + generator.uniform(0.08, 0.22)) * LEAD_III
    return np.append(frontal, v2)


def qrs_limits(qrs_waves: np.ndarray) -> np.ndarray:
    """Return onset and end of the QRS, (2,), in s: where a lead first and last exceeds 0.03 mV."""
    times = np.arange(-0.150, 0.250, 0.0005)
    visible = np.abs(PROJECTION @ dipole(qrs_waves, times)).max(axis=0) > 0.03
    return times[visible][[0, -1]]


def dipole(waves: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the sum of waves, (n_waves, 6), at times in s from the R peak, (n,), as (3, n) in mV."""
    distance = times - waves[:, :1]
    widths = np.where(distance < 0, waves[:, 1:2], waves[:, 2:3])
    return waves[:, 3:].T @ np.exp(-0.5 * (distance / widths) ** 2)


def waves_at_rate(patient: Patient, heart_rate: float) -> tuple[np.ndarray, float]:
    """Return all waves of a beat, (8, 6), T last, and the QT interval in s, which follows the rate."""
    onset, end = qrs_limits(patient.qrs_waves)
    qt = patient.qtc * (60 / heart_rate) ** (1 / 3)  # Fridericia
    before, after = 0.13 * qt, 0.085 * qt  # a T wave rises slowly and falls faster
    t_centre = onset + qt - 2.2 * after
    p_waves = patient.p_waves + np.array([onset - patient.pr, 0, 0, 0, 0, 0])
    t_wave = np.array([t_centre, before, after, *patient.t_wave])
    st_width = (t_centre - end) / 3
    st_segment = np.array([end + 1.4 * st_width, st_width, st_width, *0.12 * patient.t_wave])
    return np.vstack([p_waves, patient.qrs_waves, st_segment, t_wave]), qt


def simulate_ecg(
    patient: Patient, generator: np.random.Generator, *, noise: float = 1.0
) -> tuple[np.ndarray, dict[str, float]]:
    """Simulate one ECG of a patient, 10 s at 500 Hz.

    Parameters
    ----------
    noise : scale of baseline wander, mains and muscle noise; 0 gives the clean ECG

    Returns
    -------
    signal : ndarray of shape (12, 5000), in mV
        Whole counts of `MV_PER_COUNT`, in which III, aVR, aVL and aVF follow from I and II exactly.
    truth : what was planted: the signs (0 or 1), rate, axis, intervals and some amplitudes
    """
    heart_rate = patient.heart_rate + generator.uniform(-2, 2)
    beats, breath = draw_beats(generator, heart_rate, patient.age)
    waves, qt = waves_at_rate(patient, heart_rate)
    gains = np.append([1.0, 1.0], patient.chest_gains)[:, None]
    window = np.arange(-200, 350)  # samples; -0.4 to 0.7 s holds any beat
    margin = 1000  # samples kept on either side for beats that are only partly inside
    dipoles = np.zeros((3, N_SAMPLES + 2 * margin))
    for beat, depth in zip(beats, breath, strict=True):
        nearest = round(beat * SAMPLING_RATE) + window
        dipoles[:, margin + nearest] += (1 + 0.04 * depth) * dipole(waves, nearest / SAMPLING_RATE - beat)
    heart = gains * (PROJECTION @ dipoles[:, margin:-margin])
    inside = beats[(beats >= 0) & (beats < N_SAMPLES / SAMPLING_RATE)]
    truth = describe(patient, waves, gains, qt) | {"heart_rate_bpm": 60 / np.diff(inside).mean()}
    return whole_counts(heart + noise * draw_noise(generator)) * MV_PER_COUNT, truth


def draw_beats(
    generator: np.random.Generator, heart_rate: float, age: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the times of the R peaks in s and the breath (-1 to 1) at each.

    Breathing in shortens the cycle (respiratory sinus arrhythmia), less so in old age and at high rates.
    """
    frequency, phase = generator.uniform(0.18, 0.32), generator.uniform(0, 2 * np.pi)
    arrhythmia = generator.uniform(0.010, 0.045) * np.clip((110 - age) / 60, 0.3, 1.3)
    arrhythmia *= 0.25 if heart_rate > 100 else 1.0
    cycle, time = 60 / heart_rate, generator.uniform(-1, 0)
    beats, breath = [], []
    while time < N_SAMPLES / SAMPLING_RATE + 0.4:
        beats.append(time)
        breath.append(np.sin(2 * np.pi * frequency * time + phase))
        time += cycle * (1 - arrhythmia * breath[-1] + generator.normal(0, 0.006))
    return np.array(beats), np.array(breath)


def draw_noise(generator: np.random.Generator) -> np.ndarray:
    """Return baseline wander, muscle noise and 50 Hz mains on I, II, V1 … V6, (8, 5000), in mV."""
    level = np.exp(generator.normal(0, 0.5, 3))
    wander = 0.035 * level[0] * band_noise(generator, 0.05, 0.5)
    muscle = 0.006 * level[1] * np.exp(generator.normal(0, 0.3, (9, 1))) * band_noise(generator, 15, 150)
    phase = 2 * np.pi * 50 * np.arange(N_SAMPLES) / SAMPLING_RATE + generator.uniform(0, 2 * np.pi)
    mains = 0.003 * level[2] * generator.uniform(0, 1, (9, 1)) * np.sin(phase)
    return ELECTRODES @ (wander + muscle + mains)


def band_noise(generator: np.random.Generator, low: float, high: float) -> np.ndarray:
    """Return noise between two frequencies in Hz on nine electrodes, (9, 5000), standard deviation 1."""
    n_long = 8192  # longer than the ECG, which therefore does not end where it began
    frequencies = np.fft.rfftfreq(n_long, 1 / SAMPLING_RATE)
    inside = (frequencies >= low) & (frequencies <= high)
    real, imaginary = generator.standard_normal((2, 9, inside.sum()))
    spectrum = np.zeros((9, frequencies.size), complex)
    spectrum[:, inside] = real + 1j * imaginary
    return np.fft.irfft(spectrum)[:, :N_SAMPLES] * n_long / (2 * np.sqrt(inside.sum()))


def whole_counts(signal: np.ndarray) -> np.ndarray:
    """Return the 12 leads in counts, (12, n), from I, II, V1 … V6 in mV.

    I and II are rounded to even counts, of which aVR, aVL and aVF need the halves.
    """
    one, two = (2 * np.rint(signal[:2] / (2 * MV_PER_COUNT))).astype(np.int32)
    chest = np.rint(signal[2:] / MV_PER_COUNT).astype(np.int32)
    return np.vstack([one, two, two - one, -(one + two) // 2, one - two // 2, two - one // 2, chest])


def describe(patient: Patient, waves: np.ndarray, gains: np.ndarray, qt: float) -> dict[str, float]:
    """Return what was planted in a patient's ECG, amplitudes measured in the beat without noise."""
    onset, end = qrs_limits(patient.qrs_waves)
    times = np.arange(-0.150, 0.600, 0.001)
    one, two, v1, v2 = (gains * (PROJECTION @ dipole(waves, times)))[:4]
    three = two - one
    early, late = (times >= onset) & (times <= 0), (times >= 0) & (times <= end)
    t_peak = np.argmin(np.abs(times - waves[-1, 0]))
    return patient.signs | {
        "pr_ms": 1000 * patient.pr,
        "qrs_ms": 1000 * patient.qrs_duration,
        "qt_ms": 1000 * qt,
        "qrs_axis_deg": patient.qrs_axis,
        "s_in_i_mv": one[late].min(),
        "q_in_iii_mv": three[early].min(),
        "t_in_iii_mv": three[t_peak],
        "t_in_v1_mv": v1[t_peak],
        "t_in_v2_mv": v2[t_peak],
        "r_prime_in_v1_mv": v1[late & (times > 0.030)].max(),
    }
