"""Damage ECG files of every format at random, read them, and see that nothing but EcgFileError comes of it.

    PYTHONPATH=. python tests/support/fuzz.py --cases 10000 --seed 0

The originals are files of each format from `format_writers` and, where the folder that ECG_REAL_DATA names
has `vendor_ecgs/`, the real ones in it. A case takes one, damages it and reads it. It fails if anything but a
recording or an EcgFileError comes of it, if it takes too long or too much memory, if the recording or the ECG
at rest has a wrong shape or type, or if the error names the patient. The file is then kept, and the seed and
the number of the case, which determine it, are printed.

It prints for each format how many were read and refused, and how many of those that were read gave another
ECG than the original, without and with a warning: only GE MUSE, SCP-ECG and WFDB have checksums. One core of
a server reads about 50 a second.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io
from format_writers import FAMILY_NAME, GIVEN_NAME, PATIENT_ID, WRITERS
from tqdm import tqdm

import xml_loader
from ecg.formats import DEFECT, companion_files
from ecg.recording import EcgFileError

MAX_MEGABYTES = 500
SAMPLING_RATE, N_SAMPLES = 250, 2100  # 8.4 s
SUFFIXES = {"DICOM": ".dcm", "SCP-ECG": ".scp", "WFDB": ".hea", "EDF": ".edf", "CSV": ".csv", "NumPy": ".npz"}
SUFFIXES |= {"MATLAB": ".mat", "HDF5": ".h5"}
TEXTS = (".hea", ".csv", ".yml")  # read word by word
PATIENT = re.compile(rf"\b(?:{FAMILY_NAME}|{GIVEN_NAME}|{PATIENT_ID})\b")
OUTCOMES = ("read", "another ECG", "with a warning", "refused")

VALUES = ["", "0", "-1", "1", "NaN", "inf", "1e309", "-1e309", "1e-320", "2147483648", "9" * 30, "9" * 5000]
VALUES += [
    "text",
    "0,5",
    "1.000,5",
    "é",
    "٣",
    "\t",
    "&#0;",
    "&lt;",
    "mV",
    "uV",
    "II",
    "0x10",
    "1_0",
    "- 1",
    "+",
]
INTEGERS = [0, 1, -1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
TAG = re.compile(r"<[^<>]*>")
VALUE = re.compile(r"""(?<=>)[^<>]{1,60}(?=<)|(?<==")[^"<>]*(?=")""")
ATTRIBUTE = re.compile(r"""\s[\w:]+="[^"<>]*\"""")
PAYLOAD = re.compile(r"[A-Za-z0-9+/=\s,-]{1000,}")
WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Original:
    """A file that is read, and what lies beside it.

    Attributes
    ----------
    file_format : str
    files : dict of str to bytes
        By name; the first is the one that is read.
    at_rest : int16 ndarray of shape (12, 5000)
    """

    file_format: str
    files: dict[str, bytes]
    at_rest: np.ndarray


class TooSlow(BaseException):
    """Raised in a reader that takes too long; no `except Exception` stops it."""


# Originals


def written_originals(folder: Path) -> list[Original]:
    counts = np.random.default_rng(0).integers(-400, 400, (12, N_SAMPLES))
    one, two = counts[:2] = counts[:2] // 2 * 10  # even, so that the derived limb leads are whole numbers
    counts[2:6] = two - one, -(one + two) // 2, one - two // 2, two - one // 2
    originals = []
    variants = {
        "NumPy, NPY": write_npy,
        "MATLAB, compressed": write_compressed_mat,
        "MATLAB, version 4": write_mat_4,
    }
    for file_format, write in (WRITERS | variants).items():
        path = folder / file_format / f"ecg{SUFFIXES.get(file_format.split(',')[0], '.xml')}"
        path.parent.mkdir()
        write(path, counts[:8] if file_format == "GE MUSE" else counts, sampling_rate=SAMPLING_RATE)
        originals.append(original(file_format, [path, *companion_files(path, path.read_bytes())]))
    return originals


def write_npy(path, counts, **stated):
    WRITERS["NumPy"](path, counts, **stated)
    with open(path, "wb") as handle:
        np.save(handle, counts.astype(np.int16))


