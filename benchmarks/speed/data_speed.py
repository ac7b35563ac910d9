"""From files and from the cache to batches: ours, and as published."""

import itertools
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from benchmarks.speed.decoding import read_with_beautifulsoup
from benchmarks.speed.our_training import training_batches
from benchmarks.speed.published_style import N_SAMPLES, PublishedItems, published_loader
from benchmarks.speed.scale import DUPLICATES, measure
from benchmarks.speed.timing import Conditions, Row, drain, number, seconds_of, time_in_turn, times_as_fast
from dataset.decoding import decode
from dataset.signals import SignalsOnDevice, SignalsOnDisk
from ecg.formats.xml_tree import parse_xml
from xml_loader import bring_to_rest, read_recording

BEYOND_PARSER = 3.0  # ms
DUPLICATES_GOAL = 60.0  # s for a million ECGs
AUGMENTATIONS = {  # of the batches, and their names in the table
    "none": "no augmentation",
    "published": "published augmentation",
    "independent": "our augmentation",
}


def reading(given: Conditions) -> list[Row]:
    """Time a file with both readers, in turn on the same files, and an ECG from the cache to the device."""

    def read_next(read: Callable) -> Callable[[], object]:
        paths = itertools.cycle(given.paths)
        return lambda: read(next(paths))

    calls = {"published": read_next(read_with_beautifulsoup), "ours": read_next(decode)}
    times = time_in_turn(calls, given.seconds, given.device)
    published, ours = times["published"], times["ours"]
    relation = times_as_fast(published, ours)
    rows = [
        Row("a file by BeautifulSoup over lxml", 1e3 * published, "ms", "the published way"),
        Row("a file by our loader, at rest and judged", 1e3 * ours, "ms", relation),
    ]
    for name, seconds in gathering(given).items():
        relation = times_as_fast(published, seconds)
        rows.append(Row(f"an ECG from the cache, {name}", 1e3 * seconds, "ms", relation))
    return rows


def beyond_the_parser(given: Conditions) -> list[Row]:
    """Time what reading a file takes beyond the parsing of its XML, in turn on the same files."""
    paths, contents = (
        itertools.cycle(given.paths),
        itertools.cycle([path.read_bytes() for path in given.paths]),
    )
    calls = {
        "read": lambda: bring_to_rest(read_recording(path := next(paths)), path),
        "parse": lambda: parse_xml(next(contents), given.paths[0]),
    }
    times = time_in_turn(calls, given.seconds, given.device)
    relation = f"the parser itself takes {number(1e3 * times['parse'])} ms"
    beyond = 1e3 * (times["read"] - times["parse"])
    return [Row("a file to rest, beyond the XML parser", beyond, "ms", relation, goal=BEYOND_PARSER)]


def finding_duplicates(given: Conditions) -> list[Row]:
    """Time the search for duplicates among many ECGs that have none, in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        seconds, peak = fresh.submit(measure, DUPLICATES, given.duplicates, given.scratch).result()
    goal = DUPLICATES_GOAL * given.duplicates / 1e6
    words = f"{peak:,.0f} MB at most"
    return [Row(f"duplicates among {given.duplicates:,} ECGs", seconds, "s", words, goal=goal)]


def gathering(given: Conditions) -> dict[str, float]:
    """Return the seconds to bring one ECG, int16 (12, 4096), to the device, in batches over all ECGs."""
    order = np.random.default_rng(0).permutation(given.indices)
    chunks = np.array_split(order, -(-len(order) // given.batch_size))
    plan = [(chunk, np.full(len(chunk), 451)) for chunk in chunks]

    def gather(signals: SignalsOnDevice | SignalsOnDisk) -> Callable[[], object]:
        return lambda: drain(signals.crops(plan, N_SAMPLES))

    calls = {name: gather(signals) for name, signals in _placed(given).items()}
    times = time_in_turn(calls, given.seconds, given.device)
    return {name: seconds / len(order) for name, seconds in times.items()}


def batches(given: Conditions) -> list[Row]:
    """Time all ECGs once as batches that a model can take, with and without augmentation."""
    published = {"none": published_seconds(given, False), "published": published_seconds(given, True)}
    published["independent"] = published["published"]
    names = {name: f"published DataLoader, {AUGMENTATIONS[name]}" for name in ("none", "published")}
    rows = [_row(given, words, published[name]) for name, words in names.items()]
    calls = {}
    for place, signals in _placed(given).items():
        for augmentation in AUGMENTATIONS:
            made = training_batches(given, signals, augmentation)
            calls[place, augmentation] = lambda made=made: drain(made.epoch(1))
    for (place, augmentation), seconds in time_in_turn(calls, given.seconds, given.device).items():
        name = f"{place}, {AUGMENTATIONS[augmentation]}"
        rows.append(_row(given, name, seconds, published[augmentation]))
    return rows


def published_seconds(given: Conditions, augmented: bool) -> float:
    """Return the seconds of one pass over all files, the start of the workers included, as published."""
    items = PublishedItems(given.paths, [0] * len(given.paths), augmented=augmented)
    loader = published_loader(items, given)
    return seconds_of(lambda: drain(signal.to(given.device) for signal, _ in loader), given.device)


def _placed(given: Conditions) -> dict[str, SignalsOnDevice | SignalsOnDisk]:
    return {
        "held on the device": SignalsOnDevice(given.cohort.signals, given.device),
        "streamed from disk": SignalsOnDisk(given.cohort.signals, given.device),
    }


def _row(given: Conditions, name: str, seconds: float, published: float | None = None) -> Row:
    n_ecgs = len(given.paths)
    relation = "the published way" if published is None else times_as_fast(published, seconds)
    n_batches = -(-n_ecgs // given.batch_size)
    return Row(name, n_batches / seconds, "batch/s", f"{number(n_ecgs / seconds)} ECG/s; {relation}")
