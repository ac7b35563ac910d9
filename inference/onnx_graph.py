"""What a finished run computes, as ONNX graphs: for programs without Python, and for `predict.py`.

`SignalToScore` is the whole run as a module, from millivolts to scores. `SignalToLogits` is one model, with
what the likeness to the training ECGs needs; `exported.ExportedScorer` calibrates and joins its logits.
`to_onnx` writes a module down, `check_graph` and `check_member_graph` let onnxruntime compute it and compare.
"""

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from dataset.batches import normalise_
from ecg.recording import MILLIVOLTS
from inference.channel_statistics import ChannelStatistics
from inference.exported import AT_REST, CLINICAL_INPUT, FEATURES, LOGITS, ExportedScorer, session_of
from inference.scoring import Scorer
from metrics.log_odds import SMALLEST_SCORE
from run_folder.descriptions import ModelDescription
from runtime.errors import UserError
from xml_loader import LEADS, N_SAMPLES, centre_start

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUT, OUTPUT = "signal_mv", "score"
OPSET = 20  # onnxruntime 1.17 and later
TOLERANCE = 1e-4  # of a score, between PyTorch and onnxruntime
MEMBER_TOLERANCE = 1e-5  # of one model's score where its calibration does not stretch logits; see allowed_of
FEATURE_TOLERANCE = 1e-4  # of the largest feature
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

    output_names: ClassVar[list[str]] = [OUTPUT]

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
        values = [clinical[:, self.clinical]] if self.clinical else []
        x = _model_input(signal_mv, self.n_samples, self.normalisation)
        return self.slopes * self.model(x, *values) + self.intercepts


class SignalToLogits(nn.Module):
    """One model, from what `predict.py` has: int16 (N, 12, 5000) in µV -> logits (N, n_labels), features.

    The features are those of `ChannelStatistics`, (N, n_features); a model without batch norms has none. With
    clinical columns their values are a second input, as `SignalToScore` takes them.
    """

    def __init__(self, model: nn.Module, description: ModelDescription):
        super().__init__()
        self.model = model
        self.clinical_columns = description.clinical_columns
        self.n_samples, self.normalisation = description.n_samples, description.normalisation
        norms = (nn.modules.batchnorm._BatchNorm,)
        has_features = any(isinstance(module, norms) for module in model.modules())
        self.output_names = [LOGITS, FEATURES] if has_features else [LOGITS]
        self.eval()

    @property
    def input_names(self) -> list[str]:
        """The names of the graph's inputs."""
        return [AT_REST, CLINICAL_INPUT] if self.clinical_columns else [AT_REST]

    def forward(
        self, signal_uv: torch.Tensor, clinical: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        values = [] if clinical is None else [clinical]
        with ChannelStatistics(self.model) as statistics:
            x = _model_input(signal_uv.float() * MILLIVOLTS, self.n_samples, self.normalisation)
            logits = self.model(x, *values)
        return (logits, *statistics.tensors())[: len(self.output_names)]


def _model_input(signal_mv: torch.Tensor, n_samples: int, normalisation: str) -> torch.Tensor:
    """As ``batches.evaluation_input``, from millivolts, with mean and deviation in float64.

    onnxruntime adds up the 49,152 samples one after another: in float32 the input was off by up to 6e-4.
    """
    start = centre_start(n_samples)
    return normalise_(signal_mv[:, :, start : start + n_samples].double(), normalisation).float()


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


def to_onnx(module: SignalToScore | SignalToLogits, metadata: Mapping[str, str]) -> bytes:
    """Return the content of an ONNX file: the graph of any number of ECGs, and its weights.

    Inputs and outputs have the module's names for them, such as "signal_mv" and "score". ``metadata`` goes
    into the file's ``metadata_props``. Nothing else is in the file: the exporter's notes on each node,
    with paths of this computer's source files, are taken out.

    Raises
    ------
    UserError : the exporter cannot write the models down.
    """
    check_packages()
    device = next(module.parameters()).device
    dtype = torch.int16 if AT_REST in module.input_names else torch.float32
    examples = [torch.zeros(2, len(LEADS), N_SAMPLES, dtype=dtype, device=device)]
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
                output_names=module.output_names,
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


def allowed_of(description: ModelDescription) -> float:
    """Return by how much a model's scores may differ: calibration stretches the rounding of its logits."""
    return MEMBER_TOLERANCE * max(1.0, *description.calibration_slopes)


def check_member_graph(graph: bytes, scorer: Scorer, signals: np.ndarray, clinical: np.ndarray) -> float:
    """As `check_graph`, for the graph of a `SignalToLogits`, and a scorer of that model alone.

    Features may differ by `FEATURE_TOLERANCE` of their largest.
    """
    (title,), (description,) = scorer.titles, scorer.descriptions
    exported = ExportedScorer(
        [session_of(graph)], [title], [description], thresholds=scorer.thresholds, folders=scorer.folders
    )
    expected, (features,) = scorer.scores_and_features(signals, clinical)
    largest = max(1.0, float(np.abs(features).max(initial=0)))
    of_scores, of_features = [], []
    for n in BATCH_SIZES:
        scores, (found,) = exported.scores_and_features(signals[:n], clinical[:n])
        of_scores.append(float(np.abs(scores - expected[:, :n]).max()))
        of_features.append(float(np.abs(found - features[:n]).max(initial=0)) / largest)
    limits = {"scores": (of_scores, allowed_of(description)), "features": (of_features, FEATURE_TOLERANCE)}
    for what, (differences, limit) in limits.items():
        if not max(differences) <= limit:
            raise UserError(
                f"the graph: found {what} that differ by up to {max(differences):.2g} from PyTorch's, "
                f"expected at most {limit:g}"
            )
    return max(of_scores)


def _first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(lines[0].split())[:300]


def _score_with_onnxruntime(graph: bytes, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    check_packages()
    import onnxruntime

    try:
        return session_of(graph).run([OUTPUT], dict(inputs))[0]
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
