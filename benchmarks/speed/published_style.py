"""The published way to read, batch and train, rewritten in its style, to be compared with ours.

Valente Silva et al. 2023, doi:10.1016/j.repc.2023.03.016; the code is at
https://github.com/joaodsmarques/PE-diagnosis-from-ecgs-Deep-Learning (MIT). What costs time is as there:

- Each item parses its XML file with BeautifulSoup over lxml, in every epoch; it is augmented by itself and
  brought to zero mean and unit deviation; a DataLoader with four workers collates the items.
- ``resnet18_with_attention.py``: nn.Conv1d; a stem of 17 samples, then four stages of two blocks, each of
  three convolutions of 1, 3 and 1 samples without a bottleneck, whose input is cloned; attention that also
  returns its weights; a head on all 128 x 512 features, tied to 4,096 samples, with dropout after it. (The
  block of two convolutions that share a batch norm is in that file too, but no model has it.)
- ``res_net_model.py``: kernels of 16 samples with ``padding="same"``, for which PyTorch pads a copy.
- A step: focal loss of two classes, AdamW in float32, and ``loss.item()``, which waits for the device.

Left out: what it logs to wandb, including the gradients of every tenth step; metrics of the epoch; and that
the last incomplete batch is dropped. The crop is always the centre; a random one of its three costs the same.
One of the seven augmentations is drawn for each item, as published; their functions are ours.
"""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from benchmarks.speed.decoding import read_with_beautifulsoup
from benchmarks.speed.timing import Conditions
from data_augmentation import AUGMENTATIONS, PUBLISHED

N_SAMPLES = 4096
FOCAL_WEIGHTS = (0.3, 0.7)  # of negatives and positives
LEARNING_RATE = 1e-4


class PublishedItems(Dataset):
    """One ECG at a time: signal, float32 (12, 4096), and its class, 0 or 1."""

    def __init__(self, paths: Sequence[Path], classes: Sequence[int], *, augmented: bool):
        self.paths, self.classes, self.augmented = paths, classes, augmented

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        signal = read_with_beautifulsoup(self.paths[index])
        name = random.choice(PUBLISHED) if self.augmented else None
        if name is not None:
            signal = AUGMENTATIONS[name](signal[None], torch.default_generator)[0]
        signal = torch.sub(signal, torch.mean(signal))
        return torch.div(signal, torch.std(signal, unbiased=False)), torch.tensor(self.classes[index])


def published_loader(items: PublishedItems, given: Conditions) -> DataLoader:
    """Return batches of items in random order; each worker reads two ahead."""
    return DataLoader(
        items,
        given.batch_size,
        shuffle=True,
        num_workers=given.loader_workers,
        prefetch_factor=2 if given.loader_workers else None,
        pin_memory=given.device.type == "cuda",
    )


class _AttentionBlock(nn.Module):
    """(N, n_in, T) -> (N, n_out, T / stride)."""

    def __init__(self, n_in: int, n_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv1d(n_in, n_out, 1, bias=False)
        self.conv2 = nn.Conv1d(n_out, n_out, 3, stride, 1, bias=False)
        self.conv3 = nn.Conv1d(n_out, n_out, 1, bias=False)
        self.norm1, self.norm2, self.norm3 = (nn.BatchNorm1d(n_out) for _ in range(3))
        self.relu = nn.ReLU(inplace=True)
        self.skip = None
        if stride != 1 or n_in != n_out:
            self.skip = nn.Sequential(nn.Conv1d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm1d(n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        identity = x.clone()
        x = self.relu(self.norm1(self.conv1(x)))
        x = self.relu(self.norm2(self.conv2(x)))
        x = self.norm3(self.conv3(x))
        x += identity if self.skip is None else self.skip(identity)
        return self.relu(x)


class PublishedAttention(nn.Module):
    """(N, 12, 4096) -> logarithms of the probabilities of two classes, (N, 2)."""

    title = "published 1D ResNet-18 + attention"

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(12, 64, 17, 2, 8, bias=False), nn.BatchNorm1d(64), nn.ReLU())
        self.pool = nn.MaxPool1d(3, 2, 1)
        blocks = []
        for n_in, n_out, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
            blocks += [_AttentionBlock(n_in, n_out, stride), _AttentionBlock(n_out, n_out, 1)]
        self.stages = nn.Sequential(*blocks)
        self.attention = nn.MultiheadAttention(512, 4, batch_first=True, dropout=0.2)
        self.head = nn.Sequential(nn.Linear(512 * N_SAMPLES // 32, 2), nn.Dropout(0.5), nn.LogSoftmax(dim=1))

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        x = self.stages(self.pool(self.stem(signal)))  # (N, 512, 128)
        x = x.permute(0, 2, 1)
        x, _ = self.attention(x, x, x)
        return self.head(torch.flatten(x.permute(0, 2, 1), 1))


class _BaselineBlock(nn.Module):
    """Activation and sum, (N, n_in, T) and that of the last block -> (N, n_out, T / stride), twice."""

    def __init__(self, n_in: int, n_middle: int, n_out: int, stride: int):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv1d(n_in, n_middle, 16, padding="same"),
            nn.BatchNorm1d(n_middle),
            nn.ReLU(inplace=True),
            nn.Dropout(0.2),
            nn.Conv1d(n_middle, n_out, 17, stride, 8),
        )
        self.skip = nn.Sequential(nn.MaxPool1d(stride), nn.Conv1d(n_in, n_out, 1, bias=False, padding="same"))
        self.end = nn.Sequential(nn.BatchNorm1d(n_out), nn.ReLU(inplace=True), nn.Dropout(0.2))

    def forward(self, x: torch.Tensor, carried: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.block(x)
        carried = x if carried is None else self.skip(carried) + x
        return self.end(carried), carried


class PublishedBaseline(nn.Module):
    """(N, 12, 4096) -> logits of two classes, (N, 2)."""

    title = "published baseline"

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(12, 64, 16, padding="same"), nn.BatchNorm1d(64), nn.ReLU())
        layers = ((64, 128, 128, 4), (128, 192, 192, 4), (192, 256, 256, 4), (256, 320, 320, 2))
        self.blocks = nn.ModuleList(_BaselineBlock(*layer) for layer in (*layers, (320, 320, 384, 2)))
        self.head = nn.Sequential(nn.Flatten(1), nn.Linear(384 * N_SAMPLES // 256, 2), nn.Dropout(0.5))

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        x, carried = self.stem(signal), None
        for block in self.blocks:
            x, carried = block(x, carried)
        return self.head(x)


def published_loss(output: torch.Tensor, classes: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the focal loss (gamma 2) of outputs (N, 2) for the classes, int64 (N,), with their weights."""
    log_p = functional.log_softmax(output, dim=1)
    log_p_true = log_p.gather(1, classes[:, None])[:, 0]
    cross_entropy = functional.nll_loss(log_p, classes, weight=weight, reduction="none")
    return ((1 - log_p_true.exp()) ** 2 * cross_entropy).mean()


class PublishedStep:
    """One batch: forward, backward, new weights, and the loss as a number."""

    def __init__(self, model: nn.Module):
        self.model = model.train()
        self.weight = torch.tensor(FOCAL_WEIGHTS, device=next(model.parameters()).device)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)

    def __call__(self, signal: torch.Tensor, classes: torch.Tensor) -> float:
        loss = published_loss(self.model(signal), classes, self.weight)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()
