"""The outgoing weights of neurons: which weights of the next layers read which neuron.

Between two convolutions of a network there may be additions, concatenations, shuffles and poolings, so that the modules
alone do not say which input of the next layer a neuron is. A pass with autograd says it: all activation functions and
normalisations are replaced by the identity, so that each input of a next layer is a linear function of the neurons, and
gradients of coded inputs name the input to which a neuron leads.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from explain_cnn_ros.explain.general.interception import ACTIVATIONS, GATES, NORMALISATIONS, argument
from explain_cnn_ros.explain.general.structure import Convolution, batch_norm_scale

#: Maximum distance of a decoded input from a whole number.
TOLERANCE = 0.2


@dataclass
class _Reader:
    """A convolution or dense layer that reads neurons.

    Attributes:
        input: Its input; gradients lead from it to the neurons.
        weight: Its weight, [C_out, C_in / groups, ...].
        groups: Number of groups of the convolution.
        scale: Factor of each output by a batch norm that follows directly, [C_out]; None if there is none.
    """

    input: Tensor
    weight: Tensor
    groups: int
    scale: Tensor | None = None

    @property
    def channels_last(self) -> bool:
        """Whether it is a dense layer, whose inputs are the last dimension."""
        return self.weight.dim() == 2

    @property
    def inputs(self) -> int:
        return self.input.shape[-1] if self.channels_last else self.input.shape[1]


def outgoing_weights(network: nn.Module, image: Tensor, found: list[Convolution]) -> dict[int, Tensor]:
    """Find the weights with which the next layers read each neuron. Batch norm after them is folded into them.

    Args:
        network: The network, in eval mode.
        image: A normalised image [1, 3, H, W].
        found: The convolutions of the network.

    Returns:
        By number of the layer, weights [C, n] in the type of the network, at least float32. NaN for neurons whose
        readers could not be told apart.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(image.device.type, enabled=False):
        wide = torch.promote_types(image.dtype, torch.float32)
        if wide != image.dtype:
            # Half precision cannot represent all integers that encode the inputs.
            network, image = copy.deepcopy(network).to(wide), image.to(wide)
        probe = _Probe({id(network.get_submodule(one.name).weight): one.unit.number for one in found})
        with probe:
            network(image.detach().clone())
    numbers = list(probe.neurons)
    parts: dict[int, list[Tensor]] = {number: [] for number in numbers}
    for reader in probe.readers:
        for number, read in zip(numbers, _read(reader, [probe.neurons[n] for n in numbers]), strict=True):
            if read is not None:
                parts[number].append(read)
    by_layer = {}
    for convolution in found:
        own, channels = parts.get(convolution.unit.number, []), convolution.module.out_channels
        by_layer[convolution.unit.number] = torch.cat(own, 1) if own else image.new_full((channels, 1), float("nan"))
    return by_layer


