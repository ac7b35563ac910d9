"""Wherever signals lie, their crops are the same; damaged and missing rows are noticed."""

import os
import threading
import zlib
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_cohort import cohort_of
from model_arguments import ARGUMENTS

from dataset import signals as signals_module
from dataset.signal_store.cache_folder import ROW_BYTES, SIGNALS_FILE
from dataset.signal_store.signal_cache import StoredSignals
from dataset.signals import SignalsOnDevice, SignalsOnDisk, place_signals
from models import MODELS
from runtime.errors import UserError
from runtime.side_by_side import NEIGHBOURS

CPU = torch.device("cpu")
N_ECGS, N_ROWS = 21, 30
LARGER = {  # the default sizes
    "resnet_with_rnn": {"rnn_hidden_size": 128},
    "resnet_with_encoder": {"encoder_layers": 3, "encoder_width": 256},
}


@pytest.fixture
def stored(tmp_path):
    """21 ECGs of noise in a file that holds them in another order among others."""
    generator = np.random.default_rng(0)
    signals = generator.integers(-2000, 2000, (N_ROWS, 12, 5000)).astype(np.int16)
    rows = generator.permutation(N_ROWS)[:N_ECGS]
    signals.tofile(tmp_path / "signals.int16")
    mapped = np.memmap(tmp_path / "signals.int16", np.int16, mode="r", shape=signals.shape)
    checksums = np.array([zlib.crc32(signals[row]) for row in rows], np.uint32)
    return StoredSignals(mapped, rows, checksums, np.array([f"{number}.xml" for number in range(N_ECGS)]))


def plan_of(sizes=(4, 7, 1)):
    generator = np.random.default_rng(1)
    return [(generator.integers(0, N_ECGS, n), generator.integers(0, 4001, n)) for n in sizes]


@pytest.mark.parametrize("place", [SignalsOnDevice, SignalsOnDisk])
@pytest.mark.parametrize("ahead", [0, 1, 8])
def test_crops_are_the_samples_from_their_starts(stored, place, ahead, monkeypatch):
    monkeypatch.setattr(signals_module, "_n_readers", lambda: 1)
    monkeypatch.setattr(signals_module, "READ_AHEAD", ahead)
    monkeypatch.setattr(signals_module, "CHUNK", 4)
    plan = plan_of()
    found = list(place(stored, CPU).crops(plan, 1000))
    assert len(found) == 3
    for crops, (indices, starts) in zip(found, plan, strict=True):
        assert crops.dtype == torch.int16 and crops.shape == (len(indices), 12, 1000)
        for crop, index, start in zip(crops, indices, starts, strict=True):
            np.testing.assert_array_equal(crop, stored.memmap[stored.rows[index], :, start : start + 1000])


def test_indexing_as_on_a_gpu_gives_the_same_crops(stored):
    signals = torch.from_numpy(np.array(stored.memmap))
    (rows, starts), *_ = plan_of()
    windows = signals.unfold(2, 1000, 1)
    by_index = windows[torch.from_numpy(rows), :, torch.from_numpy(starts)]
    assert torch.equal(by_index, signals_module._crop(signals, rows, starts, 1000))


