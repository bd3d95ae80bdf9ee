"""The device that a network runs on: its free memory, and the low precision that it is fast with."""

from __future__ import annotations

import os
from pathlib import Path

import torch

#: Linux's figures of the memory, one a line: `MemAvailable:   12345 kB`.
MEMINFO = Path("/proc/meminfo")


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """Resolve a device name; "auto" is the GPU if PyTorch finds one, and the CPU otherwise.

    Raises:
        RuntimeError: A CUDA device is requested, but PyTorch finds none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = torch.device(device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            f"device {device!r} was requested, but PyTorch finds no CUDA GPU: install the NVIDIA driver, "
            "or use device 'auto' or 'cpu'"
        )
    return chosen


def fast_low_precision(device: torch.device) -> torch.dtype | None:
    """Return bfloat16 if the device multiplies it natively (AVX512-BF16, AMX, Ampere and later), otherwise None."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else None
    return torch.bfloat16 if torch.backends.mkldnn.is_available() and _cpu_has_bfloat16() else None


def free_memory(device: torch.device) -> int:
    """Return the free memory of a device, in bytes.

    For a CPU, this includes the memory that the system uses as a cache of files, because it is handed out on demand.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        figures = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        return int(figures["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, LookupError):
        # Not Linux: without the cached files.
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cpu_has_bfloat16() -> bool:
    # Older versions of PyTorch 2 lack get_capabilities.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
