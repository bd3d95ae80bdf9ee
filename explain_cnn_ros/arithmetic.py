"""The numbers that an explanation's passes calculate with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

#: float32: the reference. tf32: float32 with products of 10 bits, on NVIDIA GPUs from Ampere on; elsewhere the same as
#: float32. bfloat16, float16: convolutions in half the bits; moments and scores stay in float32.
ARITHMETICS = ("float32", "tf32", "bfloat16", "float16")

_AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}


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
