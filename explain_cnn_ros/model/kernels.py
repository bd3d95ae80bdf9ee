"""A limit to the memory of the kernels that PyTorch's library for CPUs, oneDNN, compiles.

oneDNN compiles a kernel for each shape of a convolution and keeps the latest 1024 of them. A kernel takes 0.7 MB on
average, and the deconvnet has many shapes, since its crops differ in number and size: with the default, a process that
explains grows for hours. This module must not import PyTorch.
"""

from __future__ import annotations

import os

#: Number of kernels that are kept. The search of frames of 640 x 480 and live explanations need 175 of them, which are
#: compiled once. An explanation with all metrics compiles about 100, which takes a few percent of its time.
KERNELS = 256

#: The variables from which oneDNN reads the number.
VARIABLES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY")


def limit_kernels() -> None:
    """Limit the number of kernels that this process keeps, unless the environment has a limit.

    Call this before the first convolution: oneDNN reads its variable only once.
    """
    if not any(name in os.environ for name in VARIABLES):
        os.environ[VARIABLES[0]] = str(KERNELS)
