"""The interface between the explainer and a network: the only things that an explanation needs from one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from explain_cnn_ros.model.classifier import WindowClassifier
from explain_cnn_ros.model.output import margin, probability

#: Channels by layer.
Channels = Mapping[int, Collection[int]]


@dataclass(frozen=True)
class Layer:
    """A layer whose neurons can be explained.

    Attributes:
        number: Number of the layer, counted from 1.
        name: Name of the layer, for instance "conv3_1".
        channels: Number of neurons (output channels).
        module: Module of the network whose output is the layer's activation.
    """

    number: int
    name: str
    channels: int
    module: nn.Module


@dataclass(frozen=True, order=True)
class Neuron:
    """An output channel of a layer; layers are counted from 1, channels from 0."""

    layer: int
    channel: int


@dataclass
class Trace:
    """The result of one pass through the network. Adapters add what their `reconstruct` needs.

    Attributes:
        logits: [N, classes], at least float32.
        activations: Activations by layer number, [N, C, R, C'], at least float32.
    """

    logits: Tensor
    activations: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Reconstructions:
    """Reconstructions of neurons in the network's input, as crops. They are zero outside of the crops.

    Attributes:
        neurons: The neurons, K of them.
        pixels: The crops, in the input's normalised units, [K, 3, h, w].
        tops: Row of the input in which each crop begins, int64 [K]. Crops may reach out of the input; they are zero
            there.
        lefts: Column of the input in which each crop begins, int64 [K].
    """

    neurons: tuple[Neuron, ...]
    pixels: Tensor
    tops: Tensor
    lefts: Tensor

    @classmethod
    def whole(cls, neurons: Sequence[Neuron], pixels: Tensor) -> Reconstructions:
        """Wrap reconstructions of the whole input, [K, 3, H, W]."""
        corner = torch.zeros(len(neurons), dtype=torch.int64, device=pixels.device)
        return cls(tuple(neurons), pixels, corner, corner)


class NetworkAdapter(ABC):
    """Traces, reconstructs and silences the neurons of one kind of network.

    Args:
        classifier: The classifier whose network is adapted.

    Attributes:
        classifier: The classifier; adapters may replace it by an equivalent one.
        target: Index of the class that the output is about.
    """

    def __init__(self, classifier: WindowClassifier) -> None:
        self.classifier = classifier
        self.target = classifier.info.classes.index("person")

    @property
    @abstractmethod
    def layers(self) -> dict[int, Layer]:
        """The layers by number, in ascending order."""

    @abstractmethod
    def prepare(self, precision: str) -> None:
        """Do once, in advance, whatever passes in a precision need."""

    @abstractmethod
    def trace(
        self,
        pixels: Tensor,
        layers: Collection[int],
        *,
        precision: str = "float32",
        pre_relu: bool = False,
        record: str = "",
    ) -> Trace:
        """Pass windows through the network and keep the activations of some layers. No hooks are left behind.

        Args:
            pixels: Windows [N, 3, H, W], pixel values in [0, 255].
            layers: Numbers of the layers whose activations are kept.
            precision: One of `model.precision.PRECISIONS` except "auto".
            pre_relu: Keep the activations before the ReLU, not after it.
            record: Also record what `reconstruct` needs for the first window: the method, "deconvnet" or "guided"; ""
                for nothing.
        """

    @abstractmethod
    def weights(self, layer: int, direction: str) -> Tensor:
        """Return the weights of each neuron of a layer, [C, ...].

        Args:
            layer: Number of the layer.
            direction: "outgoing" (from the neuron to the next layer) or "incoming" (from the layer before).
        """

    @abstractmethod
    def reconstruct(
        self, clean: Trace, neurons: Sequence[Neuron], method: str, whole_maps: bool
    ) -> list[Reconstructions]:
        """Reconstruct neurons in the network's input.

        Args:
            clean: Trace of the window, recorded with the same method.
            neurons: The neurons.
            method: "deconvnet" (Zeiler & Fergus 2014) or "guided" (guided backpropagation, as the authors' code).
            whole_maps: Start from the neuron's whole map, not from its strongest activation.

        Returns:
            Every neuron once, in batches of the adapter's choice.
        """

    @abstractmethod
    def silence(self, pixels: Tensor, silenced: Sequence[Channels]) -> Tensor:
        """Pass one window through the network with different neurons silenced each time.

        A silenced neuron's activation, after the ReLU, is set to zero.

        Args:
            pixels: The window [1, 3, H, W], pixel values in [0, 255].
            silenced: The neurons that are silenced in each of K passes.

        Returns:
            Logits [K, classes].
        """

    def output(self, logits: Tensor, kind: str = "logit") -> Tensor:
        """Return the output o of logits [N, classes], which the explanation is about: [N].

        Args:
            logits: [N, classes].
            kind: "logit" (the margin: the logit of the target class minus the log-sum-exp of the others) or
                "probability".
        """
        return probability(logits, self.target) if kind == "probability" else margin(logits, self.target)
