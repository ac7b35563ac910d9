"""A training in a process of its own is finished once, resumed where it was begun, and fails in one line."""

import os
import signal
import threading
import time

import pytest

from runtime.errors import UserError
from training import script_runs

FAKE = """
import pathlib, sys
print("given", *sys.argv[1:])
if "--fail" in sys.argv:
    sys.exit("found nothing, expected something")
place = sys.argv[sys.argv.index("--resume" if "--resume" in sys.argv else "--output-dir") + 1]
run = pathlib.Path(place) / ("" if "--resume" in sys.argv else "train_fake-1")
run.mkdir(exist_ok=True)
for name in ("metrics.json", "checkpoint.pt"):
    (run / name).write_text("{}")
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Return a function that trains with given flags by a script that only says what it was given."""
    (tmp_path / "train_fake.py").write_text(FAKE)
    monkeypatch.setattr(script_runs, "ROOT", tmp_path)

    def train(*flags, **options):
        return script_runs.train("train_fake.py", flags, tmp_path / "trial", **options)

    return train


def output_of(tmp_path):
    return (tmp_path / "trial" / "output.txt").read_text().splitlines()


def test_what_is_finished_is_not_trained_again(fake, tmp_path):
    first, again = fake("--epochs", "3"), fake("--epochs", "3")
    assert first.run == again.run == tmp_path / "trial" / "train_fake-1"
    assert first.seconds > 0 and again.seconds == 0
    folder = tmp_path / "trial"
    assert output_of(tmp_path) == [f"given --epochs 3 --output-dir {folder}"]
    assert not (first.run / "checkpoint.pt").exists()


def test_what_was_begun_is_resumed(fake, tmp_path):
    begun = tmp_path / "trial" / "train_fake-0"
    begun.mkdir(parents=True)
    (begun / "checkpoint.pt").write_text("")
    assert fake("--epochs", "3").run == begun
    assert output_of(tmp_path) == [f"given --resume {begun}"]


def test_a_cross_validation_that_was_begun_is_resumed(fake, tmp_path):
    begun = tmp_path / "trial" / "train_fake-0"
    (begun / "fold-1").mkdir(parents=True)
    (begun / "fold-1" / "checkpoint.pt").write_text("")
    (begun / "fold-1" / "metrics.json").write_text("")  # of a fold, not of the run
    assert fake("--folds", "3").run == begun
    assert output_of(tmp_path) == [f"given --resume {begun}"]


def test_what_was_begun_goes_on_on_another_device(fake, tmp_path):
    fake("--epochs", "3", device="cuda:1")
    run = tmp_path / "trial" / "train_fake-1"
    (run / "metrics.json").unlink()
    (run / "checkpoint.pt").write_text("")
    fake("--epochs", "3", device="cpu")
    assert output_of(tmp_path) == [
        f"given --epochs 3 --output-dir {run.parent} --device cuda:1",
        f"given --resume {run} --device cpu",
    ]


def test_another_training_in_the_same_place_is_refused(fake):
    fake("--epochs", "3")
    with pytest.raises(UserError, match=r"--epochs 3', expected .*--epochs 4'; name another --output-dir"):
        fake("--epochs", "4")


def test_a_training_that_fails_is_one_line(fake):
    with pytest.raises(UserError) as caught:
        fake("--fail")
    assert str(caught.value).endswith(
        "output.txt: the training ended with status 1: found nothing, expected something"
    )


def test_an_interruption_lets_the_training_save_its_step(tmp_path):
    script = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(1)))\n"
        "pathlib.Path('ready').touch()\n"
        "time.sleep(60)\n"
    )
    (tmp_path / "script.py").write_text(script.replace("'ready'", repr(str(tmp_path / "ready"))))

    def interrupt():
        deadline = time.monotonic() + 60
        while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        script_runs._run([script_runs.sys.executable, str(tmp_path / "script.py")], tmp_path / "output")
    assert (tmp_path / "output").read_text() == "saved\n"
