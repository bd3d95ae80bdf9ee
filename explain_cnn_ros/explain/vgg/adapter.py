"""The network adapter for VGGs: module by module, without hooks and without autograd."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from explain_cnn_ros.explain.filters import scale_channel
from explain_cnn_ros.explain.network_adapter import (
    Channels,
    Layer,
    NetworkAdapter,
    Neuron,
    Reconstructions,
    Start,
    Trace,
)
from explain_cnn_ros.explain.settings import DEFAULT_LAYERS
from explain_cnn_ros.explain.vgg.deconvnet import deconvolve
from explain_cnn_ros.explain.vgg.deconvnet_crops import deconvolve_crops
from explain_cnn_ros.explain.vgg.silencing import silenced_logits
from explain_cnn_ros.explain.vgg.tracing import VGGTrace, trace
from explain_cnn_ros.model.classifier import WindowClassifier
from explain_cnn_ros.model.network import convolution_layers
from explain_cnn_ros.model.precision import precision as in_precision


class VGGAdapter(NetworkAdapter):
    """Explains VGG-11 to VGG-19. Batch norm is folded into the convolutions first."""

    def __init__(self, classifier: WindowClassifier) -> None:
        super().__init__(classifier.without_batch_norm())
        features = self.classifier.network.features
        self._convolutions = convolution_layers(features)
        self._layers = {
            layer.number: Layer(layer.number, layer.name, layer.channels, features[layer.activation])
            for layer in self._convolutions
        }

    @property
    def layers(self) -> dict[int, Layer]:
        return self._layers

    @property
    def default_layers(self) -> tuple[int, ...]:
        return tuple(number for number in DEFAULT_LAYERS if number in self._layers)

    def prepare(self, precision: str) -> None:
        self.classifier.prepared(precision)

    def trace(
        self,
        pixels: Tensor,
        layers: Collection[int],
        *,
        precision: str = "float32",
        pre_relu: bool = False,
        record: str = "",
        gradients: str = "",
    ) -> VGGTrace:
        with in_precision(precision, self.classifier.device):
            passed = trace(
                self.classifier.prepared(precision),
                self.classifier.normalise(pixels),
                layers,
                switches=bool(record),
                rectified=record == "guided",
                pre_relu=pre_relu,
                output=(lambda logits: self.output(logits, gradients)) if gradients else None,
            )
        wide = torch.promote_types(passed.logits.dtype, torch.float32)
        passed.logits = passed.logits.to(wide)
        passed.activations = {layer: a.to(wide) for layer, a in passed.activations.items()}
        passed.rectified = {index: a.to(wide) for index, a in passed.rectified.items()}
        return passed

    def weights(self, layer: int, direction: str) -> Tensor:
        features = self.classifier.network.features
        if direction == "incoming":
            return _convolution(features[self._convolutions[layer - 1].convolution]).weight
        if layer < len(self._convolutions):
            return _convolution(features[self._convolutions[layer].convolution]).weight.transpose(0, 1)
        # Behind the last convolution come the dense layers.
        dense = next(module for module in self.classifier.network.classifier if isinstance(module, nn.Linear))
        return dense.weight.view(dense.out_features, self._convolutions[-1].channels, -1).transpose(0, 1)

    def reconstruct(self, clean: Trace, starts: Sequence[Start], method: str) -> list[Reconstructions]:
        assert isinstance(clean, VGGTrace)
        features = self.classifier.network.features
        dtype = next(features.parameters()).dtype
        activations = {layer: activation[0].relu().to(dtype) for layer, activation in clean.activations.items()}
        if method == "deconvnet" and all(start.position is not None for start in starts):
            return deconvolve_crops(features, activations, clean.switches, starts)
        rectified = clean.rectified if method == "guided" else None
        pixels = deconvolve(features, activations, clean.switches, starts, rectified=rectified)
        return [Reconstructions.whole(starts, pixels)]

    def silence(
        self,
        pixels: Tensor,
        silenced: Sequence[Channels],
        precision: str = "float32",
        values: Mapping[int, Tensor] | None = None,
    ) -> Tensor:
        window = self.classifier.normalise(pixels)
        with in_precision(precision, self.classifier.device):
            logits = silenced_logits(self.classifier.prepared(precision), window, silenced, values or {})
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def damped(self, neurons: Collection[Neuron], factor: float = 0.0) -> nn.Module:
        # The ReLU commutes with factors that are not negative.
        network: nn.Module = copy.deepcopy(self.classifier.network)
        features: Any = network.features
        for neuron in neurons:
            filters = _convolution(features[self._convolutions[neuron.layer - 1].convolution])
            scale_channel(filters, neuron.channel, factor)
        return network


def _convolution(module: nn.Module) -> nn.Conv2d:
    assert isinstance(module, nn.Conv2d)
    return module
