"""The vector that each model hands to its head, kept while ECGs are scored: ``predict.py --embeddings``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inference.scoring import Scorer
from run_folder.run import weights_digest
from runtime.atomic_files import write_atomically, writing
from runtime.code_pages import as_utf8


class Embeddings:
    """What the heads of a scorer's models are given of the ECG, recorded while these score ECGs as usual.

    with Embeddings(scorer) as embeddings:
        scores = scorer.score_members(signals)
    embeddings.save(path, files)
    """

    def __init__(self, scorer: Scorer):
        self._models = scorer.models
        names = [folder.name for folder in scorer.folders]
        if len(set(names)) < len(names):  # folds of several runs
            names = [f"{folder.parent.name}/{folder.name}" for folder in scorer.folders]
        self._members = names
        self._batches: list[list[np.ndarray]] = [[] for _ in self._models]
        self._hooks: list[Any] = []

    def __enter__(self) -> "Embeddings":
        for model, batches in zip(self._models, self._batches, strict=True):

            def keep(_: Any, inputs: tuple[torch.Tensor, ...], batches: list = batches) -> None:
                batches.append(inputs[0].float().cpu().numpy())

            self._hooks.append(model.head.register_forward_pre_hook(keep))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def save(self, path: Path, files: Sequence[Path]) -> None:
        """Write an .npz file, read by ``numpy.load`` without pickle; with n ECGs and m models:

        embedding       float32 (n, n_features), a block of columns for each model, one after the other
        ecg_file        (n,), as scores.csv names it
        feature         (n_features,), "MEMBER:NUMBER", the number from 0 on within the block
        member          (m,), the folder of each model's run or fold, without those above it
        sha256          (m,), the digest of its weights: vectors of two digests are not to be compared

        Raises
        ------
        UserError : the disk refuses.
        """
        blocks = [np.concatenate(batches) for batches in self._batches]
        names = [
            f"{member}:{number}"
            for member, block in zip(self._members, blocks, strict=True)
            for number in range(block.shape[1])
        ]
        content = {
            "embedding": np.concatenate(blocks, axis=1),
            "ecg_file": np.array([as_utf8(str(file)) for file in files]),
            "feature": np.array(names),
            "member": np.array(self._members),
            "sha256": np.array([weights_digest(model.state_dict()) for model in self._models]),
        }

        def write(aside: Path) -> None:
            with open(aside, "wb") as handle:  # of a path, numpy would change the name
                np.savez(handle, **content)

        with writing(path):
            write_atomically(path, write)
