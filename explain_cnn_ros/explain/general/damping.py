"""Damping of neurons in the weights of any network, checked against the damping of their activations in a pass."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from explain_cnn_ros.explain.filters import scale_channel
from explain_cnn_ros.explain.general.interception import Interception, Unit
from explain_cnn_ros.explain.general.structure import Convolution
from explain_cnn_ros.explain.network_adapter import Neuron

#: Activation functions f with f(a x) = a f(x) for all a >= 0: a damped input gives a damped activation.
HOMOGENEOUS = (
    *(functional.relu, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_),
    *(functional.leaky_relu, functional.prelu),
)

#: Maximum difference between the logits of both ways of damping, relative to the largest logit if that exceeds 1.
TOLERANCE = 1e-9


def damped_network(
    network: nn.Module, image: Tensor, found: Sequence[Convolution], neurons: Collection[Neuron], factor: float
) -> nn.Module:
    """Return a copy of a network whose weights damp neurons: their activations are multiplied by a factor.

    The channel of the batch norm that follows the neuron's convolution is scaled, or that of the convolution if no
    batch norm follows. The logits of the changed network are compared, in double precision, with those of a pass in
    which the activations are damped.

    Args:
        network: The network, in eval mode.
        image: A normalised image [1, 3, H, W] for the comparison.
        found: The convolutions of the network.
        neurons: The neurons.
        factor: The factor, 0 to 1.

    Raises:
        ValueError: The weights cannot damp a neuron. The message names the cause.
    """
    changed = copy.deepcopy(network)
    for neuron in neurons:
        convolution = found[neuron.layer - 1]
        if reason := _unsuited(convolution, factor):
            raise ValueError(f"neuron {neuron.channel} of {convolution.name} cannot be damped in the weights: {reason}")
        module = changed.get_submodule(convolution.norm or convolution.name)
        assert isinstance(module, nn.Conv2d | nn.BatchNorm2d)
        scale_channel(module, neuron.channel, factor)
    expected = _damped_in_pass(network, image, found, neurons, factor)
    reached = _logits(copy.deepcopy(changed).cpu().double(), image)
    difference = float((reached - expected).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(expected.abs().max())):
        names = ", ".join(sorted({found[neuron.layer - 1].name for neuron in neurons}))
        raise ValueError(
            f"the neurons of {names} cannot be damped in the weights: other parts of the network read the values "
            f"before the activation function as well (the logits differ by {difference:.1e} from those with damped "
            "activations)"
        )
    return changed


def _unsuited(convolution: Convolution, factor: float) -> str:
    """Return why the weights of a convolution cannot damp its neurons; "" if they can."""
    function = convolution.function
    name = getattr(function, "__name__", str(function))
    if convolution.unit.norm and not convolution.norm:
        return "the batch norm after the convolution has no weight of its own"
    if function is functional.softplus:
        return f"its activation function ({name}) is not 0 for an input of 0"
    if factor and function is not None and function not in HOMOGENEOUS:
        return (
            f"its activation function ({name}) is not proportional to its input, so it can only be silenced: factor 0"
        )
    return ""


def _damped_in_pass(
    network: nn.Module, image: Tensor, found: Sequence[Convolution], neurons: Collection[Neuron], factor: float
) -> Tensor:
    """Return the logits with the activations of neurons multiplied by a factor, in double precision."""
    exact = copy.deepcopy(network).cpu().double()
    channels: dict[int, list[int]] = defaultdict(list)
    for neuron in neurons:
        channels[neuron.layer].append(neuron.channel)
    units = {id(exact.get_submodule(found[n - 1].name).weight): found[n - 1].unit for n in channels}

    def tap(unit: Unit, before: Tensor, after: Tensor) -> Tensor:
        scaled = after.clone()
        scaled[:, channels[unit.number]] *= factor
        return scaled

    with Interception(units, tap):
        return _logits(exact, image)


def _logits(network: nn.Module, image: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = network(image.detach().cpu().double())
    return logits
