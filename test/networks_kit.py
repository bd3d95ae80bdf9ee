"""Small networks of convolutions of several kinds, whose neurons and readers are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from explain_cnn_ros.explain.network_adapter import Reconstructions, Start
from explain_cnn_ros.model.torchvision_network import TorchvisionClassifier
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.scan.classifier import PersonClassifier

#: Size (width, height) of the windows, and the classes.
SIZE, CLASSES = (40, 32), ("background", "person", "forklift")


class Residual(nn.Module):
    """A residual block whose addition works in place, and a second stage."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        )
        self.first, self.first_norm = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.first_act = nn.ReLU(inplace=True)
        self.second, self.second_norm = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.act = nn.ReLU(inplace=True)
        self.down = nn.Conv2d(6, 8, 1, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.second_norm(self.second(self.first_act(self.first_norm(self.first(x)))))
        y += x
        return self.head(self.down(self.act(y)).mean((2, 3)))


class Dense(nn.Module):
    """A concatenation, activation functions without modules, and a dense layer that reads positions of maps."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, 2, 1)
        self.second = nn.Conv2d(4, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(9)
        self.third = nn.Conv2d(9, 6, 3, padding=1)
        self.head = nn.Linear(6 * 4 * 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = functional.relu(self.first(x))
        second = functional.relu(self.second(first), inplace=True)
        both = functional.relu(self.norm(torch.cat([first, second], 1)))
        return self.head(functional.avg_pool2d(torch.relu(self.third(both)), 4).flatten(1))


class Mobile(nn.Module):
    """Depthwise and grouped convolutions, a gate (squeeze and excitation), and smooth activation functions."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish(inplace=True))
        self.depthwise = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True)
        )
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 2, 1), nn.ReLU(), nn.Conv2d(2, 8, 1), nn.Hardsigmoid()
        )
        self.project = nn.Sequential(nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.grouped = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1, groups=2), nn.SiLU(inplace=True))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.expand(x))
        x = self.grouped(self.project(x * self.gate(x)))
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


@dataclass(frozen=True)
class Kind:
    """A network, and what is known of it.

    Attributes:
        build: Its class.
        activations: By the name of each convolution, in order, the module whose output is the neurons' activation; ""
            for none, because a function computes it.
        outgoing: By the name of a convolution, the readers of its neurons: name of the module, first input that it has
            of them, and the batch norm behind it, "" for none.
    """

    build: type[nn.Module]
    activations: Mapping[str, str]
    outgoing: Mapping[str, tuple[tuple[str, int, str], ...]]


KINDS = {
    "residual": Kind(
        Residual,
        {"stem.0": "stem.2", "first": "first_act", "second": "second_norm", "down": "down"},
        {
            "stem.0": (("first", 0, "first_norm"), ("down", 0, "")),
            "first": (("second", 0, "second_norm"),),
            "second": (("down", 0, ""),),
            "down": (("head", 0, ""),),
        },
    ),
    "dense": Kind(
        Dense,
        {"first": "", "second": "", "third": ""},
        {"first": (("second", 0, ""), ("third", 0, "")), "second": (("third", 4, ""),), "third": (("head", 0, ""),)},
    ),
    "mobile": Kind(
        Mobile,
        {
            "expand.0": "expand.2",
            "depthwise.0": "depthwise.2",
            "project.0": "project.1",
            "grouped.0": "grouped.1",
        },
        {
            "expand.0": (("depthwise.0", 0, "depthwise.1"),),
            "depthwise.0": (("gate.1", 0, ""), ("project.0", 0, "project.1")),
            "project.0": (("grouped.0", 0, ""),),
            "grouped.0": (("head", 0, ""),),
        },
    ),
}


def small_network(kind: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
    """Build a random network in evaluation mode, with batch norms that do something."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = KINDS[kind].build()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.data.uniform_(0.5, 1.5).mul_(torch.randint(0, 2, module.weight.shape) * 2 - 1)
                module.bias.data.normal_(0, 0.2)
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 1.5)
    return network.to(dtype).eval().requires_grad_(False)


class Wrapped(TorchvisionClassifier):
    """Any network in place of torchvision's."""

    def __init__(self, network: nn.Module, size: tuple[int, int], classes: int) -> None:
        nn.Module.__init__(self)
        self.architecture, self.input_size, self.classes = type(network).__name__, size, classes
        self.network = network


def small_classifier(network: nn.Module, size: tuple[int, int] = SIZE, **info: object) -> PersonClassifier:
    """Wrap a network in a classifier of three classes."""
    values = {"source": "torchvision", "architecture": "resnet18", "input_size": size, "classes": CLASSES} | info
    wrapped = Wrapped(network, size, len(values["classes"])).eval()
    return PersonClassifier(wrapped, ModelInfo(**values), "cpu")


def whole(parts: Sequence[Reconstructions], size: tuple[int, int]) -> dict[Start, Tensor]:
    """Paste the crops of reconstructions into the whole window, [3, H, W]."""
    width, height = size
    found = {}
    for part in parts:
        for start, crop, top, left in zip(
            part.starts, part.pixels, part.tops.tolist(), part.lefts.tolist(), strict=True
        ):
            # Crops may reach out of the window.
            canvas = crop.new_zeros(3, 3 * height, 3 * width)
            canvas[:, height + top : height + top + crop.shape[1], width + left : width + left + crop.shape[2]] = crop
            found[start] = canvas[:, height : 2 * height, width : 2 * width]
    return found
