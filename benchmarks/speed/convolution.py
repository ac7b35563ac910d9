"""Time the layouts in which the 1D models could convolve, forward and backward, on this machine's CPU.

    python -m benchmarks.speed.convolution [--batch-size N] [--threads N] [--repeats N]

The arithmetic of all three is the same; models/resnet18.py uses the last.
"""

import argparse
import statistics
import time

import torch
from torch import nn

# Input and output filters, kernel, stride and length of typical layers: the stem and three stages of the 1D
# ResNet-18, and the first block of the baseline.
LAYERS = [
    (12, 64, 17, 2, 4096),
    (64, 64, 3, 1, 1024),
    (128, 128, 3, 1, 512),
    (512, 512, 3, 1, 128),
    (128, 128, 17, 4, 4096),
]


def build(layout: str, layer: tuple[int, ...], batch_size: int) -> tuple[nn.Module, torch.Tensor]:
    """Return the convolution and an input for it, in one of the layouts."""
    n_in, n_out, kernel, stride, length = layer
    if layout == "Conv1d":
        convolution = nn.Conv1d(n_in, n_out, kernel, stride, kernel // 2, bias=False)
        return convolution, torch.randn(batch_size, n_in, length)
    memory_format = torch.channels_last if "last" in layout else torch.contiguous_format
    convolution = nn.Conv2d(n_in, n_out, (1, kernel), (1, stride), (0, kernel // 2), bias=False)
    signal = torch.randn(batch_size, n_in, 1, length).contiguous(memory_format=memory_format)
    return convolution.to(memory_format=memory_format), signal


def median_milliseconds(convolution: nn.Module, signal: torch.Tensor, repeats: int) -> float:
    """Return the median time of a forward and backward pass, after one that is not counted."""
    signal.requires_grad_()
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        convolution(signal).sum().backward()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    layouts = ("Conv1d", "Conv2d", "Conv2d, channels last")
    print(f"torch {torch.__version__}, {options.threads} threads, batch of {options.batch_size}; median ms")
    print(f"{'filters, kernel, stride, length':<36}" + "".join(f"{layout:>24}" for layout in layouts))
    for layer in LAYERS:
        times = [
            median_milliseconds(*build(layout, layer, options.batch_size), options.repeats)
            for layout in layouts
        ]
        n_in, n_out, kernel, stride, length = layer
        name = f"{n_in} -> {n_out}, {kernel}, {stride}, {length}"
        print(f"{name:<36}" + "".join(f"{milliseconds:>24.1f}" for milliseconds in times))


if __name__ == "__main__":
    main()
