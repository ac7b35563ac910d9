"""Each model: shapes, gradients, the architecture that it claims to be, its parts against references."""

import io
import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from model_arguments import ARGUMENTS
from scipy.signal import spectrogram
from torch import nn

from models import MODELS
from models.attention import AttentionPooling
from models.drop_path import DropPath, drop_probabilities
from models.res_net_model import ResidualBlock
from models.resnet18 import BasicBlock, Convolution, ResNet18
from models.resnet18_with_atten_spectr import LogSpectrogram
from models.resnet_with_encoder import sinusoidal_positions

LENGTHS = (512, 513, 1000, 2048, 4096, 5000)  # samples


def build(name, n_labels=1, dropout=0.2, seed=0, **arguments):
    """Return a model as after some training: a new one may have weights of zero, which hide whole blocks."""
    torch.manual_seed(seed)
    model = MODELS[name](n_labels=n_labels, dropout=dropout, **{**ARGUMENTS[name], **arguments})
    perturb_batch_norms(model)
    return model


def ecgs(n=2, n_samples=512, seed=1):
    return torch.randn(n, 12, n_samples, generator=torch.Generator().manual_seed(seed))


def perturb_batch_norms(model):
    """Give every batch norm statistics and weights of its own."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)


def layers(model, kind):
    return [module for module in model.modules() if isinstance(module, kind)]


def as_1d(layer):
    """Return the Conv1d or BatchNorm1d of a layer for images of height 1."""
    if isinstance(layer, nn.BatchNorm2d):
        copy = nn.BatchNorm1d(layer.num_features).eval()
        copy.load_state_dict(layer.state_dict())
        return copy
    copy = nn.Conv1d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size[1],
        layer.stride[1],
        layer.padding[1],
        bias=False,
    )
    copy.weight.data = layer.weight.data[:, :, 0]
    return copy


every_model = pytest.mark.parametrize("name", MODELS)


def test_every_model_is_tested():
    assert set(ARGUMENTS) == set(MODELS)


# What holds for each model


@every_model
@pytest.mark.parametrize("n_labels", [1, 3])
def test_logits_for_every_length(name, n_labels):
    model = build(name, n_labels).eval()
    with torch.no_grad():
        for n_samples in LENGTHS:
            logits = model(ecgs(n_samples=n_samples))
            assert logits.shape == (2, n_labels) and logits.dtype == torch.float32
            assert logits.isfinite().all()


@every_model
@pytest.mark.parametrize("n_samples", [512, 1000])
def test_every_parameter_learns(name, n_samples):
    model = build(name, n_labels=3).train()
    weights = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    (model(ecgs(4, n_samples)) * weights).sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name


@every_model
def test_silence_and_large_signals_give_finite_logits(name):
    model = build(name).eval()
    for signal in (torch.zeros(2, 12, 512), 1000 * ecgs()):
        assert model(signal).isfinite().all()


@every_model
def test_stochastic_depth_rises_to_the_last_block_and_ends_with_training(name):
    model = build(name, drop_path=0.4)
    found = [path.probability for path in layers(model, DropPath)]
    assert found == drop_probabilities(len(found), 0.4) and found[0] == 0.4 / len(found)
    assert found[-1] == 0.4 and len(found) == (4 if name == "res_net_model" else 8)
    with torch.no_grad():
        assert torch.equal(model.eval()(ecgs()), build(name).eval()(ecgs()))  # with the same weights


def test_stochastic_depth_leaves_out_whole_ecgs_and_keeps_the_mean():
    torch.manual_seed(3)
    kept = DropPath(0.25).train()(torch.ones(4000, 2, 1, 3))
    assert kept.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (kept == kept[:, :1, :, :1]).all() and kept.mean() == pytest.approx(1, abs=0.03)


@every_model
def test_evaluation_is_deterministic_and_each_ecg_alone(name):
    model = build(name).eval()
    signal = ecgs(5)
    with torch.no_grad():
        together = model(signal)
        assert torch.equal(model(signal), together)
        alone = torch.cat([model(ecg[None]) for ecg in signal])
        reordered = model(signal.flip(0)).flip(0)
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(reordered, together, rtol=1e-4, atol=1e-5)
    assert together.std() > 0


@every_model
def test_every_lead_counts(name):
    model = build(name).eval()
    signal = ecgs(1, 1000)
    with torch.no_grad():
        logit = model(signal)
        for lead in range(12):
            without = signal.clone()
            without[:, lead] = 0
            assert (model(without) - logit).abs() > 1e-6, lead


@every_model
def test_dropout_changes_training_and_no_logit_is_zeroed(name):
    model = build(name, n_labels=3, dropout=0.5).train()
    signal = ecgs(8)
    first, second = model(signal), model(signal)
    assert not torch.equal(first, second)
    # Dropout on the logits would make each of these 48 zero with probability 0.5.
    assert (torch.cat([first, second]) != 0).all()
    assert (torch.cat([first, second]) != model.head.bias).all()


@every_model
def test_linear_layer_comes_last_and_dropout_before_it(name):
    model = build(name)
    called = []
    for module in model.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda module, inputs, output: called.append(module))
    output = []
    model.register_forward_hook(lambda module, inputs, logits: output.append(logits))
    head_output = []
    model.head.register_forward_hook(lambda module, inputs, logits: head_output.append(logits))
    model(ecgs())
    assert called[-1] is model.head and isinstance(model.head, nn.Linear)
    before = [module for module in called[:-1] if not isinstance(module, nn.AdaptiveAvgPool2d)]
    assert isinstance(before[-1], nn.Dropout)
    assert output[0] is head_output[0]  # no function after it either


@every_model
def test_no_batch_norm_serves_twice(name):
    model = build(name)
    batch_norms = layers(model, nn.BatchNorm2d)
    calls = Counter()
    for module in batch_norms:
        module.register_forward_hook(lambda module, inputs, output: calls.update([id(module)]))
    model(ecgs())
    assert [calls[id(module)] for module in batch_norms] == [1] * len(batch_norms)
    without_norm = 4 if name == "res_net_model" else 0  # its skip paths
    assert len(batch_norms) >= len(layers(model, nn.Conv2d)) - without_norm


@every_model
def test_weights_saved_and_loaded_give_identical_logits(name):
    model = build(name, seed=0)
    model(ecgs(4))  # so that the running statistics are no longer those of a new model
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = build(name, seed=1)
    assert not torch.equal(other.eval()(ecgs()), model.eval()(ecgs()))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other.eval()(ecgs()), model(ecgs()))


@every_model
def test_bfloat16_autocast(name):
    model = build(name).eval()
    with torch.no_grad():
        exact = model(ecgs())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = model(ecgs())
    torch.testing.assert_close(rough.float(), exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "kernel, stride", [((3, 3), (2, 2)), ((7, 7), (2, 2)), ((3, 3), (1, 1)), ((1, 3), (1, 2))]
)
def test_bfloat16_convolution_of_a_narrow_map(kernel, stride, width):
    """Where oneDNN computes on AMX, a plain strided Conv2d of one or two columns is wrong by its own size."""
    generator = torch.Generator().manual_seed(0)
    layer = Convolution(64, 128, kernel, stride)
    map_2d = torch.randn(2, 64, 9, width, generator=generator).contiguous(memory_format=torch.channels_last)
    found = []
    for autocast in (False, True):
        x = map_2d.clone().requires_grad_()
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y = layer(x)
        y.float().square().sum().backward()
        found.append((y.detach().float(), x.grad, layer.weight.grad.clone()))
    for exact, rough in zip(*found, strict=True):
        assert (rough - exact).norm() < 0.02 * exact.norm()


# The trunk


@pytest.mark.parametrize("kernel", [3, 5, 7, 9])
def test_1d_trunk_is_a_resnet_18(kernel):
    trunk = ResNet18.for_signals(kernel=kernel)
    assert trunk.stem.kernel_size == (1, 17) and trunk.stem.in_channels == 12
    blocks = layers(trunk, BasicBlock)
    assert [block.conv2.out_channels for block in blocks] == [64, 64, 128, 128, 256, 256, 512, 512]
    in_blocks = [layer for block in blocks for layer in (block.conv1, block.conv2)]
    assert {layer.kernel_size for layer in in_blocks} == {(1, kernel)}
    skips = [layer for layer in layers(trunk, nn.Conv2d) if layer.kernel_size == (1, 1)]
    assert [layer.out_channels for layer in skips] == [128, 256, 512]
    assert len(layers(trunk, nn.Conv2d)) == 1 + len(in_blocks) + len(skips) == 20
    assert all(layer.bias is None for layer in layers(trunk, nn.Conv2d))
    # 12 x 64 x 17; stage 1: 4 x 64^2 k; stage s: (w/2 w + 3 w^2) k and a skip w/2 w; 2 for each filter's norm
    convolutions = 12 * 64 * 17 + 4 * 64**2 * kernel
    convolutions += sum(w * w // 2 * (1 + kernel) + 3 * w * w * kernel for w in (128, 256, 512))
    norms = 2 * (5 * 64 + 5 * (128 + 256 + 512))
    assert sum(parameter.numel() for parameter in trunk.parameters()) == convolutions + norms


def test_2d_trunk_is_a_resnet_18():
    trunk = ResNet18.for_spectrograms(hop=32, n_channels=3)
    # 11,176,512 parameters: torchvision's resnet18, 11,689,512, without its last layer (512 x 1000 + 1000)
    assert sum(parameter.numel() for parameter in trunk.parameters()) == 11_176_512
    assert len(layers(trunk, nn.Conv2d)) == 20


@pytest.mark.parametrize("n_samples", LENGTHS)
def test_positions_of_the_trunks(n_samples):
    signal = ecgs(1, n_samples)
    assert ResNet18.for_signals()(signal).shape == (1, math.ceil(n_samples / 32), 512)
    image = LogSpectrogram()(signal)
    n_frames = (n_samples - 32) // 32
    assert image.shape == (1, 12, 33, n_frames)
    assert ResNet18.for_spectrograms(hop=32)(image).shape == (1, 2 * math.ceil(n_frames / 32), 512)


@pytest.mark.parametrize(("n_in", "stride"), [(8, 1), (8, 2), (16, 1)])
def test_basic_block_is_its_conv1d_form(n_in, stride):
    torch.manual_seed(0)
    block = BasicBlock(n_in, 16, kernel=(1, 5), stride=(1, stride)).eval()
    perturb_batch_norms(block)
    x = torch.randn(3, n_in, 101)
    y = torch.relu(as_1d(block.norm1)(as_1d(block.conv1)(x)))
    y = as_1d(block.norm2)(as_1d(block.conv2)(y))
    plain = n_in == 16 and stride == 1
    skipped = x if plain else as_1d(block.skip[1])(as_1d(block.skip[0])(x))
    assert isinstance(block.skip, nn.Identity) == plain
    torch.testing.assert_close(block(x[:, :, None])[:, :, 0], torch.relu(y + skipped), rtol=1e-5, atol=1e-5)


def test_trunk_positions_follow_time():
    trunk = ResNet18.for_signals().eval()
    signal = torch.zeros(1, 12, 4096)
    signal[:, :, 3000] = 1.0
    with torch.no_grad():
        changed = (trunk(signal) - trunk(torch.zeros(1, 12, 4096)))[0].norm(dim=1)
    assert abs(changed.argmax().item() - 3000 / 32) < 3


# The baseline


def test_baseline_is_that_of_ribeiro():
    model = build("res_net_model")
    assert model.stem.out_channels == 64 and model.stem.kernel_size == (1, 17)
    assert [block.conv2.out_channels for block in model.blocks] == [128, 196, 256, 320]
    for block in model.blocks:
        assert block.conv1.kernel_size == block.conv2.kernel_size == (1, 17)
        assert block.skip.kernel_size == (1, 1)
    # as many trained weights as figure 2 of the paper, with kernels of 17 samples and one label
    filters = (64, 128, 196, 256, 320)
    pairs = itertools.pairwise(filters)
    weights = 12 * 64 * 17 + 2 * 64 + sum(17 * (a * b + b * b) + a * b + 4 * b for a, b in pairs)
    assert sum(parameter.numel() for parameter in model.parameters()) == weights + 320 * 16 + 1


@pytest.mark.parametrize(
    ("n_samples", "lengths"),
    [
        (4096, [1024, 256, 64, 16]),
        (4097, [1025, 257, 65, 17]),
        (513, [129, 33, 9, 3]),
        (512, [128, 32, 8, 2]),
    ],
)
def test_baseline_blocks_shorten_four_times(n_samples, lengths):
    model = build("res_net_model").eval()
    found, pooled = [], []
    for block in model.blocks:
        block.register_forward_hook(lambda block, inputs, output: found.append(output))
    model.positions.register_forward_hook(lambda layer, inputs, output: pooled.append((inputs[0], output)))
    model(ecgs(1, n_samples))
    assert [x.shape[-1] for x, _ in found] == lengths
    assert [carried.shape for _, carried in found] == [x.shape for x, _ in found]
    before, after = pooled[0]
    assert after.shape == (1, 320, 1, 16)
    if n_samples == 4096:
        assert torch.equal(before, after)


@pytest.mark.parametrize("n_samples", [64, 65])
def test_baseline_block_is_its_conv1d_form(n_samples):
    torch.manual_seed(0)
    block = ResidualBlock(6, 10, dropout=0.2).eval()
    perturb_batch_norms(block)
    x, carried = torch.randn(2, 3, 6, n_samples)
    y = torch.relu(as_1d(block.norm1)(as_1d(block.conv1)(x)))
    pooled = torch.stack([part.amax(dim=2) for part in carried.split(4, dim=2)], dim=2)
    expected = as_1d(block.conv2)(y) + as_1d(block.skip)(pooled)
    activated, before = block(x[:, :, None], carried[:, :, None])
    torch.testing.assert_close(before[:, :, 0], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        activated[:, :, 0], torch.relu(as_1d(block.norm2)(expected)), rtol=1e-5, atol=1e-5
    )


# The spectrogram


def ecg_like(n_samples):
    """Return two noisy 12-lead signals in mV with a beat each 0.8 s, a slow wave and an offset."""
    generator = np.random.default_rng(0)
    seconds = np.arange(n_samples) / 500
    beats = np.exp(-0.5 * (((seconds % 0.8) - 0.4) / 0.012) ** 2)
    amplitudes = generator.uniform(-2, 2, (2, 12, 1))
    signal = amplitudes * beats + 0.2 * np.sin(2 * np.pi * 0.3 * seconds) + 0.5
    return (signal + generator.normal(0, 0.02, signal.shape)).astype(np.float32)


@pytest.mark.parametrize("n_samples", LENGTHS)
def test_power_is_that_of_scipy(n_samples):
    signal = ecg_like(n_samples)
    _, _, expected = spectrogram(signal.astype(np.float64), fs=500, nperseg=64, noverlap=32)
    power = LogSpectrogram().power(torch.from_numpy(signal)).numpy()
    assert power.shape == expected.shape
    # At 0 Hz float32 leaves rounding errors of the mean; the floor in the logarithm is 1,000 times larger.
    np.testing.assert_allclose(power, expected, rtol=1e-4, atol=1e-9)


def test_logarithm_of_power_with_its_floor():
    signal = torch.from_numpy(ecg_like(1000))
    layer = LogSpectrogram(floor=1e-3)
    torch.testing.assert_close(layer(signal), torch.log(layer.power(signal) + 1e-3))
    silence = LogSpectrogram()(torch.zeros(1, 12, 1000))
    torch.testing.assert_close(silence, torch.full_like(silence, math.log(1e-6)))


def test_a_sine_shows_at_its_frequency():
    seconds = torch.arange(4096) / 500
    power = LogSpectrogram().power(torch.sin(2 * math.pi * 125 * seconds)[None, None])
    assert set(power[0, 0].argmax(dim=0).tolist()) == {16}  # 125 Hz / (500 Hz / 64)


# Attention, encoder, recurrent network


def test_sinusoidal_positions_worked_by_hand():
    # Four features: frequencies 1 and 10,000^(-2/4) = 0.01 a position; sine and cosine of each.
    expected = torch.tensor(
        [
            [0.0, 1.0, 0.0, 1.0],
            [0.8414710, 0.5403023, 0.0099998, 0.9999500],
            [0.9092974, -0.4161468, 0.0199987, 0.9998000],
            [0.1411200, -0.9899925, 0.0299955, 0.9995500],
        ]
    )
    torch.testing.assert_close(sinusoidal_positions(4, 4, torch.device("cpu")), expected, rtol=0, atol=1e-6)


def test_attention_pooling_by_its_formula():
    torch.manual_seed(0)
    pooling = AttentionPooling(n_features=6, n_heads=1)
    x = torch.randn(2, 5, 6)
    normed = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    query, key, value = (normed @ pooling.attention.in_proj_weight.T).split(6, dim=-1)
    weights = torch.softmax(query @ key.transpose(1, 2) / math.sqrt(6), dim=-1)
    attended = weights @ value @ pooling.attention.out_proj.weight.T
    torch.testing.assert_close(pooling(x), (x + attended).mean(dim=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "order_matters"),
    [("resnet_with_encoder", True), ("resnet_with_rnn", True), ("resnet18_with_atten", False)],
)
def test_whether_the_order_of_positions_matters(name, order_matters):
    model = build(name).eval()
    with torch.no_grad():
        logit = model(ecgs(1, 2048))
        model.trunk.register_forward_hook(lambda trunk, inputs, positions: positions.roll(7, dims=1))
        difference = (model(ecgs(1, 2048)) - logit).abs().item()
    assert (difference > 1e-5) == order_matters


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("cell", "kind"), [("rnn", nn.RNN), ("lstm", nn.LSTM), ("gru", nn.GRU)])
def test_recurrent_cells(cell, kind, bidirectional):
    model = build("resnet_with_rnn", rnn_cell=cell, rnn_bidirectional=bidirectional, rnn_layers=2)
    assert type(model.rnn) is kind and model.rnn.num_layers == 2
    assert model.head.in_features == 512 + (
        64 if bidirectional else 32
    )  # the trunk's mean, then the outputs'
    model(ecgs()).sum().backward()
    assert all(
        parameter.grad.isfinite().all() and parameter.grad.any() for parameter in model.rnn.parameters()
    )


@pytest.mark.parametrize("n_layers", [1, 3])
def test_encoder_has_its_layers(n_layers):
    model = build("resnet_with_encoder", encoder_layers=n_layers, encoder_heads=8, encoder_width=32)
    encoder_layers = layers(model, nn.TransformerEncoderLayer)
    assert len(encoder_layers) == n_layers
    assert {layer.self_attn.num_heads for layer in encoder_layers} == {8}
    assert {layer.linear1.out_features for layer in encoder_layers} == {64}
    first_weights = {layer.linear1.weight.sum().item() for layer in encoder_layers}
    assert len(first_weights) == n_layers  # no layer is a copy of another
    assert model(ecgs()).shape == (2, 1)
