"""The network: torchvision's VGG `features` with three dense layers, and the numbers and names of its layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from explain_cnn_ros.files import quoted

#: Stride of the last map, in pixels: a VGG has five max poolings, and each halves the map.
TOTAL_STRIDE = 32

#: Number of convolutions in each block, and channels of each block (table 1 of Simonyan & Zisserman 2015).
BLOCKS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)

#: Names of the architectures, as in torchvision; "_bn" has batch norm between each convolution and its ReLU.
ARCHITECTURES = (*BLOCKS, *(f"{name}_bn" for name in BLOCKS))

#: Units of the three numbers of an offset. The first two are shares of the window's height: how far the person's centre
#: lies to the right of and below the window's centre. The third is the logarithm of the person's height, relative to a
#: person that fits the window. They are about the standard deviations of the offsets in training.
OFFSET_UNITS = (1 / 16, 1 / 16, 0.15)


@dataclass(frozen=True)
class ConvolutionLayer:
    """One convolution of a VGG's `features`.

    Attributes:
        number: Number of the layer, counted from 1 as in the paper.
        name: Name of the layer as in the VGG paper, for instance "conv3_1".
        convolution: Index of the Conv2d in `features`.
        activation: Index of its ReLU in `features`.
        channels: Number of neurons (output channels).
    """

    number: int
    name: str
    convolution: int
    activation: int
    channels: int


def convolution_layers(features: nn.Sequential) -> list[ConvolutionLayer]:
    """Number and name the convolutions of a VGG's `features`, with or without batch norm."""
    layers: list[ConvolutionLayer] = []
    block, position = 1, 0
    for index, module in enumerate(features):
        if isinstance(module, nn.MaxPool2d):
            block, position = block + 1, 0
        elif isinstance(module, nn.Conv2d):
            position += 1
            relu = next(i for i in range(index + 1, len(features)) if isinstance(features[i], nn.ReLU))
            layers.append(
                ConvolutionLayer(len(layers) + 1, f"conv{block}_{position}", index, relu, module.out_channels)
            )
    return layers


def vgg_features(architecture: str) -> nn.Sequential:
    """Build the same layers as torchvision's VGG `features`, on the meta device, so without memory for the weights.

    They are built here because importing torchvision takes longer than everything else at the start of a node.

    Args:
        architecture: One of ARCHITECTURES.

    Raises:
        ValueError: There is no such architecture.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {quoted(architecture)}: use one of {', '.join(ARCHITECTURES)}")
    layers: list[nn.Module] = []
    before = 3
    with torch.device("meta"):
        for count, channels in zip(BLOCKS[architecture.removesuffix("_bn")], CHANNELS, strict=True):
            for _ in range(count):
                layers.append(nn.Conv2d(before, channels, 3, padding=1))
                if architecture.endswith("_bn"):
                    layers.append(nn.BatchNorm2d(channels))
                layers.append(nn.ReLU(inplace=True))
                before = channels
            layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


class VGGClassifier(nn.Module):
    """torchvision's VGG `features`, followed by three dense layers, for windows of one size.

    The layer `offset` is a sibling of the last dense layer (as in Fast R-CNN, Girshick 2015). It predicts where in the
    window the person is. The decision does not depend on it.

    Args:
        architecture: One of ARCHITECTURES: "vgg11" to "vgg19", with or without "_bn".
        input_size: Size (width, height) of the window in pixels, multiples of 32.
        hidden: Width of the two hidden dense layers.
        classes: Number of logits.

    Attributes:
        features: The convolutions, ReLUs and max poolings.
        classifier: The dense layers.
        offset: The dense layer that predicts the offset, in OFFSET_UNITS.
        grid: Size (rows, columns) of the last map of a window.

    Raises:
        ValueError: There is no such architecture, or the size is no multiple of 32.
    """

    def __init__(
        self,
        architecture: str = "vgg16",
        input_size: tuple[int, int] = (64, 128),
        hidden: int = 256,
        classes: int = 2,
    ) -> None:
        super().__init__()
        features = vgg_features(architecture)
        if any(side <= 0 or side % TOTAL_STRIDE for side in input_size):
            raise ValueError(f"the window is {input_size[0]} x {input_size[1]} pixels; both must be multiples of 32")
        self.features = features.to_empty(device="cpu")
        self.architecture, self.input_size, self.hidden, self.classes = architecture, input_size, hidden, classes
        self.grid = (input_size[1] // TOTAL_STRIDE, input_size[0] // TOTAL_STRIDE)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(512 * self.grid[0] * self.grid[1], hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(0.25),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(0.25),
            nn.Linear(hidden, classes),
        )
        self.offset = nn.Linear(hidden, len(OFFSET_UNITS))
        self.initialise()
        self.to(memory_format=torch.channels_last)

    def initialise(self) -> None:
        """Initialise all layers for training from scratch; see `initialise`."""
        for module in self.modules():
            initialise(module)

    def forward(self, batch: Tensor) -> Tensor:
        """Compute the logits [N, classes] of normalised windows [N, 3, H, W]."""
        return self.classifier(self.features(batch))

    def forward_with_offsets(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits [N, classes] and offsets [N, 3], in OFFSET_UNITS, of normalised windows [N, 3, H, W]."""
        hidden = self.classifier[:-1](self.features(batch))
        return self.classifier[-1](hidden), self.offset(hidden)

    def dense_forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits and offsets for every window of images with a stride of 32 pixels, fully convolutionally.

        The dense layers run as convolutions. Position [i, j] of the results belongs to the window whose top left corner
        is at x = 32 j, y = 32 i.

        Args:
            image: Normalised images [N, 3, H, W], at least as large as a window.

        Returns:
            Logits [N, classes, h, w], and offsets [N, 3, h, w] in OFFSET_UNITS.
        """
        x = self.features(image)
        kernel = self.grid
        for module in self.classifier[:-1]:
            if isinstance(module, nn.Linear):
                x = _as_convolution(module, x, kernel)
                kernel = (1, 1)
            elif isinstance(module, nn.ReLU):
                x = module(x)
        return _as_convolution(self.classifier[-1], x, kernel), _as_convolution(self.offset, x, kernel)


def initialise(module: nn.Module) -> None:
    """Initialise one convolution, dense layer or normalisation for training from scratch; leave other modules alone.

    Convolutions are initialised as in He et al. 2015. Dense layers get small weights, because large first logits would
    have to be unlearned first.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        module.reset_running_stats()
        module.reset_parameters()
    elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
        module.reset_parameters()