def write_compressed_mat(path, counts, **stated):
    WRITERS["MATLAB"](path, counts, **stated)
    scipy.io.savemat(path, {"note": "a text", "ecg": counts.astype(float)}, do_compression=True)


def write_mat_4(path, counts, **stated):
    WRITERS["MATLAB"](path, counts, **stated)
    scipy.io.savemat(path, {"val": counts.astype(np.int16)}, format="4")


def real_originals() -> list[Original]:
    folder = Path(os.environ.get("ECG_REAL_DATA", ""), "vendor_ecgs")
    paths = sorted(path for path in folder.glob("*") if path.suffix in (".xml", ".dcm"))
    file_formats = [xml_loader.read_recording(path).metadata["file_format"] for path in paths]
    return [
        original(f"{file_format}, real", [path])
        for file_format, path in zip(file_formats, paths, strict=True)
    ]


def original(file_format: str, paths: list[Path]) -> Original:
    at_rest = xml_loader.read_at_rest(paths[0])
    return Original(file_format, {path.name: path.read_bytes() for path in paths}, at_rest)


# Damage to bytes: each function takes the content and a generator, and returns the content that is damaged


def a_position(content: bytes, generator: np.random.Generator) -> int:
    """Return a position anywhere, or often in the beginning, where the structure is."""
    end = len(content) if generator.random() < 0.6 else min(len(content), 1500)
    return int(generator.integers(0, max(1, end)))


def a_length(generator: np.random.Generator, longest: int = 5000) -> int:
    return int(np.exp(generator.uniform(0, np.log(longest))))


def flip_bits(content, generator):
    damaged = bytearray(content)
    for _ in range(a_length(generator, 20)):
        damaged[a_position(content, generator)] ^= 1 << int(generator.integers(8))
    return bytes(damaged)


def overwrite_bytes(content, generator):
    start, length = a_position(content, generator), a_length(generator)
    return content[:start] + generator.bytes(length) + content[start + length :]


def fill_bytes(content, generator):
    start, length = a_position(content, generator), a_length(generator)
    return content[:start] + bytes([generator.choice([0, 255, 32])]) * length + content[start + length :]


def overwrite_integer(content, generator):
    start, size = a_position(content, generator), int(generator.choice([1, 2, 4]))
    value = int(generator.choice(INTEGERS)) & (256**size - 1)
    return content[:start] + value.to_bytes(size, "little") + content[start + size :]


def insert_bytes(content, generator):
    start = a_position(content, generator)
    return content[:start] + generator.bytes(a_length(generator, 100)) + content[start:]


def delete_bytes(content, generator):
    start = a_position(content, generator)
    return content[:start] + content[start + a_length(generator) :]


def truncate(content, generator):
    return content[: a_position(content, generator)]


def duplicate_block(content, generator):
    start, length, target = (
        a_position(content, generator),
        a_length(generator),
        a_position(content, generator),
    )
    return content[:target] + content[start : start + length] + content[target:]


def swap_blocks(content, generator):
    one, two = sorted(a_position(content, generator) for _ in range(2))
    length = min(a_length(generator), two - one)
    first, second = content[one : one + length], content[two : two + length]
    return content[:one] + second + content[one + length : two] + first + content[two + length :]


# Damage to text: as above, of a str


def replace(text, match, replacement):
    return text if match is None else text[: match.start()] + replacement + text[match.end() :]


def any_match(pattern, text, generator):
    matches = list(pattern.finditer(text))
    return matches[generator.integers(len(matches))] if matches else None


def an_element(text, generator):
    """Return the span of an element, all that is in it included."""
    tag = any_match(re.compile(r"<([\w.:]+)[^<>]*>"), text, generator)
    if tag is None or tag[0].endswith("/>"):
        return (0, 0) if tag is None else tag.span()
    end = text.find(f"</{tag[1]}>", tag.end())
    return tag.start(), (tag.end() if end < 0 else end + len(tag[1]) + 3)


def rename_tag(text, generator):
    tag = any_match(TAG, text, generator)
    other = any_match(TAG, text, generator)
    return replace(text, tag, other[0] if generator.random() < 0.5 else tag[0].swapcase()) if tag else text


