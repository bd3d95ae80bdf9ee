"""The capture of a graph, with stand-ins for a GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from explain_cnn_ros.explain.vgg.batched.graph import WARM_UP, Runner


class Doubling:
    """A program whose results are twice the pixels, and the threshold."""

    def __init__(self) -> None:
        self.inputs: list[tuple[Tensor, Tensor]] = []

    def compute(self, pixels: Tensor, threshold: Tensor) -> Tensor:
        self.inputs.append((pixels, threshold))
        return torch.cat([2 * pixels, threshold[None]])

    def unpack(self, packed: Tensor) -> list[float]:
        return packed.tolist()


class FakeGraph:
    """A graph that a replay computes again, from the tensors that the capture used, into the same result."""

    captured: Any = None

    def replay(self) -> None:
        program, runner = self.captured
        runner._packed.copy_(program.compute(*program.inputs[0]))


@pytest.fixture
def program() -> Doubling:
    return Doubling()


@pytest.fixture
def fake_cuda(monkeypatch) -> None:
    stream = SimpleNamespace(wait_stream=lambda _: None)

    @contextlib.contextmanager
    def capture(*_: object, **__: object) -> Iterator[None]:
        yield

    monkeypatch.setattr(torch.cuda, "Stream", lambda _: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: stream)
    monkeypatch.setattr(torch.cuda, "stream", capture)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)


def pixels(value: float) -> Tensor:
    return torch.tensor([value, value + 1])


def test_without_capture_every_run_computes(program: Doubling) -> None:
    runner: Any = Runner(program, pixels(0), capture=False)
    assert [runner.run(pixels(i), 0.5) for i in range(3)] == [[2 * i, 2 * i + 2, 0.5] for i in range(3)]
    assert len(program.inputs) == 3


@pytest.mark.usefixtures("fake_cuda")
def test_the_first_run_captures_and_all_replay(program: Doubling, monkeypatch) -> None:
    runner: Any = Runner(program, pixels(0), capture=True)
    monkeypatch.setattr(FakeGraph, "captured", (program, runner))
    assert runner.run(pixels(3), 0.25) == [6, 8, 0.25]
    computed = len(program.inputs)
    assert computed == WARM_UP + 1 + 1  # warm-up, capture, replay
    assert runner.run(pixels(5), 0.75) == [10, 12, 0.75]
    assert runner.run(pixels(-1), 0.5) == [-2, 0, 0.5]
    assert len(program.inputs) == computed + 2
    # All of them read the same two tensors, which a graph needs.
    assert len({(id(one), id(other)) for one, other in program.inputs}) == 1


@pytest.mark.usefixtures("fake_cuda")
def test_a_capture_that_fails_is_not_tried_again(program: Doubling, monkeypatch, caplog) -> None:
    calls = []

    def fail(*_: object, **__: object) -> None:
        calls.append(1)
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", fail)
    runner: Any = Runner(program, pixels(0), capture=True)
    assert [runner.run(pixels(i), 0.5) for i in range(3)] == [[2 * i, 2 * i + 2, 0.5] for i in range(3)]
    assert len(calls) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "not permitted" in caplog.text


@pytest.mark.usefixtures("fake_cuda")
def test_too_little_memory_is_for_the_caller(program: Doubling, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(torch.cuda, "graph", fail)
    runner: Any = Runner(program, pixels(0), capture=True)
    with pytest.raises(torch.OutOfMemoryError):
        runner.run(pixels(1), 0.5)
