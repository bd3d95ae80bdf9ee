"""The choice of the precision, and that it does not stay in force afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from explain_cnn_ros.model.precision import PRECISIONS, precision, prepare, resolve
from explain_cnn_ros.model.winograd import WinogradConv2d


@pytest.mark.parametrize(
    ("device", "sigma", "expected"),
    [("cpu", 0.1, "winograd"), ("cpu", 0.001, "winograd"), ("cuda", 0.1, "tf32"), ("cuda", 0.05, "float32")],
)
def test_auto(device: str, sigma: float, expected: str) -> None:
    assert resolve("auto", torch.device(device), sigma) == expected


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_auto_is_a_precision_that_the_network_supports(device: str) -> None:
    assert resolve("auto", torch.device(device), 0.1, ("float32", "bfloat16")) == "float32"
    assert resolve("auto", torch.device(device), 0.1, ("float32", "tf32", "winograd")) != "float32"


@pytest.mark.parametrize("name", [name for name in PRECISIONS if name != "auto"])
def test_what_is_named_stays(name: str, full_classifier) -> None:
    assert resolve(name, torch.device("cuda"), 0.1) == name
    network = prepare(full_classifier.network, name)
    assert any(isinstance(m, WinogradConv2d) for m in network.features) is (name == "winograd")


@pytest.mark.parametrize("name", ["float32", "winograd", "bfloat16", "float16"])
def test_nothing_stays_in_force(name: str) -> None:
    def fail() -> None:
        with precision(name, torch.device("cpu")):
            assert torch.is_autocast_enabled("cpu") is (name in ("bfloat16", "float16"))
            raise KeyError(name)

    with pytest.raises(KeyError):
        fail()
    assert not torch.is_autocast_enabled("cpu")


def tf32_flags() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.fixture(params=[True, False])
def tf32_before(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Set the flags of PyTorch, which exist without a GPU as well, and restore them."""
    original = tf32_flags()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = request.param
    yield request.param
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = original


@pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")
@pytest.mark.parametrize("name", ["float32", "tf32"])
def test_gpus_use_tf32_only_if_it_is_named(name: str, tf32_before: bool) -> None:
    def fail() -> None:
        with precision(name, torch.device("cuda")):
            assert tf32_flags() == (name == "tf32",) * 2
            raise KeyError(name)

    with pytest.raises(KeyError):
        fail()
    assert tf32_flags() == (tf32_before, tf32_before)


@pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")
@pytest.mark.parametrize(("first", "second"), [("float32", "tf32"), ("tf32", "float32"), ("tf32", "tf32")])
@pytest.mark.parametrize("ends_first", ["first", "second"])
def test_threads_that_run_at_the_same_time(first: str, second: str, ends_first: str, tf32_before: bool) -> None:
    """The flags are those of the whole process: no pass in float32 runs in TF32, and nothing stays in force."""
    allowed = {}
    begun, may_end, ended = ({name: threading.Event() for name in ("first", "second")} for _ in range(3))

    def run(name: str, named: str) -> None:
        with precision(named, torch.device("cuda")):
            begun[name].set()
            may_end[name].wait(60)
            allowed[name] = tf32_flags()
        ended[name].set()

    threads = {name: threading.Thread(target=run, args=(name, n)) for name, n in (("first", first), ("second", second))}
    for name in ("first", "second"):
        threads[name].start()
        assert begun[name].wait(60)
    together = tf32_flags()
    ends_last = "first" if ends_first == "second" else "second"
    for name in (ends_first, ends_last):
        may_end[name].set()
        assert ended[name].wait(60)
        threads[name].join(60)
    assert together == (first == second == "tf32",) * 2
    precisions = {"first": first, "second": second}
    assert allowed == {
        ends_first: (first == second == "tf32",) * 2,
        ends_last: (precisions[ends_last] == "tf32",) * 2,
    }
    assert tf32_flags() == (tf32_before, tf32_before)
