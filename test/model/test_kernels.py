"""The limit to the kernels that oneDNN keeps, in a process of its own, since oneDNN reads it once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
import torch

from explain_cnn_ros.model.kernels import KERNELS, VARIABLES, limit_kernels

#: More convolutions of different shapes than the limit, and then the first one again. The last line says whether
#: oneDNN still had its kernel.
SHAPES = textwrap.dedent(
    f"""
    from explain_cnn_ros.model.kernels import limit_kernels

    limit_kernels()
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
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {"ONEDNN_VERBOSE": "profile_create"} | ({VARIABLES[1]: limit} if limit else {})
    done = subprocess.run([sys.executable, "-c", SHAPES], env=environment, capture_output=True, text=True, check=True)
    created = [line for line in done.stdout.splitlines() if ",convolution," in line and "create:" in line]
    assert len(created) > KERNELS
    assert ("cache_hit" in created[-1]) is kept


@pytest.mark.parametrize("name", VARIABLES)
def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for other in VARIABLES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "17")
    limit_kernels()
    assert [os.environ.get(other) for other in VARIABLES if other != name] == [None]
    assert os.environ[name] == "17"