@pytest.mark.parametrize("place", [SignalsOnDevice, SignalsOnDisk])
@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_row_is_named(stored, tmp_path, place, damage):
    path, row = tmp_path / "signals.int16", int(stored.rows[5])
    if damage == "cut":
        row = int(stored.rows.max())
        os.truncate(path, row * ROW_BYTES[SIGNALS_FILE] + 7)
    else:
        with open(path, "r+b") as file:
            file.seek(row * ROW_BYTES[SIGNALS_FILE] + 1234)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 4]))
    (index,) = np.flatnonzero(stored.rows == row)
    plan = [(np.arange(N_ECGS), np.zeros(N_ECGS, int))]
    with pytest.raises(UserError) as caught:
        list(place(stored, CPU).crops(plan, 512))
    assert f"{index}.xml" in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("cores", "processes", "neighbours", "readers"),
    [
        (1, 1, 1, 4),
        (2, 1, 1, 4),
        (10, 1, 1, 10),
        (64, 1, 1, 16),
        (64, 8, 1, 8),
        (64, 1, 5, 12),
        (16, 8, 1, 4),
    ],
)
def test_each_core_of_a_process_has_a_reader(stored, monkeypatch, cores, processes, neighbours, readers):
    monkeypatch.setattr(signals_module, "n_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    monkeypatch.setenv(NEIGHBOURS, str(neighbours))
    pools = []
    monkeypatch.setattr(
        signals_module,
        "ThreadPoolExecutor",
        lambda n, name: pools.append(ThreadPoolExecutor(n, name)) or pools[-1],
    )
    next(SignalsOnDisk(stored, CPU).crops(plan_of(), 512))
    assert [pool._max_workers for pool in pools] == [readers]


def test_every_reader_has_a_batch_to_read_ahead(stored, monkeypatch):
    """Ten readers begin ten batches together before the first is given out."""
    monkeypatch.setattr(signals_module, "_n_readers", lambda: 10)
    together = threading.Barrier(10, timeout=20)
    read = StoredSignals.read
    monkeypatch.setattr(
        StoredSignals, "read", lambda self, indices, out: (together.wait(), read(self, indices, out=out))
    )
    assert len(list(SignalsOnDisk(stored, CPU).crops(plan_of([2] * 30), 512))) == 30


def test_readers_end_with_the_epoch(stored, monkeypatch):
    monkeypatch.setattr(signals_module, "_n_readers", lambda: 1)
    monkeypatch.setattr(signals_module, "READ_AHEAD", 1)
    crops = SignalsOnDisk(stored, CPU).crops(plan_of(), 512)
    next(crops)
    crops.close()  # as by an error in the step
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


@pytest.mark.parametrize(
    ("asked", "room", "kind"),
    [
        ("auto", 10 * N_ECGS * ROW_BYTES[SIGNALS_FILE], SignalsOnDevice),
        ("auto", 0.9 * N_ECGS * ROW_BYTES[SIGNALS_FILE], SignalsOnDisk),
        ("device", 0, SignalsOnDevice),
        ("disk", 1e12, SignalsOnDisk),
    ],
)
def test_the_place_is_chosen_by_size_and_said(stored, monkeypatch, capsys, asked, room, kind):
    monkeypatch.setattr(signals_module, "_room", lambda device, batch_size: room)
    cohort = replace(cohort_of(np.arange(N_ECGS) % 3 == 0), signals=stored)
    assert type(place_signals(cohort, device=CPU, signals=asked, batch_size=32)) is kind
    words = "held on the device" if kind is SignalsOnDevice else "on the disk, read ahead"
    assert capsys.readouterr().out == f"signals     3 MB as int16, {words}\n"


def test_processes_share_the_memory_of_a_computer(monkeypatch):
    alone = signals_module._room(CPU, 32)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert signals_module._room(CPU, 32) == alone / 4 > 0


@pytest.mark.parametrize(
    ("free", "batch_size", "neighbours", "room"),
    [
        (12, 32, 1, 6),  # GiB: half, more than the 4.9 that training leaves
        (80, 32, 1, 72.875),  # 80 - 4 - 32 x 0.1 GB, which is 100 MiB each
        (80, 512, 1, 40),  # training leaves 26
        (140, 512, 1, 86),
        (80, 32, 5, 8.875),  # of 16 for each of five folds
    ],
)
def test_a_gpu_has_room_for_what_training_leaves_and_for_half(
    monkeypatch, free, batch_size, neighbours, room
):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free * 2**30, 0))
    monkeypatch.setenv(NEIGHBOURS, str(neighbours))
    device = namedtuple("Device", "type")("cuda")
    assert signals_module._room(device, batch_size) == room * 2**30


@pytest.mark.parametrize("name", MODELS)
def test_what_an_ecg_takes_in_training_is_within_its_room(name):
    """Four times what its layers keep for the gradient: a graph for each of two sizes of batch, the steps
    before they are captured, and what else a layer needs."""
    model = MODELS[name](n_labels=1, dropout=0.2, **{**ARGUMENTS[name], **LARGER.get(name, {})})
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.randn(2, 12, 5000))
    of_ecg = sum(storage.nbytes() for storage in kept.values()) / 2
    assert 2e6 < of_ecg <= signals_module.OF_ECG / 4