class _Probe(TorchFunctionMode):
    """Cuts a network into pieces between its convolutions and dense layers."""

    def __init__(self, numbers: Mapping[int, int]) -> None:
        super().__init__()
        self.neurons: dict[int, Tensor] = {}
        self.readers: list[_Reader] = []
        self._numbers = numbers
        self._outputs: dict[int, tuple[_Reader, Tensor]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in ACTIVATIONS or func in GATES or func in NORMALISATIONS:
            input: Tensor = argument(func, args, kwargs, "input", 0)
            return input * 1
        if func in (torch.conv2d, functional.linear):
            return self._layer(func, args, kwargs)
        if func is functional.batch_norm:
            reader, _ = self._outputs.pop(id(argument(func, args, kwargs, "input", 0)), (None, None))
            if reader is not None:
                reader.scale = batch_norm_scale(func, args, kwargs, len(reader.weight))
        return func(*args, **kwargs)

    def _layer(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        input: Tensor = argument(func, args, kwargs, "input", 0)
        weight: Tensor = argument(func, args, kwargs, "weight", 1)
        with torch.no_grad():
            result: Tensor = func(*args, **kwargs)
        number = self._numbers.get(id(weight))
        if number is not None:
            result.requires_grad_()
            # The copy may be changed in place.
            self.neurons[number], result = result, result * 1
        reader = _Reader(input, weight, (argument(func, args, kwargs, "groups", 6) or 1) if weight.dim() == 4 else 1)
        self._outputs[id(result)] = (reader, result)
        if input.requires_grad:
            self.readers.append(reader)
        return result


def _read(reader: _Reader, neurons: list[Tensor]) -> list[Tensor | None]:
    """Return the weights [C, n] with which a layer reads the neurons of each convolution; None if it reads none."""
    direct = _decoded(reader, neurons, torch.arange(reader.inputs))
    result: list[Tensor | None] = []
    for maps, decoded in zip(neurons, direct, strict=True):
        if decoded is None:
            result.append(None)
            continue
        inputs, channels = decoded, maps.shape[1]
        if bool((inputs >= 0).all()):
            result.append(_columns(reader, inputs.view(-1, 1)))
            continue
        # A dense layer reads several positions of each map: a block of inputs.
        blocks = None
        if reader.channels_last and reader.inputs % channels == 0:
            size = reader.inputs // channels
            blocks = _decoded(reader, [maps], torch.arange(reader.inputs) // size)[0]
        if blocks is not None and bool((blocks >= 0).all()):
            result.append(_columns(reader, blocks.view(-1, 1) * size + torch.arange(size, device=blocks.device)))
        else:
            result.append(maps.new_full((channels, 1), float("nan")))
    return result


def _decoded(reader: _Reader, neurons: list[Tensor], codes: Tensor) -> list[Tensor | None]:
    """Return the code of the inputs that each neuron of some convolutions leads to, int64 [C].

    Args:
        reader: A layer.
        neurons: Maps [1, C, R, C'] of each convolution.
        codes: A whole number for each input of the layer.

    Returns:
        For each convolution: None if no neuron leads to the layer; -1 for neurons that lead to inputs of several codes.
    """
    shape = [1] * (reader.input.dim() - 1) + [-1] if reader.channels_last else [1, -1, 1, 1]
    code = (codes.to(reader.input) + 1).view(shape)
    # Squares tell a mixture of codes from a single code.
    sums = [
        torch.autograd.grad(reader.input, neurons, power.expand_as(reader.input), retain_graph=True, allow_unused=True)
        for power in (torch.ones_like(code), code, code.square())
    ]
    result: list[Tensor | None] = []
    for ones, first, second in zip(*sums, strict=True):
        if ones is None or not bool((ones != 0).any()):
            result.append(None)
            continue
        total, mean, square = (gradient[0].flatten(1).double() for gradient in (ones, first, second))
        leads = total.abs() > 1e-6 * total.abs().amax()
        mean, square = mean / total, square / total
        whole = mean.round()
        single = ((mean - whole).abs() < TOLERANCE) & ((square - whole.square()).abs() < TOLERANCE * whole)
        low, high = whole.masked_fill(~leads, math.inf).amin(1), whole.masked_fill(~leads, -math.inf).amax(1)
        same = (single | ~leads).all(1) & leads.any(1) & (low == high)
        result.append(torch.where(same, low - 1, -1).long())
    return result


def _columns(reader: _Reader, inputs: Tensor) -> Tensor:
    """Return the weights of a layer for some inputs of each neuron, [C, m] -> [C, n]."""
    weight = reader.weight
    if reader.scale is not None:
        weight = weight * reader.scale.view(-1, *[1] * (weight.dim() - 1))
    if reader.groups > 1:
        outputs, of_group = len(weight) // reader.groups, weight.shape[1]
        grouped = weight.unflatten(0, (reader.groups, outputs))
        return torch.stack([grouped[i // of_group, :, i % of_group].flatten() for i in inputs[:, 0].tolist()])
    return weight.transpose(0, 1)[inputs].flatten(1)
