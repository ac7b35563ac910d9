"""The most confident errors of a run, drawn on ECG paper."""

from dataclasses import dataclass, replace

import numpy as np

from dataset.signal_store.file_identity import digest_of
from ecg.recording import LEAST_LEADS, LEAST_SECONDS
from reporting.figures.ecg_paper import draw_ecg
from reporting.pages.page_parts import png_source
from reporting.words.cohort_flow import age_and_sex
from run_folder.run_record import RunRecord, most_confident_errors
from xml_loader import read_recording


@dataclass(frozen=True)
class ErrorCase:
    """An ECG on the wrong side of its threshold.

    Attributes
    ----------
    file : as the labels table has it.
    missed : whether it has the disease and was not flagged; else it was flagged in vain.
    score, threshold : floats
    patient : age and sex, where `splits.csv` has them; else "".
    picture : a PNG as a data URI, or "" where the ECG could not be drawn.
    problem : why not, or "".
    """

    file: str
    missed: bool
    score: float
    threshold: float
    patient: str
    picture: str = ""
    problem: str = ""

    def in_words(self, name: str) -> str:
        """Return text such as "with PE, missed: score 0.029, threshold 0.15; 67 years, M"."""
        kind = f"with {name}, missed" if self.missed else f"without {name}, flagged"
        patient = f"; {self.patient}" if self.patient else ""
        score, threshold = format_apart(self.score, self.threshold)
        return f"{kind}: score {score}, threshold {threshold}{patient}"


def confident_errors(record: RunRecord, name: str, *, drawn: bool = True) -> list[ErrorCase]:
    """Return the missed ECGs with the lowest scores, then the false alarms with the highest, five in all.

    Parameters
    ----------
    name : of the label
    drawn : whether to read and draw the ECGs, which takes a third of a second each.
    """
    chosen = most_confident_errors(record.scored_ecgs(name))
    return [_error_case(record, row, name, drawn) for row in chosen.itertuples(index=False)]


def _error_case(record: RunRecord, row: tuple, name: str, drawn: bool) -> ErrorCase:
    case = ErrorCase(
        file=str(row.file),
        missed=bool(row.y_true == 1),
        score=float(row.y_score),
        threshold=float(row.threshold),
        patient=age_and_sex(record.splits, row.file),
    )
    if not drawn:
        return case
    try:
        return replace(case, picture=_draw(record, case, name))
    except (OSError, ValueError):  # an EcgFileError is a ValueError; it may quote the file: not shown
        gone = not (record.data_dir / case.file).exists()
        why = f"the file is no longer in {record.data_dir}" if gone else "the file can no longer be read"
        return replace(case, problem=why)
    except _OtherContentError:
        return replace(case, problem=f"the file in {record.data_dir} holds another ECG than was scored")


class _OtherContentError(Exception):
    """A file of this name is there, but its content is not the one that was scored."""


def _draw(record: RunRecord, case: ErrorCase, name: str) -> str:
    """Return the ECG that the model saw, on paper, as a data URI."""
    path = record.data_dir / case.file
    rows = record.splits[record.splits["file"] == case.file]
    if "digest" in rows and digest_of(path) not in set(rows["digest"]):
        raise _OtherContentError
    recording = read_recording(path, LEAST_SECONDS, LEAST_LEADS)
    start = round(float(record.hyperparameters.get("window_start") or 0) * recording.sampling_rate)
    figure = draw_ecg(
        np.asarray(recording.signal)[:, start:],
        recording.sampling_rate,
        title=case.file,
        notes=[case.in_words(name)],
        missing=recording.metadata["missing"],
    )
    return png_source(figure)


def format_apart(score: float, threshold: float) -> tuple[str, str]:
    """Return both with three digits, or with as many as it takes to show that a lower score is lower."""
    n_digits = 3
    while score < threshold and f"{score:.{n_digits}g}" == f"{threshold:.{n_digits}g}":
        n_digits += 1
    return f"{score:.{n_digits}g}", f"{threshold:.{n_digits}g}"
