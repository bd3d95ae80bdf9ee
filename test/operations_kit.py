"""Counts of what a device would do: operations that it would run, and waits of the host for their results."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

#: Operations that allocate memory or describe tensors: the device has nothing to run.
FREE = {
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "detach",
    "lift_fresh",
    "_unsafe_view",
}

#: Operations whose result the host needs before it can continue: a number, or the size of a tensor.
WAITS = {"_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "_unique2", "unique_dim"}

#: Methods that give the host the values of a tensor. Of a tensor on a CPU, PyTorch runs no operation for them.
READS = {"cpu", "tolist", "numpy", "__array__"}

#: Attribute of tensors that stand for tensors on the host.
ON_HOST = "_stands_for_a_tensor_on_the_host"


@contextmanager
def count_operations(stage: Callable[[FrameType], str] = lambda _: "") -> Iterator[OperationCounter]:
    """Count the operations and the waits in the body, with a CPU that stands for a GPU.

    Results of `cpu`, and results that are computed from these, stand for tensors on the host: the device does not
    compute them, and reading them is no wait.

    Args:
        stage: See `OperationCounter`.

    Yields:
        The counter.
    """
    counter = OperationCounter(stage)
    with counter, _HostReads(counter):
        yield counter


class OperationCounter(TorchDispatchMode):
    """Counts the operations and the waits in its body, whatever the device of the tensors.

    Args:
        stage: Names the stage that a frame belongs to, "" for none; the innermost frame that has one decides.

    Attributes:
        operations: Number of operations by stage and name.
        waits: Number of waits by name.
    """

    def __init__(self, stage: Callable[[FrameType], str] = lambda _: "") -> None:
        super().__init__()
        self._stage = stage
        self.operations: Counter[tuple[str, str]] = Counter()
        self.waits: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return sum(self.operations.values())

    def by_stage(self) -> Counter[str]:
        stages: Counter[str] = Counter()
        for (stage, _), count in self.operations.items():
            stages[stage] += count
        return stages

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # Operations that consist of others are counted as these.
        with self:
            result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
        first = next((value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)), None)
        if hasattr(first, ON_HOST):
            return _on_host(func(*args, **kwargs))
        name = func.overloadpacket.__name__
        if name in WAITS or (name == "index" and any(_chooses(index) for index in args[1])) or _moves(name, kwargs):
            self.waits[name] += 1
        if name not in FREE and not _is_view(func):
            self.operations[self._stage_of_caller(), name] += 1
        return func(*args, **kwargs)

    def _stage_of_caller(self) -> str:
        frame = sys._getframe(2)
        while frame is not None:
            if stage := self._stage(frame):
                return stage
            frame = frame.f_back
        return ""


class _HostReads(TorchFunctionMode):
    """Counts the waits that run no operation on a CPU."""

    def __init__(self, counter: OperationCounter) -> None:
        super().__init__()
        self._counter = counter

    def __torch_function__(self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name not in READS or args[0].device.type != "cpu" or hasattr(args[0], ON_HOST):
            return func(*args, **(kwargs or {}))
        self._counter.waits[name] += 1
        with _disable_current_modes():
            return _on_host(args[0].clone()) if name == "cpu" else func(*args, **(kwargs or {}))


def _on_host(result: Any) -> Any:
    for value in tree_leaves(result):
        if isinstance(value, Tensor):
            setattr(value, ON_HOST, True)
    return result


def _chooses(index: Any) -> bool:
    """Whether an index is a mask, so that the size of the result depends on its values."""
    return isinstance(index, Tensor) and index.dtype is torch.bool


def _moves(name: str, kwargs: Any) -> bool:
    """Whether an operation copies a tensor to the host."""
    return name == "_to_copy" and str(kwargs.get("device", "meta")) == "cpu"


def _is_view(func: Any) -> bool:
    returned = [value.alias_info for value in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in returned)
