"""The choice of the device, its free memory, and the low precision that it is fast with."""

from __future__ import annotations

import pytest
import torch

from explain_cnn_ros.model import device as device_module
from explain_cnn_ros.model.device import choose_device, fast_low_precision, free_memory


@pytest.mark.parametrize(("available", "kind"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_the_gpu_where_there_is_one(monkeypatch, available: bool, kind: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert choose_device("auto") == torch.device(kind)


def test_cpu() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there(monkeypatch, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match=f"'{device}'.*no CUDA GPU.*'auto' or 'cpu'"):
        choose_device(device)


def test_nonsense() -> None:
    with pytest.raises(RuntimeError, match="toaster"):
        choose_device("toaster")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx2": True}, None),
        ({}, None),
    ],
)
def test_low_precision_only_where_the_cpu_has_it(monkeypatch, capabilities: dict, expected) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert fast_low_precision(torch.device("cpu")) == expected


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), None), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
)
def test_low_precision_only_where_the_gpu_has_it(monkeypatch, capability: tuple, expected) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert fast_low_precision(torch.device("cuda")) == expected


def test_cached_files_count_as_free_memory(monkeypatch, tmp_path) -> None:
    """On a robot that has run for days, the system has filled nearly all of the memory with cached files."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       32000 kB\nMemFree:          100 kB\nMemAvailable:   20000 kB\n")
    monkeypatch.setattr(device_module, "MEMINFO", meminfo)
    assert free_memory(torch.device("cpu")) == 20000 * 1024


@pytest.mark.parametrize("text", [None, "", "MemTotal: 32000 kB\n", "MemAvailable: none\n"])
def test_free_memory_without_linux_figures(monkeypatch, tmp_path, text: str | None) -> None:
    meminfo = tmp_path / "meminfo"
    if text is not None:
        meminfo.write_text(text)
    monkeypatch.setattr(device_module, "MEMINFO", meminfo)
    monkeypatch.setattr(device_module.os, "sysconf", {"SC_AVPHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert free_memory(torch.device("cpu")) == 4096000


def test_free_memory_of_a_gpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (123, 456))
    assert free_memory(torch.device("cuda")) == 123