def rename_everywhere(text, generator):
    names = sorted(set(re.findall(r"<([\w.:]+)", text)))
    if not names:
        return text
    one, other = generator.choice(names), generator.choice([*names, "x", names[0].upper()])
    return re.sub(rf"(?<=[</]){re.escape(one)}\b", lambda _: str(other), text)


def remove_tag(text, generator):
    return replace(text, any_match(TAG, text, generator), "")


def remove_element(text, generator):
    start, end = an_element(text, generator)
    return text[:start] + text[end:]


def duplicate_element(text, generator):
    start, end = an_element(text, generator)
    target = any_match(TAG, text, generator)
    place = end if target is None or generator.random() < 0.6 else target.end()
    return text[:place] + text[start:end] * int(generator.choice([1, 2, 20])) + text[place:]


def swap_elements(text, generator):
    (one, one_end), (two, two_end) = sorted(an_element(text, generator) for _ in range(2))
    if one_end > two:
        return text
    return text[:one] + text[two:two_end] + text[one_end:two] + text[one:one_end] + text[two_end:]


def remove_attribute(text, generator):
    return replace(text, any_match(ATTRIBUTE, text, generator), "")


def duplicate_attribute(text, generator):
    match = any_match(ATTRIBUTE, text, generator)
    return replace(text, match, match[0] + match[0].upper()) if match else text


def change_value(text, generator):
    return replace(text, any_match(VALUE, text, generator), str(generator.choice(VALUES)))


def copy_value(text, generator):
    """Put another value in a value's place; not the patient's name, as errors quote what is no number."""
    one, other = any_match(VALUE, text, generator), any_match(VALUE, text, generator)
    return replace(text, one, other[0]) if one and not PATIENT.search(other[0]) else text


def change_word(text, generator):
    match = WORD.search(text, int(generator.integers(len(text) + 1)))
    return replace(text, match, str(generator.choice(VALUES)))


def cut_payload(text, generator):
    match = any_match(PAYLOAD, text, generator)
    kept = "" if match is None else match[0][: int(generator.integers(len(match[0])))]
    return replace(text, match, kept)


OF_BYTES = [flip_bits, overwrite_bytes, fill_bytes, overwrite_integer, insert_bytes, delete_bytes, truncate]
OF_BYTES += [duplicate_block, swap_blocks]
OF_XML = [rename_tag, rename_everywhere, remove_tag, remove_element, duplicate_element, swap_elements]
OF_XML += [
    remove_attribute,
    duplicate_attribute,
    change_value,
    change_value,
    copy_value,
    change_word,
    cut_payload,
]


def damage(files: dict[str, bytes], generator: np.random.Generator) -> tuple[dict[str, bytes], list[str]]:
    """Return the files after one, two or three kinds of damage to one of them, and the names of these."""
    name = str(generator.choice(list(files)))
    content, kinds = files[name], []
    is_xml, is_words = name.endswith(".xml"), name.endswith(TEXTS)
    for _ in range(int(generator.choice([1, 1, 1, 2, 3]))):
        choices = OF_XML if is_xml and generator.random() < 0.7 else OF_BYTES
        choices = [change_word] if is_words and generator.random() < 0.6 else choices
        kind: Callable = choices[generator.integers(len(choices))]
        kinds.append(f"{kind.__name__} of {name}")
        if not content:
            break
        content = kind(content, generator) if kind in OF_BYTES else as_text(kind, content, generator)
    return files | {name: content}, kinds


