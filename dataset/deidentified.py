"""ECG files -> copies without anything of the patient, for a report of a defect.

A copy holds lead names, sampling rate and signal, in whole microvolts, under a new name. All else that a file
says (names, ids, dates, ages, free text, the device) is not copied, rather than searched for and removed.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ecg.formats.written import WRITTEN_FORMS
from ecg.recording import MIN_SECONDS
from runtime.atomic_files import write_atomically
from runtime.errors import UserError
from xml_loader import EcgFileError, read_recording


def check_place(sources: Sequence[Path], folder: Path) -> None:
    """Refuse a folder for the copies that is a source, lies within one, or holds something already.

    Parameters
    ----------
    sources : the files and folders of ECGs.

    Raises
    ------
    UserError
    """
    place = folder.resolve()
    for source in map(Path, sources):
        here = source.resolve()
        inside = here == place or here in place.parents if source.is_dir() else here.parent == place
        if inside:
            raise UserError(f"{folder}: found the folder of the ECGs ({source}), expected one outside it")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder}: found files there already, expected an absent or an empty folder")


def deidentify(
    files: Sequence[Path], folder: Path, form: str, min_seconds: float = MIN_SECONDS
) -> Iterator[tuple[Path, str | EcgFileError]]:
    """Write a copy of each file that can be read; yield each file with its copy's name, or why it has none.

    Parameters
    ----------
    folder : as ``check_place`` accepts it; made where it is absent.
    form : a key of ``WRITTEN_FORMS``.
    min_seconds : shortest recording that is copied, in s.

    Raises
    ------
    OSError : the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write = WRITTEN_FORMS[form]
    for number, file in enumerate(files, start=1):
        try:
            contents = write(read_recording(file, min_seconds), f"ecg-{number:04d}")
        except EcgFileError as error:
            yield file, error
            continue
        for name, content in contents.items():
            write_atomically(folder / name, lambda aside, content=content: aside.write_bytes(content))
        yield file, name  # a WFDB header comes last, and is what names the ECG
