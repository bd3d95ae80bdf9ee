"""The precision of an explanation's passes: data type, and the algorithm of the convolutions."""

from __future__ import annotations

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


@contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    """Run the body with a precision, and restore the previous one afterwards.

    Args:
        name: One of PRECISIONS except "auto".
        device: Device of the network.
    """
    with torch.autocast(device.type, _AUTOCAST.get(name), enabled=name in _AUTOCAST):
        if device.type != "cuda":
            yield
            return
        # PyTorch's own default is TF32 in convolutions.
        before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