def as_text(kind: Callable, content: bytes, generator: np.random.Generator) -> bytes:
    """Damage text in the encoding that its mark tells; in Latin-1, each byte is a character."""
    if content.startswith(b"\xff\xfe"):
        text = content[: len(content) // 2 * 2].decode("utf-16-le", "surrogatepass")
        return kind(text, generator).encode("utf-16-le", "surrogatepass")
    return kind(content.decode("latin-1"), generator).encode("latin-1", "xmlcharrefreplace")


# Reading


def outcome_of(path: Path, at_rest: np.ndarray, seconds: float) -> str:
    """Read a damaged file; return one of `OUTCOMES`.

    Raises
    ------
    AssertionError, TooSlow, or whatever but EcgFileError the reader raises
    """
    try:
        with time_limit(seconds):
            recording = xml_loader.read_recording(path)
            check_recording(recording)
            rest = xml_loader.bring_to_rest(recording, path).signal
    except EcgFileError as error:
        message = str(error)
        assert message.isprintable() and len(message) < 1300 and "; expected " in message, "not one line"
        assert not PATIENT.search(message), f"the patient is named: {message}"
        assert "MemoryError" not in message, "out of memory"
        assert DEFECT not in message, f"a defect: {message}"
        return "refused"
    assert rest.dtype == np.int16 and rest.shape == (12, 5000), f"{rest.dtype} {rest.shape} at rest"
    if np.array_equal(rest, at_rest):
        return "read"
    return "with a warning" if recording.metadata["warnings"] else "another ECG"


def check_recording(recording: xml_loader.Recording) -> None:
    shape, dtype = np.shape(recording.signal), recording.signal.dtype
    assert dtype == np.float32 and len(shape) == 2 and shape[0] == 12, f"a signal of {dtype} {shape}"
    assert shape[1] >= 8 * recording.sampling_rate, f"{shape[1]} samples at {recording.sampling_rate} Hz"
    assert np.isfinite(recording.signal).all(), "not finite"
    assert not PATIENT.search(str(recording.metadata)), "the metadata name the patient"


@contextmanager
def time_limit(seconds: float):
    """Raise TooSlow after so many seconds of the processor, or five times as many of the clock."""

    def stop(*_):
        raise TooSlow(f"more than {seconds:g} s")

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 5 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def fuzz(
    originals: list[Original], n_cases: int, seed: int, seconds: float, kept: Path, progress: bool = False
) -> tuple[Counter, list[str]]:
    """Return how often each (format, outcome) occurred, and a line for each case that failed."""
    outcomes, failures = Counter(), []
    with tempfile.TemporaryDirectory() as root:
        for case in tqdm(range(n_cases), unit="case", disable=None if progress else True, leave=False):
            generator = np.random.default_rng([seed, case])
            chosen = originals[generator.integers(len(originals))]
            files, kinds = damage(chosen.files, generator)
            folder = keep(files, Path(root, str(case)))
            before = peak_megabytes()
            try:
                outcome = outcome_of(Path(folder, next(iter(files))), chosen.at_rest, seconds)
                growth = peak_megabytes() - before
                assert growth < MAX_MEGABYTES, f"{growth:.0f} MB more memory"
            except (Exception, TooSlow) as error:
                outcome = "failed"
                place = keep(files, kept / f"{seed}_{case}")
                what = f"{type(error).__name__}: {error}"
                failures.append(
                    f"seed {seed}, case {case}, {chosen.file_format}, {', '.join(kinds)}, {place}: {what}"
                )
            outcomes[chosen.file_format, outcome] += 1
            shutil.rmtree(folder)
    return outcomes, failures


def keep(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def table(outcomes: Counter) -> str:
    """Return a line for each format; "read" counts all that were read."""
    lines = [f"{'format':<24}{'cases':>8}{'read':>8}{'another ECG':>13}{'with a warning':>16}{'refused':>9}"]
    for file_format in dict.fromkeys(sorted(file_format for file_format, _ in outcomes)):
        same, other, warned, refused = (outcomes[file_format, outcome] for outcome in OUTCOMES)
        cases = sum(n for (its_format, _), n in outcomes.items() if its_format == file_format)
        lines.append(
            f"{file_format:<24}{cases:>8}{same + other + warned:>8}{other:>13}{warned:>16}{refused:>9}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--files", type=Path, default=Path("fuzz_failures"), help="where files that fail are kept"
    )
    parser.add_argument("--seconds-per-case", type=float, default=2.0, help="of the processor")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        originals = written_originals(Path(folder)) + real_originals()
    outcomes, failures = fuzz(
        originals, args.cases, args.seed, args.seconds_per_case, args.files, progress=True
    )
    print(table(outcomes))
    print(*failures, sep="\n")
    sys.exit(f"{len(failures)} of {args.cases} cases failed" if failures else 0)


if __name__ == "__main__":
    main()
