"""The network's two threads, without a graph."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy")

from explain_cnn_ros.ros import worker as worker_module
from explain_cnn_ros.ros.parameters import NodeParameters
from explain_cnn_ros.ros.worker import Worker, WorkerThreads


def make(threads: WorkerThreads) -> Worker:
    parameters = NodeParameters(device="cpu")

    def ignore(*_: Any) -> Any:
        return None

    return Worker(lambda: parameters, ignore, ignore, ignore, ignore, threads)


def ended(threads: WorkerThreads) -> bool:
    """Whether the threads can be ended within some seconds."""
    closing = threading.Thread(target=threads.close, daemon=True)
    closing.start()
    closing.join(20)
    return not closing.is_alive()


def test_one_worker_after_the_other_in_the_same_threads() -> None:
    threads = WorkerThreads()
    for _ in range(2):
        make(threads).close()
    assert ended(threads)


def test_interrupted_while_it_warms_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the main thread, which waits: no thread is left that nobody can end."""
    threads = WorkerThreads()

    class Interrupted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            raise KeyboardInterrupt

    names = SimpleNamespace(Event=Interrupted, get_native_id=threading.get_native_id)
    monkeypatch.setattr(worker_module, "threading", names)
    with pytest.raises(KeyboardInterrupt):
        make(threads)
    assert ended(threads)
