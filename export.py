"""Write a finished run as one ONNX file with a model card, or as a folder that others can use.

    python export.py runs/train_atten-20261122-101500 pe.onnx
    python export.py runs/train_atten-20261122-101500 pe.onnx --evaluation runs/evaluate-20261122-111500
    python export.py runs/train_atten-20261122-101500               # for predict.py, which is then faster
    python export.py runs/train_atten-20261122-101500 --hub pe_ecg  # for others, in the form of Hugging Face

The graph holds crop, normalisation, model and calibration. It takes "signal_mv", float32 (N, 12, 5000): ECGs
in millivolts, leads I, II, III, aVR, aVL, aVF, V1 to V6, 10 s at 500 Hz; it gives "score", float32
(N, n_labels), probabilities; a run with clinical columns takes "clinical", float32 (N, n_columns), too, nan
where a value is not known. Labels, thresholds and the rest of what a program must know are in the file's
metadata. The run may be a cross-validation or the folder of a comparison: its models score together.

Before anything is written, onnxruntime scores five synthetic ECGs, alone and together; scores that differ
from PyTorch's by more than 1e-4 are an error. MODEL_CARD.md beside it says what the model is, data, training,
evaluation, limits, how to call it; model_card.xml is the Applied Model Card for programs, as a run has it.
With --evaluation, the folder of an evaluate.py that had this run as its first, MODEL_CARD.md has that
folder's results by stratum too.

Without a name, each model of the run gets a graph of its own, scoring.onnx in its folder, by which predict.py
scores from then on: without PyTorch, and the same scores to 1e-5.

With --hub the run becomes a folder with config.json, model.safetensors and README.md, the model card, that
predict.py, evaluate.py --cohort and --init-from take in place of a run. Nothing of a patient is in it, no
file name, pseudonym or fingerprint; so these programs cannot warn of ECGs that the models have seen.

An ONNX file needs three more packages: pip install onnx onnxscript onnxruntime
"""

import runtime.early_end  # noqa: F401  Ctrl-C ends the imports, which take seconds, in one line

import argparse
import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from dataset.sign_columns import sign_columns
from ecg.simulation import draw_patient, simulate_ecg
from inference.exported import GRAPH, write_export
from inference.onnx_graph import (
    BATCH_SIZES,
    PACKAGES,
    TOLERANCE,
    SignalToLogits,
    SignalToScore,
    allowed_of,
    check_graph,
    check_member_graph,
    check_packages,
    to_onnx,
)
from inference.scoring import Scorer
from reporting.pages.card_xml import FILE as CARD_FOR_PROGRAMS
from reporting.pages.card_xml import card_xml
from reporting.pages.model_card import OnnxFile, exported_record, render_model_card
from reporting.publish import publish
from run_folder.descriptions import policy_of
from run_folder.run import Run
from runtime.atomic_files import check_file_to_write, write_atomically, writing
from runtime.command_line import OneLineParser, one_line_errors
from runtime.errors import UserError
from xml_loader import LEADS, N_SAMPLES, SAMPLING_RATE

INTENDED_USE = "research only; not a medical device; must not decide about a patient's care"


def main() -> None:
    """Export the run of the command line."""
    arguments = parse_arguments()
    output = arguments.output
    if output:
        check_output(output, arguments.run)
    if not arguments.hub:
        check_packages()
    scorer = Scorer.load(arguments.run, torch.device("cpu"))
    print(f"{scorer.title} of {arguments.run}", flush=True)
    if arguments.hub:
        publish(arguments.run, scorer, arguments.hub)
        print(f"folder      {arguments.hub}: config.json, weights and README.md, without any patient's data")
        return
    if output:
        export_whole(arguments, scorer)
    else:
        export_members(scorer)


def export_members(scorer: Scorer) -> None:
    """Leave the graph of each model in its folder, for predict.py."""
    for folder, model, description in zip(scorer.folders, scorer.models, scorer.descriptions, strict=True):
        graph = to_onnx(SignalToLogits(model, description), {})
        alone = Scorer(
            [(model, description)], thresholds=description.thresholds, device=scorer.device, folders=[folder]
        )
        difference = check_member_graph(graph, alone, synthetic_signals(), clinical_values_of(alone))
        write_export(Run(folder), graph, model.title, versions())
        print(
            f"graph       {folder / GRAPH}, {len(graph) / 1e6:.1f} MB; scores differ from PyTorch's by at "
            f"most {difference:.1e} ({allowed_of(description):.1g} is allowed)",
            flush=True,
        )


