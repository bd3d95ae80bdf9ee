"""Limits to the memory that libraries keep for later. This module must not import PyTorch.

- oneDNN, PyTorch's library for CPUs, compiles a kernel for each shape of a convolution and keeps the latest 1024 of
  them. A kernel takes 0.7 MB on average, and the deconvnet has many shapes, since its crops differ in number and size:
  with the default, a process that explains grows for hours.
- glibc gives threads parts of the heap of their own (arenas), up to eight for each core. The free memory at the end of
  an arena, up to 64 MB, serves no other thread, and `malloc_trim` does not return it to the system. With one arena, all
  threads share it. They do not wait for each other noticeably: threads cache small blocks, and large ones are few.
- glibc takes the largest blocks from the system one by one (mmap) and returns them at once. At first, these are blocks
  from 128 kB on, but each time that one of them is freed, the limit rises to its size, up to 32 MB. Then nearly all
  activations lie in the heap, and small blocks between them keep it from shrinking. Here, the limit stays at 8 MB;
  with 4 MB, an explanation takes a quarter longer, because the system clears each page that it gives. At its end, the
  heap keeps up to 64 MB, as glibc does when the limit has risen to 32 MB. With less, the heap shrinks and grows all the
  time, which costs a twentieth of the decisions per second.
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

#: Minimum size of the blocks that are taken from the system one by one, in bytes, and the parameter of `mallopt`.
LARGE, M_MMAP_THRESHOLD = 8 << 20, -3

#: Size of the free end of the heap from which on it is returned to the system, in bytes, and the parameter.
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
