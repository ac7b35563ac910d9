"""The models of a finished run as ``export.py RUN`` leaves them for `predict.py`, computed by onnxruntime.

PyTorch, which takes two seconds to import, is not needed. Each model's folder then holds ``scoring.onnx``,
the graph of an `onnx_graph.SignalToLogits`, and ``scoring.json``, which says what it was made of; an export
of other weights, or a damaged one, is not used.
"""

import hashlib
import importlib.util
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dataset.reading_ahead import n_cores
from inference.members import Members, read_members
from run_folder.descriptions import ModelDescription
from run_folder.files import RunFiles
from runtime.errors import UserError, one_line, reason
from runtime.messages import counted

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from run_folder.run import Run

GRAPH, RECORD = "scoring.onnx", "scoring.json"
AT_REST, CLINICAL_INPUT = "signal_uv", "clinical"  # inputs of the graph
LOGITS, FEATURES = "logits", "features"  # its outputs
COMPUTED = ("model", "arguments", "label_names", "n_samples", "normalisation", "clinical_columns")


class NotExportedError(UserError):
    """A run has no export that can be used; the line says why."""


@dataclass(frozen=True, kw_only=True)
class ExportRecord:
    """``scoring.json``: what ``scoring.onnx`` is.

    Attributes
    ----------
    title : name of the model, for a reader.
    made_of : SHA-256 of the weights and of what else decides the logits; see `made_of`.
    sha256 : of the graph.
    packages : versions of what has written and checked it.
    """

    title: str
    made_of: str
    sha256: str
    packages: dict[str, str]


def made_of(folder: Path, description: ModelDescription) -> str:
    """Return the SHA-256 of a model's file of weights, and of what its description says of logits."""
    said = json.dumps([getattr(description, name) for name in COMPUTED], sort_keys=True)
    digest = hashlib.sha256(said.encode())
    digest.update(RunFiles(folder).read("model.safetensors", Path.read_bytes, "the weights of a run"))
    return digest.hexdigest()


def write_export(run: "Run", graph: bytes, title: str, packages: dict[str, str]) -> None:
    """Leave the graph of a run's model in its folder."""
    record = ExportRecord(
        title=title,
        made_of=made_of(run.folder, run.load_description()),
        sha256=hashlib.sha256(graph).hexdigest(),
        packages=packages,
    )
    run.write_file(GRAPH, lambda aside: aside.write_bytes(graph))
    run.write_text(RECORD, json.dumps(asdict(record), indent=2) + "\n")


def has_export(folder: Path) -> bool:
    """Return whether a model of a run, or of an ensemble, has an export, be it of these weights or not."""
    return any((member / GRAPH).exists() for member in read_members(folder)[0])


class ExportedScorer(Members):
    """One or several exported models that score ECGs together, as `scoring.Scorer` does in float32.

    Parameters
    ----------
    sessions, titles, descriptions : of the members.
    """

    def __init__(
        self,
        sessions: "Sequence[InferenceSession]",
        titles: Sequence[str],
        descriptions: Sequence[ModelDescription],
        *,
        thresholds: Sequence[float],
        folders: Sequence[Path],
    ):
        super().__init__(descriptions, thresholds=thresholds, folders=folders)
        self._sessions, self._titles = list(sessions), list(titles)

    @classmethod
    def load(cls, folder: Path) -> "ExportedScorer":
        """Load the exports of all models of a finished run, a cross-validation or an ensemble.

        Raises
        ------
        NotExportedError : one is missing, damaged or of other weights, or onnxruntime is not installed.
        UserError : the folder cannot score.
        """
        folders, descriptions, thresholds = read_members(folder)
        if importlib.util.find_spec("onnxruntime") is None:
            raise NotExportedError(
                "onnxruntime: found no such package, expected it for a run that was exported: pip install "
                "onnxruntime"
            )
        again = f"python export.py {folder} makes it"
        pairs = zip(folders, descriptions, strict=True)
        exports = [_read_export(member, description, again) for member, description in pairs]
        titles, graphs = zip(*exports, strict=True)
        sessions = [
            _open(member / GRAPH, graph, again) for member, graph in zip(folders, graphs, strict=True)
        ]
        return cls(sessions, titles, descriptions, thresholds=thresholds, folders=folders)

    @property
    def engine(self) -> str:
        """What computes, for a reader."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}, {GRAPH} of {counted(len(self._sessions), 'model')}"

    @property
    def titles(self) -> list[str]:
        return self._titles

    def member_logits(self, signals: np.ndarray, clinical: np.ndarray | None = None) -> list[np.ndarray]:
        return self.logits_and_features(signals, clinical)[0]

    def logits_and_features(
        self, signals: np.ndarray, clinical: np.ndarray | None
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        all_logits, all_features = [], []
        for session, description in zip(self._sessions, self.descriptions, strict=True):
            inputs = {AT_REST: signals}
            if description.clinical_columns:
                inputs[CLINICAL_INPUT] = self.clinical_values_of(description, clinical)
            logits, *features = session.run(None, inputs)
            all_logits.append(logits.astype(np.float64))
            all_features.append(features[0] if features else np.empty((0, 0), np.float32))
        return all_logits, all_features


def session_of(graph: bytes) -> "InferenceSession":
    """Return a session of onnxruntime that computes a graph, with as many threads as PyTorch would take."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is raised as well
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or n_cores())
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _read_export(folder: Path, description: ModelDescription, again: str) -> tuple[str, bytes]:
    """Return title and graph of one exported model."""
    path = folder / GRAPH
    try:
        record = ExportRecord(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
        graph = path.read_bytes()
    except (OSError, ValueError, TypeError) as error:
        raise NotExportedError(f"{path}: found no usable export ({reason(error)}); {again}") from None
    if record.sha256 != hashlib.sha256(graph).hexdigest():
        raise NotExportedError(f"{path}: found another checksum than when it was written; {again}")
    if record.made_of != made_of(folder, description):
        raise NotExportedError(f"{path}: found the export of other weights than model.safetensors; {again}")
    return record.title, graph


def _open(path: Path, graph: bytes, again: str) -> "InferenceSession":
    try:
        return session_of(graph)
    except Exception as error:  # its errors have no common class but this one
        message = f"{path}: found a graph that onnxruntime cannot compute ({one_line(error)}); {again}"
        raise NotExportedError(message) from None
