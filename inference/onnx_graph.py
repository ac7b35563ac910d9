"""From millivolts to scores in one graph: what a finished run computes, for programs without Python.

`SignalToScore` is that computation as a module; `to_onnx` writes it down as ONNX, `check_graph` lets
onnxruntime compute it and compares. The packages onnx, onnxscript and onnxruntime are needed only here.
"""

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from dataset.batches import normalise
from ecg.recording import MILLIVOLTS
from inference.scoring import Scorer
from metrics.log_odds import SMALLEST_SCORE
from run_folder.descriptions import ModelDescription
from runtime.errors import UserError
from xml_loader import LEADS, N_SAMPLES, centre_start

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUT, CLINICAL_INPUT, OUTPUT = "signal_mv", "clinical", "score"
OPSET = 20  # onnxruntime 1.17 and later
TOLERANCE = 1e-4  # of a score, between PyTorch and onnxruntime
BATCH_SIZES = (1, 5)  # that are compared; the graph is traced with another one
LARGEST_LOGIT = -math.log(SMALLEST_SCORE)


class SignalToScore(nn.Module):
    """The models of a run, with all that surrounds them: (N, 12, 5000), in mV -> scores (N, n_labels).

    The input is float32, leads in the order of ``xml_loader.LEADS``, 10 s at 500 Hz. Each member crops the
    centre, normalises as in ``batches.evaluation_input``, and calibrates its logits; the score is the sigmoid
    of their mean, float32 from 0 to 1. There is no autocast: on any device it computes in float32. With
    clinical columns these are a second input, (N, n_columns), float32, nan where a value is not known.

    Parameters
    ----------
    scorer : the models, which are shared with it, not copied.
    """

    def __init__(self, scorer: Scorer):
        super().__init__()
        pairs = zip(scorer.models, scorer.descriptions, strict=True)
        self.clinical_columns = scorer.clinical_columns
        self.members = nn.ModuleList(
            _SignalToLogit(model, description, self.clinical_columns) for model, description in pairs
        )
        self.eval()

    @property
    def input_names(self) -> list[str]:
        """The names of the graph's inputs."""
        return [INPUT, CLINICAL_INPUT] if self.clinical_columns else [INPUT]

    def forward(self, signal_mv: torch.Tensor, clinical: torch.Tensor | None = None) -> torch.Tensor:
        member_logits = [member(signal_mv, clinical) for member in self.members]
        logits = torch.stack(member_logits)  # (n_members, N, n_labels)
        if len(self.members) > 1:  # as in metrics.log_odds.mean_score: a single member is not limited
            logits = logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
        return torch.sigmoid(logits.mean(dim=0))  # (N, n_labels)


class _SignalToLogit(nn.Module):
    """One member: (N, 12, 5000), in mV, and those clinical values that it takes -> calibrated logits."""

    def __init__(self, model: nn.Module, description: ModelDescription, clinical_columns: Sequence[str]):
        super().__init__()
        self.model = model
        self.clinical = [clinical_columns.index(name) for name in description.clinical_columns]
        self.n_samples, self.normalisation = description.n_samples, description.normalisation
        self.register_buffer("slopes", torch.tensor(description.calibration_slopes), persistent=False)
        self.register_buffer("intercepts", torch.tensor(description.calibration_intercepts), persistent=False)

    def forward(self, signal_mv: torch.Tensor, clinical: torch.Tensor | None) -> torch.Tensor:
        start = centre_start(self.n_samples)
        cropped = signal_mv[:, :, start : start + self.n_samples]  # (N, 12, n_samples)
        values = [clinical[:, self.clinical]] if self.clinical else []
        return self.slopes * self.model(normalise(cropped, self.normalisation), *values) + self.intercepts


def check_packages() -> None:
    """Raise a UserError where a package is missing that only ONNX needs."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{error.name}: cannot be imported ({_first_line(error)}); pip install {' '.join(PACKAGES)}"
        ) from None


def to_onnx(module: SignalToScore, metadata: Mapping[str, str]) -> bytes:
    """Return the content of an ONNX file: the graph of any number of ECGs, and its weights.

    The inputs are "signal_mv" and, with clinical columns, "clinical"; the output is "score". ``metadata``
    goes into the file's ``metadata_props``. Nothing else is in the file: the exporter's notes on each node,
    with paths of this computer's source files, are taken out.

    Raises
    ------
    UserError : the exporter cannot write the models down.
    """
    check_packages()
    device = module.members[0].slopes.device
    examples = [torch.zeros(2, len(LEADS), N_SAMPLES, device=device)]
    if module.clinical_columns:
        examples.append(torch.zeros(2, len(module.clinical_columns), device=device))
    batch = {0: torch.export.Dim("batch")}
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                tuple(examples),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=module.input_names,
                output_names=[OUTPUT],
                dynamic_shapes=tuple([batch] * len(examples)),
            )
        _keep_only(program.model, metadata)
        return program.model_proto.SerializeToString()
    except Exception as error:  # tracing runs code that may raise anything
        message = f"torch {torch.__version__} cannot write this run as ONNX ({_first_line(error)})"
        raise UserError(message) from None


def check_graph(
    graph: bytes, scorer: Scorer, signals: np.ndarray, clinical: np.ndarray | None = None
) -> float:
    """Let onnxruntime score ECGs, and return the largest difference from the scores that a run gives them.

    Parameters
    ----------
    signals, clinical : int16, (5, 12, 5000), in microvolts, and float32, (5, n_columns), as `scorer` takes
        them.

    Raises
    ------
    UserError : the graph cannot be computed, or a score differs by more than `TOLERANCE`, or is nan.
    """
    expected = scorer.score(signals, clinical)  # (5, n_labels)
    inputs = {INPUT: signals.astype(np.float32) * np.float32(MILLIVOLTS)}
    if scorer.clinical_columns:
        inputs[CLINICAL_INPUT] = clinical
    found = [
        _score_with_onnxruntime(graph, {name: values[:batch_size] for name, values in inputs.items()})
        for batch_size in BATCH_SIZES
    ]
    for scores, batch_size in zip(found, BATCH_SIZES, strict=True):
        if scores.shape != expected[:batch_size].shape:
            shapes = f"{scores.shape} of {batch_size} ECGs, expected {expected[:batch_size].shape}"
            raise UserError(f"the graph: found scores of shape {shapes}")
    difference = max(float(np.abs(scores - expected[: len(scores)]).max()) for scores in found)
    if not difference <= TOLERANCE:  # so written, nan fails too
        raise UserError(
            f"the graph: found scores that differ by up to {difference:.2g} from PyTorch's, expected at most "
            f"{TOLERANCE:g}"
        )
    return difference


def _first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(lines[0].split())[:300]


def _score_with_onnxruntime(graph: bytes, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    check_packages()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is raised as well
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        return session.run([OUTPUT], dict(inputs))[0]
    except Exception as error:  # its errors have no common class but this one
        message = f"the graph: onnxruntime {onnxruntime.__version__} cannot compute it ({_first_line(error)})"
        raise UserError(message) from None


def _keep_only(model, metadata: Mapping[str, str]) -> None:
    """Take all notes out of an ``onnx_ir.Model``, and put these in."""
    for graph in model.graphs():
        notes: Sequence = [graph, *graph.inputs, *graph.initializers.values()]
        for node in graph:
            notes = [*notes, node, *node.outputs]
        for noted in notes:
            noted.metadata_props.clear()
            noted.doc_string = None
    model.metadata_props.clear()
    model.metadata_props.update(metadata)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings, about its own parts, from the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
