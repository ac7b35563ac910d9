"""Twelve columns or rows of numbers from any file, and what is stated about them -> `Recording`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ecg.formats.ecg_file import EcgFile
from ecg.formats.statement import STATEMENT_FILE, Statement, microvolts_of, statement_file
from ecg.recording import EcgFileError, PathLike, Recording, assemble, one_line, quote, standard_lead

MAX_NUMBERS = 7_500_000  # 12 leads at 500 Hz for 20 min
MAX_DIMENSIONS = 8  # of an array; two of them are longer than 1
MIN_MICROVOLTS = 50.0  # peak to peak, of the largest lead; below, no ECG can be seen
MAX_MICROVOLTS = 100_000.0  # peak to peak; no ECG reaches it, but one that is taken 1,000 times too large


def array_of(arrays: Mapping[str, tuple[int, ...]], statement: Statement, file: EcgFile, what: str) -> str:
    """Return the name of the array that holds the ECG: the stated one, or the only one of two dimensions.

    Parameters
    ----------
    arrays : dict of name to shape
        All arrays of numbers that the file has.
    """
    names = ", ".join(quote(name) for name in list(arrays)[:8]) or "none"
    if statement.variable is not None:
        if statement.variable in arrays:
            return statement.variable
        found = f"{what} without the array {quote(statement.variable)} of {STATEMENT_FILE} (it has {names})"
        raise EcgFileError(file.path, found, "the name of an array of numbers")
    plausible = [name for name, shape in arrays.items() if min(_squeezed(shape), default=0) > 1]
    plausible = [name for name in plausible if len(_squeezed(arrays[name])) == 2] or plausible
    if len(plausible) != 1:
        several = f"{len(plausible)} arrays that may be the ECG" if plausible else "no array of twelve leads"
        found = f"{what} with {several} (it has {names})"
        raise EcgFileError(file.path, found, f"one, or its name as 'variable' in {STATEMENT_FILE}")
    return plausible[0]


def check_array(shape: Sequence[int], dtype: np.dtype, file: EcgFile) -> None:
    """Refuse an array before it is read: not of real numbers, not of two dimensions, or too large."""
    if dtype.kind not in "iuf":
        kind = "pickled Python objects, which are never loaded" if dtype.hasobject else quote(str(dtype))
        raise EcgFileError(file.path, f"an array of {kind}", "an array of real numbers")
    odd = len(shape) > MAX_DIMENSIONS or any(isinstance(length, bool) for length in shape)
    if odd or len(_squeezed(shape)) != 2 or min(shape) < 1:
        found = f"an array of shape {_shape(shape)}"
        raise EcgFileError(file.path, found, "twelve rows or columns of one ECG")
    if any(length > MAX_NUMBERS for length in shape) or np.prod([float(n) for n in shape]) > MAX_NUMBERS:
        raise EcgFileError(
            file.path, f"an array of shape {_shape(shape)}", f"at most {MAX_NUMBERS:,} numbers"
        )


def recording_of_array(file_format: str, array: np.ndarray, statement: Statement, file: EcgFile) -> Recording:
    """Return the ECG in an array of shape (n_leads, n_samples) or (n_samples, n_leads), leads as stated."""
    check_array(array.shape, array.dtype, file)
    array = array.reshape(_squeezed(array.shape))
    if statement.leads is None:
        raise EcgFileError(
            file.path,
            f"numbers whose leads neither the file nor {statement_file(file.path)} names",
            "a line 'leads: standard' (I, II, III, aVR, aVL, aVF, V1 to V6), or with a list of names",
        )
    axes = [axis for axis in (0, 1) if array.shape[axis] == len(statement.leads)]
    if len(axes) != 1:
        found = f"an array of shape {_shape(array.shape)}"
        raise EcgFileError(
            file.path, found, f"{len(statement.leads)} rows or columns, one for each stated lead"
        )
    rows = np.moveaxis(array, axes[0], 0)
    return recording_of_rows(file_format, statement.leads, rows, statement, file)


@np.errstate(over="ignore", invalid="ignore")  # what becomes infinite or NaN is refused with a clear error
def recording_of_rows(
    file_format: str,
    names: Sequence[str],
    rows: Sequence[np.ndarray],
    statement: Statement,
    file: EcgFile,
    units: Sequence[str | None] | None = None,
) -> Recording:
    """Return the ECG of rows of numbers, one per lead.

    Parameters
    ----------
    names : one per row; what is not a lead is left out.
    units : one per row, such as "mV", where the file has them; they must agree with what is stated.

    Raises
    ------
    EcgFileError
        As `recording.assemble`, no unit, two units, or voltages that no ECG has.
    """
    channels, scales, dtypes = [], {}, set()
    for number, (name, row) in enumerate(zip(names, rows, strict=True)):
        if standard_lead(name) is None:
            channels.append((name, np.empty(0)))
            continue
        scales[name] = _scale(name, units[number] if units else None, statement, file.path)
        dtypes.add(np.asarray(row).dtype.kind)
        channels.append((name, np.asarray(row, np.float64) * (scales[name] / 1000)))
    if not scales:
        found = f"columns or rows named {', '.join(quote(name) for name in names[:12])}"
        raise EcgFileError(file.path, found, "the leads of a 12-lead ECG")
    whole = dtypes <= {"i", "u"} and len(set(scales.values())) == 1
    recording = assemble(
        file_format,
        channels,
        statement.sampling_rate,
        file.path,
        microvolts_per_count=next(iter(scales.values())) if whole else None,
    )
    _check_voltage(recording, file.path)
    return recording


def _scale(name: str, unit: str | None, statement: Statement, path: PathLike) -> float:
    """Return the microvolts of a number 1 in a row, by the file's own unit and the stated one."""
    own = None if unit is None else microvolts_of(unit, f"unit of {one_line(name, 20)}", path)
    if own is None and statement.microvolts is None:
        raise EcgFileError(path, f"no unit in {statement_file(path)}", "a line such as 'unit: mV'")
    if own is not None and statement.microvolts not in (None, own):
        found = f"lead {quote(name)} in {quote(unit)}, but another unit in {statement_file(path)}"
        raise EcgFileError(path, found, "one unit")
    return statement.microvolts if own is None else own


def _check_voltage(recording: Recording, path: PathLike) -> None:
    """Refuse what is wrong by a factor of a thousand; quality checks judge what is closer to an ECG."""
    largest = 1000 * float(np.ptp(recording.signal, axis=1).max())
    if 0 < largest < MIN_MICROVOLTS or largest > MAX_MICROVOLTS:
        found = (
            f"voltages of {largest / 1000:.4g} mV from peak to peak, by the unit in {statement_file(path)}"
        )
        raise EcgFileError(
            path, found, f"{MIN_MICROVOLTS / 1000:g} to {MAX_MICROVOLTS / 1000:g} mV: is the unit right?"
        )


def _squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(length for length in shape if length != 1)


def _shape(shape: Sequence[int]) -> str:
    return one_line(f"({', '.join(map(str, shape[:8]))})", 80)
