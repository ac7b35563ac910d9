"""Compute again what lies in `golden/`, and compare: does this installation compute what it should?

    python -m benchmarks.installation.check            # make check-install; one line for each check, seconds

An ECG of the simulator, in each form that the project writes, is read, measured, scored and explained, on
the CPU. The model is a small one only on the disk: the trunk is that of `pretrained/ptbxl`, and `golden/`
holds the head alone, which a training on the demo cohort has fitted. The exit status is 1 where a check
fails.

    python -m benchmarks.installation.check --write RUN    # make golden/ anew, after a change that is meant

takes the head from a run whose trunk stayed as it was:
`python train_atten.py --init-from ptbxl --freeze-epochs 4 --epochs 4 --seed 19`.
"""

import hashlib
import importlib.util
import json
import math
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from ecg.formats.written import WRITTEN_FORMS
from ecg.recording import LEADS, MILLIVOLTS, Recording
from ecg.signs import measure_signs
from ecg.simulation import draw_patient, simulate_ecg
from explanations.attribution import explain
from inference.scoring import Scorer
from models import MODELS
from run_folder.descriptions import ModelDescription
from run_folder.run import Run
from run_folder.shipped import PRETRAINED
from runtime.atomic_files import write_atomically
from runtime.command_line import OneLineParser, one_line_errors
from runtime.errors import UserError
from xml_loader import N_SAMPLES, centre_start, read_at_rest

GOLDEN = Path(__file__).parent / "golden"
TRUNK = PRETRAINED / "ptbxl"
HEAD, EXPECTED, ECG = "head.safetensors", "expected.json", "ecg"
SEED = 19  # of the simulated patient, who has PE
SIGNS = {"S1Q3T3": 1, "sinus_tachycardia": 1, "right_axis": 1}
MEASURED = ("heart_rate_bpm", "qrs_axis_deg", "qrs_ms", "s_in_i_mv", "q_in_iii_mv", "t_in_iii_mv", "s1q3t3")
# What float32 sums in another order, on another CPU or with another number of threads, may change
TOLERANCES = {"signs": 1e-3, "logit": 2e-3, "score": 5e-4, "attribution": 2e-2}
SAMPLES_OFF = 60  # of 60,000 simulated ones: where another C library rounds a sine to the other count


class Check(NamedTuple):
    """One line: what is compared; a tolerance of None means that both must be equal."""

    name: str
    found: Any
    expected: Any
    tolerance: float | None = None

    @property
    def passed(self) -> bool:
        if self.tolerance is None or self.expected is None:
            return self.found == self.expected
        return bool(abs(self.found - self.expected) <= self.tolerance)  # so written, NaN fails

    def line(self) -> str:
        verdict = "ok    " if self.passed else "FAILED"
        tolerance = "equal" if self.tolerance is None else f"{self.tolerance:g}"
        return f"{verdict} {self.name:<42} {_text(self.found):<18} {_text(self.expected):<18} {tolerance}"


def main() -> int:
    """Check the installation, or write golden/ anew; return the exit status."""
    parser = OneLineParser(description=__doc__)
    parser.add_argument(
        "--write", type=Path, metavar="RUN", help="make golden/ anew, with the head of this run"
    )
    arguments = parser.parse_args()
    if arguments.write:
        write_golden(arguments.write)
        return 0
    start, n_failed, n_checks = time.monotonic(), 0, 0
    expected = read_expected()
    print(f"{'':6} {'check':<42} {'found':<18} {'expected':<18} tolerance")
    for check in checks(expected):
        print(check.line(), flush=True)
        n_failed += not check.passed
        n_checks += 1
    if importlib.util.find_spec("captum") is None:
        print("not checked: explanations, which need captum (pip install captum)")
    print(f"{n_checks} checks, {n_failed} failed, {time.monotonic() - start:.0f} s")
    return int(n_failed > 0)


def read_expected() -> dict[str, Any]:
    """Return what must come out. A UserError where the file is not there or damaged."""
    path = GOLDEN / EXPECTED
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{path}: found no readable file, expected that of the repository") from None


def checks(expected: dict[str, Any]) -> Iterator[Check]:
    """Yield every check, as soon as it is made."""
    for name, value in digests_found().items():
        yield Check(f"SHA-256 of {name}", value[:16], expected["digests"].get(name, "")[:16])
    signal = simulated()
    for form, write in WRITTEN_FORMS.items():
        file = GOLDEN / f"{ECG}{_suffix(form)}"
        at_rest = read_at_rest(file)
        yield Check(f"CRC-32 of the signal, read from {form}", zlib.crc32(at_rest), expected["signal_crc"])
        written = write(Recording(at_rest * np.float32(MILLIVOLTS), 500.0), ECG)
        same = all((GOLDEN / name).read_bytes() == content for name, content in written.items())
        yield Check(f"the same bytes, written as {form}", same, True)
    # The simulator counts in 2.5 µV, the files in whole ones
    off = int(np.count_nonzero(np.abs(at_rest - signal / MILLIVOLTS) > 0.51))
    yield Check("simulated samples that differ from the file", off, 0, SAMPLES_OFF)
    for name, value in signs_of(at_rest).items():
        yield Check(f"sign: {name}", value, expected["signs"][name], TOLERANCES["signs"])
    model, description = golden_model()
    yield from (
        _number(name, value, expected) for name, value in scores_of(model, description, at_rest).items()
    )
    if importlib.util.find_spec("captum") is not None:
        found = explanation_of(model, description, at_rest)
        yield from (_number(name, value, expected) for name, value in found.items())