def _as_convolution(dense: nn.Module, x: Tensor, kernel: tuple[int, int]) -> Tensor:
    assert isinstance(dense, nn.Linear)
    return nn.functional.conv2d(x, dense.weight.view(dense.out_features, -1, *kernel), dense.bias)


def fold_batch_norm(network: VGGClassifier) -> VGGClassifier:
    """Fold each batch norm into the convolution before it.

    In eval mode, the result computes the same logits, except for rounding.

    Args:
        network: The network; it is not modified.

    Returns:
        A network without batch norm; `network` itself if it has none.
    """
    if not network.architecture.endswith("_bn"):
        return network
    plain = network.architecture.removesuffix("_bn")
    folded = VGGClassifier(plain, network.input_size, network.hidden, network.classes)
    folded.to(next(network.parameters()))
    source: list[Any] = list(network.features)
    pairs = [(source[i], source[i + 1]) for i, module in enumerate(source) if isinstance(module, nn.Conv2d)]
    targets: list[Any] = [module for module in folded.features if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        for target, (convolution, norm) in zip(targets, pairs, strict=True):
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            target.weight.copy_(convolution.weight * scale.view(-1, 1, 1, 1))
            target.bias.copy_((convolution.bias - norm.running_mean) * scale + norm.bias)
    folded.classifier.load_state_dict(network.classifier.state_dict())
    folded.offset.load_state_dict(network.offset.state_dict())
    return folded.train(network.training)


def receptive_field(features: nn.Sequential, layer: int) -> int:
    """Compute the side, in pixels, of the square that one position of a layer depends on.

    Args:
        features: The layers of a VGG.
        layer: Number of the convolution, counted from 1.
    """
    last = convolution_layers(features)[layer - 1].convolution
    side, spacing = 1, 1
    for module in features[: last + 1]:
        if isinstance(module, nn.Conv2d | nn.MaxPool2d):
            kernel, stride = _square(module.kernel_size), _square(module.stride)
            side += (kernel - 1) * spacing
            spacing *= stride
    return side


def _square(size: int | tuple[int, ...]) -> int:
    return size if isinstance(size, int) else size[0]
