# make demo   train the 1D attention model on the synthetic demo cohort
# make test   run the tests
# make check-install   compute golden outputs again: does this installation compute what it should?
# make cuda   run the tests that need a GPU; the others see none
# make fuzz   read 10,000 files that are damaged at random; 4 minutes
# All make .venv first, with the pinned dependencies.

PYTHON ?= python3
DEMO_EPOCHS = 12

.PHONY: demo test check-install cuda fuzz lint

demo: .venv/installed
	.venv/bin/python train_atten.py --epochs $(DEMO_EPOCHS)

test: .venv/installed  # a file at a time on each of two processes, of one thread each
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile

check-install: .venv/installed
	.venv/bin/python -m benchmarks.installation.check

cuda: .venv/installed
	TEST_ON_CUDA=1 .venv/bin/python -m pytest tests/test_cuda.py

fuzz: .venv/installed
	PYTHONPATH=. .venv/bin/python tests/support/fuzz.py --cases 10000

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@
