"""Interception of a network's operations: of its convolutions, and of the activation functions after them.

PyTorch offers every operation of a pass to the active `TorchFunctionMode`, whether a module or a function calls it. So
the network needs no hooks, and nothing is left behind in it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

#: Functions that set negative values to zero. The deconvnet's and guided backpropagation's rules apply to them, and to
#: hardtanh with a minimum of 0, which `nn.ReLU6` calls.
RECTIFIERS: dict[Any, Callable[..., Tensor]] = {
    functional.relu: functional.relu,
    functional.relu6: functional.relu6,
    torch.relu: torch.relu,
    torch.relu_: torch.relu,
    torch.Tensor.relu: torch.relu,
    torch.Tensor.relu_: torch.relu,
}

#: Other activation functions. Their true gradient is used.
SMOOTH: dict[Any, Callable[..., Tensor]] = {
    function: function
    for function in (
        *(functional.silu, functional.hardswish, functional.gelu, functional.elu, functional.leaky_relu),
        *(functional.mish, functional.selu, functional.celu, functional.softplus, functional.prelu),
        *(functional.hardtanh, functional.softsign, torch.tanh),
    )
}

#: All activation functions.
ACTIVATIONS = RECTIFIERS | SMOOTH

#: Gates and normalisations, which are no activation of a neuron.
GATES = (functional.sigmoid, functional.hardsigmoid, torch.sigmoid, torch.Tensor.sigmoid)
NORMALISATIONS = (
    functional.layer_norm,
    functional.group_norm,
    functional.instance_norm,
    functional.local_response_norm,
)


@dataclass(frozen=True)
class Unit:
    """A convolution with what belongs to its neurons: a batch norm and an activation function that follow directly.

    Attributes:
        number: Number of the layer, in the order in which the network computes them, counted from 1.
        norm: Whether a batch norm follows.
        activation: Whether an activation function follows.
    """

    number: int
    norm: bool
    activation: bool


#: Receives a unit, its values before the activation function, and after it; returns what the network goes on with.
Tap = Callable[[Unit, Tensor, Tensor], Tensor]


class Interception(TorchFunctionMode):
    """Hands the activations of a network's neurons to a function during a pass.

    Args:
        units: The units by the id of their convolution's weight.
        tap: Receives the activations of each unit.
        rule: Gradient of the rectifiers: "" (the true one), "deconvnet" (negative gradients are set to zero, Zeiler &
            Fergus 2014) or "guided" (both rules, Springenberg et al. 2015).
    """

    def __init__(self, units: Mapping[int, Unit], tap: Tap, rule: str = "") -> None:
        super().__init__()
        self._units, self._tap, self._rule = units, tap, rule
        # The last values of units that a batch norm or an activation function follows, by the id of the tensor.
        self._pending: dict[int, tuple[Unit, Tensor]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in ACTIVATIONS:
            return self._activate(func, args, kwargs)
        result = func(*args, **kwargs)
        if func is torch.conv2d:
            unit = self._units.get(id(argument(func, args, kwargs, "weight", 1)))
            if unit is not None:
                return self._arrived(unit, result, unit.norm or unit.activation)
        elif func is functional.batch_norm:
            unit, _ = self._pending.pop(id(argument(func, args, kwargs, "input", 0)), (None, None))
            if unit is not None:
                return self._arrived(unit, result, unit.activation)
        return result

    def _arrived(self, unit: Unit, values: Tensor, more: bool) -> Tensor:
        """Take values of a unit: they wait for the next operation of the unit, or are its activation."""
        if not more:
            return self._tap(unit, values, values)
        self._pending[id(values)] = (unit, values)
        return values

    def _activate(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        before = argument(func, args, kwargs, "input", 0)
        if self._rule and is_rectifier(func, args, kwargs):
            rest = {name: value for name, value in kwargs.items() if name != "input"}
            after = _Rectifier.apply(before, lambda x: out_of_place(func, (x, *args[1:]), rest), self._rule == "guided")
        else:
            after = out_of_place(func, args, kwargs)
        unit, _ = self._pending.pop(id(before), (None, None))
        return after if unit is None else self._tap(unit, before, after)


class _Rectifier(torch.autograd.Function):
    """A rectifier whose gradient is that of the deconvnet, or of guided backpropagation."""

    @staticmethod
    def forward(context: Any, before: Tensor, function: Callable[..., Tensor], guided: bool) -> Tensor:
        after = function(before)
        context.guided = guided
        if guided:
            context.save_for_backward(after > 0)
        return after

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        passed = gradient.clamp(min=0)
        return (passed * context.saved_tensors[0] if context.guided else passed), None, None


def is_rectifier(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether a call of an activation function sets negative values to zero."""
    return func in RECTIFIERS or (func is functional.hardtanh and argument(func, args, kwargs, "min_val", 1) == 0)


def argument(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str, position: int) -> Any:
    """Return an argument of a call, by its position or its name."""
    return args[position] if len(args) > position else kwargs.get(name)


def out_of_place(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """Call an activation function without changing its input, which may be the kept activation of a neuron."""
    function = ACTIVATIONS[func]
    if not inspect.isfunction(function):
        return function(*args, **kwargs)  # without the argument `inplace`
    call = inspect.signature(function).bind(*args, **kwargs)
    if "inplace" in call.arguments:
        call.arguments["inplace"] = False
    return function(*call.args, **call.kwargs)
