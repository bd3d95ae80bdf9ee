"""The limits to the memory that libraries keep. Libraries read them once, so each test starts a process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from explain_cnn_ros.model.memory import ARENAS, KERNEL_VARIABLES, KERNELS, limit_memory

#: A script that runs more convolutions of different shapes than the limit, and then the first one again. The last line
#: of oneDNN's output says whether the kernel of the first one was still there.
SHAPES = textwrap.dedent(
    f"""
    from explain_cnn_ros.model.memory import limit_memory

    limit_memory()
    import torch

    with torch.inference_mode():
        weight = torch.ones(8, 8, 3, 3)
        for size in (*range(8, 8 + {KERNELS} + 10), 8):
            torch.nn.functional.conv2d(torch.ones(1, 8, size, 400), weight, padding=1)
    """
)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch has no oneDNN here")
@pytest.mark.parametrize(("limit", "kept"), [(None, False), ("1024", True)])
@pytest.mark.slow
def test_old_kernels_are_dropped(limit: str | None, kept: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in KERNEL_VARIABLES}
    environment |= {"ONEDNN_VERBOSE": "profile_create"} | ({KERNEL_VARIABLES[1]: limit} if limit else {})
    done = subprocess.run([sys.executable, "-c", SHAPES], env=environment, capture_output=True, text=True, check=True)
    created = [line for line in done.stdout.splitlines() if ",convolution," in line and "create:" in line]
    assert len(created) > KERNELS
    assert ("cache_hit" in created[-1]) is kept


@pytest.mark.parametrize("name", KERNEL_VARIABLES)
def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for other in KERNEL_VARIABLES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "17")
    # The heap of the process that runs the tests must not change.
    for variable in ("MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.setenv(variable, "8")
    limit_memory()
    assert [os.environ.get(other) for other in KERNEL_VARIABLES if other != name] == [None]
    assert os.environ[name] == "17"


#: A script in which six threads allocate memory at the same time. It prints the number of arenas in glibc's report.
ARENAS_OF_THREADS = textwrap.dedent(
    """
    from explain_cnn_ros.model.memory import limit_memory

    limit_memory()
    import ctypes, sys, threading

    libc = ctypes.CDLL(None)
    libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
    libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
    together = threading.Barrier(6)

    def allocate():
        libc.malloc(100_000)
        together.wait()

    threads = [threading.Thread(target=allocate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file = libc.fopen(sys.argv[1].encode(), b"w")
    libc.malloc_info(0, file)
    libc.fclose(file)
    print(open(sys.argv[1]).read().count("<heap "))
    """
)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
@pytest.mark.parametrize(
    ("variable", "value", "arenas"),
    [("", "", ARENAS), ("MALLOC_ARENA_MAX", "3", 3), ("GLIBC_TUNABLES", "glibc.malloc.arena_max=4", 4)],
)
def test_threads_share_an_arena(tmp_path: Path, variable: str, value: str, arenas: int) -> None:
    names = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")
    environment = {name: text for name, text in os.environ.items() if name not in names}
    environment |= {variable: value} if variable else {}
    command = [sys.executable, "-c", ARENAS_OF_THREADS, str(tmp_path / "report.xml")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == arenas


#: A script that allocates and frees blocks in ascending order of size, each twice. It prints the sizes of those that
#: were taken from the system one by one the second time.
LARGE_BLOCKS = textwrap.dedent(
    """
    from explain_cnn_ros.model.memory import limit_memory

    limit_memory()
    import ctypes

    class Report(ctypes.Structure):
        _fields_ = [(f"field_{i}", ctypes.c_size_t) for i in range(10)]

    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.mallinfo2.restype = ctypes.c_void_p, Report
    libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
    for size in (1, 3, 5, 12, 20):
        for time in range(2):
            before = libc.mallinfo2().field_3
            block = libc.malloc(size << 20)
            alone = libc.mallinfo2().field_3 - before
            libc.free(block)
        if alone:
            print(size)
    """
)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the limit is glibc's")
@pytest.mark.parametrize(
    ("variable", "value", "alone"),
    [
        ("", "", [12, 20]),
        ("MALLOC_MMAP_THRESHOLD_", str(16 << 20), [20]),
        ("GLIBC_TUNABLES", f"glibc.malloc.mmap_threshold={2 << 20}", [3, 5, 12, 20]),
    ],
)
def test_large_blocks_do_not_lie_in_the_heap(variable: str, value: str, alone: list[int]) -> None:
    names = ("MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
    environment = {name: text for name, text in os.environ.items() if name not in names}
    environment |= {variable: value} if variable else {}
    done = subprocess.run(
        [sys.executable, "-c", LARGE_BLOCKS], env=environment, capture_output=True, text=True, check=True
    )
    assert [int(size) for size in done.stdout.split()] == alone
