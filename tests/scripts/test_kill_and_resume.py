"""A short form of tests/support/kill_and_resume.py: a training killed three times ends in the same bits."""

import subprocess
import sys

from tiny_runs import ENVIRONMENT, ROOT


def test_a_killed_training_ends_in_the_same_bits():
    script = ROOT / "tests" / "support" / "kill_and_resume.py"
    words = [sys.executable, str(script), "--kills", "3", "--epochs", "4"]
    outcome = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=500)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert outcome.stdout.splitlines()[-1].startswith("the same bits: model.safetensors, ")
    assert "kill  1, SIGKILL" in outcome.stdout
