"""What several tests share: small ECG files in the hospital's format, a cohort of twelve synthetic ECGs."""

import functools
import os
import signal

import numpy as np
import pytest
from headless_chromium import CHROMIUM, Browser

from cohorts.synthetic import make_cohort
from ecg.formats.hospital import hospital_xml
from ecg.simulation import MV_PER_COUNT

# The tests compare what the CPU computes, to the bit in places; tests/test_cuda.py alone wants a GPU.
if os.environ.get("TEST_ON_CUDA") != "1":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

# A shell that starts the tests in the background lets them ignore Ctrl-C, and their children with them.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
