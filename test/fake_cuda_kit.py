"""A simulated CUDA device, for tests on machines without a GPU.

The tensors on it are PyTorch's fake tensors. PyTorch checks the devices, shapes and data types of all operations, but
it computes no values. An operation on tensors of two devices fails as on a real GPU. An operation that needs the values
of a tensor on the host fails as well.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from explain_cnn_ros.explain.perturbation import Perturbations
from explain_cnn_ros.model import classifier as classifiers
from explain_cnn_ros.scan.classifier import PersonClassifier

CUDA = torch.device("cuda:0")


class Copies(TorchDispatchMode):
    """Records copies between the host and the device, and tensors that are created from values of the host.

    Attributes:
        found: Names of the recorded operations, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        devices = {leaf.device.type for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)}
        if len(devices) > 1 or "lift" in func.overloadpacket.__name__:
            self.found.append(str(func))
        return result


@contextmanager
def fake_cuda(classifier: PersonClassifier) -> Iterator[PersonClassifier]:
    """Copy a classifier to the simulated device for the body of a `with` statement.

    Args:
        classifier: A classifier on the CPU; it is not changed.

    Yields:
        A copy of it on the device.
    """
    mode = FakeTensorMode()

    def moved(module: nn.Module) -> nn.Module:
        other = copy.copy(module)
        for name in ("_parameters", "_buffers"):
            tensors = getattr(module, name)
            setattr(other, name, {key: None if t is None else on_device(t) for key, t in tensors.items()})
        other._modules = {key: child and moved(child) for key, child in module._modules.items()}
        return other

    def on_device(tensor: Tensor) -> Tensor:
        fake = mode.from_tensor(tensor.detach())
        with mode:
            return nn.Parameter(fake.to(CUDA), requires_grad=False)

    network, proposer = moved(classifier.network), classifier.proposer and moved(classifier.proposer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifiers, "choose_device", lambda _: CUDA)
        patch.setattr(classifiers, "fast_low_precision", lambda _: None)
        # Generators and pinned memory need the driver of a real device.
        patch.setattr(torch, "Generator", _Generator)
        patch.setattr(Perturbations, "_normal", lambda self, shape: torch.zeros(shape, device=self.pixels.device))
        patch.setattr(Tensor, "pin_memory", lambda self: self)
        # Without these changes, PyTorch would switch autocast off, because it finds no device.
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
        # The parameters are on the device already. Fake parameters cannot be converted to other data types.
        patch.setattr(nn.Module, "to", lambda module, _: module)
        with mode:
            yield PersonClassifier(network, classifier.info, CUDA, proposer=proposer)


class _Generator:
    def __init__(self, _: torch.device) -> None:
        pass

    def manual_seed(self, _: int) -> _Generator:
        return self
