"""The network: names and positions of its layers, and the dense layers as convolutions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn

from explain_cnn_ros.model.network import (
    ARCHITECTURES,
    ConvolutionLayer,
    VGGClassifier,
    convolution_layers,
    fold_batch_norm,
    receptive_field,
    vgg_features,
)

#: Number, name, convolution, ReLU and channels, read from the printed VGG-16 of torchvision.
VGG16 = [
    (1, "conv1_1", 0, 1, 64),
    (2, "conv1_2", 2, 3, 64),
    (3, "conv2_1", 5, 6, 128),
    (4, "conv2_2", 7, 8, 128),
    (5, "conv3_1", 10, 11, 256),
    (6, "conv3_2", 12, 13, 256),
    (7, "conv3_3", 14, 15, 256),
    (8, "conv4_1", 17, 18, 512),
    (9, "conv4_2", 19, 20, 512),
    (10, "conv4_3", 21, 22, 512),
    (11, "conv5_1", 24, 25, 512),
    (12, "conv5_2", 26, 27, 512),
    (13, "conv5_3", 28, 29, 512),
]


@pytest.fixture(scope="module")
def vgg11() -> VGGClassifier:
    torch.manual_seed(0)
    return VGGClassifier("vgg11", (64, 32), hidden=16).eval().requires_grad_(False)


def test_layers_of_vgg16(full_classifier) -> None:
    assert convolution_layers(full_classifier.network.features) == [ConvolutionLayer(*row) for row in VGG16]


def test_layers_with_batch_norm() -> None:
    """The activation is that of the ReLU, which follows the batch norm."""
    with torch.device("meta"):
        features = torchvision.models.vgg16_bn(weights=None).features
    layers = convolution_layers(features)
    assert [(layer.number, layer.name, layer.channels) for layer in layers] == [(n, m, c) for n, m, _, _, c in VGG16]
    for layer in layers:
        assert isinstance(features[layer.convolution], nn.Conv2d)
        assert layer.activation == layer.convolution + 2
        assert isinstance(features[layer.activation], nn.ReLU)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_features_are_torchvisions(architecture: str) -> None:
    with torch.device("meta"):
        expected = torchvision.models.get_model(architecture, weights=None).features
    features = vgg_features(architecture)
    assert [repr(m) for m in features] == [repr(m) for m in expected]
    assert {k: v.shape for k, v in features.state_dict().items()} == {
        k: v.shape for k, v in expected.state_dict().items()
    }


def test_every_vgg_of_torchvision_is_known() -> None:
    assert set(ARCHITECTURES) == set(torchvision.models.list_models(include="vgg*"))


def test_the_package_starts_without_torchvision() -> None:
    """Importing torchvision takes seconds and would delay the start of every node."""
    code = "import sys, explain_cnn_ros.explain.explainer; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_forward_is_the_features_under_three_dense_layers(vgg11: VGGClassifier) -> None:
    batch = torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    x = vgg11.features(batch).flatten(1)
    first, second, third = (m for m in vgg11.classifier if isinstance(m, nn.Linear))
    x = (x @ first.weight.T + first.bias).clamp_min(0)
    x = (x @ second.weight.T + second.bias).clamp_min(0)
    expected = x @ third.weight.T + third.bias
    assert (first.out_features, second.out_features, third.out_features) == (16, 16, 2)
    torch.testing.assert_close(vgg11(batch), expected, rtol=1e-5, atol=1e-5)


def test_grid_is_rows_by_columns(full_classifier, vgg11: VGGClassifier) -> None:
    assert full_classifier.network.grid == (4, 2)
    assert vgg11.grid == (1, 2)


def test_dense_forward_of_one_window_is_forward(full_classifier) -> None:
    batch = torch.randn(2, 3, 128, 64, generator=torch.Generator().manual_seed(0))
    network = full_classifier.network
    with torch.inference_mode():
        dense, plain = network.dense_forward(batch), network.forward_with_offsets(batch)
    assert [tuple(d.shape) for d in dense] == [(2, 2, 1, 1), (2, 3, 1, 1)]
    for one, other in zip(dense, plain, strict=True):
        torch.testing.assert_close(one[..., 0, 0], other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_offsets_do_not_change_the_decision(vgg11: VGGClassifier) -> None:
    batch = torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    logits, offsets = vgg11.forward_with_offsets(batch)
    assert torch.equal(logits, vgg11(batch))
    hidden = vgg11.classifier[:-1](vgg11.features(batch))
    torch.testing.assert_close(offsets, hidden @ vgg11.offset.weight.T + vgg11.offset.bias)


@pytest.mark.parametrize(("height", "width"), [(64, 32), (95, 63), (96, 32), (64, 128), (130, 257)])
def test_dense_forward_has_a_logit_for_every_window(
    thin_network: Callable[..., VGGClassifier], height: int, width: int
) -> None:
    logits, offsets = thin_network().dense_forward(torch.zeros(1, 3, height, width))
    assert logits.shape == (1, 2, (height - 64) // 32 + 1, (width - 32) // 32 + 1)
    assert offsets.shape == (1, 3, *logits.shape[2:])


def test_dense_forward_is_forward_at_each_window(thin_network: Callable[..., VGGClassifier]) -> None:
    """The filters have only their centre, so the border has no influence."""
    network = thin_network(dtype=torch.float64)
    for module in network.features:
        if isinstance(module, nn.Conv2d):
            middle = module.weight[:, :, 1, 1].clone()
            module.weight.zero_()
            # A single tap passes little of the signal, so it is amplified.
            module.weight[:, :, 1, 1] = 3 * middle
    image = torch.randn(1, 3, 160, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    dense = network.dense_forward(image)
    assert dense[0].shape == (1, 2, 4, 4)
    windows = [image[0, :, 32 * i : 32 * i + 64, 32 * j : 32 * j + 32] for i in range(4) for j in range(4)]
    for actual, expected in zip(dense, network.forward_with_offsets(torch.stack(windows)), strict=True):
        assert expected.std(0).min() > 1e-3 * expected.abs().max()
        torch.testing.assert_close(actual[0].flatten(1).T, expected, rtol=1e-9, atol=1e-9)


def test_every_parameter_is_initialised(vgg11: VGGClassifier) -> None:
    """Convolutions have a variance of 2 / fan-in (He et al. 2015), dense layers are small, and biases are zero."""
    for module in vgg11.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert not module.bias.any()
            expected = (2 / module.weight[0].numel()) ** 0.5 if isinstance(module, nn.Conv2d) else 0.01
            deviation = 1 / (2 * module.weight.numel()) ** 0.5
            assert float(module.weight.std()) == pytest.approx(expected, rel=6 * deviation)
            assert abs(float(module.weight.mean())) < 6 * expected / module.weight.numel() ** 0.5


def test_batch_norm_is_initialised() -> None:
    network = VGGClassifier("vgg11_bn", (32, 32), hidden=4).eval()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 8
    for norm in norms:
        assert norm.running_mean.tolist() == [0] * norm.num_features
        assert norm.running_var.tolist() == [1] * norm.num_features
        assert norm.weight.tolist() == [1] * norm.num_features
        assert norm.bias.tolist() == [0] * norm.num_features
        assert norm.num_batches_tracked.item() == 0
    assert network(torch.zeros(1, 3, 32, 32)).isfinite().all()


def test_folding_batch_norm_keeps_the_function() -> None:
    """The statistics, scales and shifts differ from the initial ones."""
    torch.manual_seed(0)
    network = VGGClassifier("vgg11_bn", (32, 64), hidden=8).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.5, 0.5),
            ):
                tensor.uniform_(low, high)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            module.bias.data.normal_()
    batch = torch.randn(3, 3, 64, 32)
    folded = fold_batch_norm(network)
    with torch.inference_mode():
        expected = network(batch)
        torch.testing.assert_close(folded(batch), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
        offsets = network.forward_with_offsets(batch)[1]
        close = {"rtol": 1e-3, "atol": 1e-3 * float(offsets.abs().max())}
        torch.testing.assert_close(folded.forward_with_offsets(batch)[1], offsets, **close)
        difference = network.double()(batch.double()) - fold_batch_norm(network.double()).double()(batch.double())
    assert difference.abs().max() < 1e-5 * expected.abs().max()
    assert [type(m) for m in folded.features] == [
        type(m) for m in network.features if not isinstance(m, nn.BatchNorm2d)
    ]
    assert (folded.architecture, folded.input_size, folded.training) == ("vgg11", (32, 64), False)


def test_without_batch_norm_there_is_nothing_to_fold(vgg11: VGGClassifier) -> None:
    assert fold_batch_norm(vgg11) is vgg11


def test_initialisation_is_seeded() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return VGGClassifier("vgg11", (32, 32), hidden=4).features[3].weight

    one, again, other = weights(1), weights(1), weights(2)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_weights_are_channels_last(vgg11: VGGClassifier) -> None:
    assert all(
        m.weight.is_contiguous(memory_format=torch.channels_last) for m in vgg11.features if isinstance(m, nn.Conv2d)
    )


def test_other_numbers_of_classes() -> None:
    assert VGGClassifier("vgg11", (32, 32), hidden=4, classes=5).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 5)


def test_unknown_architecture() -> None:
    with pytest.raises(ValueError, match=r"'resnet18'.*vgg16"):
        VGGClassifier("resnet18")


@pytest.mark.parametrize("size", [(60, 128), (64, 100), (0, 128), (64, -32)])
def test_bad_window(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"{size[0]} x {size[1]}.*multiples of 32"):
        VGGClassifier("vgg11", size)


def test_receptive_fields_of_vgg16(full_classifier) -> None:
    sides = [receptive_field(full_classifier.network.features, layer) for layer in range(1, 14)]
    assert sides == [3, 5, 10, 14, 24, 32, 40, 60, 76, 92, 132, 164, 196]


def test_receptive_field_of_other_kernels_and_strides() -> None:
    features = nn.Sequential(nn.Conv2d(3, 2, 5, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(2, 2, 3), nn.ReLU())
    assert receptive_field(features, 1) == 5
    assert receptive_field(features, 2) == 5 + 2 * 2 + 2 * 4
