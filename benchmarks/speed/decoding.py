"""Time the reading of ECG files: `xml_loader.py` against BeautifulSoup over lxml, as in the published code.

    python -m benchmarks.speed.decoding FOLDER --files 50        # a folder of ECG files of any format
    PYTHONPATH=. python tests/support/format_writers.py FOLDER   # writes an invented ECG in each format

First, files in the study hospital's format are read by both, in one process on one core, one pass of each in
turn; both must give the same millivolts. Then each format is read by this project only, and last all files of
the folder are decoded into a new cache. Times of a file are processor times, from the best pass, which other
programs on the machine disturb least; that of the cohort is by the clock.
"""

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by NumPy and PyTorch when they are imported
import numpy as np
import torch

from dataset.decoding import decode
from dataset.signal_store.signal_cache import cached_signals
from ecg.recording import LEADS
from runtime.command_line import OneLineParser, one_line_errors
from xml_loader import find_files, read_recording

try:
    from bs4 import BeautifulSoup, FeatureNotFound
except ImportError:
    BeautifulSoup, FeatureNotFound = None, ImportError

PUBLISHED_CROP = slice(451, 4547)  # of the published test set
INSTALL = "this benchmark needs BeautifulSoup and lxml: pip install beautifulsoup4 lxml"


def read_with_xml_loader(path: Path) -> torch.Tensor:
    """Return all samples, float32 (12, n_samples) in mV."""
    return torch.from_numpy(read_recording(path).signal)


def read_with_beautifulsoup(path: Path) -> torch.Tensor:
    """Return 4,096 samples, float32 (12, 4096) in counts, step by step as the published training scripts do.

    They parse the whole file as ISO-8859-1 by lxml's HTML parser, search each lead's channel, split its text,
    crop and convert with float(), and leave the units out
    (https://github.com/joaodsmarques/PE-diagnosis-from-ecgs-Deep-Learning, train_atten.py).
    """
    with open(path, encoding="ISO-8859-1") as handle:
        soup = BeautifulSoup(handle.read(), "lxml")
    rhythm = soup.find("rhythm")
    leads = []
    for lead in LEADS:
        counts = rhythm.find("channel", {"name": lead}).text.split()[PUBLISHED_CROP]
        leads.append(torch.tensor(list(map(float, counts))))
    return torch.stack(leads)


def unit_of_each_lead(path: Path) -> torch.Tensor:
    """Return the file's units, in mV per count, as float32 (12, 1)."""
    rhythm = BeautifulSoup(path.read_bytes(), "lxml").find("rhythm")
    texts = [rhythm.find("channel", {"name": lead}).get("amplitude_unit", "0,0025") for lead in LEADS]
    return torch.tensor([[float(text.replace(",", "."))] for text in texts])


def seconds_per_file(read: Callable[[Path], torch.Tensor], paths: list[Path]) -> float:
    """Return the mean processor time per file, from one pass over all."""
    start = time.process_time()
    for path in paths:
        read(path)
    return (time.process_time() - start) / len(paths)


def compare(paths: list[Path], repeats: int) -> None:
    """Check that both readers agree, time one pass of each in turn, and print the table."""
    for path in paths:  # this also brings the files into the page cache
        published = read_with_beautifulsoup(path) * unit_of_each_lead(path)
        torch.testing.assert_close(read_with_xml_loader(path)[:, PUBLISHED_CROP], published)
    readers = {"xml_loader.py": read_with_xml_loader, "BeautifulSoup over lxml": read_with_beautifulsoup}
    times = {name: [] for name in readers}
    for _ in range(repeats):
        for name, read in readers.items():
            times[name].append(seconds_per_file(read, paths))

    mean_size = sum(path.stat().st_size for path in paths) / len(paths)
    print(f"{len(paths)} files of {mean_size / 1000:.0f} kB, the same millivolts from both; {repeats} passes")
    print(f"{'reader':<26}{'ms/file':>9}{'files/s':>9}{'median ms/file':>16}")
    for name, seconds in times.items():
        best = min(seconds)
        print(f"{name:<26}{best * 1e3:>9.2f}{1 / best:>9.0f}{float(np.median(seconds)) * 1e3:>16.2f}")
    ours, published = (min(seconds) for seconds in times.values())
    print(f"{published / ours:.1f} times as fast")


def require_beautifulsoup() -> None:
    """Exit with one line where BeautifulSoup or the parser that it needs is not installed."""
    if BeautifulSoup is None:
        sys.exit(INSTALL)
    try:
        BeautifulSoup("<ecg/>", "lxml")
    except FeatureNotFound:
        sys.exit(INSTALL)


def time_formats(paths: list[Path], repeats: int) -> None:
    """Time each format among the files: only reading, and with resampling and quality measurements."""
    files_of: dict[str, list[Path]] = {}
    for path in paths:
        files_of.setdefault(read_recording(path).metadata["file_format"], []).append(path)
    print(f"\n{'format':<16}{'files':>6}{'read, ms/file':>16}{'for the cache, ms/file':>26}")
    for file_format, files in sorted(files_of.items()):
        times = [
            min(seconds_per_file(read, files) for _ in range(repeats)) for read in (read_recording, decode)
        ]
        print(f"{file_format:<16}{len(files):>6}{times[0] * 1e3:>16.2f}{times[1] * 1e3:>26.2f}")


def time_cohort(paths: list[Path], workers: int) -> None:
    """Time decoding, judging and caching all files, and opening the cache again."""
    with tempfile.TemporaryDirectory() as cache_dir:
        folder = Path(os.path.commonpath([path.parent.resolve() for path in paths]))
        files = [str(path.resolve().relative_to(folder)) for path in paths]
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            cached = cached_signals(folder, files, cache_dir=cache_dir, workers=workers)
            seconds.append(time.perf_counter() - start)
    n_rejected = (cached.entries["rejected"] != "").sum()
    processes = f"{workers} processes" if workers else "one process per core"
    print(f"\ncohort of {len(files):,} files, {processes}: {seconds[0]:.1f} s to decode and cache, ", end="")
    print(f"{len(files) / seconds[0]:,.0f} files/s; {seconds[1]:.2f} s the second time; {n_rejected} refused")


def main() -> None:
    parser = OneLineParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of ECG files")
    parser.add_argument("--files", type=int, default=20, help="how many to compare (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="passes over all files (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="processes for the cohort; 0: one per core")
    options = parser.parse_args()
    if min(options.files, options.repeats) < 1:
        parser.error("--files and --repeats must be at least 1")
    if not options.folder.is_dir():
        parser.error(f"{options.folder}: found no such folder, expected one of ECG files")
    require_beautifulsoup()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*using an HTML parser to parse an XML document")
    paths, _, problems = find_files([options.folder])
    if problems:
        parser.error(problems[0])
    few = paths[: options.files]
    hospital = [path for path in few if read_recording(path).metadata["file_format"] == "hospital"]
    if hospital:
        compare(hospital, options.repeats)
    time_formats(few, options.repeats)
    time_cohort(paths, options.workers)


if __name__ == "__main__":
    with one_line_errors():
        main()
