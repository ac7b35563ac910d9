"""A trunk that ships: found by its name from anywhere, and what it has seen is read as it was written."""

import json

import numpy as np
import pytest
from one_line import failure_of

from run_folder import shipped
from run_folder.lineage import ancestors, patient_key_of, root_of, roots_of, seen_by
from run_folder.shipped import SeenEcgs, is_shipped, read_seen, start_folder, write_seen

PATIENTS = ["00000000000000ff", "a1b2c3d4e5f60718", "00000000000000ff"]


@pytest.fixture
def trunk(tmp_path, monkeypatch):
    """A trunk called public; the folder of an unrelated program is the working directory."""
    folder = tmp_path / "program" / "pretrained" / "public"
    folder.mkdir(parents=True)
    monkeypatch.setattr(shipped, "PRETRAINED", folder.parent)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    fingerprints = np.random.default_rng(0).integers(0, 256, (3, 16), np.uint8)
    write_seen(folder, SeenEcgs(fingerprints, PATIENTS))
    (folder / "environment.json").write_text(json.dumps({"patient_key_fingerprint": "of the public key"}))
    (folder / "model.json").write_text("{}")
    return folder


def test_a_name_means_the_trunk_of_that_name(trunk, tmp_path):
    assert start_folder("public") == trunk
    for other in ("unknown", "./runs/public", str(trunk), ".."):
        assert str(start_folder(other)) == str(type(trunk)(other))


def test_a_folder_of_that_name_counts_if_it_is_a_run(trunk, tmp_path):
    here = tmp_path / "elsewhere" / "public"
    here.mkdir()
    (here / "labels.csv").touch()  # a folder of ECGs
    assert start_folder("public") == trunk
    (here / "model.json").touch()
    assert str(start_folder("public")) == "public"


def test_what_it_has_seen_is_sorted_and_each_patient_is_there_once(trunk):
    given = np.random.default_rng(0).integers(0, 256, (3, 16), np.uint8)
    seen = read_seen(trunk)
    assert seen.fingerprints.tolist() == sorted(given.tolist()) and seen.patient_ids == PATIENTS[:2]
    assert is_shipped(trunk) and not is_shipped(trunk.parent)


def test_a_run_that_began_from_it_leads_to_it(trunk, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "splits.csv").touch()
    (run / "hyperparameters.yml").write_text("init_from: public\n")
    assert list(ancestors(run)) == [run, trunk]
    assert root_of(trunk) == trunk and roots_of(run) == [run]
    assert patient_key_of(trunk) == "of the public key"
    seen = seen_by(trunk)
    assert seen["patient_id"].tolist() == PATIENTS[:2] and set(seen["part"]) == {"train"}
    assert seen[["digest", "waveform"]].isna().all(axis=None)


@pytest.mark.parametrize("content", [b"", b"\x10\0\0\0\0\0\0\0{}", None])
def test_a_damaged_list_is_one_line(trunk, content):
    path = trunk / "seen.safetensors"
    if content is None:
        write_seen(trunk, SeenEcgs(np.zeros((2, 15), np.uint8), PATIENTS))
    else:
        path.write_bytes(content)
    line = failure_of(read_seen, trunk)
    assert (
        line.startswith(f"{path}: found no usable seen (") and "expected that of a trunk that ships" in line
    )
