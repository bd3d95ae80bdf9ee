"""Which arithmetic is chosen, and that nothing of it stays in force."""

from __future__ import annotations

import pytest
import torch

from explain_cnn_ros.arithmetic import ARITHMETICS, arithmetic, prepare, resolve
from explain_cnn_ros.winograd import WinogradConv2d


@pytest.mark.parametrize(
    ("device", "sigma", "expected"),
    [("cpu", 0.1, "winograd"), ("cpu", 0.001, "winograd"), ("cuda", 0.1, "tf32"), ("cuda", 0.05, "float32")],
)
def test_auto(device: str, sigma: float, expected: str) -> None:
    assert resolve("auto", torch.device(device), sigma) == expected


@pytest.mark.parametrize("name", [name for name in ARITHMETICS if name != "auto"])
def test_what_is_named_stays(name: str, full_classifier) -> None:
    assert resolve(name, torch.device("cuda"), 0.1) == name
    network = prepare(full_classifier.network, name)
    assert any(isinstance(m, WinogradConv2d) for m in network.features) is (name == "winograd")


@pytest.mark.parametrize("name", ["float32", "winograd", "bfloat16", "float16"])
def test_nothing_stays_in_force(name: str) -> None:
    def fail() -> None:
        with arithmetic(name, torch.device("cpu")):
            assert torch.is_autocast_enabled("cpu") is (name in ("bfloat16", "float16"))
            raise KeyError(name)

    with pytest.raises(KeyError):
        fail()
    assert not torch.is_autocast_enabled("cpu")
