"""The structure of a network, found by one pass: its convolutions, what follows each, and which of them to explain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from explain_cnn_ros.explain.general.interception import ACTIVATIONS, Unit, argument

#: The first convolutions, whose maps have more than this share of the input's side, show edges and colours, and their
#: passes take much time and memory. They are not among the layers that are explained by default.
DEFAULT_MAP_SHARE_MAX = 0.3


@dataclass(frozen=True)
class Convolution:
    """A convolution whose neurons can be explained.

    Attributes:
        unit: The convolution with the batch norm and the activation function after it.
        name: Name in the module tree, for instance "layer2.1.conv2".
        module: The convolution.
        size: Size (height, width) of its maps.
        scale: Factor of each channel by the batch norm, [C]; None without batch norm.
        norm: Name of the batch norm in the module tree; "" without batch norm, or if it has no weight.
        function: The activation function; None without one.
    """

    unit: Unit
    name: str
    module: nn.Conv2d
    size: tuple[int, int]
    scale: Tensor | None
    norm: str = ""
    function: Any = None


@dataclass
class _Found:
    """A convolution during the pass."""

    name: str
    module: nn.Conv2d
    size: tuple[int, int]
    scale: Tensor | None = None
    norm: str = ""
    function: Any = None


def convolutions(network: nn.Module, image: Tensor) -> list[Convolution]:
    """Find the convolutions that a network computes, in order.

    Convolutions whose maps are single pixels, such as those of gates (squeeze and excitation), are left out, and those
    that the network computes several times with the same weights.

    Args:
        network: The network, in eval mode.
        image: A normalised image [1, 3, H, W].
    """
    modules = [(name, module) for name, module in network.named_modules()]
    names = {id(module.weight): (name, module) for name, module in modules if isinstance(module, nn.Conv2d)}
    norms = {id(module.weight): name for name, module in modules if isinstance(module, nn.BatchNorm2d)}
    search = _Search(names, norms)
    with torch.inference_mode(False), torch.no_grad(), search:
        network(image.clone())
    counts = Counter(found.name for found in search.found)
    spatial = [found for found in search.found if max(found.size) > 1 and counts[found.name] == 1]
    return [
        Convolution(
            Unit(number, found.scale is not None, found.function is not None),
            **{field.name: getattr(found, field.name) for field in fields(_Found)},
        )
        for number, found in enumerate(spatial, start=1)
    ]


class _Search(TorchFunctionMode):
    """Records the convolutions of a pass, and the operations that follow them directly."""

    def __init__(self, names: Mapping[int, tuple[str, Any]], norms: Mapping[int, str]) -> None:
        super().__init__()
        self.found: list[_Found] = []
        self._names, self._norms = names, norms
        # The tensors are kept, because the id of a tensor that is gone may be used again. The version tells whether a
        # tensor was changed in place in the meantime, for instance by a residual addition.
        self._last: dict[int, tuple[_Found, Tensor, int]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        input = args[0] if args else kwargs.get("input")
        found = self._followed(input)
        if found is not None and func in ACTIVATIONS:
            found.function = func
            del self._last[id(input)]
        result = func(*args, **kwargs)
        if func is torch.conv2d:
            name, module = self._names.get(id(argument(func, args, kwargs, "weight", 1)), ("", None))
            if module is not None:
                self.found.append(_Found(name, module, (result.shape[-2], result.shape[-1])))
                self._last[id(result)] = (self.found[-1], result, result._version)
        elif func is functional.batch_norm and found is not None and found.scale is None:
            found.scale = batch_norm_scale(func, args, kwargs, found.module.out_channels)
            weight = argument(func, args, kwargs, "weight", 3)
            found.norm = "" if weight is None else self._norms.get(id(weight), "")
            del self._last[id(input)]
            self._last[id(result)] = (found, result, result._version)
        return result

    def _followed(self, input: Any) -> _Found | None:
        """Return the convolution whose last values are the input of an operation; None if there is none."""
        found, _, version = self._last.get(id(input), (None, None, -1))
        return found if found is not None and input._version == version else None


def batch_norm_scale(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], channels: int) -> Tensor:
    """Return the factor of each channel by a call of `batch_norm` in eval mode, [C]."""
    variance, weight = argument(func, args, kwargs, "running_var", 2), argument(func, args, kwargs, "weight", 3)
    epsilon = argument(func, args, kwargs, "eps", 7)
    scale = (variance + (1e-5 if epsilon is None else epsilon)).rsqrt()
    return scale if weight is None else scale * weight


def default_layers(found: list[Convolution], input_size: tuple[int, int], classes: int) -> tuple[int, ...]:
    """Choose the layers that are explained by default: the last convolution of each stage.

    A stage is a run of convolutions whose maps have the same size. Stages with large maps are left out, and a last
    convolution whose maps are those of the classes. So are convolutions with a single channel, such as the gates of
    spatial attention.

    Args:
        found: The convolutions of the network, in order.
        input_size: Size (height, width) of the input.
        classes: Number of logits.
    """
    inner = found[:-1] if len(found) > 1 and found[-1].module.out_channels == classes else found
    several = [convolution for convolution in inner if convolution.module.out_channels > 1]
    last = {convolution.size: convolution.unit.number for convolution in several or inner}
    small = {size: number for size, number in last.items() if size[0] <= DEFAULT_MAP_SHARE_MAX * input_size[0]}
    return tuple(sorted((small or last).values()))
