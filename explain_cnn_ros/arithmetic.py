"""The numbers that an explanation's passes calculate with, and how they are multiplied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from explain_cnn_ros.network import VGGClassifier
from explain_cnn_ros.winograd import with_winograd

#: auto: the fastest on the device with which every metric selects nearly what it selects with float32 (a Jaccard index
#: of 0.95; bench/precision.py measures it). float32: the reference. winograd: float32 with fewer multiplications, for
#: CPUs. tf32: float32 with products of 10 bits, on NVIDIA GPUs from Ampere on; elsewhere the same as float32.
#: bfloat16, float16: convolutions in half the bits; moments and scores stay in float32.
ARITHMETICS = ("auto", "float32", "winograd", "tf32", "bfloat16", "float16")

_AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}


#: Noise from which on TF32 tells apart what it does to the activations. With a twentieth of it, it does not.
SIGMA_FOR_TF32 = 0.1


def resolve(name: str, device: torch.device, sigma: float) -> str:
    """What "auto" means on a device, for noise of a standard deviation; others stay as they are."""
    if name != "auto":
        return name
    if device.type == "cpu":
        return "winograd"
    return "tf32" if device.type == "cuda" and sigma >= SIGMA_FOR_TF32 else "float32"


def prepare(network: VGGClassifier, name: str) -> VGGClassifier:
    """The network to run with one of ARITHMETICS, but "auto"; it shares the weights of the one that is given."""
    return with_winograd(network) if name == "winograd" else network


@contextmanager
def arithmetic(name: str, device: torch.device) -> Iterator[None]:
    """Run the body with one of ARITHMETICS; what was in force before is so again afterwards."""
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
