"""Where and with what a run was trained."""

import re

import torch

from run_folder.environment import KEY_FINGERPRINT, device_name, environment_of


def test_versions_device_commit_and_key_are_recorded():
    found = environment_of(torch.device("cpu"), "0123456789abcdef")
    assert found["packages"]["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads() and found["device"] == device_name(torch.device("cpu"))
    assert found[KEY_FINGERPRINT] == "0123456789abcdef"
    assert found["git_commit"] is None or re.fullmatch(r"[0-9a-f]{40}\+?", found["git_commit"])


def test_the_cpu_is_named_with_its_threads():
    assert re.fullmatch(r"the CPU \((1 thread|\d+ threads)\)", device_name(torch.device("cpu")))
