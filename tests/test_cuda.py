"""On a GPU: crops, logits, CUDA graphs and resumed trainings are those of the CPU, and of single kernels.

`make cuda` runs these tests, with TEST_ON_CUDA=1: without it tests see no GPU (tests/conftest.py).
`python -m benchmarks.speed.gpu` makes the same comparisons, and measures how fast everything is.
"""

import pytest
import torch

from benchmarks.speed import gpu
from runtime import processes

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU, or TEST_ON_CUDA is not 1")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """63 synthetic ECGs on the GPU, in batches of 15 and 16."""
    options = gpu.options_of(["--device", "cuda", "--ecgs", "63", "--batch-size", "16"])
    return gpu.conditions(options, tmp_path_factory.mktemp("ecgs"))


@pytest.mark.parametrize("compare", gpu.PARTS["right"][1], ids=lambda compare: compare.__name__)
def test_it_is_right(given, compare):
    rows = list(compare(given))
    assert rows and all(row.is_right for row in rows), "\n".join(map(str, rows))


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(torch.cuda.device_count() + 1))
    with pytest.raises(ValueError, match="expected one for each at most"):
        processes.start()
