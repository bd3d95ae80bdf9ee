"""The precision of an explanation's passes: data type, and the algorithm of the convolutions."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch

from explain_cnn_ros.model.network import VGGClassifier
from explain_cnn_ros.model.winograd import with_winograd

#: auto: the fastest on the device with which every metric selects nearly the same neurons as with float32 (a Jaccard
#: index of at least 0.95; bench/precision.py measures it). float32: the reference. winograd: float32 with fewer
#: multiplications, for CPUs. tf32: float32 whose products have 10 bits, on NVIDIA GPUs since Ampere; elsewhere the same
#: as float32. bfloat16, float16: convolutions in half precision; moments and scores stay in float32.
PRECISIONS = ("auto", "float32", "winograd", "tf32", "bfloat16", "float16")

#: Precisions whose logits are rounded so coarsely that a decision near its threshold, and the change of the output by a
#: single neuron, would be lost. Both are measured in float32.
COARSE_PRECISIONS = ("bfloat16", "float16")

_AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}

#: Smallest standard deviation of the noise whose effect on the activations TF32 still resolves. At a twentieth of it,
#: TF32 selects other neurons than float32.
SIGMA_FOR_TF32 = 0.1


def resolve(name: str, device: torch.device, sigma: float, supported: Collection[str] = PRECISIONS) -> str:
    """Return the precision that a name stands for.

    Args:
        name: One of PRECISIONS.
        device: Device of the network.
        sigma: Standard deviation of the noise.
        supported: Precisions that the network supports; see `WindowClassifier.precisions`.

    Returns:
        The fastest suitable precision that is supported for "auto"; any other name itself.
    """
    if name != "auto":
        return name
    if device.type == "cpu":
        fastest = "winograd"
    else:
        fastest = "tf32" if device.type == "cuda" and sigma >= SIGMA_FOR_TF32 else "float32"
    return fastest if fastest in supported else "float32"


def prepare(network: VGGClassifier, name: str) -> VGGClassifier:
    """Return the network that runs with a precision other than "auto"; it shares the weights with `network`."""
    return with_winograd(network) if name == "winograd" else network


class TF32Users:
    """Keeps track of the passes that are running, and of whether each of them allows TF32.

    PyTorch has one pair of flags for all threads. Therefore TF32 is on only while every pass allows it, and the flags
    get back the values that they had before the first pass when the last one ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._allowing: list[bool] = []
        self._before = (False, False)

    @contextmanager
    def joined(self, allows: bool) -> Iterator[None]:
        """Run the body as one more pass.

        Args:
            allows: Whether the pass allows TF32.
        """
        with self._lock:
            if not self._allowing:
                # PyTorch's own default is TF32 in convolutions.
                self._before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
            self._allowing.append(allows)
            self._set()
        try:
            yield
        finally:
            with self._lock:
                self._allowing.remove(allows)
                self._set()

    def _set(self) -> None:
        """Set the flags as the passes that run now need them."""
        flags = (all(self._allowing),) * 2 if self._allowing else self._before
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = flags


_TF32_USERS = TF32Users()


@contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    """Run the body with a precision, and restore the previous one afterwards.

    Threads may run bodies at the same time. As long as one of them needs float32 on a GPU, none runs in TF32.

    Args:
        name: One of PRECISIONS except "auto".
        device: Device of the network.
    """
    with torch.autocast(device.type, _AUTOCAST.get(name), enabled=name in _AUTOCAST):
        if device.type != "cuda":
            yield
            return
        with _TF32_USERS.joined(name == "tf32"):
            yield