def export_whole(arguments: argparse.Namespace, scorer: Scorer) -> None:
    """Write the run as one graph from millivolts to scores, and the model cards beside it."""
    output = arguments.output
    graph = to_onnx(SignalToScore(scorer), metadata(arguments.run, scorer))
    difference = check_graph(graph, scorer, synthetic_signals(), clinical_values_of(scorer))
    print(
        f"checked     onnxruntime against PyTorch, batches of {' and '.join(map(str, BATCH_SIZES))}: scores "
        f"differ by at most {difference:.1e} ({TOLERANCE:g} is allowed)"
    )
    file = OnnxFile(
        name=output.name,
        sha256=hashlib.sha256(graph).hexdigest(),
        n_bytes=len(graph),
        largest_difference=difference,
        versions=versions(),
    )
    card = render_model_card(arguments.run, scorer, file, evaluation=arguments.evaluation)
    card_for_programs = card_xml(exported_record(arguments.run))
    write(output, graph)
    print(f"graph       {output}, {len(graph) / 1e6:.1f} MB, SHA-256 {file.sha256}")
    write(card_path(output), card.encode("utf-8"))
    write(card_path(output, CARD_FOR_PROGRAMS), card_for_programs.encode("utf-8"))
    print(f"model card  {card_path(output)}; for programs: {card_path(output, CARD_FOR_PROGRAMS)}")
    if sign_columns(scorer.clinical_columns):
        print("note        the ECG signs are inputs of the graph: ecg/signs.py measures them, not the graph")


def parse_arguments() -> argparse.Namespace:
    parser = OneLineParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument(
        "output",
        type=Path,
        nargs="?",
        help="ONNX file to write; the model cards will be beside it (default: for predict.py, in the run)",
    )
    parser.add_argument(
        "--evaluation", type=Path, metavar="DIR", help="folder of evaluate.py, for the card's strata"
    )
    parser.add_argument(
        "--hub", type=Path, metavar="DIR", help="folder to write in the form of Hugging Face, for others"
    )
    arguments = parser.parse_args()
    if arguments.hub and arguments.output:
        parser.error("--hub: found an ONNX file to write too, expected one of them")
    if arguments.evaluation and not arguments.output:
        parser.error("--evaluation: found no file to write, expected one: only its model card has results")
    return arguments


def check_output(output: Path, run: Path) -> None:
    """Refuse what is no name of an ONNX file, and a place that has the card of another file or model."""
    if output.suffix != ".onnx":
        raise UserError(f"{output}: found no name of an ONNX file, expected one that ends in .onnx")
    card, card_for_programs = card_path(output), card_path(output, CARD_FOR_PROGRAMS)
    for path in (output, card, card_for_programs):
        check_file_to_write(path)
    if card.exists():
        text = card.read_text(encoding="utf-8", errors="replace")
        others = None if f"| file | {output.name}," in text else card
    else:  # in the run's own folder, its own
        is_own = not card_for_programs.exists() or output.parent.resolve() == run.resolve()
        others = None if is_own else card_for_programs
    if others:
        raise UserError(f"{output}: found the card of another file, {others}, expected a folder without one")


def card_path(output: Path, name: str = "MODEL_CARD.md") -> Path:
    return output.with_name(name)


def metadata(run: Path, scorer: Scorer) -> dict[str, str]:
    """Return what a program must know besides the graph, as ONNX keeps it: text; lists are JSON."""
    return {
        "run": run.resolve().name,
        "model": scorer.title,
        "intended_use": INTENDED_USE,
        "label_names": json.dumps(scorer.label_names),
        "thresholds": json.dumps(scorer.thresholds),
        "threshold_policy": policy_of(scorer.descriptions),
        "prevalences": json.dumps(scorer.prevalences),
        "clinical_columns": json.dumps(scorer.clinical_columns),
        "leads": json.dumps(LEADS),
        "unit": "mV",
        "sampling_rate": str(SAMPLING_RATE),
        "n_samples": str(N_SAMPLES),
        "versions": json.dumps(versions()),
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that have written and checked the graph."""
    return {"python": platform.python_version()} | {name: version(name) for name in ("torch", *PACKAGES)}


def synthetic_signals() -> np.ndarray:
    """Return ECGs to check with, int16 (5, 12, 5000) in microvolts; in the last, V3 is flat."""
    generator = np.random.default_rng(42)
    simulated = [
        simulate_ecg(draw_patient(generator, pe=number % 2 == 1), generator)[0]
        for number in range(max(BATCH_SIZES))
    ]
    signals = np.rint(1000 * np.stack(simulated)).astype(np.int16)
    signals[-1, LEADS.index("V3")] = 0
    return signals


def clinical_values_of(scorer: Scorer) -> np.ndarray:
    """Return values to check with, float32 (5, n_columns), about as they were in training; some not known."""
    values = np.random.default_rng(42).normal(50, 20, (max(BATCH_SIZES), len(scorer.clinical_columns)))
    values[::2, ::2] = np.nan
    return values.astype(np.float32)


def write(path: Path, content: bytes) -> None:
    with writing(path):
        write_atomically(path, lambda aside: aside.write_bytes(content))


if __name__ == "__main__":
    with one_line_errors():
        main()
