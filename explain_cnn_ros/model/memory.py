"""Limits to the memory that libraries keep for later. This module must not import PyTorch.

- oneDNN, PyTorch's library for CPUs, compiles a kernel for each shape of a convolution and keeps the latest 1024 of
  them. A kernel takes 0.7 MB on average, and the deconvnet has many shapes, since its crops differ in number and size:
  with the default, a process that explains grows for hours.
- glibc gives threads parts of the heap of their own (arenas), up to eight for each core. The free memory at the end of
  an arena, up to 64 MB, serves no other thread, and `malloc_trim` does not return it to the system. With one arena, all
  threads share it. They do not wait for each other noticeably: threads cache small blocks, and large ones are few.
- glibc requests large blocks from the system with `mmap` and returns them as soon as they are freed. At first, a block
  is large if it has at least 128 kB. Each time that a large block is freed, this threshold rises to the size of the
  block, up to 32 MB. Then nearly all activations are in the heap, and the heap cannot shrink, because small blocks lie
  between them. This module fixes the threshold at 8 MB. With 4 MB, an explanation takes a quarter longer, because the
  system fills each new page with zeros. It also lets the heap keep up to 64 MB of free memory at its end, as glibc does
  when the threshold has risen to 32 MB. With less, the heap shrinks and grows all the time, and the number of decisions
  per second falls by a twentieth.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

#: Number of kernels that are kept. The search of frames of 640 x 480 and live explanations need 175 of them, which are
#: compiled once. An explanation with all metrics compiles about 100, which takes a few percent of its time.
KERNELS = 256

#: The variables from which oneDNN reads the number.
KERNEL_VARIABLES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY")

#: Number of arenas, and the parameter of glibc's `mallopt` that limits it.
ARENAS, M_ARENA_MAX = 1, -8

#: Minimum size of the blocks that glibc requests with `mmap`, in bytes, and the parameter of `mallopt` that sets it.
LARGE, M_MMAP_THRESHOLD = 8 << 20, -3

#: Maximum size of the free memory at the end of the heap, in bytes, and the parameter of `mallopt` that sets it.
FREE_END, M_TRIM_THRESHOLD = 64 << 20, -1


def limit_memory() -> None:
    """Limit the memory that libraries keep in this process, unless the environment has limits.

    Call this before the first convolution, since oneDNN reads its variable only once, and before threads are started,
    since arenas that exist stay.
    """
    if not any(name in os.environ for name in KERNEL_VARIABLES):
        os.environ[KERNEL_VARIABLES[0]] = str(KERNELS)
    _limit_heap("MALLOC_ARENA_MAX", "arena_max", M_ARENA_MAX, ARENAS)
    _limit_heap("MALLOC_MMAP_THRESHOLD_", "mmap_threshold", M_MMAP_THRESHOLD, LARGE)
    _limit_heap("MALLOC_TRIM_THRESHOLD_", "trim_threshold", M_TRIM_THRESHOLD, FREE_END)


def _limit_heap(variable: str, tunable: str, parameter: int, value: int) -> None:
    """Set a parameter of glibc's heap, unless the environment has set it.

    Args:
        variable: The environment variable of the parameter.
        tunable: Its name in GLIBC_TUNABLES.
        parameter: Its number in `mallopt`.
        value: The value.
    """
    if variable not in os.environ and f"malloc.{tunable}=" not in os.environ.get("GLIBC_TUNABLES", ""):
        # Other C libraries than glibc do not have this function.
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(parameter, value)
