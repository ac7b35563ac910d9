"""What several tests share: small ECG files in the hospital's format, a cohort of twelve synthetic ECGs."""

import functools
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from headless_chromium import CHROMIUM, Browser

from cohorts.synthetic import make_cohort
from ecg.formats.hospital import hospital_xml
from ecg.simulation import MV_PER_COUNT

# The tests compare what the CPU computes, to the bit in places; tests/test_cuda.py alone wants a GPU.
if os.environ.get("TEST_ON_CUDA") != "1":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as scripts that tests start; PyTorch is imported later

# Where two processes take a file at a time, a long one that comes last leaves the other idle. These take 10 s
# of the processor and more; the others follow in their order.
LONGEST = (
    "scripts/test_export.py",
    "scripts/test_train_scripts.py",
    "scripts/test_evaluate.py",
    "scripts/test_folds_at_once.py",
    "runtime/test_processes.py",
    "scripts/test_pretrain.py",
    "reporting/pages/test_run_page.py",
    "scripts/test_inspect_ecgs.py",
    "benchmarks/speed/test_benchmarks.py",
    "scripts/test_first_run.py",
    "scripts/test_kill_and_resume.py",
    "reporting/pages/test_patient_page.py",
    "scripts/test_predict.py",
    "ecg/formats/test_hostile_files.py",
    "reporting/test_ship_trunk.py",
    "scripts/test_search.py",
    "reporting/test_run_report.py",
    "reporting/test_publish.py",
    "scripts/test_ecg_signs.py",
    "dataset/test_clinical.py",
    "benchmarks/speed/test_gpu.py",
    "benchmarks/studies/test_learning_curve.py",
    "scripts/test_missing_leads.py",
)
TESTS = Path(__file__).parent
PLACE = {(TESTS / file).resolve(strict=True): place for place, file in enumerate(LONGEST)}

# A shell that starts the tests in the background lets them ignore Ctrl-C, and their children with them.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    config.option.loadscopereorder = False  # pytest-xdist would begin with the files of the most tests


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: PLACE.get(item.path, len(PLACE)))


@functools.cache
def ecg_file(seed):
    """Return the content of an ECG file: (12, 5000) random counts of up to three digits."""
    counts = np.random.default_rng(seed).integers(-400, 400, (12, 5000))
    return hospital_xml(counts * MV_PER_COUNT).encode("iso-8859-1")


@pytest.fixture
def browser(tmp_path):
    """A headless Chromium; the test is skipped where there is none."""
    if not CHROMIUM:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    browser = Browser(tmp_path / "profile")
    yield browser
    browser.close()


@pytest.fixture
def write_ecgs(tmp_path):
    """Return a function that writes ECG files, each of another content, and gives their folder."""

    def write(files, first_seed=0):
        folder = tmp_path / "ecgs"
        folder.mkdir(exist_ok=True)
        for seed, file in enumerate(files, first_seed):
            (folder / file).write_bytes(ecg_file(seed))
        return folder

    return write


@pytest.fixture(scope="session")
def cohort_folder(tmp_path_factory):
    """A synthetic cohort of 12 ECGs of 9 patients, with labels.csv."""
    folder = tmp_path_factory.mktemp("cohorts") / "twelve"
    make_cohort(folder, n_ecgs=12, n_patients=9, prevalence=0.34, seed=1)
    return folder