def _number(name: str, value: Any, expected: dict[str, Any]) -> Check:
    kind = name.split(" ")[0]
    return Check(name, value, expected["model"][name], TOLERANCES.get(kind))


# ----------------------------------------------------------------------------------------------------
# What is computed
# ----------------------------------------------------------------------------------------------------


def digests_found() -> dict[str, str]:
    """Return the SHA-256 of each file of weights that ships, by its name."""
    digests = {}
    for file in (TRUNK / "model.safetensors", TRUNK / "seen.safetensors", GOLDEN / HEAD):
        content = file.read_bytes() if file.exists() else None
        name = f"{file.parent.name}/{file.name}"
        digests[name] = "no such file" if content is None else hashlib.sha256(content).hexdigest()
    return digests


def simulated() -> np.ndarray:
    """Return the simulator's ECG of `golden/`, (12, 5000) in mV."""
    generator = np.random.default_rng(SEED)
    return simulate_ecg(draw_patient(generator, pe=True, signs=SIGNS), generator)[0]


def signs_of(at_rest: np.ndarray) -> dict[str, float]:
    """Return some of the signs of an ECG at rest, int16 (12, 5000)."""
    signs = measure_signs(at_rest * MILLIVOLTS)._asdict()
    return {name: float(signs[name]) for name in MEASURED}


def golden_model() -> tuple[nn.Module, ModelDescription]:
    """Return the model, its trunk from `pretrained/ptbxl` the rest from `golden/`, and its description."""
    description = Run(GOLDEN).load_description()
    model = MODELS[description.model](**description.arguments)
    own = model.state_dict()
    state = {name: tensor for name, tensor in Run(TRUNK).read_weights().items() if name in own}
    state |= {name: torch.from_numpy(array) for name, array in load_file(GOLDEN / HEAD).items()}
    model.load_state_dict(state)
    return model.eval(), description


def scores_of(model: nn.Module, description: ModelDescription, at_rest: np.ndarray) -> dict[str, Any]:
    """Return logit, score and decision of an ECG."""
    scorer = Scorer([(model, description)], thresholds=description.thresholds, device=torch.device("cpu"))
    score = float(scorer.score(at_rest[None])[0, 0])
    calibration = description.calibrations[0]
    logit = (math.log(score / (1 - score)) - calibration.intercept) / calibration.slope
    return {"logit of PE": logit, "score of PE": score, "decision of PE": int(score >= scorer.thresholds[0])}


def explanation_of(model: nn.Module, description: ModelDescription, at_rest: np.ndarray) -> dict[str, Any]:
    """Return what integrated gradients say, in logits: in all, and of the lead that adds most."""
    start = centre_start(description.n_samples)
    signal = at_rest[:, start : start + description.n_samples] * np.float32(MILLIVOLTS)
    found = explain(model, signal, label=0, normalisation=description.normalisation, occlusion=False)
    leads = found.attribution.sum(axis=1, dtype=float)
    strongest = int(np.abs(leads).argmax())
    return {
        "attribution of all leads": float(leads.sum()),
        "attribution of the strongest lead": float(leads[strongest]),
        "strongest lead": LEADS[strongest],
    }


# ----------------------------------------------------------------------------------------------------
# golden/ anew
# ----------------------------------------------------------------------------------------------------


def write_golden(folder: Path) -> None:
    """Write the ECG in each form, the head of a run and what must come out.

    Raises
    ------
    UserError : a run whose trunk is not that of `pretrained/ptbxl`.
    """
    run, trunk = Run(folder), Run(TRUNK).read_weights()
    weights, description = run.read_weights(), run.load_description()
    head = {
        name: tensor.numpy()
        for name, tensor in weights.items()
        if name not in trunk or tensor.shape != trunk[name].shape or not torch.equal(tensor, trunk[name])
    }
    if any(not name.startswith("head.") for name in head):
        found = ", ".join(name for name in head if not name.startswith("head."))[:80]
        raise UserError(f"{folder}: found {found} changed, expected the trunk of {TRUNK}, frozen to the end")
    GOLDEN.mkdir(exist_ok=True)
    write_atomically(GOLDEN / HEAD, lambda aside: save_file(head, aside))
    text = json.dumps(asdict(description), indent=2) + "\n"
    write_atomically(GOLDEN / "model.json", lambda aside: aside.write_text(text, encoding="utf-8"))
    recording = Recording(simulated().astype(np.float32), 500.0)
    for write in WRITTEN_FORMS.values():
        for name, content in write(recording, ECG).items():
            write_atomically(GOLDEN / name, lambda aside, content=content: aside.write_bytes(content))
    at_rest = read_at_rest(GOLDEN / f"{ECG}{_suffix('wfdb')}")
    model, description = golden_model()
    expected = {
        "digests": digests_found(),
        "signal_crc": zlib.crc32(at_rest),
        "signs": signs_of(at_rest),
        "model": scores_of(model, description, at_rest) | explanation_of(model, description, at_rest),
    }
    text = json.dumps(expected, indent=2) + "\n"
    write_atomically(GOLDEN / EXPECTED, lambda aside: aside.write_text(text, encoding="utf-8"))
    print(f"{GOLDEN}: written; {N_SAMPLES:,} samples of {len(LEADS)} leads")


def _suffix(form: str) -> str:
    return {"wfdb": ".hea", "hospital": ".xml"}[form]


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
